"""A program on a terminal of its own: keys in, and the screen as a person would see it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyte

KEYS = {"up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D",
        "pagedown": "\x1b[6~", "end": "\x1b[F", "home": "\x1b[H", "enter": "\r", "escape": "\x1b",
        "ctrl-c": "\x03", "ctrl-z": "\x1a", "backspace": "\x7f"}  # fmt: skip
PATIENCE = 20.0  # seconds for what should be there in tenths of one


class Terminal:
    """``argv`` as the only job on a pseudo terminal of this size. Use as a context."""

    def __init__(
        self,
        argv: Sequence[str],
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.output = b""  # all of it
        self.code: int | None = None
        self._stream = pyte.ByteStream(self.screen)
        self._argv = argv
        self._environment = {**os.environ, "TERM": "xterm-256color", **(environment or {})}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            self._environment.pop(name, None)

    def __enter__(self) -> Self:
        self.pid, self._master = pty.fork()
        if not self.pid:
            try:
                os.read(0, 1)  # until the window has its size
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in a foreground job
                os.execvpe(self._argv[0], list(self._argv), self._environment)
            finally:
                os._exit(70)
        self.before = termios.tcgetattr(self._master)
        self.resize(self.screen.columns, self.screen.lines, tell=False)
        self.press("\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)

    @property
    def text(self) -> str:
        """The screen, its lines without trailing spaces."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def settings(self) -> list[Any]:
        """Of the line: echo, line mode and the rest."""
        return termios.tcgetattr(self._master)

    def press(self, *keys: str) -> None:
        for key in keys:
            os.write(self._master, KEYS.get(key, key).encode())

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        if tell:
            self.screen.resize(lines, columns)

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def sees(self, what: str | Callable[[str], bool], timeout: float = PATIENCE) -> str:
        """The screen, once it has the text or fulfils the condition; AssertionError if never."""
        deadline = time.monotonic() + timeout
        while not (what in self.text if isinstance(what, str) else what(self.text)):
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"not seen: {what}\n{self.text}"
        return self.text

    def ends(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended and all it wrote is read; negative: of a signal."""
        deadline = time.monotonic() + timeout
        while self._read(max(0.0, deadline - time.monotonic())):
            assert time.monotonic() < deadline, f"it goes on\n{self.text}"
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        while not pid:
            assert time.monotonic() < deadline, f"it goes on\n{self.text}"
            time.sleep(0.01)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def _read(self, timeout: float) -> bool:
        """False: nothing came in time, or nothing more will."""
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.output += data
        self._stream.feed(data)
        return bool(data)
