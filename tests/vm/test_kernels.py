"""Every program before the verifier of this machine's kernel, and of a stock one.

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
def test_the_verifier_takes_the_balancer_with_room(_kernel: str, root: Path) -> None:  # noqa: F811
    with closing(load(root, SIZES)) as loaded:
        numbers = verified(loaded.programs.values())
    assert numbers.keys() == {"kernlb", "explain", "sweep"}
    assert max(numbers.values()) < MOST // ROOM


@on_both_kernels
def test_the_verifier_takes_the_ends_of_tunnels_with_room(_kernel: str) -> None:
    with Object.open(object_path(decap.NAME)) as loadable:
        loadable.allow_fragments()
        loadable.load()
        numbers = verified(map(loadable.program, loadable.program_names))
    assert numbers.keys() == {"decap", "pass"}
    assert max(numbers.values()) < MOST // ROOM


@on_both_kernels
def test_the_balancer_goes_on_an_interface_and_off(
    _kernel: str,
    root: Path,  # noqa: F811
    hosts: Hosts,  # noqa: F811
) -> None:
    with closing(load(root, SIZES)) as loaded:
        program = loaded.programs["kernlb"].program_id
    inside(hosts.here, lambda: attach(root, "kl0"))
    (found,) = inside(hosts.here, lambda: attached(root))
    assert (found.interface, found.mode, found.program_id) == ("kl0", Mode.NATIVE, program)
    assert inside(hosts.here, lambda: detach(root, "kl0"))
    assert inside(hosts.here, lambda: attached(root)) == ()


@on_both_kernels
def test_the_end_of_tunnels_goes_on_an_interface_and_off(
    _kernel: str,
    hosts: Hosts,  # noqa: F811
) -> None:
    wanted = decap.Decap((ip_address("198.18.7.1"),))
    inside(hosts.here, lambda: decap.attach("kl0", wanted))
    status = inside(hosts.here, lambda: decap.status("kl0"))
    assert status is not None
    assert (status.mode, status.decap.ends) == (Mode.NATIVE, wanted.ends)
    assert inside(hosts.here, lambda: decap.detach("kl0"))
    assert inside(hosts.here, lambda: decap.status("kl0")) is None


@on_both_kernels
def test_pass_goes_on_an_interface(_kernel: str, hosts: Hosts) -> None:  # noqa: F811
    def hold() -> Mode | None:
        decap.hold_pass(["kl0"])
        state = xdp_state(socket.if_nametoindex("kl0"))
        return state and state.mode

    assert inside(hosts.here, hold) is Mode.NATIVE
