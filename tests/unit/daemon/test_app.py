"""The whole daemon in this process, on the fake datapath: signals, start and stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kernlb.config.errors import ConfigError
from kernlb.daemon import guard, main
from kernlb.daemon.app import App, Options
from kernlb.daemon.audit import Audit
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.sampler import Sampler
from kernlb.health.probes.exec_door import door_of
from tests.unit.daemon.world import ref, story, web


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "services.d").mkdir()
    (tmp_path / "kernlb.yaml").write_text("metrics_listen: false\n")
    (tmp_path / "services.d" / "web.yaml").write_text(json.dumps(web("10.0.0.1")))
    return Options(tmp_path, tmp_path / "state", tmp_path / "control.sock", fake=True)


@asynccontextmanager
async def running(app: App, options: Options) -> AsyncIterator[asyncio.Task[None]]:
    """The app, ready to answer; stopped by SIGTERM at the end."""
    task = asyncio.create_task(app.run())
    await until(lambda: answers(options), task)
    yield task
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
        await task


async def until(condition: Callable[[], Awaitable[bool]], task: asyncio.Task[None]) -> None:
    for _ in range(2000):
        if task.done():
            task.result()
        if await condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to pass")


async def answers(options: Options) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(options.socket)
    except OSError:
        return False
    writer.close()
    return await status(options) is not None


async def status(options: Options) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(options.socket)
    writer.write(b"GET /v1/status HTTP/1.0\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head.splitlines()[0]
    found: dict[str, object] = json.loads(body)
    return found


@story
async def test_a_daemon_starts_serves_and_stops_by_sigterm(options: Options) -> None:
    async with running(App(options), options):
        assert (await status(options))["services"] == {"synced": 1}
    assert not options.socket.exists()
    assert RuntimeState.load(options.state_dir).owned == {ref(): "web"}


async def asked(options: Options, target: str) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(options.socket)
    writer.write(f"GET {target} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head.splitlines()[0]
    found: dict[str, Any] = json.loads(body)
    return found


@story
async def test_events_outlive_the_daemon_and_counters_are_read_on_its_own(
    options: Options,
) -> None:
    (options.config_dir / "kernlb.yaml").write_text(
        "metrics_listen: false\noverview_interval: 1s\n"
    )
    async with running(App(options), options) as task:
        first = await asked(options, "/v1/events")
        assert [event["number"] for event in first["events"]] == [1]

        async def sampled() -> bool:
            (service,) = (await asked(options, "/v1/overview"))["services"]
            return len(service.get("history", ())) > 0

        await until(sampled, task)
        assert (await asked(options, "/v1/overview"))["interval"] >= 1.0
        (options.config_dir / "kernlb.yaml").write_text("metrics_listen: false\n")
        os.kill(os.getpid(), signal.SIGHUP)

        async def slower() -> bool:
            return (await asked(options, "/v1/overview"))["interval"] >= 5.0

        await until(slower, task)
    (options.config_dir / "services.d" / "web.yaml").write_text(json.dumps(web("10.0.0.2")))
    async with running(App(options), options):
        again = await asked(options, "/v1/events?since=0")
        assert again["events"][0] == first["events"][0]
        numbers = [event["number"] for event in again["events"]]
        assert numbers == list(range(1, again["latest"] + 1))
        assert again["latest"] > 1


@story
async def test_a_flush_is_for_a_clean_stop(options: Options) -> None:
    flushing = Options(options.config_dir, options.state_dir, options.socket, True, True)
    async with running(App(flushing), flushing):
        assert RuntimeState.load(options.state_dir).owned == {ref(): "web"}
    assert RuntimeState.load(options.state_dir).owned == {}


@story
async def test_a_second_daemon_is_refused_and_flushes_nothing(options: Options) -> None:
    async with running(App(options), options):
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kernlb.daemon", "--flush-on-stop", *arguments(options)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert (
            said.decode() == f"kernlbd: cannot listen on {options.socket}: another kernlbd does\n"
        )
        assert RuntimeState.load(options.state_dir).owned == {ref(): "web"}
        assert (await status(options))["services"] == {"synced": 1}


@story
async def test_sighup_reads_the_files_again(options: Options) -> None:
    async with running(App(options), options) as task:
        (options.config_dir / "services.d" / "db.yaml").write_text(
            json.dumps(web("10.0.0.9", port=5432))
        )
        os.kill(os.getpid(), signal.SIGHUP)

        async def both() -> bool:
            return (await status(options))["services"] == {"synced": 2}

        await until(both, task)


@story
async def test_servers_are_checked_and_a_reload_takes_settings_of_the_prober(
    options: Options,
) -> None:
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    check = {"type": "tcp", "port": port, "interval": "100ms", "fall": 1}
    service = web("127.0.0.1", "127.0.0.2", check=check)  # nobody listens at the second
    (options.config_dir / "services.d" / "web.yaml").write_text(json.dumps(service))
    app = App(options)
    async with listening, running(app, options) as task:

        async def judged() -> bool:
            now = await status(options)
            health = now["health"]
            assert isinstance(health, dict)
            return (now["serving"], health["targets"], health["down"]) == (1, 2, 1)

        await until(judged, task)
        assert app._monitor.partition.grace == 30.0
        (options.config_dir / "kernlb.yaml").write_text(
            "metrics_listen: false\nhealth: {partition_grace: 7s, concurrent_execs: 3}\n"
        )
        os.kill(os.getpid(), signal.SIGHUP)

        async def tuned() -> bool:
            execs = door_of(asyncio.get_running_loop()).at_once
            return (app._monitor.partition.grace, execs) == (7.0, 3)

        await until(tuned, task)
        assert await judged()


@story
async def test_bad_settings_on_sighup_leave_the_daemon_running(
    options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(App(options), options) as task:
        (options.config_dir / "kernlb.yaml").write_text("audit_interval: never\n")
        os.kill(os.getpid(), signal.SIGHUP)

        async def told() -> bool:
            return "kernlb.yaml:1: audit_interval" in caplog.text

        await until(told, task)
        assert (await status(options))["services"] == {"synced": 1}


@story
async def test_a_fault_beside_the_daemons_purpose_is_told_and_ends_nothing(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sweep(self: Sampler) -> float:
        raise KeyError("eth0")

    monkeypatch.setattr(Sampler, "sweep", sweep)
    monkeypatch.setattr(guard, "PAUSE", 0.001)
    async with running(App(options), options) as task:

        async def told() -> bool:
            warnings = (await asked(options, "/v1/overview"))["warnings"]
            return any("sampler failed" in each and "KeyError: 'eth0'" in each for each in warnings)

        await until(told, task)
        assert (await status(options))["services"] == {"synced": 1}


def test_a_fault_in_what_the_daemon_is_for_ends_it_in_one_sentence(
    options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def walk(self: Audit, pause: float = 0.0) -> None:
        raise KeyError("eth0")

    monkeypatch.setattr(Audit, "walk", walk)
    assert main(arguments(options)) == 1
    assert capsys.readouterr().err.endswith(
        "kernlbd: cannot go on: audit failed: KeyError: 'eth0'\n"
    )
    assert not options.socket.exists()


@story
async def test_nobody_is_answered_before_the_files_are_in_force(options: Options) -> None:
    seen: list[object] = []

    async def first_answer() -> bool:
        if options.socket.exists():
            seen.append((await status(options))["services"])
        return bool(seen)

    task = asyncio.create_task(App(options).run())
    await until(first_answer, task)
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert seen == [{"synced": 1}]


def test_bad_settings_at_start_are_said_with_file_and_line(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    (options.config_dir / "kernlb.yaml").write_text("\naudit_interval: never\n")
    with pytest.raises(ConfigError):
        App(options)
    assert main(arguments(options)) == 1
    assert "kernlb.yaml:2: audit_interval: " in capsys.readouterr().err


def test_a_corrupt_state_file_is_one_line_and_exit_status_1(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    options.state_dir.mkdir()
    (options.state_dir / "state.json").write_text("{")
    assert main(arguments(options)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kernlbd: cannot read {options.state_dir / 'state.json'}: ")


def arguments(options: Options) -> list[str]:
    return [
        f"--config-dir={options.config_dir}",
        f"--state-dir={options.state_dir}",
        f"--socket={options.socket}",
        "--datapath=fake",
    ]


@story
async def test_a_fake_host_with_interfaces_has_a_fake_xdp_too(options: Options) -> None:
    (options.config_dir / "kernlb.yaml").write_text(
        "metrics_listen: false\nxdp: {interfaces: [eth0]}\n"
    )
    fast = web("10.0.0.1", port=81, datapath="xdp", forwarding="fullnat")
    (options.config_dir / "services.d" / "fast.yaml").write_text(json.dumps(fast))
    async with running(App(options), options):
        told = await status(options)
        assert told["services"] == {"synced": 2}
        assert [each["kind"] for each in told["datapaths"]] == ["ipvs", "xdp"]  # type: ignore[index]
