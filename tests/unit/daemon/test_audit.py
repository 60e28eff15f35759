"""The audit: finds drift, costs fingerprints; and what one change costs among many services."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from kernlb.control.protocol import SyncState
from kernlb.datapath import DatapathUnavailableError
from kernlb.model import RealServer, ServiceKey
from tests.unit.daemon.world import World, foreign, key, on, story, web

MANY = 1000


@story
async def test_drift_is_found_repaired_counted_and_told(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"), db=web("10.0.0.9", port=5432))
    state = world.kernel.state[key()]
    world.kernel.put(replace(state, servers=state.servers[:1]))
    await world.audit.walk()
    assert world.journal == ["+ server tcp/192.0.2.10:80 10.0.0.2:80 weight 1 nat"]
    status = world.overview.status()
    assert status.drift_repaired == 1
    assert "audit: service web: drift repaired: + server tcp/192.0.2.10:80" in world.told()
    assert status.last_audit == world.now
    assert world.kernel.looked_at == {key()}


@story
async def test_every_kind_of_drift_is_put_right(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2", scheduler="mh"))
    good = world.kernel.state[key()]
    one, two = good.servers
    stranger = RealServer(ip_address("10.6.6.6"), 80)
    for bad in (
        replace(good, servers=()),
        replace(good, servers=(one, two, stranger)),
        replace(good, servers=(one.with_weight(9), two)),
        replace(good, servers=(one.with_weight(0), two.with_weight(0))),
        replace(good, servers=(replace(one, upper_threshold=5), two)),
        replace(good, service=replace(good.service, flags=frozenset())),
        foreign(80, "10.6.6.6"),
    ):
        world.kernel.put(bad)
        await world.audit.walk()
        assert world.kernel.state[key()].service == good.service
        assert world.kernel.state[key()].by_key() == good.by_key()
    world.kernel.drop(key())
    await world.audit.walk()
    assert world.kernel.state[key()].by_key() == good.by_key()
    assert world.overview.status().drift_repaired == 8


@story
async def test_a_repair_makes_before_it_breaks(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    world.kernel.put(foreign(80, "10.6.6.6"))
    seen = len(world.kernel.history) - 1
    await world.audit.walk()
    assert all(held[key()].serves for held in world.kernel.history[seen:])


@story
async def test_an_audit_at_rest_writes_nothing_and_reads_fingerprints_only(world: World) -> None:
    await world.start(**{f"s{n}": web("10.0.0.1", port=n) for n in range(1, 101)})
    await world.audit.walk()
    assert world.journal == []
    assert world.kernel.calls == {"fingerprint": 100, "services": 1}
    assert world.interfaces.calls == {}
    assert world.overview.status().drift_repaired == 0


@story
async def test_an_audit_looks_at_the_vips_once(world: World) -> None:
    wishes = {f"s{n}": web("10.0.0.1", port=n, vip={"interface": "eth0"}) for n in range(1, 41)}
    await world.start(**wishes)
    await world.audit.walk()
    assert world.interfaces.calls == {"present": 1}
    world.interfaces.addresses.clear()
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}


@story
async def test_one_change_among_a_thousand_touches_one_service(world: World) -> None:
    await world.start(**{f"s{n}": web("10.0.0.1", "10.0.0.2", port=n) for n in range(1, MANY + 1)})
    await world.changes.patch("s500", {"scheduler": "rr"}, dry_run=False)
    assert world.journal == ["~ service tcp/192.0.2.10:500 scheduler wlc -> rr"]
    assert world.kernel.looked_at == {key(500)}
    # before and after the change: is it as we think, is it as we wanted
    assert world.kernel.calls == {"fingerprint": 2, "read": 2}
    world.forget()
    await world.changes.hold("s7", "10.0.0.2", None, dry_run=False)
    assert world.kernel.looked_at == {key(7)}
    assert world.kernel.calls == {"fingerprint": 1, "read": 1}


@story
async def test_a_reload_of_a_thousand_reads_only_what_changed(world: World) -> None:
    await world.start(**{f"s{n}": web("10.0.0.1", port=n) for n in range(1, MANY + 1)})
    world.write("s500", web("10.0.0.2", port=500))
    await world.changes.reload()
    assert world.kernel.looked_at == {key(500)}
    assert len(world.journal) == 2


@story
async def test_a_kernel_that_does_not_answer_is_a_state_and_not_the_end(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    works = world.kernel.fingerprint

    def broken(_key: ServiceKey) -> bytes | None:
        raise DatapathUnavailableError("cannot ask IPVS: no buffer space")

    world.kernel.fingerprint = broken  # type: ignore[method-assign]
    await world.audit.walk()
    assert world.state("web") is SyncState.FAILED
    assert "no buffer space" in world.listed()["web"].error
    world.kernel.fingerprint = works  # type: ignore[method-assign]
    await world.audit.walk()
    assert world.state("web") is SyncState.SYNCED
    assert world.overview.status().drift_repaired == 0


@story
async def test_what_goes_wrong_for_long_is_told_once(world: World) -> None:
    world.write("web", web("10.0.0.1"))
    world.kernel.refuse_ops("+ service")
    await world.changes.reload()
    for _ in range(3):
        await world.audit.walk()
    assert world.told().count("cannot apply + service") == 1
