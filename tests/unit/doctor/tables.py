"""The tables of docs/doctor.md, made from the checks.

    python -m tests.unit.doctor.tables

writes them into the page, between its marks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kernlb.doctor import balancer, server
from kernlb.doctor.finding import Check

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
SIDES = {"balancer": balancer.CHECKS, "server": server.CHECKS}


def table(checks: Iterable[Check]) -> str:
    lines = ["| finding | severity | what it means | remedy |", "|---|---|---|---|"]
    for check in checks:
        means, remedy = (text.replace("|", "\\|") for text in (check.means, check.remedy))
        lines.append(f"| `{check.id}` | {check.severity} | {means} {check.why} | `{remedy}` |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its tables as the checks say."""
    for side, checks in SIDES.items():
        first, last = f"<!-- table: {side} -->", "<!-- end of table -->"
        before, _, rest = page.partition(first)
        _, _, after = rest.partition(last)
        assert before and after, f"docs/doctor.md has no place for the table of {side}"
        page = f"{before}{first}\n\n{table(checks)}\n\n{last}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
