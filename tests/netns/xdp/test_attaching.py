"""The program on interfaces: packets meet it, upgrades lose none, and it outlives the process."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from kernlb.datapath.xdp import attaching
from kernlb.datapath.xdp.attaching import Attached, AttachError
from kernlb.datapath.xdp.libbpf import Link, Map, Mode, Program, xdp_state
from kernlb.datapath.xdp.loading import load, unload
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.pins import Pins
from kernlb.lab.namespaces import inside
from tests.netns.traffic.wait import wait_for
from tests.netns.xdp.conftest import ADDRESSES, Hosts, Objects, run

pytestmark = [pytest.mark.bpf, pytest.mark.netns]

SIZES = Sizes(services=10, servers=10, slots=100, conns4=100, conns6=100)
PORT = 7007
T = TypeVar("T")


def put(root: Path, path: Path) -> None:
    """Load, and hold nothing open."""
    load(root, SIZES, path).close()


def attach(root: Path, hosts: Hosts, mode: Mode = Mode.NATIVE, interface: str = "kl0") -> Attached:
    return inside(hosts.here, lambda: attaching.attach(root, interface, mode))


def attached(root: Path, hosts: Hosts) -> list[tuple[str, Mode]]:
    found = inside(hosts.here, lambda: attaching.attached(root))
    return [(each.interface, each.mode) for each in found]


def send(hosts: Hosts, count: int = 1) -> None:
    """Datagrams to kl0, whether anybody listens there or not."""

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(b"?", (ADDRESSES["kl0"], PORT))

    inside(hosts.there, act)


def counted(root: Path) -> tuple[int, int]:
    """Packets that the older program has seen, and the newer one."""
    with Map.open_pinned(Pins(root).maps / "reasons") as reasons:
        values = [reasons.values_per_cpu(bytes([index, 0, 0, 0])) or () for index in (0, 1)]
    older, newer = (sum(int.from_bytes(each, sys.byteorder) for each in row) for row in values)
    return older, newer


def sees(root: Path, hosts: Hosts) -> str:
    """Which program sees a packet now."""
    before = counted(root)
    send(hosts)
    after = wait_for(lambda: (now := counted(root)) != before and now, 5, "a packet is counted")
    return {(1, 0): "older", (0, 1): "newer"}[after[0] - before[0], after[1] - before[1]]


@pytest.fixture
def older(root: Path, objects: Objects) -> Iterator[Path]:
    """The root, with the older program loaded."""
    put(root, objects.older)
    yield root


@pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.GENERIC])
def test_packets_meet_the_program_in_the_mode_that_was_asked_for(
    older: Path, hosts: Hosts, mode: Mode
) -> None:
    told = attach(older, hosts, mode)
    assert (told.interface, told.mode) == ("kl0", mode)
    assert attached(older, hosts) == [("kl0", mode)]
    assert sees(older, hosts) == "older"


def test_attaching_twice_is_once_and_the_mode_can_change(older: Path, hosts: Hosts) -> None:
    for mode in (Mode.NATIVE, Mode.NATIVE, Mode.GENERIC, Mode.NATIVE):
        attach(older, hosts, mode)
        assert attached(older, hosts) == [("kl0", mode)]
        assert sees(older, hosts) == "older"
    assert [path.name for path in Pins(older).links.iterdir()] == ["kl0"]


def test_detaching_frees_the_interface_and_twice_is_once(older: Path, hosts: Hosts) -> None:
    attach(older, hosts)
    done = [inside(hosts.here, lambda: attaching.detach(older, "kl0")) for _ in range(2)]
    assert done == [True, False]
    assert attached(older, hosts) == []
    assert not inside(hosts.here, lambda: attaching.detach(older, "absent0"))
    send(hosts)
    attach(older, hosts)
    assert sees(older, hosts) == "older"
    assert counted(older) == (1, 0)


def test_an_upgrade_reaches_every_interface(older: Path, hosts: Hosts, objects: Objects) -> None:
    run(f"ip -n {hosts.here} link add kl2 type veth peer kl3")
    for interface, mode in (("kl0", Mode.NATIVE), ("kl2", Mode.NATIVE), ("kl3", Mode.GENERIC)):
        attach(older, hosts, mode, interface)
    before = attached(older, hosts)
    put(older, objects.newer)
    assert attached(older, hosts) == before
    with Program.open_pinned(Pins(older).programs / "kernlb") as program:
        there = inside(hosts.here, lambda: attaching.attached(older))
        assert {each.program_id for each in there} == {program.program_id}
    assert sees(older, hosts) == "newer"


def test_no_packet_slips_past_an_upgrade(older: Path, hosts: Hosts, objects: Objects) -> None:
    attach(older, hosts)
    total, batch, upgrades = 0, 200, 0
    stop = threading.Event()

    def upgrade() -> None:
        nonlocal upgrades
        while not stop.is_set() and upgrades < 1000:
            put(older, (objects.newer, objects.older)[upgrades % 2])
            upgrades += 1

    upgrader = threading.Thread(target=upgrade)
    upgrader.start()
    try:
        while upgrades < 10 and upgrader.is_alive():
            send(hosts, batch)
            total += batch
    finally:
        stop.set()
        upgrader.join(timeout=30)
    assert upgrades >= 10
    wait_for(lambda: sum(counted(older)) >= total, 5, "all packets are counted")
    assert sum(counted(older)) == total
    assert min(counted(older)) > 0


def test_the_program_stays_when_the_process_is_killed(
    root: Path, hosts: Hosts, objects: Objects
) -> None:
    def act() -> None:
        load(root, SIZES, objects.older)
        attach(root, hosts)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(act) == -signal.SIGKILL
    assert attached(root, hosts) == [("kl0", Mode.NATIVE)]
    assert sees(root, hosts) == "older"
    put(root, objects.newer)
    assert sees(root, hosts) == "newer"
    assert counted(root) == (1, 1)


STEPS = {"pin", "update", "publish", "exchange", "remove", "beside", "rename", "unlink", "load"}


def kill_at(step: int) -> Callable[[object, str, object], None]:
    """A profiler that kills this process before the step-th call that changes the kernel."""
    calls = 0

    def look(frame: object, event: str, _: object) -> None:
        nonlocal calls
        code = frame.f_code  # type: ignore[attr-defined]
        if event == "call" and code.co_name in STEPS:
            calls += 1
            if calls > step:
                os.kill(os.getpid(), signal.SIGKILL)

    return look


def in_child(act: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def interrupted(root: Path, path: Path, step: int) -> bool:
    def act() -> None:
        sys.setprofile(kill_at(step))
        load(root, SIZES, path)
        sys.setprofile(None)

    code = in_child(act)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_first_load_that_is_killed_anywhere_is_made_good_by_the_next(
    root: Path, objects: Objects
) -> None:
    step = 0
    while interrupted(root, objects.older, step):
        with closing(load(root, SIZES, objects.newer)) as again:
            assert again.sizes.of_maps() == SIZES.of_maps()
            assert {path.name for path in Pins(root).maps.iterdir()} == {*again.maps}
        assert sorted(path.name for path in root.iterdir()) == ["maps", "programs"]
        unload(root)
        step += 1
    assert step > 20


def test_an_upgrade_that_is_killed_anywhere_leaves_a_program_that_works(
    older: Path, hosts: Hosts, objects: Objects
) -> None:
    attach(older, hosts)
    seen = []
    while interrupted(older, objects.newer, len(seen)):
        seen.append(sees(older, hosts))
        assert attached(older, hosts) == [("kl0", Mode.NATIVE)]
        put(older, objects.older)
        assert sees(older, hosts) == "older"
        assert sorted(path.name for path in older.iterdir()) == ["links", "maps", "programs"]
    first = seen.index("newer")
    assert seen == ["older"] * first + ["newer"] * (len(seen) - first)
    assert 0 < first < len(seen)


def test_a_program_of_somebody_else_is_named_and_left_alone(older: Path, hosts: Hosts) -> None:
    with Program.open_pinned(Pins(older).programs / "explain") as foreign:
        index = inside(hosts.here, lambda: socket.if_nametoindex("kl0"))
        link = inside(hosts.here, lambda: Link.attach_xdp(foreign, index, Mode.GENERIC))
        with link:
            for mode in Mode.NATIVE, Mode.GENERIC:
                with pytest.raises(AttachError) as refused:
                    attach(older, hosts, mode)
                assert refused.value.strerror == (
                    f"cannot attach to kl0: XDP program {foreign.program_id} in generic mode "
                    "(explain, not kernlb's) is there already"
                )
            assert link.info.program_id == foreign.program_id
            assert attached(older, hosts) == []
    attach(older, hosts)


def test_a_driver_without_native_mode_is_told_and_generic_stays(older: Path, hosts: Hosts) -> None:
    with pytest.raises(AttachError, match="cannot attach to lo: its driver has no native XDP"):
        attach(older, hosts, Mode.NATIVE, "lo")
    attach(older, hosts, Mode.GENERIC, "lo")
    with pytest.raises(AttachError, match="its driver has no native XDP"):
        attach(older, hosts, Mode.NATIVE, "lo")
    assert attached(older, hosts) == [("lo", Mode.GENERIC)]


def test_what_cannot_be_attached_is_named(root: Path, hosts: Hosts, objects: Objects) -> None:
    with pytest.raises(AttachError, match=f"kl0: no program is loaded in {root}"):
        attach(root, hosts)
    put(root, objects.older)
    with pytest.raises(AttachError, match="cannot attach to absent0: there is no such interface"):
        attach(root, hosts, Mode.NATIVE, "absent0")


def test_jumbo_frames_are_no_reason_to_refuse(older: Path, hosts: Hosts) -> None:
    for namespace, device in ((hosts.here, "kl0"), (hosts.there, "kl1")):
        run(f"ip -n {namespace} link set {device} mtu 9000")
    attach(older, hosts)
    assert sees(older, hosts) == "older"


def test_an_interface_that_went_takes_its_link_along(
    older: Path, hosts: Hosts, objects: Objects
) -> None:
    run(f"ip -n {hosts.here} link add kl2.5 type veth peer kl3")
    attach(older, hosts, Mode.NATIVE, "kl2.5")
    attach(older, hosts)
    run(f"ip -n {hosts.here} link delete kl2.5")
    assert attached(older, hosts) == [("kl0", Mode.NATIVE)]
    run(f"ip -n {hosts.here} link add kl2.5 type veth peer kl3")
    attach(older, hosts, Mode.NATIVE, "kl2.5")
    assert attached(older, hosts) == [("kl0", Mode.NATIVE), ("kl2.5", Mode.NATIVE)]
    run(f"ip -n {hosts.here} link delete kl2.5")
    put(older, objects.newer)
    assert [path.name for path in Pins(older).links.iterdir()] == ["kl0"]
    assert sees(older, hosts) == "newer"


def test_an_interface_keeps_its_program_under_another_name(
    older: Path, hosts: Hosts, objects: Objects
) -> None:
    run(f"ip -n {hosts.here} link add kl2 type veth peer kl3")
    attach(older, hosts, Mode.NATIVE, "kl2")
    run(f"ip -n {hosts.here} link set kl2 name kl4", f"ip -n {hosts.here} link set kl3 name kl2")
    attach(older, hosts, Mode.GENERIC, "kl2")
    assert attached(older, hosts) == [("kl2", Mode.GENERIC), ("kl4", Mode.NATIVE)]
    put(older, objects.newer)
    assert inside(hosts.here, lambda: attaching.detach(older, "kl4"))
    assert attached(older, hosts) == [("kl2", Mode.GENERIC)]


def test_interfaces_of_other_namespaces_are_not_ours_to_show(older: Path, hosts: Hosts) -> None:
    attach(older, hosts)
    assert inside(hosts.there, lambda: attaching.attached(older)) == ()


def test_nothing_is_attached_while_another_process_loads(older: Path, hosts: Hosts) -> None:
    with Pins(older).locked(), pytest.raises(BlockingIOError, match="another process is"):
        attach(older, hosts)
    assert attached(older, hosts) == []


def test_unloading_detaches_at_once(older: Path, hosts: Hosts) -> None:
    index = attach(older, hosts).ifindex
    unload(older)
    assert inside(hosts.here, lambda: xdp_state(index)) is None
    with pytest.raises(AttachError, match="no program is loaded"):
        attach(older, hosts)


def test_an_upgrade_that_one_interface_refuses_reaches_none(
    older: Path, hosts: Hosts, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel knows few reasons to refuse; this one is made up, all else is real."""
    run(f"ip -n {hosts.here} link add kl2 type veth peer kl3")
    attach(older, hosts)
    attach(older, hosts, Mode.NATIVE, "kl2")
    before = inside(hosts.here, lambda: attaching.attached(older))
    update, refused = Link.update, before[1].ifindex

    def refuse(link: Link, program: Program) -> None:
        if link.info.ifindex == refused:
            raise OSError(errno.ENOMEM, "no memory for kl2")
        update(link, program)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no memory for kl2"):
        patched.setattr(Link, "update", refuse)
        put(older, objects.newer)
    assert inside(hosts.here, lambda: attaching.attached(older)) == before
    assert sees(older, hosts) == "older"
    put(older, objects.newer)
    assert sees(older, hosts) == "newer"
