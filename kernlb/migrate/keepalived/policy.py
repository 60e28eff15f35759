"""What verdicts mean to a virtual server: alpha, inhibit_on_failure, its quorum. Pure."""

from __future__ import annotations

from kernlb.migrate.keepalived.virtual import Virtual
from kernlb.migrate.report import Document, Report


def health(virtual: Virtual, total: int, alpha: bool, inhibit: bool, report: Report) -> Document:
    """``total`` is what the servers weigh together."""
    document: Document = {"initial": "wait" if alpha else "up"}
    if inhibit:
        document["on_down"] = "inhibit"
    quorum, hysteresis = 1, 0
    if virtual.quorum is not None:
        quorum = virtual.quorum[0]
        if quorum > total:
            why = f"the servers weigh {total} together: that is the quorum, as keepalived's is"
            report.note(virtual.quorum[1].text, why, virtual.quorum[1].place)
            quorum = max(total, 1)
    if virtual.hysteresis is not None:
        hysteresis, by = virtual.hysteresis
        if hysteresis >= quorum:
            why = f"is less than the quorum: {quorum - 1} here, as in keepalived"
            report.note(by.text, why, by.place)
            hysteresis = quorum - 1
        if quorum + hysteresis > total > 0:
            why = f"no more than {total} can be good: the quorum is regained there"
            report.changed(by.text, why, by.place)
    document["damping"] = False
    # keepalived loses it below quorum - hysteresis and has it again at quorum + hysteresis
    lower = quorum - hysteresis
    upper = min(quorum + hysteresis, max(total, 1))
    if lower != 1:
        document["quorum"] = lower
    if upper > lower:
        document["hysteresis"] = upper - lower
    return document
