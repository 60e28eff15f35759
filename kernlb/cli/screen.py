"""What stdout is: how wide and high, and which characters it takes."""

from __future__ import annotations

import os
import sys

from kernlb.cli.sparkline import ASCII, UNICODE, Glyphs


def terminal_size() -> tuple[int | None, int | None]:
    """Columns and lines; None where stdout is no terminal."""
    if not sys.stdout.isatty():
        return None, None
    from shutil import get_terminal_size  # reads COLUMNS and LINES too

    return get_terminal_size()


def glyphs() -> Glyphs:
    """Those that stdout can write."""
    if os.environ.get("TERM") in ("linux", "dumb"):  # the console's font has no such bars
        return ASCII
    try:
        "".join(UNICODE).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return UNICODE
