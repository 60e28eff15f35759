"""The door to the far end of a veth in another named namespace: does XDP run there?

A thread of its own visits each namespace; nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from kernlb.doctor.doors import rtnetlink
from kernlb.doctor.network import Link

_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
MOST = 64  # namespaces that are visited


def find(links: Iterable[Link]) -> dict[str, Link]:
    """Far ends by the name of the near end; those that are not found are left out."""
    wanted = [link for link in links if link.lower and link.lower_namespace >= 0]
    found: dict[str, Link] = {}
    if wanted and _NAMED.is_dir():
        for path in sorted(_NAMED.iterdir())[:MOST]:
            with suppress(OSError):
                found |= _look(path, wanted)
    return found


def _look(path: Path, wanted: Collection[Link]) -> dict[str, Link]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = rtnetlink.namespace_number(descriptor)
        here = {link.lower: link.name for link in wanted if link.lower_namespace == number}
        links = _links(descriptor) if here else ()
    finally:
        os.close(descriptor)
    return {here[link.index]: link for link in links if link.index in here}


def _links(descriptor: int) -> Collection[Link]:
    """Those of the namespace that is open as ``descriptor``."""
    found: list[Link] = []

    def visit() -> None:
        with suppress(OSError):
            _enter(descriptor)
            found.extend(rtnetlink.read().links)

    visitor = threading.Thread(target=visit, name="far ends")
    visitor.start()
    visitor.join()
    return found


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a namespace")
