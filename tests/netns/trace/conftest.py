"""A balancer by XDP, and captures on it as an operator starts them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kernlb.lab.namespaces import enter
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import fork_into
from tests.netns.traffic.wait import wait_for
from tests.netns.xdp.conftest import balancer, pins  # noqa: F401 (fixtures)

PATIENCE = 60.0  # an emulated guest is slow


class Command:
    """``kernlb`` in the balancer's namespace, running by itself."""

    def __init__(self, on: Balancer, said: Path, *words: str) -> None:
        self._said = said
        words = ("--socket", str(on.daemon.socket), *words)

        def run() -> int:
            enter(on.namespace)
            from kernlb.cli.app import run

            return run(words)

        self.pid = fork_into(run, said)
        self._code: int | None = None

    @property
    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def wait_said(self, text: str) -> None:
        def is_said() -> bool:
            assert text in self.said or not self.ended, f"it ended: {self.said}"
            return text in self.said

        wait_for(is_said, PATIENCE, f"{text!r} is said")

    @property
    def ended(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is not None

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self, code: int = 0) -> str:
        """What it said in all, once it has ended."""
        wait_for(lambda: self.ended, PATIENCE, f"it ends: {self.said}")
        assert self._code == code, self.said
        return self.said


Start = Callable[..., Command]


@pytest.fixture
def start(balancer: Balancer, tmp_path: Path) -> Iterator[Start]:  # noqa: F811
    """Runs ``kernlb`` with these words; what still runs at the end of a test is killed."""
    commands: list[Command] = []

    def start(*words: str) -> Command:
        commands.append(Command(balancer, tmp_path / f"said{len(commands)}", *words))
        return commands[-1]

    yield start
    for each in commands:
        if not each.ended:
            with suppress(ProcessLookupError):
                each.signal(signal.SIGKILL)
