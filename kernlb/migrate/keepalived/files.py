"""The one door to the files of a configuration: reading, and finding by a pattern."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Protocol

from kernlb.migrate.report import MigrationError, Place

MAX_BYTES = 16 << 20  # of one file


class Files(Protocol):
    """What a reader of a configuration asks of the disk."""

    def read(self, path: str) -> bytes:
        """The content; OSError where there is none, MigrationError where it is too large."""

    def find(self, pattern: str) -> list[str]:
        """Files by a pattern with ``*``, ``?`` and ``[]``, sorted."""


class Disk:
    """The files as they are."""

    def read(self, path: str) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not Path(path).is_file():
                raise MigrationError("is not a regular file", Place(path))
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise MigrationError(f"is larger than {MAX_BYTES >> 20} MiB", Place(path))
        return content

    def find(self, pattern: str) -> list[str]:
        return sorted(path for path in glob.glob(pattern) if Path(path).is_file())  # noqa: PTH207
