"""The page shows the machine that runs."""

from __future__ import annotations

import subprocess
import sys

from kernlb.health import diagram
from kernlb.health.fsm import TABLE, Condition
from tests.unit.pages import ROOT

PAGE = (ROOT / "docs/health.md").read_text()


def test_the_page_holds_what_the_tables_give() -> None:
    begin, end = "<!-- what `python -m kernlb.health.diagram` prints -->\n", "<!-- end -->"
    assert PAGE.split(begin)[1].split(end)[0] == diagram.generated()


def test_the_command_on_the_page_prints_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kernlb.health.diagram"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    assert done.stdout == diagram.generated()


def test_every_row_and_every_condition_is_drawn() -> None:
    arrows = [line.split(":")[0].strip() for line in diagram.mermaid().splitlines()]
    for row in TABLE:
        assert f"{row.old} --> {row.new}" in arrows
    for condition in Condition:
        assert f"| `{condition}` |" in diagram.table()
