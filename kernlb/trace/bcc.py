"""The one door to bcc: a child process that compiles a program and reads it.

Why a child is in ``bcc_child``. It ends with its stdin, so also when this process is killed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from kernlb.trace.programs import Program

_CHILD = Path(__file__).with_name("bcc_child.py")
_PYTHON = "/usr/bin/python3"  # of the distribution, whose package bcc is
_PACKAGES = ("lib/python3/dist-packages/bcc", "lib*/python3.*/site-packages/bcc")
_KHEADERS = Path("/sys/kernel/kheaders.tar.xz")  # CONFIG_IKHEADERS, where bcc looks too
_PATIENCE = 10.0  # seconds for its end

Row = tuple[Any, Any]  # key and value


class CannotTraceError(Exception):
    """One sentence, and what to do."""


class Reading(NamedTuple):
    tables: dict[str, list[Row]]
    events: list[dict[str, Any]]


def missing() -> str:
    """What this host lacks, as a sentence with the line that installs it; "" for nothing."""
    release = os.uname().release
    packages = []
    if _python_with_bcc() is None:
        packages.append("python3-bpfcc")
    if not Path(f"/lib/modules/{release}/build").exists() and not _KHEADERS.exists():
        packages.append(f"linux-headers-{release}")
    if not packages:
        return ""
    verb = "is" if len(packages) == 1 else "are"
    return f"{' and '.join(packages)} {verb} missing: apt-get install {' '.join(packages)}"


def _python_with_bcc() -> str | None:
    """Ours, or the distribution's; by where packages lie, for starting it takes a while."""
    if find_spec("bcc") is not None:
        return sys.executable
    there = any(True for pattern in _PACKAGES for _ in Path("/usr").glob(pattern))
    return _PYTHON if there and Path(_PYTHON).exists() else None


class Probes:
    """Of one program, from ``__enter__`` on; it takes seconds to compile.

    ``absent``: functions that this kernel has not, and the program can do without."""

    def __init__(self, program: Program, interval: float) -> None:
        self._program = program
        self._interval = interval
        self._unread = b""
        self.absent: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        """Raises CannotTraceError."""
        if lacks := missing():
            raise CannotTraceError(f"cannot trace the kernel: {lacks}")
        if os.geteuid() != 0:
            raise CannotTraceError("cannot trace the kernel: only root can")
        python = _python_with_bcc()
        assert python is not None
        self._said = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [python, "-I", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # ^C is for us, and we end it
        )
        self._ask()
        return self

    def _ask(self) -> None:
        probes = [
            {"function": each.function, "runs": each.runs, "at_return": each.at_return}
            for each in self._program.probes
        ]
        asked = {
            "text": self._program.text,
            "probes": probes,
            "tables": self._program.tables,
            "events": self._program.events,
            "interval": self._interval,
        }
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(asked).encode() + b"\n")
            self._child.stdin.flush()

    def wait_ready(self, seconds: float) -> bool:
        """False where it still compiles then. Raises CannotTraceError."""
        answer = self._line(seconds)
        if answer is None:
            return False
        if "cannot" in answer:
            raise CannotTraceError(self._refusal(answer["why"]))
        self.absent = tuple(dict.fromkeys(answer["ready"]["absent"]))
        needed = {each.function for each in self._program.probes if each.needed}
        if lacks := sorted(needed & set(self.absent)):
            raise CannotTraceError(
                f"cannot trace IPVS: this kernel has no {', '.join(lacks)} (is it loaded? "
                "modprobe ip_vs)"
            )
        return True

    def read(self, seconds: float) -> Reading | None:
        """The next interval's; None where that is not over within so many seconds."""
        answer = self._line(seconds)
        if answer is None:
            return None
        tables = {
            name: [(key, value) for key, value in rows] for name, rows in answer["tables"].items()
        }
        return Reading(tables, answer["events"])

    def last(self) -> Reading | None:
        """Order it to end, and read what it has yet."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        found = None
        with suppress(CannotTraceError):
            while (reading := self.read(_PATIENCE)) is not None:
                events = (found.events if found else []) + reading.events
                found = Reading(reading.tables, events)
        return found

    def _line(self, seconds: float) -> dict[str, Any] | None:
        """Raises CannotTraceError where it ended."""
        assert self._child.stdout is not None
        while b"\n" not in self._unread:
            descriptor = self._child.stdout.fileno()
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            got = os.read(descriptor, 1 << 20)
            if not got:
                raise CannotTraceError(self._refusal("its process ended"))
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _refusal(self, why: str) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        said = next((line for line in lines if "error" in line.lower()), "")
        release = os.uname().release
        reason = said.strip() or why or "it does not say why"
        return f"cannot trace the kernel: bcc refuses the program for {release}: {reason}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._child.wait(0.5)
        except subprocess.TimeoutExpired:  # it compiles yet
            self._child.kill()
            self._child.wait()
        self._said.close()
