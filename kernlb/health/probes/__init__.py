"""Probes: one file each, all behind the protocol below.

A probe is made once for a check and a target, with all that can be worked out beforehand, and
started again and again. It never sleeps and never blocks: it works by callbacks of the event loop
and ends by calling ``done`` exactly once, within its timeout, from the loop and never from within
``start``. Whatever it opened is closed by then. Memory and time are bounded whatever the far end
sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernlb.health.outcome import Result

Done = Callable[[Result], None]


class Running(Protocol):
    """A probe under way."""

    def cancel(self) -> None:
        """Give up without a result: ``done`` is not called any more. Idempotent."""


class Probe(Protocol):
    """One check of one target."""

    def start(self, done: Done) -> Running:
        """Ask once. Raises nothing for what the network or the host refuses: that is an outcome."""
