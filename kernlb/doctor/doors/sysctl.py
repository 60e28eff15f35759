"""The door to sysctls of this network namespace: /proc/sys."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

from kernlb.doctor.sysctls import Sysctls

ROOT = Path("/proc/sys")


def read(patterns: Iterable[str], root: Path = ROOT) -> Sysctls:
    """Those that match: names with slashes, ``*`` for any one part. Absent ones are left out."""
    values: dict[str, str] = {}
    denied: set[str] = set()
    for pattern in patterns:
        for path in root.glob(pattern):
            name = str(path.relative_to(root))
            try:
                values[name] = path.read_text().strip()
            except PermissionError:
                denied.add(name)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENXIO):
                    raise  # an interface may have left meanwhile
    return Sysctls(values, frozenset(denied))


def write(name: str, value: str, root: Path = ROOT) -> None:
    """Raises OSError."""
    (root / name).write_text(f"{value}\n")
