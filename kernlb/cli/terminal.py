"""What a terminal takes."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # see wire
if TYPE_CHECKING:
    from typing import TextIO


def coloured(stream: TextIO, *, no_color: bool) -> bool:
    """May colours go there? Not where they are asked away, and to no file or pipe."""
    if no_color or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()
