"""What xdpbench's CSV says: ns a packet by program and traffic, beside the floor.

Net is raw less floor i ("return XDP_TX") under the same traffic in the same round, so what replay
and BPF_PROG_TEST_RUN cost is out. The ratio is the median over the rounds of net to the net of
floor iii under the same traffic. A bar is met when the ratio is at most the bar.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BASELINE = "floor-i"
FLOOR = "floor-iii"


@dataclass(slots=True)
class Case:
    """One program under one traffic: its rounds, raw."""

    target: str
    traffic: str
    label: str
    floor: str
    bar: float
    raw: list[float] = field(default_factory=list)
    quiet: list[bool] = field(default_factory=list)


def nanoseconds(row: dict[str, str]) -> float:
    """The clock's figure; the kernel's own, cut to whole ns, where other tasks took time."""
    ns, kernel = float(row["ns"]), int(row["kernel_ns"])
    return ns if ns - kernel < 2 else kernel + 0.5


def read(rows: Iterable[dict[str, str]]) -> dict[tuple[str, str, str], Case]:
    """Cases in order of appearance; of several attempts in one round the last counts."""
    last: dict[tuple[tuple[str, str, str], str], dict[str, str]] = {}
    for row in rows:
        last[(row["target"], row["traffic"], row["label"]), row["round"]] = row
    cases: dict[tuple[str, str, str], Case] = {}
    for (key, _), row in last.items():
        case = cases.setdefault(key, Case(*key, row["floor"], float(row["bar"])))
        case.raw.append(nanoseconds(row))
        case.quiet.append(row["quiet"] == "1")
    return cases


def net_of(case: Case, baseline: Case) -> list[float]:
    """Round by round: what was measured in a row had the same machine.  The last may be cut off."""
    return [ns - base for ns, base in zip(case.raw, baseline.raw, strict=False)]


def median_ratio(net: list[float], floor: list[float]) -> float | None:
    """Of the rounds' ratios; None where the floor is not above the harness."""
    if not floor or statistics.median(floor) <= 1:
        return None
    return statistics.median(a / b for a, b in zip(net, floor, strict=False) if b > 0)


def verdict(ratio: float | None, bar: float) -> str:
    if not bar or ratio is None:
        return ""
    return f"{bar:.1f} {'met' if ratio <= bar else 'MISSED'}"


def table(cases: dict[tuple[str, str, str], Case]) -> list[list[str]]:
    by_traffic: dict[str, list[Case]] = defaultdict(list)
    for case in cases.values():
        by_traffic[case.traffic].append(case)
    lines = []
    for traffic, group in by_traffic.items():
        baseline = cases[BASELINE, traffic, ""]
        nets = {(case.target, case.label): net_of(case, baseline) for case in group}
        for case in group:
            net = nets[case.target, case.label]
            floor = nets.get((case.floor, ""), [])
            ratio = median_ratio(net, floor) if case.target != BASELINE else None
            lines.append(
                [
                    traffic,
                    case.target,
                    case.label,
                    f"{statistics.median(case.raw):.0f}",
                    f"{statistics.median(net):.0f}",
                    f"{min(net):.0f} to {max(net):.0f}",
                    f"{ratio:.2f}" if ratio is not None else "",
                    case.floor if case.floor != FLOOR else "",
                    verdict(ratio, case.bar),
                    f"{sum(case.quiet)}/{len(case.raw)}",
                ]
            )
    return lines


HEAD = ["traffic", "program", "case", "raw", "net", "spread", "ratio", "to", "bar", "quiet"]


def text(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [HEAD, *lines]) for i in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [HEAD, *lines]
    )


def markdown(lines: list[list[str]]) -> str:
    rows = [HEAD, ["---"] * len(HEAD), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def summarize(path: Path, as_markdown: bool = False) -> str:
    with path.open(encoding="utf-8") as file:
        lines = table(read(csv.DictReader(file)))
    return (markdown if as_markdown else text)(lines)


if __name__ == "__main__":
    print(summarize(Path(sys.argv[1]), "--markdown" in sys.argv))
