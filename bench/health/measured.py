"""kernlbd as it is, but that it writes down how late each probe started.

    python -m bench.health.measured FILE [arguments of kernlbd]

FILE is written when the daemon is sent SIGUSR1: seconds as 32-bit floats, those since the last
time. It costs the daemon a clock reading and an append for each probe.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from array import array
from pathlib import Path
from time import monotonic

import kernlb.health.monitor
from kernlb.daemon import main
from kernlb.health.monitor import Monitor, Subject


class Measured(Monitor):
    """The loop's clock is monotonic(), but read once a turn: lateness within a turn is real."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *arguments: object, **named: object
    ) -> None:
        super().__init__(loop, *arguments, **named)  # type: ignore[arg-type]
        self._late = array("f")
        loop.add_signal_handler(signal.SIGUSR1, self._write)

    def _start(self, subject: Subject, now: float, late: float) -> None:
        self._late.append(monotonic() - subject.due)
        super()._start(subject, now, late)

    def _write(self) -> None:
        late, self._late = self._late, array("f")
        made = FILE.with_suffix(".new")
        made.write_bytes(late.tobytes())
        made.rename(FILE)


if __name__ == "__main__":
    FILE = Path(sys.argv[1])
    kernlb.health.monitor.Monitor = Measured  # before the daemon is imported
    sys.exit(main(sys.argv[2:]))
