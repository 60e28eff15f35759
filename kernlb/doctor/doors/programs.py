"""The door to other programs: run to their end, bounded in time and output. No shell."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence

PATIENCE = 20.0  # seconds
MOST = 16 << 20  # bytes of output


def run(argv: Sequence[str]) -> bytes:
    """What it says on stdout. Raises OSError: not there, failed, or too slow."""
    name = argv[0]
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f"{name} is not installed") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{name} did not end in {PATIENCE:g} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        why = said or f"exit code {done.returncode}"
        raise OSError(errno.EIO, f"{name} failed: {why}")
    if len(done.stdout) > MOST:
        raise OSError(errno.EFBIG, f"{name} said more than {MOST >> 20} MiB")
    return done.stdout
