"""kernlbd as it is, but that it writes down how late each probe started.

    python -m bench.health.measured FILE [arguments of kernlbd]

FILE is written when the daemon is sent SIGUSR1: seconds as 32-bit floats, those since the last
time. It costs the daemon a call and an append for each probe.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from array import array
from pathlib import Path

import kernlb.health.monitor
from kernlb.daemon import main
from kernlb.health.lateness import Lateness
from kernlb.health.monitor import Monitor


class Written(Lateness):
    """Of every start, not of the latest alone."""

    def __init__(self) -> None:
        super().__init__()
        self.all = array("f")

    def add(self, late: float) -> None:
        self.all.append(late)
        super().add(late)

    def write(self) -> None:
        late, self.all = self.all, array("f")
        made = FILE.with_suffix(".new")
        made.write_bytes(late.tobytes())
        made.rename(FILE)


class Measured(Monitor):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, *arguments: object, **named: object
    ) -> None:
        super().__init__(loop, *arguments, **named)  # type: ignore[arg-type]
        self.lateness = written = Written()
        loop.add_signal_handler(signal.SIGUSR1, written.write)


if __name__ == "__main__":
    FILE = Path(sys.argv[1])
    kernlb.health.monitor.Monitor = Measured  # before the daemon is imported
    sys.exit(main(sys.argv[2:]))
