"""Tells systemd how the daemon fares (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable

_STATUS = 15.0  # seconds between two looks at the status line, where no watchdog is kept


def notify(*lines: str) -> None:
    """Send ``READY=1`` and the like to $NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),  # a service manager that went away is no reason to fail
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door,
    ):
        door.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """Announce a reload; systemd wants the time it began (Type=notify-reload)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


async def watchdog(status: Callable[[], str]) -> None:
    """Pat the watchdog twice in each of its periods, and keep the status line true; returns at
    once where nobody listens."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        period = 0.0
    told = ""
    while True:
        lines = ["WATCHDOG=1"] if period else []
        if (now := status()) != told:
            lines.append(f"STATUS={now}")
            told = now
        if lines:
            notify(*lines)
        await asyncio.sleep(min(period / 2 or _STATUS, _STATUS))
