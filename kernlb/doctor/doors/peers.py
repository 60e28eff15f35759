"""The door to the far end of a veth in another named namespace: does XDP run there?

A thread of its own visits each namespace; nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kernlb.doctor.doors import rtnetlink
from kernlb.doctor.network import Link

_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
MOST = 64  # namespaces that are visited


def find(links: Iterable[Link]) -> dict[str, Link]:
    """Far ends by the name of the near end; those that are not found are left out."""
    wanted = {(link.lower, link.index, link.mac): link.name for link in links if link.lower}
    found: dict[str, Link] = {}
    if not wanted or not _NAMED.is_dir():
        return found

    def visit() -> None:
        here = Path("/proc/thread-self/ns/net").stat().st_ino
        for path in sorted(_NAMED.iterdir())[:MOST]:
            with suppress(OSError):
                if path.stat().st_ino == here:
                    continue
                _enter(path)
                for link in rtnetlink.read().links:
                    for (index, back, mac), name in wanted.items():
                        if link.index == index and link.lower == back and link.mac != mac:
                            found.setdefault(name, link)

    visitor = threading.Thread(target=visit, name="far ends")
    visitor.start()
    visitor.join()
    return found


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter a namespace")
    finally:
        os.close(descriptor)
