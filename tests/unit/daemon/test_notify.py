"""What the service manager is told, through a real socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.daemon import notify
from tests.unit.daemon.world import story


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


async def next_of(manager: socket.socket) -> list[str]:
    said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 4096), 10)
    return said.decode().splitlines()


@story
async def test_the_watchdog_is_patted_and_the_status_line_told_when_it_changes(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    status = "0 services"
    watching = asyncio.create_task(notify.watchdog(lambda: status))
    assert await next_of(manager) == ["WATCHDOG=1", "STATUS=0 services"]
    assert await next_of(manager) == ["WATCHDOG=1"]
    status = "1 services"
    told = [await next_of(manager) for _ in range(3)]
    assert [line for lines in told for line in lines if line != "WATCHDOG=1"] == [
        "STATUS=1 services"
    ]
    watching.cancel()


def test_a_process_without_descriptors_goes_on(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*how: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socket", none_left)
    notify.notify("READY=1")


@story
async def test_the_watchdog_of_another_process_is_left_alone(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    watching = asyncio.create_task(notify.watchdog(lambda: "0 services"))
    assert await next_of(manager) == ["STATUS=0 services"]
    watching.cancel()


@story
async def test_without_a_manager_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await notify.watchdog(lambda: pytest.fail("nobody asks"))


def test_a_manager_that_went_away_is_no_trouble(manager: socket.socket) -> None:
    manager.close()
    notify.notify("READY=1")
