"""Every example that `--help` shows runs, on a host with a daemon and two services.

The kernel is a daemon's fake one, but for commands that ask XDP itself. Before each example the
services are as in BASE again. Examples that cannot run here are named, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import click
import pytest

from kernlb.cli.app import cli
from tests.docs.hosts import Host
from tests.docs.settings import alone

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

WEB = """address: 192.0.2.10
port: 80
scheduler: wrr
persistence: 5m
drain_timeout: 10m
labels: {team: web, stage: test}
servers:
- {address: 10.0.0.1, port: 8080}
- {address: 10.0.0.2, port: 80}
- {address: 10.0.0.3, port: 8080, weight: 2}
"""
DNS = (
    "address: 192.0.2.10\nport: 53\nprotocol: udp\nscheduler: mh\nservers: [{address: 10.0.0.1}]\n"
)
KEEPALIVED = (
    "virtual_server 192.0.2.20 80 {\n lb_algo rr\n lb_kind DR\n real_server 10.0.0.1 80\n}\n"
)
LDIRECTORD = "virtual=192.0.2.30:80\n\treal=10.0.0.1:80 gate\n\tscheduler=rr\n"
FILES = {
    "/etc/kernlb/kernlb.yaml": "xdp: {interfaces: [eth0]}\n",
    "/etc/keepalived/keepalived.conf": KEEPALIVED,
    "/etc/ha.d/ldirectord.cf": LDIRECTORD,
    "/root/web.yaml": WEB,
    "/root/dns.yaml": DNS,
    "/root/services.d/web.yaml": WEB,
}
BASE = {"/etc/kernlb/services.d/web.yaml": WEB, "/etc/kernlb/services.d/dns.yaml": DNS}

# What an example needs to find, beyond BASE.
FIRST = {
    "kernlb service add": "kernlb service rm web dns",
    "kernlb server add web 10.0.0.3": "kernlb server rm web 10.0.0.3:8080",
    "kernlb wait service web gone": "kernlb service rm web",
    "kernlb wait server web 10.0.0.2 drained": "kernlb server drain web 10.0.0.2 --timeout 1s",
    "kernlb wait drained": "kernlb server drain web 10.0.0.2",
    "kernlb completion zsh": "fpath=(/tmp)",
    "kernlb completion fish": "mkdir -p ~/.config/fish/completions",
    "kernlb import keepalived /etc/keepalived/keepalived.conf --output": "rm -rf documents",
    "kernlb realserver check": "kernlb realserver setup --method dsr --vip 192.0.2.10",
    "kernlb realserver decap status": "kernlb realserver decap attach eth0",
    "kernlb realserver decap attach": "kernlb realserver remove",
}
RELOAD = "curl -sS --unix-socket /run/kernlb/control.sock -X POST http://kernlb/v1/reload"
ENABLE = "/v1/services/web/servers/10.0.0.2:80/enable"
RELOAD += f"; curl -sS --unix-socket /run/kernlb/control.sock -X POST http://kernlb{ENABLE}"
OF_XDP = ("kernlb explain", "kernlb dump", "kernlb stats --reasons", "kernlb xdp")
OF_XDP += ("kernlb trace drops --own", "kernlb unload")
# Ended from outside after a moment, as an operator would.
ENDLESS = ("kernlb top", "kernlb events --follow", "kernlb trace drops --own")
# On a terminal, and what is typed there: consent, or nothing.
ON_A_TERMINAL = {
    "kernlb top": "sleep 5",
    "kernlb doctor --fix": "yes | head -n 99",
    "kernlb realserver check --method tunnel": "yes | head -n 99",
}
EXCUSED = {
    "kernlb lab": "tests/netns/lab",
    "kernlb trace": "tests/netns/trace, in a guest: bcc",
    "kernlb capture": "tests/netns/trace, in a guest: not every kernel lets programs be watched",
    "kernlb import ipvsadm --live": "tests/netns/ipvs, in a guest: IPVS",
    "ipvsadm-save": "tests/netns/ipvs, in a guest: IPVS",
    "kernlb ipvsadm": "tests/netns/ipvs, in a guest: IPVS",
}
# Exit codes that an example may have where it finds what there is to find: doctors, plans.
MAY_END = {"kernlb doctor": (0, 1), "kernlb realserver check": (0, 1)}


def examples(command: click.Command) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from examples(found)
    else:
        for line in getattr(command, "examples", "").splitlines():
            yield line.strip()


ALL = sorted(set(examples(cli)))
RUN = [line for line in ALL if not line.startswith(tuple(EXCUSED)) or line.startswith(OF_XDP)]


def _write(files: Mapping[str, str]) -> str:
    return "\n".join(
        f"mkdir -p {path.rpartition('/')[0]}\ncat > {path} <<'END'\n{text}END"
        for path, text in files.items()
    )


@contextmanager
def _daemon(options: str) -> Iterator[Host]:
    with alone() as hosts:
        host = hosts["balancer"]
        for name in ("eth1", "bond0"):
            host.run(f"ip link add {name} type veth peer p{name} && ip link set {name} up")
        host.run(_write(FILES))
        host.run(_write(BASE))
        host.run(f"kernlbd {options} 2>/tmp/kernlbd.log &")
        code, printed = host.run("kernlb wait ready --timeout 60 && kernlb reload")
        assert code == 0, "\n".join([*printed, *host.run("cat /tmp/kernlbd.log")[1]])
        yield host


@pytest.fixture(scope="module")
def hosts() -> Iterator[Iterator[Host]]:
    """A host with a daemon, as often as asked; the same one while it answers."""
    with ExitStack() as stack:

        def same_or_new() -> Iterator[Host]:
            while True:
                host = stack.enter_context(_daemon("--datapath fake"))
                while not host.ended:
                    yield host

        yield same_or_new()


@pytest.fixture
def fake(hosts: Iterator[Host]) -> Host:
    return next(hosts)


@pytest.fixture
def xdp() -> Iterator[Host]:
    FILES["/etc/kernlb/kernlb.yaml"] = (
        "xdp: {interfaces: [eth0, eth1]}\ndefaults: {datapath: xdp}\n"
    )
    with _daemon("") as host:
        yield host


def _ends(line: str, code: int) -> bool:
    for start, codes in MAY_END.items():
        if line.startswith(start):
            return code in codes
    if _endless(line):
        return code in (0, 124, 130)
    return code in (0, 3)  # 3: a plan shows changes


def _endless(line: str) -> bool:
    return line.startswith(ENDLESS) and "--once" not in line


@pytest.mark.parametrize("line", [line for line in RUN if not line.startswith(OF_XDP)])
def test_an_example_runs(line: str, fake: Host) -> None:
    fake.run(f"{_write(BASE)}\nrm -f /etc/kernlb/services.d/edge.yaml; {RELOAD}")
    for start, first in FIRST.items():
        if line.startswith(start):
            fake.run(first)
    _try(fake, line)


def test_examples_that_ask_xdp_run(xdp: Host) -> None:
    for line in (each for each in RUN if each.startswith(OF_XDP) and "unload" not in each):
        _try(xdp, line)
    xdp.run("kill %1; wait %1")
    for line in (each for each in RUN if "unload" in each):
        _try(xdp, line)


def _try(host: Host, line: str) -> None:
    # In the foreground: a program of a terminal is stopped by it in any other group.
    shown = f"timeout --foreground -k 20 -s INT 2 {line}" if _endless(line) else line
    for start, typed in ON_A_TERMINAL.items():
        if line.startswith(start):
            shown = f"{typed} | script -qefc '{shown}' /dev/null"
    code, printed = host.run(f"( {shown} ) </dev/null")
    assert _ends(line, code), f"{line}: exit code {code}\n" + "\n".join(printed)
