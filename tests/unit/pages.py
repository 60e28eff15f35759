"""The pages of the documentation: their blocks, and the prose between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "bpf/*.md", "ansible/**/*.md")
    for path in ROOT.glob(pattern)
)


class Block(NamedTuple):
    """A fenced block: what follows the fence, its text, and the line of its fence."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    opened: Block | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.lstrip().startswith("```"):
            if opened is not None:
                opened = opened._replace(text=f"{opened.text}{line}\n")
        elif opened is None:
            opened = Block(line.strip().removeprefix("```"), "", number)
        else:
            yield opened
            opened = None
    assert opened is None, f"{page}: a block is left open"


def prose(page: Path) -> str:
    """The text outside of blocks."""
    text = page.read_text()
    for block in blocks(page):
        text = text.replace(block.text, "", 1) if block.text else text
    return text
