"""Every program before the verifier of this machine's kernel and of a stock one, and attached.

`-rP` shows how many instructions the verifier walked through; it gives up at a million.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.datapath.probing import MARKS
from kernlb.datapath.probing import Path as Way
from kernlb.datapath.xdp import decap
from kernlb.datapath.xdp.attaching import attach, attached, detach
from kernlb.datapath.xdp.libbpf import Mode, Object, Program, xdp_state
from kernlb.datapath.xdp.libbpf.hooks import hooked
from kernlb.datapath.xdp.loading import load, object_path
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.probing import ProbeProgram
from kernlb.lab.namespaces import inside
from kernlb.model import Family, Forwarding, RealServer, Tunnel, TunnelType
from tests.netns.xdp.conftest import (  # noqa: F401 (fixtures)
    ADDRESSES,
    Hosts,
    hosts,
    root,
    run,
)

MOST = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h
VIP, THERE = "192.0.2.10", ip_address(ADDRESSES["kl1"])
ROOM = 2  # a newer verifier may need that many times as many
SIZES = Sizes(services=16, servers=64, slots=4096, conns4=1024, conns6=1024)

on_both_kernels = pytest.mark.parametrize(
    "_kernel",
    [pytest.param("own", marks=pytest.mark.bpf), pytest.param("stock", marks=pytest.mark.ipvs)],
)


def verified(programs: Iterable[Program]) -> dict[str, int]:
    """Instructions that the verifier went through, by program."""
    found = {}
    for each in programs:
        said = Path(f"/proc/self/fdinfo/{each.fd}").read_text()
        words = re.search(r"^verified_insns:\s+(\d+)$", said, re.MULTILINE)
        assert words is not None, said
        found[each.name] = int(words[1])
        print(f"{os.uname().release}: {each.name}: {found[each.name]} instructions verified")
    return found


@on_both_kernels
def test_the_balancer_is_taken_with_room_and_goes_on_an_interface(
    _kernel: str,
    root: Path,  # noqa: F811
    hosts: Hosts,  # noqa: F811
) -> None:
    with closing(load(root, SIZES)) as loaded:
        numbers = verified(loaded.programs.values())
        program = loaded.programs["kernlb"].program_id
    assert numbers.keys() == {"kernlb", "explain", "sweep"}
    assert max(numbers.values()) < MOST // ROOM
    inside(hosts.here, lambda: attach(root, "kl0"))
    (found,) = inside(hosts.here, lambda: attached(root))
    assert (found.interface, found.mode, found.program_id) == ("kl0", Mode.NATIVE, program)
    assert inside(hosts.here, lambda: detach(root, "kl0"))
    assert inside(hosts.here, lambda: attached(root)) == ()


@on_both_kernels
def test_the_ends_of_tunnels_are_taken_with_room_and_go_on_interfaces(
    _kernel: str,
    hosts: Hosts,  # noqa: F811
) -> None:
    with Object.open(object_path(decap.NAME)) as loadable:
        loadable.allow_fragments()
        loadable.load()
        numbers = verified(map(loadable.program, loadable.program_names))
    assert numbers.keys() == {"decap", "pass"}
    assert max(numbers.values()) < MOST // ROOM
    wanted = decap.Decap((ip_address("198.18.7.1"),))
    inside(hosts.here, lambda: decap.attach("kl0", wanted))
    status = inside(hosts.here, lambda: decap.status("kl0"))
    assert status is not None
    assert (status.mode, status.decap.ends) == (Mode.NATIVE, wanted.ends)
    inside(hosts.there, lambda: decap.hold_pass(["kl1"]))
    state = inside(hosts.there, lambda: xdp_state(socket.if_nametoindex("kl1")))
    assert state is not None
    assert state.mode is Mode.NATIVE
    assert inside(hosts.here, lambda: decap.detach("kl0"))
    assert inside(hosts.here, lambda: decap.status("kl0")) is None


def _tunnel(kind: TunnelType, port: int = 0) -> RealServer:
    return RealServer(THERE, 80, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(kind, port))


# a server, then the IP protocols and destinations in the frame, outermost first
CARRIED: dict[str, tuple[RealServer, list[tuple[int, str]]]] = {
    "dsr": (RealServer(THERE, 80, forwarding=Forwarding.DSR), [(17, VIP)]),
    "ipip": (_tunnel(TunnelType.IPIP), [(4, str(THERE)), (17, VIP)]),
    "gue": (_tunnel(TunnelType.GUE, 6080), [(17, str(THERE)), (17, VIP)]),
    "gre": (_tunnel(TunnelType.GRE), [(47, str(THERE)), (17, VIP)]),
}
SHIM = {4: 20, 47: 24, 17: 32}  # from an outer IPv4 header to the inner one


@on_both_kernels
def test_a_probe_at_a_vip_is_carried_and_nothing_else_is(
    _kernel: str,
    hosts: Hosts,  # noqa: F811
) -> None:
    """Sent by a socket to an address that is its own host's."""
    run(f"ip -n {hosts.here} address add {VIP}/32 dev lo")
    carrier = ProbeProgram()
    ours = ip_address(ADDRESSES["kl0"])
    ifindex = inside(hosts.here, lambda: socket.if_nametoindex("kl0"))
    with inside(hosts.there, _sniffer) as sniffer, inside(hosts.here, _datagrams) as probe:
        probe.bind((str(ours), 0))
        for number, (server, headers) in enumerate(CARRIED.values()):
            mark = MARKS[number]
            path = Way(Family.IPV4, server, ifindex, THERE, ours)
            assert inside(hosts.here, lambda p={mark: path}: carrier.carry(p)) == {}  # type: ignore[misc]
            for each in (0, mark + 1, mark):  # the first is local, the second dropped
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, each)
                with suppress(ConnectionRefusedError):
                    probe.sendto(b"mark %d" % each, (VIP, 80))
            frame = sniffer.recv(2048)
            assert frame[:6].hex(":") == "02:00:00:00:07:02"
            assert frame.endswith(b"mark %d" % mark)
            at = 14
            for protocol, destination in headers:
                assert (frame[at + 9], str(ip_address(frame[at + 16 : at + 20]))) == (
                    protocol,
                    destination,
                )
                at += SHIM[protocol]
    assert inside(hosts.here, lambda: hooked(1))
    assert inside(hosts.here, lambda: carrier.carry({})) == {}
    assert not inside(hosts.here, lambda: hooked(1))


def _sniffer() -> socket.socket:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    sniffer.bind(("kl1", 0x0800))
    sniffer.settimeout(10)
    return sniffer


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
