"""A process beside this one that runs a lane of tests: those that mostly wait for machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0  # seconds for its fixtures to take everything down


class Beside:
    """``argv`` in a session of its own, with a folder to exchange files."""

    def __init__(
        self, argv: Sequence[str], exchange: Path, cwd: Path, environ: Mapping[str, str]
    ) -> None:
        self.exchange = exchange
        with (exchange / "stdout").open("wb") as out, (exchange / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=os.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        """Let it end, or end it; and remove the folder."""
        for number in (0, signal.SIGINT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
                break
        shutil.rmtree(self.exchange, ignore_errors=True)

    def last_words(self) -> str:
        """Of the process itself: its outputs are in the folder."""
        return ""


def new_exchange() -> Path:
    return Path(tempfile.mkdtemp(prefix="kernlb-beside."))
