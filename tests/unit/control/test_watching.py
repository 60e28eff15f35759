"""GET /v1/events and /v1/overview over the socket: who waits, who asked, and what is refused."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from pathlib import Path

import pytest

from kernlb.control import access
from kernlb.control.client import Client
from kernlb.control.protocol import ProblemKind
from kernlb.control.protocol_overview import Events, Overview
from tests.unit.control.test_server import Caller, listening
from tests.unit.daemon.world import World, story


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def events(call: Caller, query: str = "") -> Events:
    answer = await call("GET", f"/v1/events{query}")
    assert answer.status == 200
    found: Events = answer.of(Events)
    return found


@story
async def test_who_follows_sees_every_event_once(world: World) -> None:
    async with listening(world) as call:
        seen = (await events(call)).latest
        world.events.add("one", "api", "web")
        world.events.add("two", "health", "db")
        world.events.add("three", "api", "web")
        found = await events(call, f"?since={seen}&limit=2")
        assert [each.text for each in found.events] == ["one", "two"]
        found = await events(call, f"?since={found.events[-1].number}")
        assert [each.text for each in found.events] == ["three"]
        assert found.latest == found.events[-1].number == seen + 3
        found = await events(call, f"?since={seen}&service=web")
        assert [each.text for each in found.events] == ["one", "three"]
        assert [each.text for each in (await events(call, "?limit=1")).events] == ["three"]
        assert (await events(call, f"?since={found.latest}")).events == []


@story
async def test_who_waits_is_answered_by_the_event_that_concerns_him(world: World) -> None:
    async with listening(world) as call:
        seen = (await events(call)).latest
        asked = asyncio.create_task(events(call, f"?since={seen}&service=db&wait=60"))
        while not world.events._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        world.events.add("not his", "api", "web")
        while not world.events._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not asked.done()
        world.events.add("his", "api", "db")
        assert [each.text for each in (await asked).events] == ["his"]


@story
async def test_a_number_that_is_still_to_come_is_answered_at_once(world: World) -> None:
    async with listening(world) as call:
        found = await asyncio.wait_for(events(call, "?since=1000000&wait=60"), 20)
        assert found.events == []
        assert found.latest == world.events.latest_number


@story
async def test_who_waits_does_not_keep_the_daemon_from_stopping(world: World) -> None:
    async with listening(world) as call:
        asked = asyncio.create_task(events(call, "?since=999&wait=60"))
        seen = world.events.latest_number
        asked = asyncio.create_task(events(call, f"?since={seen}&wait=60"))
        while not world.events._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert (await asyncio.wait_for(asked, 20)).events == []


@pytest.mark.parametrize(
    "target",
    [
        "/v1/events?since=-1",
        "/v1/events?since=x",
        "/v1/events?limit=5001",
        "/v1/events?wait=61",
        "/v1/events?wait=nan",
        "/v1/events?wait=inf",
        "/v1/overview?history=121",
        "/v1/overview?history=1.5",
    ],
)
@story
async def test_a_number_out_of_bounds_is_a_problem(world: World, target: str) -> None:
    async with listening(world) as call:
        problem = (await call("GET", target)).problem
        assert problem.type is ProblemKind.INVALID_REQUEST
        assert problem.title.startswith("cannot answer: ")
        assert "is not a number within 0.." in problem.title


@story
async def test_an_overview_of_an_unknown_service_is_not_found(world: World) -> None:
    async with listening(world) as call:
        problem = (await call("GET", "/v1/overview?service=nope")).problem
        assert problem.type is ProblemKind.NOT_FOUND


@story
async def test_the_client_reads_both(world: World) -> None:
    async with listening(world) as call:
        client = Client(str(call.path))
        overview = await asyncio.to_thread(client.overview, ["web"], history=0)
        assert isinstance(overview, Overview)
        assert [each.name for each in overview.services] == ["web"]
        everything = await asyncio.to_thread(client.overview)
        assert [each.name for each in everything.services] == ["db", "web"]
        found = await asyncio.to_thread(client.events, 0, limit=1, service="db", wait=0.5)
        assert [each.service for each in found.events] == ["db"]


@story
async def test_an_event_tells_who_asked(world: World) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    async with listening(world) as call:
        run = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kernlb.cli", "server", "drain", "web", "10.0.0.1:80"),
            *("--socket", str(call.path)),
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await run.wait() == 0
        (event,) = (await events(call, "?limit=1")).events
        assert event.cause == f"drain by {me} (kernlb server drain)"
        assert (event.service, event.server) == ("web", "10.0.0.1:80")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("/usr/bin/python3 -I /usr/bin/kernlb server drain web 10.0.0.1", "kernlb server drain"),
        ("python3 -m kernlb.cli apply /etc/x", "kernlb apply"),
        ("/usr/bin/kernlb --socket /x service rm web", "kernlb"),
        ("kernlb reload", "kernlb reload"),
        ("curl -s -d secret=1 http://kernlb/v1/reload", "curl"),
        ("python3", "python3"),
        ("/opt/\x1b[31mred", "?[31mred"),
        (f"/opt/{'x' * 100}", "x" * 60),
        ("", ""),
    ],
)
def test_a_command_is_told_without_its_arguments(words: str, said: str) -> None:
    assert access._command(words.split(" ")) == said
