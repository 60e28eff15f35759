"""The state machine as docs/health.md shows it, drawn from the tables that run. Pure.

``python -m kernlb.health.diagram`` prints it; a test holds the page to it.
"""

from __future__ import annotations

from kernlb.health.fsm import TABLE, Condition, Needs
from kernlb.health.outcome import Opinion

_BEGINS = {
    Condition.WAITING: "new to the kernel",
    Condition.UNCONFIRMED: "serves already, or initial: up",
}
_MEANS = {
    Condition.WAITING: "never good since it was added",
    Condition.UNCONFIRMED: "taken for good, not asked yet",
    Condition.UP: "good",
    Condition.DOWN: "bad",
    Condition.HELD: "flaps: bad until it stops",
}
# Damping is no row of the table: it stands above it.
_DAMPING = (
    (Condition.UP, Condition.HELD, "more than changes within period"),
    (Condition.DOWN, Condition.HELD, "more than changes within period"),
    (Condition.HELD, Condition.UP, "no change for hold, and up"),
    (Condition.HELD, Condition.DOWN, "no change for hold, and down"),
)


def needs(number: Needs, opinion: Opinion) -> str:
    if number is Needs.ONE:
        return f"1 {opinion}"
    return f"{number} x {opinion}"


def mermaid() -> str:
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {condition}: {why}" for condition, why in _BEGINS.items()]
    lines += [f"    {row.old} --> {row.new}: {needs(row.needs, row.opinion)}" for row in TABLE]
    lines += [f"    {old} --> {new}: {why}" for old, new, why in _DAMPING]
    return "\n".join(lines)


def table() -> str:
    lines = ["| condition | means | gets traffic | leaves it |", "|---|---|---|---|"]
    for condition in Condition:
        leaves = [
            f"{needs(row.needs, row.opinion)}: `{row.new}`" for row in TABLE if row.old is condition
        ]
        leaves += [f"{why}: `{new}`" for old, new, why in _DAMPING if old is condition]
        good = "yes" if condition.good else "no"
        lines.append(f"| `{condition}` | {_MEANS[condition]} | {good} | {'; '.join(leaves)} |")
    return "\n".join(lines)


def generated() -> str:
    return f"```mermaid\n{mermaid()}\n```\n\n{table()}\n"


if __name__ == "__main__":
    print(generated(), end="")
