"""What a daemon leaves to the one after it: nothing moves, comes back, or is told again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernlb.health.stance import Phase
from tests.unit.daemon.health_world import ADDRESSES, HealthWorld, health_world
from tests.unit.daemon.world import key, on, ref, story

ONE, TWO, THREE = (ADDRESSES[name] for name in ("one", "two", "three"))
VIP = on("192.0.2.10")
WITHDRAWN = {"quorum": 2, "withdraw_vip": True}


def services_told(world: HealthWorld) -> list[str]:
    """Sentences on the phases of services and on who is kept."""
    return [event.text for event in world.events if event.text.startswith("service web ")]


@story
async def test_a_file_that_is_bad_at_a_start_does_not_bring_a_withdrawn_vip_back(
    tmp_path: Path,
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        wish = backends.wish("one", "two", health=WITHDRAWN, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until(lambda: VIP in world.interfaces.addresses)
        await backends.die("two")
        await world.until(lambda: VIP not in world.interfaces.addresses)
        world.write("web", "address: [")
        await world.begin_again()
        await world.begin_again()
        world.write("web", wish)
        await world.changes.reload()
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        await backends.live("two")
        await world.until(lambda: VIP in world.interfaces.addresses)
        assert "stances" not in world.saved()


@story
async def test_a_kernel_that_cannot_be_read_at_a_start_does_not_bring_a_withdrawn_vip_back(
    tmp_path: Path,
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        wish = backends.wish("one", "two", health=WITHDRAWN, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until(lambda: VIP in world.interfaces.addresses)
        await backends.die("two")
        await world.until(lambda: VIP not in world.interfaces.addresses)
        world.restart()
        read, world.kernel.read = world.kernel.read, _cannot  # type: ignore[method-assign,assignment]
        await world.changes.start()
        assert ref() in world.desired.withdrawn
        world.kernel.read = read  # type: ignore[method-assign]
        await world.begin_again()
        await world.until_heard(ONE, TWO)
        assert world.journal == []


def _cannot(*_: object) -> None:
    raise OSError("cannot read")


@story
async def test_a_service_that_is_taken_away_and_declared_again_begins_anew(tmp_path: Path) -> None:
    async with health_world(tmp_path) as (world, backends):
        wish = backends.wish("one", health={"withdraw_vip": True}, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until(lambda: "waiting -> all down" in world.told())
        (world.directory / "web.yaml").unlink()
        await world.changes.reload()
        assert world.runtime.stances == {}
        world.write("web", wish)
        await world.changes.reload()
        assert world.overview.service("web") is not None
        await world.until(lambda: world.told().count("waiting -> all down") == 2)


@story
async def test_a_record_of_an_older_daemon_is_heeded(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        wish = backends.wish("one", "two", health=WITHDRAWN, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until(lambda: VIP in world.interfaces.addresses)
        await backends.die("two")
        await world.until(lambda: VIP not in world.interfaces.addresses)
        record = world.saved()
        assert list(record.pop("stances")) == [f"ipvs:{key()}"]
        older = record | {"withdrawn": [f"ipvs:{key()}"]}
        (tmp_path / "state" / "state.json").write_text(json.dumps(older))
        await world.begin_again()
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        assert services_told(world) == []


@story
async def test_below_the_quorum_a_restart_takes_no_traffic_from_the_sorry_server(
    tmp_path: Path,
) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        wish = backends.wish(
            "one", "two", "three", health={"quorum": 2, "hysteresis": 1}, sorry_server=True
        )
        await world.start(web=wish)
        await world.until_weights(one=1, two=1, three=1)
        await backends.die("two", "three")
        await world.until_weights(one=0, sorry=1)
        await backends.live("two")
        await world.until_weights(one=0, two=0, sorry=1)
        await world.begin_again()
        await world.until_heard(ONE, TWO, THREE)
        assert world.journal == []
        assert services_told(world) == []
        await backends.live("three")
        await world.until_weights(one=1, two=1, three=1)
        assert [text.partition(":")[0] for text in services_told(world)] == [
            "service web below quorum -> serving"
        ]


@pytest.mark.parametrize("when", ["reject", "fail-open"])
@story
async def test_a_restart_amid_an_outage_tells_nothing_of_it_again(
    tmp_path: Path, when: str
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        policy = {"withdraw_vip": True, "when_all_down": when}
        wish = backends.wish("one", "two", health=policy, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until_weights(one=1, two=1)
        await backends.die("one", "two")
        await world.until(lambda: "serving -> all down" in world.told())
        await world.until(lambda: VIP not in world.interfaces.addresses)
        await world.begin_again()
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        assert services_told(world) == []


@story
async def test_who_is_kept_stays_over_a_restart_whoever_is_heard_first(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        wish = backends.wish("one", "two", "three", health={"keep": "60%"})
        await world.start(web=wish)
        await world.until_weights(one=1, two=1, three=1)
        await backends.die("two")
        await world.until_weights(one=1, three=1)
        await backends.die("three")
        await world.until(lambda: "keeps 127.0.0.3" in world.told())
        await world.begin_again()
        await world.until_heard(ONE, TWO, THREE)
        assert world.journal == []
        assert services_told(world) == []
        assert world.weights(key()) == {ONE: 1, THREE: 1}


@story
async def test_a_service_that_waits_for_its_quorum_waits_over_a_restart(tmp_path: Path) -> None:
    async with health_world(tmp_path) as (world, backends):
        wish = backends.wish("one", health={"withdraw_vip": True}, vip={"interface": "eth0"})
        await world.start(web=wish)
        assert world.runtime.stances[ref()].phase is Phase.WAITING
        await world.begin_again()
        await backends.live("one")
        await world.until(lambda: VIP in world.interfaces.addresses)
        assert [text.partition(":")[0] for text in services_told(world)] == [
            "service web waiting -> serving"
        ]


@story
async def test_what_could_not_be_written_down_is_said_once_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        with monkeypatch.context() as disk:
            disk.setattr("os.fsync", _cannot)
            await backends.die("one")
            await world.until_weights(two=1)
            await backends.die("two")
            await world.until_weights()
            await world.reconciler.wake([ref()], "test")
        assert world.told().count("cannot write down where services stand") == 1
        await world.reconciler.wake([ref()], "test")
        assert world.runtime.stances[ref()].phase is Phase.DOWN
