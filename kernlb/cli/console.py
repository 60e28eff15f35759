"""Where a command's answer goes: stdout as a table or JSON, notes and errors on stderr.

One Console a run, as click's context object. The options ``--socket``, ``--output`` and
``--no-color`` fill it in, wherever on the line they stand.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

import click

from kernlb.cli.terminal import coloured

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernlb.cli.render import Paint
    from kernlb.control.client import Client
    from kernlb.control.protocol import Change

DONE = 0
FAILED = 1
USAGE = 2
CHANGES = 3
UNREACHABLE = 4


class Console:
    """What the whole run of a command shares. ``clock`` and ``sleep`` are here for tests."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.socket: str | None = None
        self.output = "table"
        self.no_color = False
        self.clock = clock
        self.sleep = sleep

    @property
    def json(self) -> bool:
        return self.output == "json"

    def client(self, timeout: float | None = None) -> Client:
        from kernlb.control.client import Client
        from kernlb.control.protocol import SOCKET

        return Client(self.socket or SOCKET, timeout)

    @property
    def paint(self) -> Paint:
        """Colours for stdout, if it is a terminal that wants them."""
        from kernlb.cli.render import colours, plain

        return colours if self._coloured(sys.stdout) else plain

    def print(self, text: str) -> None:
        click.echo(text, color=self._coloured(sys.stdout))

    def print_json(self, value: Any) -> None:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))

    def note(self, text: str) -> None:
        """A line that is not the answer: progress, warnings."""
        click.echo(text, err=True)

    def error(self, text: str) -> None:
        word = click.style("error:", fg="red") if self._coloured(sys.stderr) else "error:"
        click.echo(f"{word} {text}", err=True, color=self._coloured(sys.stderr))

    def error_json(self, value: Any) -> None:
        import msgspec

        click.echo(msgspec.json.encode(value), err=True)

    def report(self, change: Change, dry_run: bool = False, *, note: bool = True) -> int:
        """Print a change; the exit code that goes with it. ``note``: say what a dry run is."""
        from kernlb.cli.render import change_text, fault_text

        if self.json:
            self.print_json(change)
        else:
            self.print(change_text(change, self.paint))
            if dry_run and note and change.ops:
                self.note("dry run: nothing was changed")
            for warning in change.warnings:
                self.note(f"warning: {warning}")
            for fault in change.faults:
                self.error(fault_text(fault))
            if any(fault.file for fault in change.faults):
                self.note("of a bad file the last good version, if there is one, stays in force")
        if change.ops and not change.applied and not dry_run:
            if not self.json:
                self.error("cannot tell that all of this is in the kernel: see kernlb status")
            return FAILED
        return FAILED if change.faults else DONE

    def _coloured(self, stream: TextIO) -> bool:
        return coloured(stream, no_color=self.no_color)


pass_console = click.make_pass_decorator(Console, ensure=True)
