"""kernlb owns what it made, and only that: what is foreign is shown and never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import ProblemKind, SyncState
from tests.unit.daemon.world import World, foreign, holds_before_adding, key, on, ref, story, web


@pytest.fixture
def world(tmp_path: Path) -> World:
    """With a service on port 80 that somebody made with ipvsadm."""
    return World(tmp_path, foreign(80, "10.9.9.9"))


@story
async def test_ownership_is_on_disk_before_a_service_is_made(world: World) -> None:
    world.kernel.before_each = holds_before_adding(world)
    await world.start(a=web("10.0.0.1", port=81), b=web("10.0.0.2", port=82))
    await world.put("c", web("10.0.0.3", port=83))
    assert len(world.kernel.state) == 4


@story
async def test_ownership_is_forgotten_after_a_service_is_gone(world: World) -> None:
    await world.start(a=web("10.0.0.1", port=81))
    world.kernel.before_each = lambda op: check_owned(world, "ipvs:tcp/192.0.2.10:81")
    await world.changes.delete("a", dry_run=False)
    assert world.journal == ["- service tcp/192.0.2.10:81"]
    assert world.saved()["owned"] == {}


@story
async def test_a_kill_between_ownership_and_service_leaves_nothing_foreign(world: World) -> None:
    world.kernel.before_each = killed
    world.write("a", web("10.0.0.1", port=81))
    with pytest.raises(Killed):
        await world.changes.start()
    world.kernel.before_each = lambda op: None
    world.restart()
    await world.start()
    assert world.state("a") is SyncState.SYNCED
    assert world.weights(key(81)) == {"10.0.0.1": 1}


@story
async def test_a_foreign_service_is_shown_and_left_alone(world: World) -> None:
    held = world.kernel.state[key()]
    await world.start(a=web("10.0.0.1", port=81))
    await world.audit.walk()
    await world.changes.reload()
    assert world.kernel.state[key()] is held
    assert world.listed()["tcp/192.0.2.10:80"].state is SyncState.FOREIGN
    assert world.overview.status().foreign == ["tcp/192.0.2.10:80"]
    assert "foreign service tcp/192.0.2.10:80 seen" in world.told()


@story
async def test_a_declaration_of_a_foreign_service_is_a_conflict(world: World) -> None:
    held = world.kernel.state[key()]
    world.write("web", web("10.0.0.1"))
    world.write("a", web("10.0.0.1", port=81))
    change = await world.changes.reload()
    await world.audit.walk()
    assert world.kernel.state[key()] is held
    assert world.state("web") is SyncState.CONFLICT
    assert world.state("a") is SyncState.SYNCED
    assert "kernlb did not make it" in change.faults[0].message
    assert "adopt it, or remove it there" in world.listed()["web"].error


@story
async def test_removing_a_declaration_in_conflict_leaves_the_foreign_service(
    world: World,
) -> None:
    held = world.kernel.state[key()]
    await world.start(web=web("10.0.0.1"))
    (world.directory / "web.yaml").unlink()
    await world.changes.reload()
    await world.audit.walk()
    assert world.kernel.state[key()] is held


@story
async def test_an_api_call_for_a_foreign_service_is_refused_whole(world: World) -> None:
    held = world.kernel.state[key()]
    with pytest.raises(RequestRefusedError) as refused:
        await world.put("web", web("10.0.0.1"))
    assert refused.value.problem.type is ProblemKind.FOREIGN
    assert world.kernel.state[key()] is held
    assert not (world.directory / "web.yaml").exists()
    with pytest.raises(RequestRefusedError):
        await world.put("web", web("10.0.0.1"), dry_run=True)


@story
async def test_adopting_takes_over_without_interrupting(world: World) -> None:
    await world.start(web=web("10.9.9.9*3", "10.0.0.1", scheduler="rr"))
    preview = await world.changes.adopt("web", dry_run=True)
    assert ref() not in world.runtime.owned
    change = await world.changes.adopt("web", dry_run=False)
    assert [op.text for op in preview.ops] == [op.text for op in change.ops]
    assert world.journal == ["+ server tcp/192.0.2.10:80 10.0.0.1:80 weight 1 nat"]
    assert world.state("web") is SyncState.SYNCED
    await world.audit.walk()
    assert world.overview.status().foreign == []
    world.restart()
    await world.start()
    assert world.state("web") is SyncState.SYNCED


@story
async def test_a_new_declaration_may_adopt_at_once(world: World) -> None:
    await world.put("web", web("10.0.0.1"), adopt=True)
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.saved()["owned"] == {"ipvs:tcp/192.0.2.10:80": "web"}


@story
async def test_an_adoption_that_is_refused_gives_the_service_back_as_it_was(
    world: World,
) -> None:
    held = world.kernel.state[key()]
    world.kernel.refuse_ops("10.0.0.1")
    with pytest.raises(RequestRefusedError):
        await world.put("web", web("10.0.0.1", "10.0.0.2"), adopt=True)
    assert world.kernel.state[key()].service == held.service
    assert world.kernel.state[key()].by_key() == held.by_key()
    assert world.saved()["owned"] == {}
    await world.audit.walk()
    assert world.listed().keys() == {"tcp/192.0.2.10:80"}


@story
async def test_a_flush_removes_what_is_owned_and_nothing_else(world: World) -> None:
    world.interfaces.addresses.add(on("192.0.2.77"))
    await world.start(
        a=web("10.0.0.1", port=81, vip={"interface": "eth0"}), b=web("10.0.0.2", port=82)
    )
    world.write("b", "no: [")
    world.restart()
    await world.start()  # b is held: its file is bad
    await world.reconciler.flush("stop")
    assert world.kernel.state.keys() == {key()}
    assert world.interfaces.addresses == {on("192.0.2.77")}
    assert world.journal[0] == "- vip 192.0.2.10 on eth0"


class Killed(BaseException):
    """kill -9, as far as code is concerned."""


def killed(_op: object) -> None:
    raise Killed


def check_owned(world: World, text: str) -> None:
    assert text in world.saved()["owned"]
