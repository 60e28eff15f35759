"""A screen of ``kernlb top`` as a picture, in SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from kernlb.cli.columns import Line
from kernlb.cli.top_terminal import rich_text

_REMOTE_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def write(path: str, lines: Sequence[Line], width: int) -> None:
    """``width`` characters wide. It needs no font but the reader's own."""
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in lines:
        console.print(rich_text(line), highlight=False, no_wrap=True, crop=True)
    picture = _REMOTE_FONTS.sub("", console.export_svg(title="kernlb top", unique_id="top"))
    try:
        Path(path).write_text(picture.replace("Fira Code, monospace", "monospace"))
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
