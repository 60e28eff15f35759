"""The variant of three machines, in network namespaces: all services answer, after a failover too.

Its files are rendered by Ansible from vagrant/; the farm's program, the smoke test, kernlbd and
keepalived are the real ones. By XDP, on this kernel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vagrant.test_playbooks import METHODS, ROOT, VAGRANT

SWITCH = f"klfarm-{os.getpid()}"
HOSTS = {"balancer1": 1, "balancer2": 2, "backends": 3}
BACKENDS = ("backend1", "backend2", "backend3")
# The namespaces of one machine are not those of the next, nor is its settings file.
AS_MACHINE = """
mount --make-rprivate / && mkdir -p /run/netns /run/kernlb-farm &&
mount -t tmpfs none /run/netns && mount -t tmpfs none /run/kernlb-farm &&
mount --bind {settings} {place} && ip link set lo up && echo ready && exec sleep 1800
"""
REDIRECTS = "net.ipv4.conf.{}.send_redirects=0"
SYSCTLS = ["net.ipv4.ip_forward=1", *map(REDIRECTS.format, ("all", "default"))]

needs_keepalived = pytest.mark.skipif(
    os.environ.get("CI") != "true"
    and not (shutil.which("keepalived") and shutil.which("ansible-playbook")),
    reason="keepalived or ansible is not installed",
)
pytestmark = [pytest.mark.netns, needs_keepalived, pytest.mark.timeout(1500)]


class Host:
    """One machine: a network and a mount namespace, on the switch by its card eth1."""

    def __init__(self, name: str, folder: Path, settings: Path) -> None:
        self.name, self.folder = name, folder
        self._running: list[subprocess.Popen[bytes]] = []
        script = AS_MACHINE.format(settings=folder / "farm.json", place=settings)
        self._namespaces = subprocess.Popen(
            ["unshare", "-n", "-m", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert self._namespaces.stdout and self._namespaces.stdout.readline() == b"ready\n"
        self._within = ["nsenter", "-t", str(self._namespaces.pid), "-n", "-m"]
        port = f"klf{os.getpid()}-{HOSTS[name]}"
        ip(f"link add {port} type veth peer name eth1 netns {self._namespaces.pid}")
        ip(f"link set {port} netns {SWITCH}")
        ip(f"-n {SWITCH} link set {port} master segment up")

    @property
    def _environment(self) -> dict[str, str]:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return os.environ | {"PATH": programs, "KERNLB_SOCKET": str(self.folder / "sock")}

    def run(self, *argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self._within, *map(str, argv)],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, f"{self.name}: {done.stdout}{done.stderr}"
        return done

    def start(self, *argv: str | Path) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{Path(argv[0]).name}.log").open("wb")
        started = subprocess.Popen(
            [*self._within, *map(str, argv)], env=self._environment, stdout=log, stderr=log
        )
        self._running.append(started)
        return started

    def stop(self) -> None:
        for each in reversed(self._running):
            each.send_signal(signal.SIGTERM)
        for each in self._running:
            each.wait(30)
        self._namespaces.kill()
        self._namespaces.wait(20)

    def farm(self, *words: str) -> None:
        self.run(VAGRANT / "backends/farm", *words)

    def balance(self) -> subprocess.Popen[bytes]:
        """Start kernlbd and keepalived; the latter is returned."""
        folder = self.folder
        words = ["--config-dir", folder / "etc", "--state-dir", folder / "state"]
        words += ["--socket", folder / "sock", "--pins", f"/sys/fs/bpf/{SWITCH}-{self.name}"]
        self.start("kernlbd", *words)
        words = ["-n", "-l", "-f", folder / "keepalived.conf"]
        words += ["-p", folder / "keepalived.pid", "-r", folder / "vrrp.pid"]
        return self.start("keepalived", *words)

    def smoke(self) -> str:
        self.run("kernlb", "wait", "ready", "--timeout", "120")
        return self.run(VAGRANT / "smoke", "--requests", "6").stdout

    def has(self, address: str) -> bool:
        return f" {address}/32" in self.run("ip", "-br", "address").stdout


def ip(line: str, check: bool = True) -> None:
    subprocess.run(["ip", *line.split()], check=check, timeout=20, capture_output=not check)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each machine, with the files that Ansible would put there."""
    out = tmp_path_factory.mktemp("three")
    (out / "group_vars").symlink_to(VAGRANT / "group_vars")
    (out / "inventory").write_text(
        "".join(
            f"{name} farm_number={number} farm_address=10.80.0.{number + 1} farm_uplink=eth1\n"
            for name, number in HOSTS.items()
        )
    )
    for name in HOSTS:
        (out / name / "etc/services.d").mkdir(parents=True)
        (out / name / "state").mkdir()
    told = {"farm_datapaths": ["xdp"], "farm_vrrp": True, "out": str(out), "vagrant": str(VAGRANT)}
    told["ansible_python_interpreter"] = "/usr/bin/python3"
    argv = ["ansible-playbook", "-i", str(out / "inventory"), "-e", json.dumps(told)]
    done = subprocess.run(
        [*argv, str(ROOT / "tests/vagrant/render.yml")],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in HOSTS:
        for service, document in json.loads((out / name / "services").read_text()).items():
            (out / name / f"etc/services.d/{service}.json").write_text(json.dumps(document))
    return out


@pytest.fixture
def three(rendered: Path) -> Iterator[dict[str, Host]]:
    settings = Path("/etc/kernlb-farm.json")
    mine = not settings.exists()
    settings.touch()  # to bind over
    ip(f"netns add {SWITCH}")
    hosts: dict[str, Host] = {}
    try:
        ip(f"-n {SWITCH} link add segment type bridge mcast_snooping 0")
        ip(f"-n {SWITCH} link set segment up")
        for name in HOSTS:
            hosts[name] = Host(name, rendered / name, settings)
            hosts[name].run("sysctl", "-qw", *SYSCTLS)
            hosts[name].farm("segment", "up")
        for backend in BACKENDS:
            hosts["backends"].farm("backend", backend, "up")
            hosts["backends"].start(VAGRANT / "backends/farm", "serve", backend)
        yield hosts
    finally:
        for host in hosts.values():
            host.stop()
        ip(f"netns delete {SWITCH}", check=False)
        for name in HOSTS:
            shutil.rmtree(f"/sys/fs/bpf/{SWITCH}-{name}", ignore_errors=True)
        if mine:
            settings.unlink()


def wait_for(host: Host, address: str) -> None:
    deadline = time.monotonic() + 60
    while not host.has(address):
        assert time.monotonic() < deadline, f"{host.name} has not got {address}"
        time.sleep(0.2)


def answered(said: str, *, drained: bool) -> bool:
    """Each service by all servers; and drained, which only the balancer with the VIPs does."""
    everybody = "backend1 2, backend2 2, backend3 2"
    for method in METHODS["xdp"]:
        assert re.search(rf"^ok +xdp-{method}: 6 requests .*{everybody}$", said, re.M), said
        gone = re.search(
            rf"^ok +xdp-{method}: 10.80.0.11 drained: backend2 \d, backend3", said, re.M
        )
        assert bool(gone) is drained, said
    return "FAILED" not in said


def test_the_second_balancer_takes_over(three: dict[str, Host]) -> None:
    vip, gateway = "10.80.0.113", "10.80.0.1"
    first, second = three["balancer1"], three["balancer2"]
    keepalived = first.balance()
    second.balance()
    wait_for(first, vip)
    assert not second.has(vip)
    assert answered(first.smoke(), drained=True)
    assert answered(second.smoke(), drained=False)

    keepalived.terminate()
    wait_for(second, vip)
    wait_for(second, gateway)
    assert not first.has(vip)
    assert answered(second.smoke(), drained=True)
    assert answered(first.smoke(), drained=False)
