"""MISC_CHECK: a program that says how a server is, to an exec check. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.timing import Said
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import number, word
from kernlb.migrate.keepalived.words import QuoteError, split_quoted

DYNAMIC = "an exit status does not set a weight: an agent check can (75%, drain)"
GROUP = "a program runs with the group of its user"
ROOT = "programs do not run as root: user nobody stands in, name one that may do what it must"


def misc_check(
    ledger: Ledger, directive: Directive, known: dict[str, Callable[[Directive], None]]
) -> tuple[dict[str, Any] | None, Said | None]:
    """The check, None if there is no program to run; and how long it may take."""
    item: dict[str, Any] = {}
    limit: Said | None = None
    path: Directive | None = None

    def misc_path(each: Directive) -> None:
        nonlocal path
        try:
            # Twice, as keepalived does: what its quotes keep together may be a whole command.
            words = split_quoted(each.rest, escapes=False)
            words = split_quoted(words[0], escapes=False) if len(words) == 1 else words
        except QuoteError as error:
            ledger.lost(each, str(error))
            return
        if not words or not words[0].startswith("/"):
            ledger.lost(each, "must be a program by its absolute path")
            return
        item["command"] = list(words)
        path = each
        ledger.use(each)

    def misc_timeout(each: Directive) -> None:
        nonlocal limit
        try:
            limit = Said(number(word(each), 0, 2**32 // 1_000_000), each)
        except ValueError as error:
            ledger.lost(each, str(error))
            return
        limit = limit if limit.value else None
        ledger.use(each, 1)

    def user(each: Directive) -> None:
        if not each.args:
            ledger.lost(each, "has no value")
        elif each.args[0] == "root":
            ledger.changed(each, ROOT)
        else:
            item["user"] = each.args[0]
            ledger.use(each)
            if len(each.args) > 1:
                ledger.report.lost(each.text, GROUP, each.place)

    own = {
        "misc_path": misc_path,
        "misc_timeout": misc_timeout,
        "misc_dynamic": lambda d: ledger.lost(d, DYNAMIC),
        "user": user,
    }
    ledger.dispatch(directive.block or (), {**known, **own})
    if path is None:
        ledger.lost(directive, "has no program that can be run: no check stands in")
        return None, None
    if "user" not in item:
        why = "kernlb runs programs as nobody, not as keepalived_script or root: see user"
        ledger.report.note(path.text, why, path.place)
    return {"type": "exec", **item, "warning_fails": True}, limit
