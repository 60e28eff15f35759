"""Regular expressions over what a far end sent, in bounded time.

A search may take exponential time where the text is made for it, and nothing else runs meanwhile.
Python's engine heeds signals as it works, so a timer of processor time ends a search that takes
too long. Only the main thread hears signals; elsewhere a search is not bounded.
"""

from __future__ import annotations

import re
import signal
import threading
from types import FrameType

LIMIT = 0.05  # seconds of processor time


class _TooLong(Exception):
    pass


class _Guard:
    """Whether a search is under way that the timer is to end."""

    armed = False


def _end(_number: int, _frame: FrameType | None) -> None:
    if _Guard.armed:
        _Guard.armed = False
        raise _TooLong


class Pattern:
    __slots__ = ("_search",)

    def __init__(self, expression: str) -> None:
        # `.*x` is found where `x` is found, and costs the square of a line's length
        shorter = re.sub(r"^(?:\.[*]\??(?![?+*{]))+", "", expression)
        try:
            self._search = re.compile(shorter).search
        except re.error:  # it leaned on what was left out
            self._search = re.compile(expression).search

    def search(self, text: str) -> bool | None:
        """Whether it is found; None where the search took too long."""
        if threading.current_thread() is not threading.main_thread():
            return self._search(text) is not None
        if signal.getsignal(signal.SIGVTALRM) is not _end:
            signal.signal(signal.SIGVTALRM, _end)
        try:
            _Guard.armed = True
            signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
            found = self._search(text) is not None
            _Guard.armed = False
        except _TooLong:
            return None
        finally:
            _Guard.armed = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return found
