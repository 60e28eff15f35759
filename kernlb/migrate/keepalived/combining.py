"""What several checkers ask of one server, as one check. Pure."""

from __future__ import annotations

import json
from collections import Counter

from kernlb.migrate.keepalived.checkers import Asked
from kernlb.migrate.report import Document, Report

MAX_ITEMS = 16  # checks of one server


def combined(asked: list[Asked], report: Report) -> Document | str:
    """The check that asks all of it, at one timing; what that takes is told."""
    if not asked:
        return "none"
    items: list[Document] = []
    for each in asked:
        items.extend(item for item in each.items if item not in items)
    if len(items) > MAX_ITEMS:
        why = f"a server is asked {MAX_ITEMS} things at most: {len(items) - MAX_ITEMS} are not"
        report.lost(asked[-1].by.text, why, asked[-1].by.place)
        items = items[:MAX_ITEMS]
    timings = [each.timing for each in asked]
    quickest = min(timings, key=lambda timing: (timing.interval, timing.timeout))
    if len(set(timings)) > 1:
        why = "all checks of a server have one timing: that of the most frequent"
        report.changed(asked[0].by.text, why, asked[0].by.place)
    what = items[0] if len(items) == 1 else {"all": items}
    return {**what, **quickest.document()}


def asked_at(item: Document, port: int) -> Document:
    """The same at a port, where it has none of its own and knows ports."""
    if item["type"] in ("icmp", "exec") or "port" in item:
        return item
    return {"type": item["type"], "port": port, **item}


def most_common(checks: list[Document | str]) -> Document | str:
    """The check that most servers have."""
    if not checks:
        return "none"
    by_text = {json.dumps(check): check for check in checks}
    return by_text[Counter(map(json.dumps, checks)).most_common(1)[0][0]]
