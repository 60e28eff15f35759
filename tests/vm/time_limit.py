"""A bound on every phase of every test: an alarm that fails the test where it stands."""

from __future__ import annotations

import signal
from collections.abc import Generator
from types import FrameType

import pytest

Phase = Generator[None, object, object]


class TimeLimit:
    """`@pytest.mark.timeout(seconds)` overrides the default for one test."""

    def __init__(self, default: float) -> None:
        self._default = default

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Phase:
        return (yield from self._bounded(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Phase:
        return (yield from self._bounded(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Phase:
        return (yield from self._bounded(item))

    def _bounded(self, item: pytest.Item) -> Phase:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0]) if marker else self._default

        def give_up(number: int, frame: FrameType | None) -> None:
            __tracebackhide__ = True
            pytest.fail(f"gave up after {seconds:g} s")

        before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
