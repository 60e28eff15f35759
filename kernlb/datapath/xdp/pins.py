"""Where the datapath is pinned: what stays when the daemon does not.

ROOT/maps/<map>, ROOT/programs/<program>, ROOT/links/<interface>. A directory appears whole: it is
made beside, with "-next" behind its name, and gets its name by one rename. What such a directory
holds when a load begins is left from one that did not end, and goes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernlb.datapath.xdp.libbpf.bpffs import exchange

DEFAULT_ROOT = Path("/sys/fs/bpf/kernlb")


@dataclass(frozen=True, slots=True)
class Pins:
    root: Path = DEFAULT_ROOT

    @property
    def maps(self) -> Path:
        return self.root / "maps"

    @property
    def programs(self) -> Path:
        return self.root / "programs"

    @property
    def links(self) -> Path:
        return self.root / "links"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For one process, and one thread of it, at a time.

        Raises BlockingIOError where another has it, FileNotFoundError where there is no root."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), self.root.stat()):
                raise BlockingIOError  # removed and made anew meanwhile
            yield
        except BlockingIOError as why:
            raise BlockingIOError(
                errno.EBUSY, f"cannot change what is pinned in {self.root}: another process is"
            ) from why
        finally:
            os.close(fd)


def map_pin(name: str) -> str | None:
    """The pin of an object's map; None for what belongs to one load, such as its constants.

    A variable in section ".data.filter" is kept by the name filter."""
    head, dot, section = name.rpartition(".data.")
    if dot:
        return None if head else section
    return None if "." in name else name


def link_pin(interface: str) -> str:
    """No interface has a colon in its name (dev_valid_name()), and no pin a dot."""
    return interface.replace(".", ":")


def beside(directory: Path) -> Path:
    """An empty directory that is to take the other's place."""
    following = directory.with_name(f"{directory.name}-next")
    remove(following)
    following.mkdir(mode=0o700)
    return following


def publish(following: Path, directory: Path) -> None:
    """``following`` becomes ``directory``, at once; what was there goes."""
    if directory.exists():
        exchange(following, directory)
        remove(following)
    else:
        following.rename(directory)


def remove(directory: Path) -> None:
    """A directory of pins. Removing the absent succeeds."""
    if directory.exists():
        for each in directory.iterdir():
            each.unlink()
        directory.rmdir()
