"""Is what a page shows what was printed? Numbers, times, Ethernet addresses and the like vary."""

from __future__ import annotations

import re
from collections.abc import Sequence


def agrees(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Does the page show what was printed? A line `...` stands for any lines."""
    pattern = "".join(
        "(?:.*\n)*?" if line.strip() == "..." else re.escape(same(line)) + "\n"
        for line in _trimmed(shown)
    )
    return (
        re.fullmatch(pattern, "".join(f"{same(line)}\n" for line in _trimmed(printed))) is not None
    )


def _trimmed(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()]


_SPANS = re.compile(r"\b\d+(?:\.\d+)?(?:ms|[smhd])\b(?: \d+[smhd]\b)*")
_VARIES = (
    (re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "TAG"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "WHEN"),
    (_SPANS, "SPAN"),
    (re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:[kMGT]i?B?)?(?![\w.:/])"), "N"),
    (re.compile(r"\bserver\d\b"), "serverN"),
    (re.compile(r"(?<=:)[3-6]\d{4}\b"), "PORT"),
    (re.compile(r"[-─=]{3,}"), "---"),
    (re.compile(r"\s+"), " "),
)


def same(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, name in _VARIES:
        line = pattern.sub(name, line)
    return line.strip()
