"""Every program before the verifier of this machine's kernel and of a stock one, and attached.

`-rP` shows how many instructions the verifier walked through; it gives up at a million.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.datapath.xdp import decap
from kernlb.datapath.xdp.attaching import attach, attached, detach
from kernlb.datapath.xdp.libbpf import Mode, Object, Program, xdp_state
from kernlb.datapath.xdp.loading import load, object_path
from kernlb.datapath.xdp.memory import Sizes
from kernlb.lab.namespaces import inside
from tests.netns.xdp.conftest import Hosts, hosts, root  # noqa: F401 (fixtures)

MOST = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h
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
