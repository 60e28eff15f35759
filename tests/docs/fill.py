"""Write into pages what their commands print: `python -m tests.docs.fill PAGE...` (root).

Each session is run in its setting; in console blocks the lines under a command are replaced by what
it printed, unless they hold `...` (shortened by hand) or agree already. Look at the difference
before you commit it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.docs.agreement import agrees
from tests.docs.pages import Step, read
from tests.docs.settings import SETTINGS


def fill(page: Path) -> None:
    lines = page.read_text().splitlines()
    changes: list[tuple[Step, list[str]]] = []
    for session in read(page)[0]:
        with SETTINGS[session.setting]() as hosts:
            for step in session.steps:
                code, printed = hosts[step.host].run(step.command)
                print(f"{step.line}: {step.host}# {step.command} [{code}]", file=sys.stderr)
                if step.prints is None:
                    if code:
                        print("\n".join(printed), file=sys.stderr)
                elif not agrees(step.prints, printed) and "..." not in step.prints:
                    changes.append((step, [line.rstrip() for line in printed]))
    for step, printed in reversed(changes):
        begin = step.line + step.command.count("\n")  # the line after the command, from 0
        lines[begin : begin + len(step.prints or ())] = printed
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fill(Path(name).resolve())
