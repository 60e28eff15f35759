"""A balancer to break one thing at a time, and how it is examined: as ``kernlb doctor`` does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernlb.cli.console import Console
from kernlb.cli.doctor import read
from kernlb.doctor.balancer import CHECKS
from kernlb.doctor.doors import mending
from kernlb.doctor.examining import examine
from kernlb.doctor.finding import Found, Report
from kernlb.lab.namespaces import inside, write_sysctl
from kernlb.lab.network import Lab
from tests.netns.traffic.daemon import Daemon


@dataclass(frozen=True)
class Look:
    """Where the doctor looks; what is not given is the running daemon's."""

    config: Path | None = None
    state: Path | None = None
    socket: Path | None = None
    namespace: str | None = None


class Clinic:
    """A lab, its balancer's daemon, and a folder for what breaks. ``standing``: findings that are
    true of this machine and none of the lab's doing."""

    def __init__(self, lab: Lab, daemon: Daemon, pins: Path, folder: Path) -> None:
        self.lab = lab
        self.daemon = daemon
        self.pins = pins
        self.folder = folder
        self.standing: frozenset[str] = frozenset()

    @property
    def namespace(self) -> str:
        return self.lab.topology.namespace("balancer")

    def examine(self, look: Look | None = None) -> Report:
        look = look or Look()
        console = Console()
        console.socket = str(look.socket or self.daemon.socket)
        config = look.config or self.daemon.config
        state = look.state or self.folder
        return inside(
            look.namespace or self.namespace,
            lambda: examine(CHECKS, read(console, config, state, self.pins)),
        )

    def found(self, look: Look | None = None) -> dict[str, list[Found]]:
        """By id, but what is standing."""
        found: dict[str, list[Found]] = {}
        for each in self.examine(look).found:
            if each.check.id not in self.standing:
                found.setdefault(each.check.id, []).append(each)
        return found

    def mend(self, found: list[Found]) -> None:
        ops = dict.fromkeys(op for each in found for op in each.finding.fix)
        assert ops, "nothing to mend by"
        for op in ops:
            inside(self.namespace, lambda op=op: mending.carry_out(op))

    def run(self, line: str, role: str = "balancer", *, check: bool = True) -> str:
        return self.lab.exec(role, line.split(), check=check).stdout

    def sysctl(self, key: str, value: str) -> None:
        """Dots between parts."""
        inside(self.namespace, lambda: write_sysctl(key, value))

    def file_look(self, documents: dict[str, str], settings: str = "") -> Look:
        """A folder of files, as if no daemon ran."""
        config = self.folder / f"files{len(list(self.folder.iterdir()))}"
        (config / "services.d").mkdir(parents=True)
        (config / "kernlb.yaml").write_text(settings)
        for name, text in documents.items():
            (config / "services.d" / f"{name}.yaml").write_text(text)
        return Look(config=config, socket=config / "no.sock")


Broken = Callable[[Clinic], AbstractContextManager[Look | None]]


@dataclass(frozen=True)
class Row:
    """One thing to break. ``also``: what is true as well while it is broken. ``fix``: --fix cures
    it."""

    id: str
    evidence: str
    broken: Broken
    also: frozenset[str] = frozenset()
    fix: bool = False

    def __str__(self) -> str:
        return self.id


def rows(*each: Row) -> tuple[Row, ...]:
    return each


def row(id: str, evidence: str, broken: Broken, *also: str, fix: bool = False) -> Row:
    return Row(id, evidence, broken, frozenset(also), fix)


def commands(do: str, undo: str, role: str = "balancer") -> Broken:
    """Lines of commands in a role's namespace."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        try:
            for line in filter(None, do.split("; ")):
                clinic.run(line, role)
            yield
        finally:
            for line in filter(None, undo.split("; ")):
                clinic.run(line, role, check=False)

    return broken


def sysctl(key: str, bad: str, good: str) -> Broken:
    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        clinic.sysctl(key, bad)
        try:
            yield
        finally:
            clinic.sysctl(key, good)

    return broken


def assert_found(clinic: Clinic, row: Row) -> None:
    """It is found while it is broken, alone but for what goes with it, and mended if it can be."""
    with row.broken(clinic) as look:
        found = clinic.found(look)
        assert row.id in found, sorted(found)
        assert set(found) <= {row.id} | row.also, sorted(found)
        said = [f"{each.finding.about}: {each.finding.evidence}" for each in found[row.id]]
        assert any(row.evidence in one for one in said), said
        assert all(each.finding.commands or each.check.remedy for each in found[row.id])
        if row.fix:
            clinic.mend(found[row.id])
            assert row.id not in clinic.found(look)


Json = dict[str, Any]
