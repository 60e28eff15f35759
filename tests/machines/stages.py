"""`make test-vm`: kernlb from bare Debian to purged, on emulated machines, stage by stage.

    python -m tests.machines.stages [--kind container] [STAGE ...]

Each stage prints its name, passed or FAILED, and its seconds; the last line is
`N passed, N failed`. A stage has a time limit that suits emulation on an idle machine;
KERNLB_PATIENCE=3 in the environment makes all limits three times as long. When the machines do not
come up, or the roles fail, what needs them fails too, at once and by that name. Named stages run
those that they need first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from tests.machines import disk, image
from tests.machines.emulated import PATIENCE
from tests.machines.farm import Farm
from tests.machines.farm import stories as told
from tests.machines.farm.packages import Packages, built
from tests.machines.image import ROOT
from tests.machines.site import Site


@dataclass(slots=True)
class Stand:
    """What stages hand on to one another."""

    kind: str
    cleanup: ExitStack
    packages: Packages | None = None
    farm: Farm | None = None
    done: set[str] = field(default_factory=set)

    @property
    def up(self) -> Farm:
        assert self.farm is not None, "no machines"
        return self.farm


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    seconds: float  # its limit
    act: Callable[[Stand], str]  # what was seen, in a few words; fails by raising
    needs: tuple[str, ...] = ()


def _image(stand: Stand) -> str:
    return str((disk.base().disk if stand.kind == "emulated" else image.base()).relative_to(ROOT))


def _package(stand: Stand) -> str:
    folder = stand.cleanup.enter_context(TemporaryDirectory(prefix="kernlb-packages"))
    stand.packages = built(Path(folder))
    return ", ".join(
        p.name for p in (stand.packages.now, stand.packages.newer, stand.packages.older)
    )


def _boot(stand: Stand) -> str:
    site = stand.cleanup.enter_context(Site(stand.kind))
    assert stand.packages is not None, "no packages"
    stand.farm = Farm(site, stand.packages)
    release = stand.farm.balancer.run("uname -r").out.strip()
    return f"{1 + len(stand.farm.servers)} machines, kernel {release}"


def _on_farm(story: Callable[[Farm], str]) -> Callable[[Stand], str]:
    return lambda stand: story(stand.up)


STAGES = (
    Stage("image", 1200, _image),
    Stage("package", 900, _package),
    Stage("boot", 600, _boot, ("image", "package")),
    Stage("role", 1500, _on_farm(told.role), ("boot",)),
    Stage("methods", 600, _on_farm(told.methods), ("role",)),
    Stage("idempotence", 900, _on_farm(told.idempotence), ("role",)),
    Stage("reboot", 900, _on_farm(told.reboot), ("role",)),
    Stage("traffic", 1200, _on_farm(told.traffic), ("role",)),
    Stage("broken-file", 600, _on_farm(told.broken_file), ("role",)),
    Stage("purge", 900, _on_farm(told.purge), ("role",)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages; 0 when all passed."""
    asked = _parsed(argv)
    if os.geteuid() != 0:
        print("cannot boot machines: not root", file=sys.stderr)
        return 2
    wanted = _with_needs(asked.stages or [stage.name for stage in STAGES])
    failed = 0
    with ExitStack() as cleanup:
        stand = Stand(asked.kind, cleanup)
        signal.signal(signal.SIGTERM, _ended)
        stages = [stage for stage in STAGES if stage.name in wanted]
        for stage in stages:
            failed += not _run(stage, stand)
    print(f"{len(stages) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.machines.stages", description=__doc__)
    parser.add_argument("--kind", choices=("emulated", "container"), default="emulated")
    parser.add_argument("stages", nargs="*", choices=[[], *(stage.name for stage in STAGES)])
    return parser.parse_args(argv)


def _with_needs(names: Sequence[str]) -> set[str]:
    by_name = {stage.name: stage for stage in STAGES}
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo += by_name[name].needs
    return wanted


def _run(stage: Stage, stand: Stand) -> bool:
    print(f"{stage.name:<14}", end="", flush=True)
    started = time.monotonic()
    missing = [name for name in stage.needs if name not in stand.done]
    try:
        if missing:
            raise AssertionError(f"not begun: {missing[0]} failed")
        seen = _within(stage.seconds * PATIENCE, lambda: stage.act(stand))
    except Exception as trouble:
        print(f"FAILED  {time.monotonic() - started:6.0f} s", flush=True)
        print("".join(traceback.format_exception(trouble))[-8000:], flush=True)
        return False
    stand.done.add(stage.name)
    print(f"passed  {time.monotonic() - started:6.0f} s  {seen}", flush=True)
    return True


def _within(seconds: float, act: Callable[[], str]) -> str:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:g} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return act()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ended(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
