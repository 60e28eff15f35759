"""VIPs: after the servers, gone before the service, never one that kernlb did not add."""

from __future__ import annotations

import pytest

from tests.unit.daemon.world import World, key, on, story, web

BAD = "port: ["
ETH0 = {"interface": "eth0"}


@story
async def test_a_vip_comes_after_its_servers_and_goes_before_its_service(world: World) -> None:
    world.write("web", web("10.0.0.1", vip=ETH0))
    await world.changes.start()
    assert [line.split()[:2] for line in world.journal] == [
        ["+", "service"],
        ["+", "server"],
        ["+", "vip"],
    ]
    assert world.interfaces.announced == [on("192.0.2.10")]
    (world.directory / "web.yaml").unlink()
    world.forget()
    await world.changes.reload()
    assert [line.split()[:2] for line in world.journal] == [["-", "vip"], ["-", "service"]]


@story
async def test_a_vip_is_owned_on_disk_before_it_is_added(world: World) -> None:
    apply = world.interfaces.apply
    seen: list[object] = []

    async def look(op: object) -> bool:
        seen.append(world.saved()["vips"])
        return await apply(op)  # type: ignore[arg-type]

    world.interfaces.apply = look  # type: ignore[method-assign, assignment]
    await world.start(web=web("10.0.0.1", vip=ETH0))
    assert seen == [[["192.0.2.10", "eth0"]]]


@story
async def test_a_shared_vip_stays_until_the_last_service_goes(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip=ETH0), tls=web("10.0.0.1", port=443, vip=ETH0))
    assert world.interfaces.announced == [on("192.0.2.10")]
    await world.changes.delete("web", dry_run=False)
    assert world.interfaces.addresses == {on("192.0.2.10")}
    await world.changes.delete("tls", dry_run=False)
    assert world.interfaces.addresses == set()


@story
async def test_an_address_that_somebody_adds_first_is_not_owned(world: World) -> None:
    apply = world.interfaces.apply

    async def late(op: object) -> bool:
        world.interfaces.addresses.add(on("192.0.2.10"))
        return await apply(op)  # type: ignore[arg-type]

    world.interfaces.apply = late  # type: ignore[method-assign, assignment]
    await world.start(web=web("10.0.0.1", vip=ETH0))
    assert world.saved()["vips"] == []
    assert world.interfaces.announced == []


@story
async def test_an_address_that_was_there_before_is_used_and_never_removed(world: World) -> None:
    world.interfaces.addresses.add(on("192.0.2.10"))
    await world.start(web=web("10.0.0.1", vip=ETH0))
    assert world.interfaces.announced == []
    assert [(vip.owned, vip.present) for vip in world.overview.status().vips] == [(False, True)]
    await world.changes.delete("web", dry_run=False)
    assert world.interfaces.addresses == {on("192.0.2.10")}


@story
async def test_a_vip_moves_to_another_interface_without_a_gap(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip=ETH0))
    await world.changes.patch("web", {"vip": {"interface": "lo"}}, dry_run=False)
    assert world.journal == ["+ vip 192.0.2.10 on lo", "- vip 192.0.2.10 on eth0"]


@story
async def test_a_vip_that_somebody_removes_comes_back_with_the_audit(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip=ETH0))
    world.interfaces.addresses.clear()
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}
    assert "audit: + vip 192.0.2.10 on eth0" in world.told()


@story
async def test_a_vip_waits_for_a_service_that_the_kernel_refuses(world: World) -> None:
    world.write("web", web("10.0.0.1", vip=ETH0))
    world.kernel.refuse_ops("+ server")
    await world.changes.start()
    await world.audit.walk()
    assert world.interfaces.addresses == set()
    world.kernel.refuse_ops()
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}


@story
async def test_a_vip_that_is_there_stays_when_a_change_of_its_service_is_refused(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1", vip=ETH0))
    world.write("web", web("10.0.0.2", vip=ETH0))
    world.kernel.refuse_ops("+ server")
    await world.changes.reload()
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}


@story
async def test_the_vip_of_a_service_whose_file_is_bad_at_start_stays(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip=ETH0), db=web("10.0.0.9", port=5432, vip=ETH0))
    world.write("web", BAD)
    world.write("db", BAD)
    world.restart()
    await world.start()
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}
    assert world.weights(key()) == {"10.0.0.1": 1}
    (world.directory / "web.yaml").unlink()
    (world.directory / "db.yaml").unlink()
    await world.changes.reload()
    assert world.interfaces.addresses == set()
    assert world.kernel.state == {}


@story
async def test_what_could_not_be_added_is_not_owned(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip={"interface": "late0"}))
    assert world.saved()["vips"] == []
    world.interfaces.names.add("late0")  # the operator makes it, address and all
    world.interfaces.addresses.add(on("192.0.2.10", "late0"))
    await world.audit.walk()
    await world.changes.delete("web", dry_run=False)
    assert world.interfaces.addresses == {on("192.0.2.10", "late0")}


@story
async def test_an_interface_that_comes_late_gets_its_vip(world: World) -> None:
    await world.start(web=web("10.0.0.1", vip={"interface": "late0"}))
    assert world.told().count("there is no such interface") == 1
    await world.audit.walk()
    assert world.told().count("there is no such interface") == 1
    world.interfaces.names.add("late0")
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10", "late0")}
    assert [vip.owned for vip in world.overview.status().vips] == [True]


@story
async def test_addresses_that_cannot_be_read_stop_nothing_else(world: World) -> None:
    world.interfaces.broken = "netlink said no"
    world.write("web", web("10.0.0.1", vip=ETH0))
    change = await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert "netlink said no" in change.faults[0].message
    world.interfaces.broken = None
    await world.audit.walk()
    assert world.interfaces.addresses == {on("192.0.2.10")}


@pytest.mark.parametrize(
    ("vip", "announced"),
    [({"interface": "lo"}, False), ({"interface": "eth0", "announce": False}, False), (ETH0, True)],
)
@story
async def test_a_vip_is_announced_where_there_is_a_link_to_hear(
    world: World, vip: dict[str, object], announced: bool
) -> None:
    await world.start(web=web("10.0.0.1", vip=vip))
    assert bool(world.interfaces.announced) == announced


@story
async def test_without_vips_nobody_asks_for_addresses(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    await world.audit.walk()
    assert world.interfaces.calls == {}
