"""Verdicts reach the kernel: servers on loopback live and die, a strict fake holds services."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kernlb.config.health_settings import HealthSettings
from kernlb.control.protocol import ServerState, SyncState
from kernlb.daemon.monitoring import tune
from kernlb.health.fsm import Condition
from kernlb.health.probes.exec_door import door_of
from kernlb.intent import AdminMode
from tests.unit.daemon.health_world import ADDRESSES, CHECK, HealthWorld, health_world
from tests.unit.daemon.world import key, on, ref, story

ONE, TWO, THREE = (ADDRESSES[name] for name in ("one", "two", "three"))


@story
async def test_a_new_server_waits_for_its_first_good_answer(tmp_path: Path) -> None:
    async with health_world(tmp_path) as (world, backends):
        await world.start(web=backends.wish("one"))
        assert world.weights(key()) == {}
        assert world.role("web", ONE) is ServerState.WAITING
        await world.until_heard(ONE)
        assert world.weights(key()) == {}
        await backends.live("one")
        await world.until_weights(one=1)
        assert world.role("web", ONE) is ServerState.UP


@story
async def test_a_dead_server_leaves_and_comes_back(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two*5"))
        await world.until_weights(one=1, two=5)
        await backends.die("two")
        await world.until_weights(one=1)
        assert world.role("web", TWO) is ServerState.DOWN
        assert "real server web/127.0.0.2" in world.told()
        assert "up -> down: connection refused" in world.told()
        await backends.live("two")
        await world.until_weights(one=1, two=5)


@story
async def test_an_inhibited_server_keeps_its_connections(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two", health={"on_down": "inhibit"}))
        await world.until_weights(one=1, two=1)
        world.forget()
        await backends.die("two")
        await world.until_weights(one=1, two=0)
        assert world.role("web", TWO) is ServerState.INHIBITED
        assert not [line for line in world.journal if line.startswith("-")]


@story
async def test_a_share_of_the_servers_stays_whatever_they_say(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        await world.start(web=backends.wish("one", "two", "three", health={"keep": "60%"}))
        await world.until_weights(one=1, two=1, three=1)
        await backends.die("one", "two")
        await world.until(lambda: len(world.weights(key()) or {}) == 2)
        await world.until_heard(ONE, TWO)
        weights = world.weights(key())
        assert weights is not None
        assert weights[THREE] == 1
        assert len(weights) == 2
        roles = {world.role("web", ONE), world.role("web", TWO)}
        assert roles == {ServerState.KEPT, ServerState.DOWN}


@pytest.mark.parametrize(
    ("word", "left"),
    [("reject", {}), ("fail-open", {"one": 1, "two": 1}), ("sorry", {"sorry": 1})],
)
@story
async def test_when_all_are_down(tmp_path: Path, word: str, left: dict[str, int]) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        more = {"sorry_server": True} if word == "sorry" else {}
        wish = backends.wish("one", "two", health={"when_all_down": word}, **more)
        await world.start(web=wish)
        await world.until_weights(one=1, two=1)
        await backends.die("one", "two")
        await world.until(lambda: "all down" in world.told())
        await world.until_weights(**left)
        await backends.live("one", "two")
        await world.until(lambda: "all down -> serving" in world.told())
        await world.until_weights(one=1, two=1)


@pytest.mark.parametrize("initial", ["wait", "up"])
@story
async def test_a_restart_amid_an_outage_moves_nothing(tmp_path: Path, initial: str) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        wish = backends.wish("one", "two", "three", health={"initial": initial})
        await world.start(web=wish)
        await world.until_weights(one=1, two=1, three=1)
        await backends.die("two")
        await world.until_weights(one=1, three=1)
        await world.begin_again()
        assert world.told() == ""
        await world.until_heard(ONE, TWO, THREE)
        assert world.journal == []
        await backends.live("two")
        await world.until_weights(one=1, two=1, three=1)


@story
async def test_who_dies_while_the_daemon_is_away_is_found_out(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        world.end()
        await backends.die("two")
        await world.begin_again()
        assert world.journal == []
        assert world.weights(key()) == {ONE: 1, TWO: 1}
        await world.until_weights(one=1)


@story
async def test_a_kernel_that_cannot_be_asked_costs_no_server(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        world.restart()
        broken, world.kernel.read = world.kernel.read, _cannot  # type: ignore[method-assign,assignment]
        world.forget()
        await world.changes.start()
        world.kernel.read = broken  # type: ignore[method-assign]
        await world.audit.walk()
        assert world.weights(key()) == {ONE: 1, TWO: 1}
        assert world.journal == []


def _cannot(*_: object) -> None:
    raise OSError("cannot read")


@story
async def test_a_drained_server_stays_drained_dead_or_alive(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        await world.changes.hold("web", TWO, AdminMode.DRAINING, dry_run=False)
        await backends.die("two")
        await world.until(lambda: world.subject(TWO).state.condition is Condition.DOWN)
        await world.until_heard(TWO)
        assert world.weights(key()) == {ONE: 1, TWO: 0}
        assert world.role("web", TWO) is ServerState.DRAINING
        await world.changes.hold("web", TWO, None, dry_run=False)
        assert world.weights(key()) == {ONE: 1}


@story
async def test_another_check_leaves_everybody_in_place(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        policy = {"initial": "up"}
        await world.start(web=backends.wish("one", "two", "three", health=policy))
        await backends.die("three")
        await world.until_weights(one=1, two=1)
        other = CHECK | {"interval": "150ms", "fall": 3}
        wish = backends.wish("one", "two", "three", check=other, health=policy)
        world.forget()
        await world.put("web", wish, replace=True)
        assert world.weights(key()) == {ONE: 1, TWO: 1}
        await world.until_heard(ONE, TWO, THREE)
        assert world.journal == []
        await backends.die("one")
        await world.until_weights(two=1)


@story
async def test_a_server_may_be_taken_for_good_from_the_start(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one") as (world, backends):
        await world.start(web=backends.wish("one", "two", health={"initial": "up"}))
        assert world.weights(key()) == {ONE: 1, TWO: 1}
        await world.until_weights(one=1)


@story
async def test_a_dry_run_shows_how_servers_stand_and_commits_nothing(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await backends.die("two")
        await world.until_weights(one=1)
        told = world.told()
        heavier = backends.wish("one*3", "two*3", "three*3")
        planned = await world.changes.put("web", heavier, replace=True, adopt=False, dry_run=True)
        assert [op.text.split() for op in planned.ops] == [
            f"~ server tcp/192.0.2.10:80 {ONE}:{backends.port} weight 1 -> 3".split()
        ]
        assert world.weights(key()) == {ONE: 1}
        assert world.told() == told
        assert world.monitor is not None
        assert len(world.monitor.subjects) == 2


@story
async def test_two_services_share_one_probe(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(
            web=backends.wish("one", "two"), secure=backends.wish("one", "two", port=443)
        )
        assert world.monitor is not None
        assert len(world.monitor.subjects) == 2
        await world.until_weights(one=1, two=1)
        await world.until_weights(443, one=1, two=1)
        await backends.die("one")
        await world.until_weights(two=1)
        await world.until_weights(443, two=1)
        assert "of 2 services (secure, web)" in world.told()


@story
async def test_an_agent_says_its_weight_and_a_restart_remembers_it(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        backends.says = b"50%\n"
        check = CHECK | {"type": "agent", "port": backends.port}
        await world.start(web=backends.wish("one*10", "two*4", check=check))
        await world.until_weights(one=5, two=2)
        await world.begin_again()
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        backends.says = b"drain\n"
        await world.until_weights(one=0, two=0)
        assert world.role("web", ONE) is ServerState.LEAVING
        backends.says = b"ready\n"
        await world.until_weights(one=10, two=4)


@story
async def test_when_everything_fails_at_once_nobody_is_taken_out(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        assert world.monitor is not None
        tune(world.monitor, HealthSettings(lateness_limit=60.0, partition_grace=600.0))
        await world.start(web=backends.wish("one", "two", "three"))
        await world.until_weights(one=1, two=1, three=1)
        await backends.die("one", "two", "three")
        await world.until_heard(ONE, TWO, THREE, times=6)
        assert world.weights(key()) == {ONE: 1, TWO: 1, THREE: 1}
        status = world.overview.status().health
        assert status is not None
        assert (status.partition_held, status.down) == (True, 0)
        await backends.live("one", "two")
        await world.until_weights(one=1, two=1)
        status = world.overview.status().health
        assert status is not None
        assert not status.partition_held


@story
async def test_below_the_quorum_the_vip_is_withdrawn(tmp_path: Path) -> None:
    async with health_world(tmp_path) as (world, backends):
        policy = {"quorum": 2, "withdraw_vip": True}
        wish = backends.wish("one", "two", health=policy, vip={"interface": "eth0"})
        planned = await world.changes.put("web", wish, replace=False, adopt=False, dry_run=True)
        assert not [op for op in planned.ops if op.what == "vip"]
        await world.start(web=wish)
        vip = on("192.0.2.10")
        await backends.live("one")
        await world.until(lambda: world.subject(ONE).state.condition is Condition.UP)
        assert vip not in world.interfaces.addresses
        await backends.live("two")
        await world.until(lambda: vip in world.interfaces.addresses)
        assert _vip(world) == (True, False)
        await backends.die("two")
        await world.until(lambda: vip not in world.interfaces.addresses)
        assert _vip(world) == (False, True)
        planned = await world.changes.reload(dry_run=True)
        assert planned.ops == []


@story
async def test_a_withdrawn_vip_stays_away_over_a_restart(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        policy = {"quorum": 2, "withdraw_vip": True}
        wish = backends.wish("one", "two", health=policy, vip={"interface": "eth0"})
        vip = on("192.0.2.10")
        await world.start(web=wish)
        await world.until(lambda: vip in world.interfaces.addresses)
        await world.begin_again()
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        await backends.die("two")
        await world.until(lambda: vip not in world.interfaces.addresses)
        assert world.weights(key()) == {ONE: 1}
        await world.begin_again()
        assert (await world.changes.reload(dry_run=True)).ops == []
        await world.until_heard(ONE, TWO)
        assert world.journal == []
        await backends.live("two")
        await world.until(lambda: vip in world.interfaces.addresses)


@story
async def test_to_drain_the_quorum_away_withdraws_the_vip_and_a_dry_run_says_so(
    tmp_path: Path,
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        policy = {"quorum": 2, "withdraw_vip": True}
        wish = backends.wish("one", "two", health=policy, vip={"interface": "eth0"})
        vip = on("192.0.2.10")
        await world.start(web=wish)
        await world.until(lambda: vip in world.interfaces.addresses)
        told = world.told()
        planned = await world.changes.hold("web", TWO, AdminMode.DRAINING, dry_run=True)
        assert [op.what for op in planned.ops] == ["server", "vip"]
        world.desired.wake([ref()])
        assert world.state("web") is SyncState.SYNCED  # a reader works out the intent anew
        assert (world.told(), _vip(world)) == (told, (True, False))
        done = await world.changes.hold("web", TWO, AdminMode.DRAINING, dry_run=False)
        assert done.ops == planned.ops
        assert _vip(world) == (False, True)
        await world.changes.hold("web", TWO, None, dry_run=False)
        assert _vip(world) == (True, False)


def _vip(world: HealthWorld) -> tuple[bool, bool]:
    (vip,) = world.overview.status().vips
    return vip.present, vip.withdrawn


@story
async def test_a_service_that_takes_up_checks_keeps_its_vip_and_its_servers(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        vip = {"interface": "eth0"}
        await world.start(web=backends.wish("one", "two", check="none", vip=vip))
        assert on("192.0.2.10") in world.interfaces.addresses
        checked = backends.wish("one", "two", vip=vip, health={"withdraw_vip": True})
        await world.put("web", checked, replace=True)
        await world.until_heard(ONE, TWO)
        assert world.journal == []


@story
async def test_a_server_that_flaps_is_held_down(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        policy = {"damping": {"changes": 1, "period": "10m", "hold": "10m"}}
        await world.start(web=backends.wish("one", "two", health=policy))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        await backends.live("two")
        await world.until(lambda: world.subject(TWO).state.condition is Condition.UP)
        await world.until(lambda: "flaps" in world.told())
        assert world.weights(key()) == {ONE: 1}
        view = await world.overview.health(["web"])
        two = next(each for each in view.services[0].servers if each.server.startswith(TWO))
        assert two.condition == "held"
        assert "it flaps; let go in" in two.why


@story
async def test_readers_are_told_what_was_found(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one") as (world, backends):
        await world.start(
            web=backends.wish("one", "two"),
            dns=backends.wish("one", port=53),
            raw=backends.wish("three", port=99, check="none"),
        )
        await world.until(lambda: world.subject(TWO).state.condition is Condition.DOWN)
        await world.until_heard(ONE)
        view = await world.overview.health([])
        assert [service.name for service in view.services] == ["dns", "web"]
        monitor = view.monitor
        assert (monitor.targets, monitor.down, monitor.waiting) == (2, 1, 0)
        good, bad = view.services[1].servers
        assert (good.condition, good.state, good.sharing, good.why) == ("up", "up", 2, "")
        assert (bad.condition, bad.state, bad.sharing) == ("down", "down", 1)
        assert bad.why == "connection refused"
        assert (bad.failures >= 2, bad.next_probe < 0.2) == (True, True)
        assert {probe.opinion for probe in bad.probes} == {"bad"}
        times = [probe.time for probe in good.probes]
        assert times == sorted(times, reverse=True)
        assert len(times) >= 3
        assert good.since <= times[-1]


@story
async def test_settings_take_effect_without_a_restart(tmp_path: Path) -> None:
    async with health_world(tmp_path) as (world, _):
        assert world.monitor is not None
        tune(world.monitor, HealthSettings(1.5, 45.0, 0.75, 3))
        partition = world.monitor.partition
        assert (partition.grace, partition.share) == (45.0, 0.75)
        assert world.monitor.trust.limit == 1.5
        assert door_of(asyncio.get_running_loop()).at_once == 3
