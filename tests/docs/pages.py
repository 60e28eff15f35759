"""Pages as sessions: the commands of a page, in order, each with what the page says it prints.

    <!-- session: lab -->            from here on, commands run in that setting
    <!-- first: kernlbd & -->        run before the block below; what a reader has done already
    <!-- not run: it takes hours --> above a block: shown only, and why

In a console block a prompt says where a command runs: `balancer# ip link`, `server1# ...`; `# `
and `$ ` are the balancer. Lines that begin with `> ` continue a command, as a shell has it. In a
sh block every line is a command, and nothing is said of what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from tests.unit.pages import PAGES, ROOT, Block, blocks

PROMPT = re.compile(r"(?:([a-z]+\d?)[#$]|[#$]) (.*)")
MARK = re.compile(r"<!-- (session|first|not run): (.+?) -->")
BALANCER = "balancer"


class Step(NamedTuple):
    """A command on a host, and the lines that it should print; None: nothing is said of them."""

    host: str
    command: str
    prints: tuple[str, ...] | None
    line: int


class Session(NamedTuple):
    """Commands that follow each other in one setting."""

    page: Path
    setting: str
    line: int
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Unrun(NamedTuple):
    """A block that is only shown; ``why`` is "" where the page does not say."""

    page: Path
    line: int
    why: str
    commands: int


def steps(block: Block) -> list[Step]:
    found: list[Step] = []
    for offset, line in enumerate(dedent(block.text).splitlines(), 1):
        match = PROMPT.fullmatch(line) if block.language == "console" else None
        where = block.line + offset
        if match:
            found.append(Step(match[1] or BALANCER, match[2], (), where))
        elif block.language == "sh":
            if found and found[-1].command.endswith("\\"):
                found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append(Step(BALANCER, line.strip(), None, where))
        elif not found:
            continue  # what a screen showed, without a command
        elif found[-1].prints == () and (line.startswith("> ") or found[-1].command.endswith("\\")):
            more = line.removeprefix("> ")
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{more}")
        else:
            found[-1] = found[-1]._replace(prints=(*(found[-1].prints or ()), line))
    return found


def read(page: Path) -> tuple[list[Session], list[Unrun]]:
    """The sessions of a page, and its blocks of commands that are in none."""
    sessions: list[Session] = []
    unrun: list[Unrun] = []
    marks = _marks(page)
    setting, begun, seen = "", 0, 0
    for block in blocks(page):
        if block.language not in ("sh", "console"):
            continue
        todo = steps(block)
        if not todo:
            continue
        why, before = "", []
        for line, (kind, value) in marks.items():
            if kind == "session" and begun < line < block.line:
                setting, begun = value, line
            if kind == "not run" and line == block.line - 1:
                why = value
            if kind == "first" and seen < line < block.line:
                before.append(Step(BALANCER, value, None, line))
        seen = block.line
        if why or setting in ("", "none"):
            unrun.append(Unrun(page, block.line, why, len(todo)))
            continue
        if sessions and sessions[-1].line == begun:
            sessions[-1] = sessions[-1]._replace(steps=(*sessions[-1].steps, *before, *todo))
        else:
            sessions.append(Session(page, setting, begun, (*before, *todo)))
    return sessions, unrun


def _marks(page: Path) -> dict[int, tuple[str, str]]:
    """By the line they stand in."""
    lines = page.read_text().splitlines()
    found = ((number, MARK.fullmatch(line.strip())) for number, line in enumerate(lines, 1))
    return {number: (match[1], match[2]) for number, match in found if match}


def everything() -> Iterator[tuple[list[Session], list[Unrun]]]:
    return map(read, PAGES)
