"""Events on disk: one JSON document a line, appended by one write each, in two bounded files.

A file that is full becomes the older one; the older one before it goes. A line that cannot be read
(torn by a crash, edited by hand) is passed over, the rest counts. Nothing is synced: what a crash
of the whole host loses are seconds of events. A full disk loses events, is told in the log once,
and hinders nobody.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from kernlb.control.protocol import Event

log = logging.getLogger("kernlb")

FILE = "events.jsonl"
SIZE = 2 << 20  # bytes of a file that is full
KEPT = 5000  # events read back at a start
_LONGEST = 64 << 10  # bytes of a line; longer ones are not ours


class EventLog:
    """Appends to a file under ``directory``; a second process must not."""

    def __init__(self, directory: Path, size: int = SIZE) -> None:
        self._path = directory / FILE
        self._size = size
        self._descriptor = -1
        self._length = 0
        self._torn = False  # does the file end in the middle of a line?
        self._failing = ""

    @property
    def failing(self) -> str:
        """Why the latest event is not on disk; "" if it is."""
        return self._failing

    def load(self) -> list[Event]:
        """The latest events, oldest first; none where there is no file, or none to be read."""
        found: dict[int, Event] = {}
        for path in (self._older, self._path):
            for event in _events(path, self._size):
                found[event.number] = event
        return [found[number] for number in sorted(found)[-KEPT:]]

    def append(self, event: Event) -> None:
        """One line. What goes wrong is logged, once."""
        line = msgspec.json.encode(event) + b"\n"
        try:
            if self._descriptor < 0:
                self._open()
            if self._length and self._length + len(line) > self._size:
                self._rotate()
            if self._torn:
                line = b"\n" + line
            written = os.write(self._descriptor, line)
            self._length += written
            self._torn = written < len(line)
            if self._torn:
                raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError as error:
            if not self._failing:
                log.warning("cannot keep events in %s: %s", self._path, error)
            self._failing = error.strerror or str(error)
            return
        if self._failing:
            log.warning("events are kept in %s again", self._path)
            self._failing = ""

    def close(self) -> None:
        """Twice equals once; the next event opens it again."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    @property
    def _older(self) -> Path:
        return self._path.with_name(f"{FILE}.1")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o640)
        self._length = os.fstat(self._descriptor).st_size
        last = os.pread(self._descriptor, 1, self._length - 1) if self._length else b"\n"
        self._torn = last != b"\n"

    def _rotate(self) -> None:
        self.close()
        self._path.replace(self._older)
        self._open()


def _events(path: Path, size: int) -> list[Event]:
    """Those of a file that can be read; of a file that is too large, those at its end."""
    decode = msgspec.json.Decoder(Event).decode
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 2 * size))
            lines = file.read(2 * size).split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            if line and len(line) <= _LONGEST and (event := decode(line)).number > 0:
                found.append(event)
    return found
