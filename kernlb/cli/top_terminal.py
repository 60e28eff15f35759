"""The terminal of ``kernlb top``: keys in, screens out, and everything as before at the end.

rich.live draws into the alternate screen; keys are read here, because rich reads none. (Not
textual: its event loop, widgets and style sheets are three times the program for one table.)
A thread of its own asks the daemon, so that a daemon that does not answer stops no key.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from kernlb.cli.columns import Line
from kernlb.cli.keys import decode
from kernlb.cli.render import printable
from kernlb.cli.screen import glyphs
from kernlb.cli.top_model import State, Trails, pressed
from kernlb.cli.top_view import SELECTED, Frame, Surroundings, frame
from kernlb.control.client import ControlError, DaemonUnreachableError

if TYPE_CHECKING:
    from kernlb.control.protocol_overview import Overview

Handler = Callable[[int, FrameType | None], object]

ESCAPE = 0.05  # seconds after which an escape is the key of that name
REDRAW = 1.0  # seconds after which a screen is drawn anew, for its ages
STYLES = {SELECTED: "reverse"}


class Asker:
    """Asks for overviews in a thread, each ``interval`` seconds; ``found`` is called there."""

    def __init__(self, ask: Callable[[], Overview], found: Callable[[], None]) -> None:
        self.interval = 1.0
        self.overview: Overview | None = None
        self.away = ""  # why there was no answer
        self._ask = ask
        self._found = found
        self._now = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="asking kernlbd").start()

    def at_once(self) -> None:
        self._now.set()

    def _run(self) -> None:
        while True:
            self._now.wait(self.interval)
            self._now.clear()
            try:
                self.overview = self._ask()
                self.away = ""
            except (ControlError, DaemonUnreachableError) as error:
                self.away = printable(str(error))
            self._found()


class Terminal:
    """Stdin and stdout as a screen with keys. Use as a context: it restores what it changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._input = sys.stdin.fileno()
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._ring, False)
        self._unread = b""
        self._live: Live | None = None
        self._before = termios.tcgetattr(self._input)

    def wake(self) -> None:
        """From any thread or signal: ``keys`` returns."""
        with suppress(BlockingIOError):  # it rings already
            os.write(self._ring, b".")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The screen is ours, and back as it was whatever ends this."""
        handlers: dict[int, Handler] = {
            signal.SIGWINCH: lambda *_: self.wake(),
            signal.SIGTERM: _leave,
            signal.SIGHUP: _leave,
            signal.SIGTSTP: self._suspend,
        }
        before = {number: signal.signal(number, act) for number, act in handlers.items()}
        try:
            self._enter()
            yield
        finally:
            self._restore()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _enter(self) -> None:
        tty.setcbreak(self._input, termios.TCSADRAIN)  # Ctrl-C and Ctrl-Z are signals still
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _restore(self) -> None:
        with suppress(OSError):  # the terminal is gone
            if self._live is not None:
                self._live.stop()
        self._live = None
        _set(self._input, self._before)

    def _suspend(self, *_: object) -> None:
        """Ctrl-Z: the shell gets its screen back until the program goes on."""
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)
        self._enter()
        self.wake()

    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        found = os.get_terminal_size(sys.stdout.fileno())
        return max(20, found.columns or 80), max(8, found.lines or 24)

    def show(self, lines: Sequence[Line]) -> None:
        if self._live is not None:
            width, height = self.size()
            self._console.size = (width, height)
            self._live.update(Group(*(rich_text(line) for line in lines[:height])), refresh=True)

    def keys(self, timeout: float) -> list[str]:
        """Those pressed within ``timeout`` seconds; none when something else woke it."""
        wait = ESCAPE if self._unread else timeout
        ready, _, _ = select.select([self._input, self._bell], [], [], wait)
        if self._bell in ready:
            os.read(self._bell, 4096)
        data = b""
        if self._input in ready:
            data = os.read(self._input, 1024)
            if not data:
                raise EOFError  # the terminal is gone
        keys, self._unread = decode(self._unread + data, ended=not ready)
        return keys


def _set(descriptor: int, attributes: list[object]) -> None:
    with suppress(termios.error):  # the terminal is gone
        termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)  # type: ignore[arg-type]


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as a shell reports it


def rich_text(line: Line) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for part, colour in line:
        text.append(part, STYLES.get(colour, colour))
    return text


def run(
    ask: Callable[[], Overview],
    first: Overview,
    state: State,
    clock: Callable[[], float],
    *,
    colours: bool,
) -> None:
    """Until the operator leaves. ``ask`` raises ControlError or DaemonUnreachableError."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # labels may be more than the terminal's ASCII
    console = Console(highlight=False, no_color=not colours, force_terminal=True)
    terminal, marks = Terminal(console), glyphs()
    asker = Asker(ask, terminal.wake)
    trails = Trails()
    overview = first
    with terminal.taken():
        while not state.quit:
            if not state.paused:
                overview = asker.overview or overview
                trails.remember(overview)
            asker.interval = state.interval
            width, height = terminal.size()
            around = Surroundings(clock(), width, height, marks, trails, asker.away)
            drawn = frame(state, overview, around)
            terminal.show(drawn.lines)
            state = _after(drawn, terminal.keys(REDRAW), asker)


def _after(drawn: Frame, keys: Sequence[str], asker: Asker) -> State:
    state = drawn.state
    for key in keys:
        asked = state.ask
        state = pressed(state, key, drawn.shown, drawn.height)
        if state.ask != asked:
            asker.at_once()
    return state
