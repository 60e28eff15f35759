"""What was asked of this host and what it was before: one file, read and written whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernlb.realserver.making import write_file
from kernlb.realserver.slots import Change, Kind, Slot
from kernlb.realserver.unit import RECORD
from kernlb.realserver.wish import Wish, from_plain, to_plain

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """``changes``: of each slot the value before the first change and the one after the last."""

    wish: Wish
    changes: tuple[Change, ...]


def path_under(root: Path) -> Path:
    return root / RECORD.lstrip("/")


def read(root: Path) -> Record | None:
    """None: nothing is set up. Raises OSError where it cannot be read."""
    path = path_under(root)
    try:
        plain = json.loads(path.read_text())
        if plain["version"] != _VERSION:
            raise ValueError(f"version {plain['version']} is not known")
        return Record(
            from_plain(plain["wish"]),
            tuple(
                Change(
                    Slot(Kind(each["kind"]), each["name"], each["at"]),
                    each["before"],
                    each["after"],
                )
                for each in plain["changes"]
            ),
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        why = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise OSError(None, f"cannot read {path}: {why}") from error


def write(record: Record | None, root: Path) -> None:
    """None: forget it. Raises OSError."""
    if record is None:
        write_file(path_under(root), None)
        return
    changes = [
        {
            "kind": change.slot.kind.value,
            "name": change.slot.name,
            "at": change.slot.at,
            "before": change.before,
            "after": change.after,
        }
        for change in record.changes
    ]
    plain = {"version": _VERSION, "wish": to_plain(record.wish), "changes": changes}
    write_file(path_under(root), json.dumps(plain, indent=2) + "\n")


@contextmanager
def held(root: Path) -> Iterator[None]:
    """One setup or removal at a time. Raises OSError."""
    folder = path_under(root).parent
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
