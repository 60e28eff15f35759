"""Documents to files of a directory: all of them or none, and never over one that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kernlb.migrate.report import MigrationError


def write_documents(
    directory: Path, documents: Mapping[str, str], *, dry_run: bool = False
) -> list[Path]:
    """The files ``NAME.yaml``. Raises MigrationError with what is in the way."""
    paths = {directory / f"{name}.yaml": text for name, text in documents.items()}
    taken = [path for path in paths if path.exists()]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise MigrationError(f"cannot write {taken[0]}{more}: it is there already")
    if dry_run:
        return list(paths)
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            _write(path, text)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        why = (error.strerror or str(error)).lower()
        raise MigrationError(f"cannot write to {directory}: {why}; nothing was left") from None
    return written


def _write(path: Path, text: str) -> None:
    """Complete or not there: what reads the directory meanwhile sees no half of it."""
    unfinished = path.with_name(f".{path.name}.new")
    try:
        with unfinished.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
