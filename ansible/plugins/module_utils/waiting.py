# SPDX-License-Identifier: Apache-2.0
"""Waiting for a server: until its connections have ended, until it is healthy, until it serves.

A daemon that restarts meanwhile is waited for as well. Whoever waits in vain is told
what the server lacked.
"""

from __future__ import annotations

import time

from ansible_collections.kernlb.balancer.plugins.module_utils.control import UnreachableError
from ansible_collections.kernlb.balancer.plugins.module_utils.server import RefusedError, Server

POLL = 0.5  # seconds from one look to the next
SETTLED = 1.0  # seconds without an active connection: handshakes under way at the drain are over


class Wait:
    """A limit in seconds from the start of the task, for all that the task waits for."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.began = time.time()  # probes are dated by this clock
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def until(self, finished, what: str) -> None:
        """Look until ``finished`` says so. It returns "" then, else what is still lacking."""
        while True:
            try:
                lacking = finished()
            except UnreachableError as error:
                lacking = str(error)
            if not lacking:
                return
            if self.seconds + POLL > self.limit:
                raise RefusedError(f"{what}: {lacking} (waited {self.seconds:.0f} s)")
            time.sleep(POLL)


def until_drained(server: Server, wait: Wait, idle: bool) -> None:
    """No active connection (``idle``: no inactive one either), or the deadline has passed."""
    quiet_since = None

    def finished() -> str:
        nonlocal quiet_since
        server.look()
        if server.state == "drained":
            return ""
        if server.state != "draining":
            raise RefusedError(f"{what}: it is {server.state}, no longer draining")
        counted = server.connections()
        kind = "active" if counted["active"] or not idle else "inactive"
        if counted[kind]:
            quiet_since = None
            some = f"{counted[kind]} {kind} connection{'s' if counted[kind] != 1 else ''}"
            return f"{some}; the drain goes on"
        if quiet_since is None:
            quiet_since = wait.seconds
        return "" if wait.seconds - quiet_since >= SETTLED else "it has only just become quiet"

    what = f"cannot see {server.service}/{server.name} drained"
    wait.until(finished, what)


def until_healthy(server: Server, wait: Wait, good_probes: int) -> None:
    """Found good by probes that began after the wait, while it is still held."""

    def finished() -> str:
        server.look()
        server.require()
        if not server.held:
            return ""
        health = server.health()
        if not health:
            return ""
        if health["condition"] != "up":
            return _told(health["condition"], health)
        fresh = _good_in_a_row(health.get("probes", []), wait.began)
        if fresh >= good_probes:
            return ""
        return f"{fresh} of {good_probes} good probes since the task began; it stays {server.state}"

    wait.until(finished, f"cannot find {server.service}/{server.name} healthy")


def until_up(server: Server, wait: Wait) -> None:
    """Up, and in the kernel with its weight."""

    def finished() -> str:
        server.look()
        server.require()
        view = server.view
        if server.state == "up" and view.get("kernel_weight") == view["effective_weight"]:
            return ""
        if server.state == "up":
            return "it is not in the kernel with its weight yet"
        return _told(server.state, server.health())

    wait.until(finished, f"cannot see {server.service}/{server.name} up")


def _good_in_a_row(probes: list, began: float) -> int:
    """``probes`` newest first; those count that began after ``began``."""
    count = 0
    for probe in probes:
        if probe["opinion"] != "good" or probe["time"] - probe["duration"] < began:
            break
        count += 1
    return count


def _told(state: str, health: dict) -> str:
    why = health.get("why", "")
    return f"it is {state}: {why}" if why else f"it is {state}"
