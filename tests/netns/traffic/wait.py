"""Waiting for a condition, with a bound: the only place where these tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_POLL, LAST_POLL = 0.02, 0.25  # seconds between two looks: a look may cost what it waits for


def wait_for(condition: Callable[[], T], timeout: float, what: str) -> T:
    """The first true value of ``condition``; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    poll = FIRST_POLL
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout:g} s (last: {value!r})")
        time.sleep(poll)
        poll = min(poll * 1.5, LAST_POLL)
