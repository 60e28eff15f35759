"""ipvsadm: its command lines, what it saves, what it prints.

:func:`read`, :func:`live` and :func:`write` are for ``kernlb import`` and ``kernlb export``; the
front end ``kernlb ipvsadm`` uses the parts. Names of hosts and ports are this host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernlb.declaration import Declaration
    from kernlb.migrate.ipvsadm.export import Written
    from kernlb.migrate.report import Report


def read(text: str, source: str) -> Report:
    """Text of ``ipvsadm-save``, with names or numbers, to documents. ``source`` names it."""
    from kernlb.migrate.ipvsadm.names import Resolver
    from kernlb.migrate.ipvsadm.saved import read_saved

    return read_saved(text, source, Resolver())


def live() -> str:
    """What the kernel holds in this network namespace, for :func:`read`. Raises OSError."""
    from kernlb.migrate.ipvsadm.kernel import saved

    return saved()


def write(declarations: Mapping[str, Declaration]) -> Written:
    """Text for ``ipvsadm -R``, and what it leaves out."""
    from kernlb.migrate.ipvsadm.export import write_rules
    from kernlb.migrate.ipvsadm.names import Numbers

    return write_rules(declarations, Numbers())
