"""A machine in a container: systemd as its first process, on this machine's kernel.

The root is a layer over the image. A reboot is one of systemd's: new namespaces, a new network
device, an empty bpffs; so the kernel forgets what a real one would forget.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from kernlb.datapath.xdp.decap import hold_pass
from kernlb.lab.namespaces import inside, switch_checksum_offload_off
from tests.machines import image
from tests.machines.machine import HOSTS, MachineError, Result, Shell

if TYPE_CHECKING:
    from tests.machines.site import Site

BOOT_SECONDS = 150.0
# Every systemd wants about 30 of these, all of one root: raised for this machine, until it reboots.
INOTIFY, INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances"), 2048
REBOOT = 133  # how systemd-nspawn asks whoever started it to start it again
NETWORK = """[Match]
Name=host0
[Network]
Address={address}/24
Address={address6}/64
Gateway={gateway}
DHCP=no
LinkLocalAddressing=ipv6
IPv6AcceptRA=no
"""
# The container's /sys is its manager's; a bpffs of its own goes over the empty folder bound there.
BPFFS = """[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount -t bpf bpf /sys/fs/bpf
[Install]
WantedBy=sysinit.target
"""


class Container:
    """Behind the `Machine` protocol."""

    kind = "container"

    def __init__(
        self,
        site: Site,
        shell: Shell,
        name: str,
        address: IPv4Address,
        address6: IPv6Address,
        suite: str,
    ) -> None:
        self.name, self.address, self.address6 = name, address, address6
        self.has_ipvs = Path("/proc/net/ip_vs").exists()
        self._shell = shell
        self._site = site
        self._place = Path(tempfile.mkdtemp(prefix="kernlb-machine", dir="/var/tmp"))
        if int(INOTIFY.read_text()) < INSTANCES:
            INOTIFY.write_text(str(INSTANCES))
        self._root = self._mount(image.base(suite))
        self._prepare(site)
        argv = ["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--quiet", "--boot"]
        argv += [f"--directory={self._root}", f"--machine={name}", "--register=no", "--keep-unit"]
        argv += ["--network-bridge=br0", "--capability=all", "--console=passive"]
        argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
        argv += ["--system-call-filter=bpf perf_event_open"]
        argv += [f"--bind={self._place / 'bpf'}:/sys/fs/bpf"]
        self._argv = [*site.within, *argv]
        self._console = self._place / "console.log"
        self._nspawn = self._start()
        try:
            self._boot = self._wait_up()
        except MachineError:
            self.stop()
            raise

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> Result:
        return self._shell.run(command, timeout, check)

    def put(self, source: Path, target: str) -> None:
        self._shell.put(source, target)

    def reboot(self) -> None:
        self.run("systemctl --no-block reboot", check=False)
        self._shell.forget()
        ended = self._nspawn.wait(BOOT_SECONDS)
        if ended != REBOOT:
            raise MachineError(f"{self.name} ended with {ended}: {self._last_words()}")
        self._nspawn = self._start()
        self._boot = self._wait_up(self._boot)

    def stop(self) -> None:
        self._shell.forget()
        for process in (*self._children(), self._nspawn.pid):  # its first process would outlive it
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(20)
        subprocess.run(["umount", "-l", str(self._root)], check=False, timeout=20)
        shutil.rmtree(self._place, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=self._console.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _children(self) -> list[int]:
        """Of nspawn: the first process of the container."""
        try:
            text = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        except OSError:
            return []
        return [int(each) for each in text.split()]

    def _wait_up(self, not_boot: str = "") -> str:
        boot = self._shell.wait_up(
            BOOT_SECONDS, self._last_words, not_boot, alive=lambda: self._nspawn.poll() is None
        )
        self._lay_cable()
        return boot

    def _lay_cable(self) -> None:
        """The far end of its pair of veth, new with each boot, takes what XDP sends, and gives it
        whole checksums."""
        told = self._site.run(["ip", "-j", "link", "show", "dev", f"vb-{self.name}"]).stdout
        (port,) = (link["ifname"] for link in json.loads(told))  # a long name is shortened there

        def lay() -> None:
            switch_checksum_offload_off(port)
            hold_pass([port])

        inside(self._site.namespace, lay)

    def _mount(self, lower: Path) -> Path:
        for each in ("upper", "work", "root", "bpf"):
            (self._place / each).mkdir()
        options = f"lowerdir={lower},upperdir={self._place}/upper,workdir={self._place}/work"
        argv = ["mount", "-t", "overlay", "overlay", "-o", options, str(self._place / "root")]
        subprocess.run(argv, check=True, timeout=20)
        return self._place / "root"

    def _prepare(self, site: Site) -> None:
        from tests.machines.site import GATEWAY

        text = NETWORK.format(address=self.address, address6=self.address6, gateway=GATEWAY)
        for path, content in (
            ("etc/hostname", f"{self.name}\n"),
            ("etc/hosts", HOSTS.format(name=self.name)),
            ("etc/systemd/network/10-host0.network", text),
            ("etc/systemd/system/container-bpffs.service", BPFFS),
            ("root/.ssh/authorized_keys", site.key.with_suffix(".pub").read_text()),
        ):
            (self._root / path).write_text(content)
        wants = self._root / "etc/systemd/system/sysinit.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "container-bpffs.service").symlink_to("../container-bpffs.service")

    def _last_words(self) -> str:
        return self._console.read_text(errors="replace")[-3000:]
