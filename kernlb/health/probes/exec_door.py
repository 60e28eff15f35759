"""The door to the process that runs programs: orders out, reports in. One for each event loop.

It is started with the first program and again if it should die; programs that ran then are lost,
which is the prober's trouble and not a server's. The channel does not tell of its death while a
program's minder holds the other end too, so its process is watched. It ends by itself when the
daemon does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kernlb.health.probes.exec_runner import LONGEST_MESSAGE, Order, Report

AT_ONCE = 16  # programs, unless told otherwise
_LAST_WORDS = 0.5  # seconds for the runner to end by itself
_SCRIPT = Path(__file__).with_name("exec_runner.py")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

Hear = Callable[[Report], None]


class Door:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._death: int | None = None  # readable when the process has ended (pidfd_open(2))
        self._waiting: dict[int, Hear] = {}
        self._last = 0
        self.at_once = AT_ONCE

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self.at_once

    def run(
        self,
        command: tuple[str, ...],
        environment: dict[str, str],
        user: tuple[int, int] | None,
        timeout: float,
        hear: Hear,
    ) -> int:
        """The number of the order. ``hear`` is called once, from the loop. May raise OSError."""
        if self._channel is None:
            self._open()
        assert self._channel is not None
        self._last += 1
        order = Order(self._last, [*command], {**_ENVIRONMENT, **environment}, user, timeout)
        self._channel.send(json.dumps(order._asdict()).encode())
        self._waiting[self._last] = hear
        return self._last

    def cancel(self, number: int) -> None:
        """Kill the program. It counts as running, and ``hear`` is called, when it is gone."""
        if number in self._waiting and self._channel is not None:
            try:
                self._channel.send(json.dumps({"cancel": number}).encode())
            except OSError:
                return  # the runner is full, or gone: the program's timeout holds all the same

    def _open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
            )
        self._channel = ours
        self._loop.add_reader(ours, self._hear)
        with suppress(OSError):  # not allowed here: the channel closes when the last minder ends
            self._death = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._death, self._died)

    def _died(self) -> None:
        """What it told before it ended counts."""
        process = self._process
        self._hear()
        if self._process is process:  # else it is closed already, and perhaps open anew
            self.close()

    def _hear(self) -> None:
        while self._channel is not None:
            try:
                message = self._channel.recv(LONGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            report = Report(**json.loads(message))
            if (hear := self._waiting.pop(report.id, None)) is not None:
                hear(report)

    def close(self) -> None:
        """Idempotent. What still runs is lost, and is told so."""
        if self._channel is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._channel)
            self._channel.close()
            self._channel = None
        if self._death is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._death)
            os.close(self._death)
            self._death = None
        if self._process is not None:
            try:
                self._process.wait(_LAST_WORDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        waiting, self._waiting = self._waiting, {}
        if self._loop.is_closed():
            return
        for number, hear in waiting.items():
            hear(Report(number, "lost"))


_doors: dict[asyncio.AbstractEventLoop, Door] = {}


def door_of(loop: asyncio.AbstractEventLoop) -> Door:
    """The loop's one door."""
    if (door := _doors.get(loop)) is None:
        for closed in [each for each in _doors if each.is_closed()]:
            _doors.pop(closed).close()
        door = _doors[loop] = Door(loop)
    return door
