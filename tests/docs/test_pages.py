"""Every command of the documentation runs, and prints what its page says.

A page says in which setting its commands run (pages.py); those that cannot run in a test say why.
What differs from run to run counts as equal (agreement.py).
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain

import pytest

from tests.docs.agreement import agrees, same
from tests.docs.pages import Session, everything, read
from tests.docs.settings import GUEST, SETTINGS
from tests.unit.pages import PAGES, ROOT

SESSIONS = [session for sessions, _ in everything() for session in sessions]
UNRUN = [block for _, unrun in everything() for block in unrun]
FAILS = ("error:", "error ", "curl: (", "Usage: ")  # what a command prints that is shown to fail

LOOKS = re.compile(r"kernlb (doctor|realserver check)")  # 1: there is something to find

ELSEWHERE = "tried by a test of its own"

# Why a block may be shown only. Anything else is a command that nobody has tried.
REASONS = {
    "a benchmark": "minutes to hours",
    "the test suite": "this is it",
    "installs packages": "on this machine",
    "needs a second machine": "",
    "opens a shell": "for a person to type in",
    ELSEWHERE: "the page or the reason says which",
}


def _param(session: Session) -> object:
    marks = [pytest.mark.ipvs] if session.setting in GUEST else [pytest.mark.netns]
    return pytest.param(session, id=session.name, marks=[*marks, pytest.mark.timeout(900)])


@pytest.mark.parametrize("session", [_param(each) for each in SESSIONS])
def test_a_page_does_what_it_says(session: Session) -> None:
    with SETTINGS[session.setting]() as hosts:
        for step in session.steps:
            assert step.host in hosts, f"{session.name}: there is no {step.host} in this setting"
            code, printed = hosts[step.host].run(step.command)
            where = f"{session.page.relative_to(ROOT)}:{step.line}: {step.command}"
            if step.prints is None:
                fine = (0, 1) if LOOKS.search(step.command) else (0,)
                assert code in fine, f"{where}\n" + "\n".join(printed)
                continue
            fails = any(line.startswith(FAILS) for line in step.prints)
            if not fails and not step.command.rstrip().endswith("&"):
                assert code in (0, 3), f"{where}: exit code {code}\n" + "\n".join(printed)
            assert agrees(step.prints, printed), f"{where}\nprinted:\n" + "\n".join(printed)


@pytest.mark.parametrize("block", UNRUN, ids=lambda each: f"{each.page.name}:{each.line}")
def test_a_block_that_is_not_run_says_why(block: object) -> None:
    why = getattr(block, "why", "").partition(":")[0]
    assert why in REASONS, f"{block}: neither in a session nor excused"


def test_most_commands_of_the_pages_are_run() -> None:
    run = sum(len(session.steps) for session in SESSIONS)
    shown = Counter(block.why for block in UNRUN)
    print(f"{run} commands run in {len(SESSIONS)} sessions; blocks only shown: {dict(shown)}")
    assert run > 3 * sum(block.commands for block in UNRUN if not block.why.startswith(ELSEWHERE))


def test_lines_that_differ_only_in_what_varies_are_the_same() -> None:
    assert same("  web  10.1.0.11:80  dsr  1  up  16s ago") == same(
        "web 10.1.0.11:80 dsr 3 up 1m 2s ago"
    )
    assert same("web is up") != same("web is down")
    assert same("10.1.0.11:80") != same("10.1.0.12:80")


def test_pages_with_commands_are_read() -> None:
    assert {page for page in PAGES if any(chain(*read(page)))} >= {ROOT / "README.md"}
