"""What is told of servers and services: each change once, and nothing that did not happen."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.health.fsm import Condition
from tests.unit.daemon.health_world import ADDRESSES, CHECK, HealthWorld, health_world
from tests.unit.daemon.world import key, story

ONE, TWO, THREE = (ADDRESSES[name] for name in ("one", "two", "three"))


def flapping(hold: str) -> dict[str, object]:
    return {"damping": {"changes": 1, "period": "10m", "hold": hold}}


def told_of(world: HealthWorld, address: str) -> list[str]:
    """Sentences on a real server, without their reasons."""
    texts = (event.text for event in world.events if f"{address}:" in event.text)
    return [text.split(" ", 3)[3].split(":")[0] for text in texts if text.startswith("real server")]


@pytest.mark.parametrize("withdraw", [False, True])
@story
async def test_a_service_that_begins_to_serve_is_told(tmp_path: Path, withdraw: bool) -> None:
    async with health_world(tmp_path, "one") as (world, backends):
        wish = backends.wish("one", health={"withdraw_vip": withdraw}, vip={"interface": "eth0"})
        await world.start(web=wish)
        await world.until_weights(one=1)
        assert world.told().count("service web waiting -> serving: good weight 1 of 1") == 1
        await world.begin_again()
        await world.until_heard(ONE)
        assert world.told() == ""


@story
async def test_a_new_server_that_shares_an_unconfirmed_check_is_told(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one") as (world, backends):
        await world.start(web=backends.wish("one"))
        await world.until_weights(one=1)
        world.write("new", backends.wish("one", port=81))
        await world.begin_again()
        await world.until_weights(81, one=1)
        servers = [event.text for event in world.events if event.text.startswith("real server")]
        assert [text.partition(": passed")[0] for text in servers] == [
            f"real server new/{ONE}:{backends.port} waiting -> up"
        ]


@story
async def test_to_be_held_and_to_be_let_go_is_told(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two", health=flapping("1s")))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        await backends.live("two")
        await world.until(lambda: "flaps" in world.told())
        await world.until_weights(one=1, two=1)
        told = told_of(world, TWO)
        assert told == ["waiting -> up", "up -> down", "down -> up", "flaps", "held -> up"]
        assert "held -> up: no change for 1 s" in world.told()


@story
async def test_a_shorter_hold_is_in_force_at_once(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two", health=flapping("10m")))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        await backends.live("two")
        await world.until(lambda: "flaps" in world.told())
        shorter = backends.wish("one", "two", health=flapping("1s"))
        await world.put("web", shorter, replace=True)
        await world.until_weights(one=1, two=1)
        assert told_of(world, TWO)[-1] == "held -> up"


@story
async def test_with_damping_off_nobody_stays_held(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two", health=flapping("10m")))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        await backends.live("two")
        await world.until(lambda: "flaps" in world.told())
        await world.put("web", backends.wish("one", "two", health={"damping": False}), replace=True)
        await world.until_weights(one=1, two=1)
        await world.until(lambda: "held -> up: damping is off" in world.told())


@story
async def test_an_edit_of_the_check_frees_nobody_who_flaps(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        policy = flapping("10m")
        await world.start(web=backends.wish("one", "two", health=policy))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        await backends.live("two")
        await world.until(lambda: "flaps" in world.told())
        other = backends.wish("one", "two", health=policy, check=CHECK | {"interval": "120ms"})
        await world.put("web", other, replace=True)
        await world.until(lambda: world.subject(TWO).state.condition is Condition.UP)
        await world.until_heard(ONE, TWO)
        assert world.weights(key()) == {ONE: 1}
        assert "waiting -> up: passed" in world.told()
        assert "it flaps, and stays held down" in world.told()
