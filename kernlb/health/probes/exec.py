"""Exec: any program, run as another user, bounded in time, output and number.

Exit codes are those of Nagios plugins; the first line that the program prints is the detail. It
runs unprivileged: a user who is not root, no other groups, no new privileges, an environment of
its own, in /. How it is run and killed is told in ``exec_runner``.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal

from kernlb.health.check import ExecCheck, Target
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done, Running
from kernlb.health.probes.exec_door import Door, door_of
from kernlb.health.probes.exec_runner import KILL_TIME, MOST_OUTPUT, Report
from kernlb.health.probes.found import Found
from kernlb.health.probes.unasked import Unasked
from kernlb.health.probes.wording import line

_EXITS = {
    0: Outcome.PASSED,
    1: Outcome.EXIT_WARNING,
    2: Outcome.EXIT_CRITICAL,
    3: Outcome.EXIT_UNKNOWN,
}
_WARNING = 1


def complaint(check: ExecCheck) -> str | None:
    """What is wrong with a check, as a sentence; None: nothing. Looks at this host's users."""
    if not check.command or not check.command[0].startswith("/"):
        return "the program has no absolute path"
    if any("\0" in word for word in check.command):
        return "the command holds a NUL"
    try:
        user = pwd.getpwnam(check.user)
    except KeyError:
        return f"user {check.user} is unknown"
    return "programs are not run as root" if user.pw_uid == 0 else None


def judge(report: Report, *, warning_fails: bool) -> Found:
    """Pure."""
    match report.end:
        case "exit":
            outcome = _EXITS.get(report.code, Outcome.EXIT_UNKNOWN)
            if warning_fails and report.code == _WARNING:
                outcome = Outcome.EXIT_CRITICAL
            if report.code in _EXITS and outcome is _EXITS[report.code]:
                return Found(outcome, report.output)
            status = f"status {report.code}"
            return Found(outcome, f"{status}: {report.output}" if report.output else status)
        case "signal":
            return Found(Outcome.SIGNALLED, _signal_name(report.code))
        case "timeout":
            return Found(Outcome.EXEC_TIMEOUT)
        case "output":
            return Found(Outcome.TOO_LONG, f"over {MOST_OUTPUT} bytes printed")
        case "error":
            return Found(Outcome.NOT_ASKED, f"cannot run it: {os.strerror(report.code).lower()}")
    return Found(Outcome.NOT_ASKED, "the process that runs programs has ended")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class ExecProbe:
    __slots__ = ("_check", "_complaint", "_environment", "_loop", "_timeout", "_user")

    def __init__(
        self, check: ExecCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._check = check
        self._timeout = timeout
        self._loop = loop
        self._complaint = complaint(check)
        self._environment = {
            "KERNLB_ADDRESS": str(target.address),
            "KERNLB_PORT": str(target.port),
        }
        if target.service_address is not None:
            self._environment["KERNLB_SERVICE_ADDRESS"] = str(target.service_address)
            self._environment["KERNLB_SERVICE_PORT"] = str(target.service_port)
        self._user: tuple[int, int] | None = None
        if self._complaint is None:
            user = pwd.getpwnam(check.user)
            self._user = None if user.pw_uid == os.getuid() else (user.pw_uid, user.pw_gid)

    def start(self, done: Done) -> Running:
        if self._complaint is not None:
            return Unasked(self._loop, done, self._complaint)
        door = door_of(self._loop)
        if door.full:
            return Unasked(self._loop, done, f"{door.at_once} programs are running already")
        running = _Program(self._loop, door, self._check, done)
        try:
            running.start(self._environment, self._user, self._timeout)
        except OSError as error:
            return Unasked(self._loop, done, f"cannot order it: {error.strerror}")
        return running


class _Program:
    __slots__ = ("_backstop", "_check", "_done", "_door", "_loop", "_number", "_started")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, door: Door, check: ExecCheck, done: Done
    ) -> None:
        self._loop = loop
        self._door = door
        self._check = check
        self._done: Done | None = done
        self._number = 0
        self._started = 0.0
        self._backstop: asyncio.TimerHandle

    def start(
        self, environment: dict[str, str], user: tuple[int, int] | None, timeout: float
    ) -> None:
        """May raise OSError."""
        self._started = self._loop.time()
        command = self._check.command
        self._number = self._door.run(command, environment, user, timeout, self._hear)
        self._backstop = self._loop.call_later(timeout + 2 * KILL_TIME, self._give_up)

    def _give_up(self) -> None:
        """Not even killing it works, or its minder is stopped. It goes on counting as running."""
        self._hear(Report(self._number, "timeout"))

    def _hear(self, report: Report) -> None:
        done, self._done = self._done, None
        if done is not None:
            self._backstop.cancel()
            found = judge(report, warning_fails=self._check.warning_fails)
            duration = self._loop.time() - self._started
            done(Result(found.outcome, duration, line(found.detail)))

    def cancel(self) -> None:
        if self._done is not None:
            self._done = None
            self._backstop.cancel()
            self._door.cancel(self._number)
