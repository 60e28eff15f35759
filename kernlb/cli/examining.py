"""What ``kernlb doctor`` and ``kernlb realserver check`` share: options, the report, mending."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.arguments import options
from kernlb.cli.console import DONE, FAILED, USAGE, Console
from kernlb.cli.render import Paint, printable, table

if TYPE_CHECKING:
    from kernlb.doctor.facts import Facts
    from kernlb.doctor.finding import Check, Report
    from kernlb.doctor.ops import Op

PLACES = 8  # of one finding that are shown; JSON has all

examining_options = options(
    click.option("--fix", is_flag=True, help="Carry out what is safe to, after asking."),
    click.option("--yes", is_flag=True, help="With --fix: do not ask."),
    click.option(
        "--persist",
        is_flag=True,
        help="With --fix: have sysctls and modules set at every boot as well.",
    ),
    click.option("--strict", is_flag=True, help="Exit with 1 for warnings too."),
    click.option("--explain", metavar="ID", help="Say what one finding means, and stop."),
    click.option("--list", "list_all", is_flag=True, help="List all findings there are, and stop."),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options above, as they were given."""

    fix: bool = False
    yes: bool = False
    persist: bool = False
    strict: bool = False
    explain: str | None = None
    list_all: bool = False


def examine_host(
    console: Console, checks: Sequence[Check], read: Callable[[], Facts], asked: Asked
) -> int:
    """Read the facts, examine them, print what was found, mend it if asked; the exit code.

    0: no error was found; 1: one was, or something could not be mended. Notes and (without
    ``--strict``) warnings leave it at 0, and so does what could not be checked."""
    from kernlb.doctor.examining import examine

    if asked.explain is not None:
        return _explain(console, checks, asked.explain)
    if asked.list_all:
        return _list(console, checks)
    if asked.fix and not asked.yes and not sys.stdin.isatty():
        console.error("cannot ask whether to fix: stdin is no terminal; say --yes")
        return USAGE
    report = examine(checks, read())
    mended: list[dict[str, str]] = []
    if not console.json:
        console.print(report_text(report, console.paint))
    if asked.fix and (ops := ops_of(report)):
        mended = _mend(console, ops, asked)
        report = examine(checks, read())
        if mended and not console.json:
            console.print("\nafter that: " + summary(report))
    if console.json:
        console.print_json(report_json(report) | ({"fixed": mended} if asked.fix else {}))
    failed = any("error" in each for each in mended)
    return FAILED if failed or is_bad(report, asked.strict) else DONE


def ops_of(report: Report) -> list[Op]:
    """What ``--fix`` does, each once, in the order of the findings."""
    return list(dict.fromkeys(op for each in report.found for op in each.finding.fix))


def is_bad(report: Report, strict: bool) -> bool:
    bad = ("error", "warning") if strict else ("error",)
    return any(each.check.severity in bad for each in report.found)


def _mend(console: Console, ops: Sequence[Op], asked: Asked) -> list[dict[str, str]]:
    """Each op with "error" where it failed; nothing if it was not wanted."""
    from kernlb.doctor.doors import mending

    say = console.note
    say("\nthis is what --fix does:")
    for op in ops:
        say(f"  {printable(str(op))}")
    if asked.persist:
        say(
            f"  and has it again at every boot, by {mending.SYSCTL_FILE} and {mending.MODULES_FILE}"
        )
    if not asked.yes and not click.confirm("do it?", err=True):
        return []
    done: list[dict[str, str]] = []
    for op in ops:
        try:
            mending.carry_out(op)
        except OSError as error:
            console.error(printable(error.strerror or str(error)))
            done.append({"op": str(op), "error": error.strerror or str(error)})
        else:
            done.append({"op": str(op)})
    if asked.persist:
        try:
            for path in mending.persist(ops):
                say(f"wrote {path}")
        except OSError as error:
            console.error(f"cannot write {error.filename}: {error.strerror}")
            done.append({"op": "persist", "error": str(error)})
    else:
        say("this lasts until the next boot; --fix --persist keeps sysctls and modules over it")
    return done


_COLOURS = {"error": "red", "warning": "yellow", "note": "dim"}


def report_text(report: Report, paint: Paint) -> str:
    """Findings, worst first; what was not checked; a line that counts."""
    parts = [
        "\n".join(_one(check, [each.finding for each in found], paint))
        for check, found in groupby(report.found, key=lambda each: each.check)
    ]
    if report.not_checked:
        lines = ["not checked"]
        for why, some in groupby(
            sorted(report.not_checked, key=lambda each: each.why), key=lambda each: each.why
        ):
            lines.append(f"  {', '.join(each.check.id for each in some)}: {printable(why)}")
        parts.append("\n".join(lines))
    parts.append(summary(report))
    return "\n\n".join(parts)


def _one(check: Check, findings: Sequence[Any], paint: Paint) -> Iterator[str]:
    yield f"{paint(check.severity, _COLOURS[check.severity])}  {paint(check.id, 'bold')}"
    yield f"  {check.means}"
    for finding in findings[:PLACES]:
        yield f"  seen    {printable(finding.about)}: {printable(finding.evidence)}"
    if len(findings) > PLACES:
        yield f"          and {len(findings) - PLACES} more"
    yield f"  why     {check.why}"
    commands = dict.fromkeys(each for finding in findings for each in finding.commands)
    fixes = {str(op) for finding in findings for op in finding.fix}
    for command in list(commands)[:PLACES] or [check.remedy]:
        by_fix = "   (--fix does it)" if command in fixes else ""
        yield f"  remedy  {printable(command)}{by_fix}"


def summary(report: Report) -> str:
    numbers = {"error": 0, "warning": 0, "note": 0}
    for each in report.found:
        numbers[each.check.severity] += 1
    words = [f"{number} {word}{'' if number == 1 else 's'}" for word, number in numbers.items()]
    unchecked = f", {len(report.not_checked)} not checked" if report.not_checked else ""
    return f"{', '.join(words)}; {len(report.clean)} checks clean{unchecked}"


def report_json(report: Report) -> dict[str, Any]:
    return {
        "findings": [
            {
                "id": each.check.id,
                "severity": each.check.severity,
                "about": each.finding.about,
                "evidence": each.finding.evidence,
                "means": each.check.means,
                "why": each.check.why,
                "remedy": list(each.finding.commands) or [each.check.remedy],
                "fix": list(map(str, each.finding.fix)),
            }
            for each in report.found
        ],
        "not_checked": [{"id": each.check.id, "why": each.why} for each in report.not_checked],
        "clean": [check.id for check in report.clean],
    }


def _explain(console: Console, checks: Iterable[Check], wanted: str) -> int:
    check = next((each for each in checks if each.id == wanted), None)
    if check is None:
        console.error(f'cannot explain "{printable(wanted)}": there is no such finding (--list)')
        return USAGE
    if console.json:
        console.print_json(_described(check))
    else:
        rows = [("finding", check.id), ("severity", str(check.severity)), ("means", check.means)]
        rows += [("why", check.why), ("remedy", check.remedy)]
        console.print("\n".join(f"{subject:<9} {text}" for subject, text in rows))
    return DONE


def _list(console: Console, checks: Sequence[Check]) -> int:
    if console.json:
        console.print_json([_described(check) for check in checks])
    else:
        rows = [(each.id, each.severity.value, each.means) for each in checks]
        console.print(table(("ID", "SEVERITY", "MEANS"), rows, console.paint))
    return DONE


def _described(check: Check) -> dict[str, str]:
    return {
        "id": check.id,
        "severity": check.severity,
        "means": check.means,
        "why": check.why,
        "remedy": check.remedy,
    }
