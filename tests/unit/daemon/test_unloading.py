"""What a stopped daemon left is taken out of the kernel: its own, all of it, in the right order."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.daemon.events import Events
from kernlb.daemon.replies import Replies
from kernlb.daemon.runtime import RuntimeStateError
from kernlb.daemon.unloading import Unloading, alone
from kernlb.datapath.ipvs.probing import _service
from kernlb.datapath.probing import MARKS
from kernlb.model import Family, FwmarkKey, ServiceState, VirtualService
from tests.unit.daemon.world import Kernel, World, foreign, key, on, story, web

ETH0 = {"interface": "eth0"}


class Ipvs(Kernel):
    """The strict fake kernel, with services that carry probes told apart as IPVSDatapath does."""

    def probing(self) -> list[VirtualService]:
        return [each for each in self.services() if isinstance(each.key, FwmarkKey)]


def after(world: World, ipvs: Ipvs | None) -> Unloading:
    """What `kernlb unload` sees once the world's daemon has stopped."""
    world.forget()
    events = Events(lambda: 0.0)
    return Unloading(world.root / "state", world.root / "pins", ipvs, world.interfaces, events)


def world_of(tmp_path: Path, *states: ServiceState) -> tuple[World, Ipvs]:
    world = World(tmp_path)
    world.kernel = ipvs = Ipvs(world.journal, states)
    world.restart()
    return world, ipvs


@story
async def test_all_that_is_owned_goes_the_address_first_and_what_is_foreign_stays(
    tmp_path: Path,
) -> None:
    world, ipvs = world_of(tmp_path, foreign(443, "10.0.0.9"))
    world.interfaces.addresses.add(on("192.0.2.99"))
    await world.start(web=web("10.0.0.1", "10.0.0.2", vip=ETH0), dns=web(port=53))
    work = after(world, ipvs)

    left = await work.look()
    assert [(each.name, str(each.ref.key), each.servers) for each in left.services] == [
        ("dns", "tcp/192.0.2.10:53", 0),
        ("web", "tcp/192.0.2.10:80", 2),
    ]
    assert left.vips == [on("192.0.2.10")]
    assert world.journal == [], "looking changes nothing"

    assert await work.run() == left
    assert work.errors == []
    assert [line.split()[:2] for line in world.journal] == [
        ["-", "vip"],
        ["-", "service"],
        ["-", "service"],
    ]
    assert set(ipvs.state) == {key(443)}
    assert world.interfaces.addresses == {on("192.0.2.99")}
    assert (world.saved()["owned"], world.saved()["vips"]) == ({}, [])


@story
async def test_a_second_time_there_is_nothing_to_do(tmp_path: Path) -> None:
    world, ipvs = world_of(tmp_path)
    await world.start(web=web("10.0.0.1", vip=ETH0))
    await after(world, ipvs).run()
    again = after(world, ipvs)
    assert (await again.run()).nothing
    assert (world.journal, again.errors) == ([], [])


@story
async def test_drains_outlive_it_and_the_next_start_makes_everything_again(tmp_path: Path) -> None:
    world, ipvs = world_of(tmp_path)
    await world.start(web=web("10.0.0.1", "10.0.0.2", vip=ETH0))
    await world.changes.hold("web", "10.0.0.2:80", "draining", dry_run=False)
    before = dict(ipvs.state)
    await after(world, ipvs).run()
    assert ipvs.state == {}
    world.restart()
    await world.changes.start()
    assert ipvs.state == before
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 0}
    assert world.interfaces.addresses == {on("192.0.2.10")}


@story
async def test_what_stays_is_told_and_stays_owned_and_the_rest_goes(tmp_path: Path) -> None:
    world, ipvs = world_of(tmp_path)
    await world.start(web=web("10.0.0.1", vip=ETH0), tls=web("10.0.0.1", port=443))
    ipvs.refuse_ops(":443")
    work = after(world, ipvs)
    await work.run()
    assert set(ipvs.state) == {key(443)}
    assert [error for error in work.errors if ":443" in error]
    assert list(world.saved()["owned"]) == ["ipvs:tcp/192.0.2.10:443"]
    ipvs.refuse_ops()
    assert [each.name for each in (await after(world, ipvs).run()).services] == ["tls"]
    assert ipvs.state == {}


@story
async def test_a_kernel_without_ipvs_holds_none_of_it(tmp_path: Path) -> None:
    world, ipvs = world_of(tmp_path)
    await world.start(web=web("10.0.0.1"))
    work = after(world, None)
    assert (await work.run()).nothing
    assert (work.errors, world.saved()["owned"]) == ([], {})
    assert set(ipvs.state) == {key()}


@story
async def test_services_that_carry_probes_go_too(tmp_path: Path) -> None:
    probe = ServiceState(_service(FwmarkKey(Family.IPV4, MARKS[1])), ())
    world, ipvs = world_of(tmp_path, probe)
    work = after(world, ipvs)
    assert (await work.look()).probes == 1
    await work.run()
    assert (ipvs.state, work.errors) == ({}, [])


@story
async def test_sysctls_that_probes_needed_are_what_they_were(tmp_path: Path) -> None:
    world, _ = world_of(tmp_path)
    sysctls = tmp_path / "sysctls"
    for name, value in (("all/accept_local", "0"), ("all/rp_filter", "0")):
        path = sysctls / "net/ipv4/conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    own = sysctls / "net/ipv4/conf/eth1"
    own.mkdir()
    (own / "accept_local").write_text("0\n")
    (own / "rp_filter").write_text("1\n")
    running = Replies(world.root / "state", world.events, sysctls)
    running.begin()
    running.want({"eth1"})
    left = Replies(world.root / "state", world.events, sysctls)
    assert left.changed() == [
        ("net.ipv4.conf.eth1.accept_local", "1", "0"),
        ("net.ipv4.conf.eth1.rp_filter", "2", "1"),
    ]
    left.want(frozenset())
    left.end()
    assert (own / "rp_filter").read_text().strip() == "1"
    assert not Replies(world.root / "state", world.events, sysctls).in_use


@story
async def test_a_damaged_state_file_is_no_reason_to_guess(tmp_path: Path) -> None:
    world, ipvs = world_of(tmp_path)
    await world.start(web=web("10.0.0.1"))
    (world.root / "state/state.json").write_text("{")
    with pytest.raises(RuntimeStateError, match="cannot read"):
        await after(world, ipvs).run()
    assert set(ipvs.state) == {key()}


def test_no_daemon_starts_meanwhile(tmp_path: Path) -> None:
    socket = tmp_path / "run/control.sock"
    with alone(socket):
        with pytest.raises(OSError, match="another kernlbd does"), alone(socket):
            pass
        assert socket.exists()
    assert not socket.parent.exists()
