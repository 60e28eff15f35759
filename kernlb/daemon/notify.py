"""Tells systemd how the daemon fares (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import asyncio
import os
import socket
import time


def notify(*lines: str) -> None:
    """Send ``READY=1`` and the like to $NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        try:
            door.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # a service manager that went away is no reason to fail


def reloading() -> None:
    """Announce a reload; systemd wants the time it began (Type=notify-reload)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


async def watchdog() -> None:
    """Pat the watchdog twice in each of its periods; returns at once where there is none."""
    period = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not period:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
