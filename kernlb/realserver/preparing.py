"""Setting a real server up and putting it back: look, plan, record, make; or take back what was
made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kernlb.doctor.doors import rtnetlink
from kernlb.model import IPAddress
from kernlb.realserver import looking, making, record
from kernlb.realserver.plan import Plan, plan_remove, plan_setup
from kernlb.realserver.record import Record
from kernlb.realserver.slots import Change, Kind, Slot, same
from kernlb.realserver.wanted import made_whole, wanted
from kernlb.realserver.wish import Wish

Tell = Callable[[Change], None]
_FILES = (Kind.FILE, Kind.SYMLINK)


@dataclass(frozen=True, slots=True)
class Done:
    """``wish`` with nothing left open; None where nothing is set up any more."""

    wish: Wish | None
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


class PreparingError(Exception):
    """A change failed. The message says which, why, and how the host was left."""


def setup(wish: Wish, root: Path, tell: Tell, *, dry_run: bool = False) -> Done:
    """Twice is once. Raises WishError, PreparingError, OSError."""
    with nullcontext() if dry_run else record.held(root):
        former = record.read(root)
        host = looking.host()
        wants = wanted(wish, host)
        recorded = former.changes if former else ()
        slots = [want.slot for want in wants] + [change.slot for change in recorded]
        plan = plan_setup(wants, recorded, looking.present(slots, host.network, root))
        if dry_run:
            _tell_all(plan, tell)
        else:
            _carry_out(plan, Record(wish, plan.record), former, root, tell)
        return Done(made_whole(wish, host), plan.changes, plan.notes)


def remove(vips: Sequence[IPAddress], root: Path, tell: Tell, *, dry_run: bool = False) -> Done:
    """Put everything back, or have it without these VIPs. Twice is once. Raises as setup does."""
    former = record.read(root)
    if former is None:
        return Done(None, (), ())
    left = tuple(vip for vip in former.wish.vips if vip not in vips)
    if vips and left:
        return setup(replace(former.wish, vips=left), root, tell, dry_run=dry_run)
    with nullcontext() if dry_run else record.held(root):
        host = looking.host()
        slots = [change.slot for change in former.changes]
        plan = plan_remove(former.changes, looking.present(slots, host.network, root))
        if dry_run:
            _tell_all(plan, tell)
            return Done(None, plan.changes, plan.notes)
        stuck = _put_back(plan.changes, root, tell)
        stays = {each.slot for each, _ in stuck if each.slot.kind is not Kind.MODULE}
        if stays:
            kept = tuple(change for change in former.changes if change.slot in stays)
            record.write(Record(former.wish, kept), root)
            why = "; ".join(why for _, why in stuck)
            raise PreparingError(f"{why}; the rest is as it was")
        record.write(None, root)
        return Done(None, plan.changes, (*plan.notes, *(why for _, why in stuck)))


def _carry_out(plan: Plan, new: Record, former: Record | None, root: Path, tell: Tell) -> None:
    if former is None or plan.changes or new != former:
        record.write(new, root)
    made: list[Change] = []
    for change in plan.changes:
        tell(change)
        made.append(change)
        try:
            making.make(change, root)
        except OSError as error:
            why = error.strerror or str(error)
            stuck = _take_back(made, root)
            if stuck:
                left = "; ".join(stuck)
                raise PreparingError(
                    f"{why}; {left}: `kernlb realserver remove` tries again"
                ) from error
            record.write(former, root)
            raise PreparingError(f"{why}; everything is as it was") from error
    if any(change.slot.kind in _FILES for change in plan.changes) and root == Path("/"):
        making.tell_systemd()


def _take_back(made: Sequence[Change], root: Path) -> list[str]:
    """The last first; what of a change came about is looked for. Sentences on what stays."""
    stuck = []
    for change in reversed(made):
        if change.slot.kind is Kind.SYSCTL and change.before is None:
            continue  # of a device that came
        there = _now(change.slot, root)
        if not same(change.slot, there, change.before):
            try:
                making.make(Change(change.slot, there, change.before), root)
            except OSError as error:
                if change.slot.kind is not Kind.MODULE:  # one that is loaded harms nobody
                    stuck.append(error.strerror or str(error))
    return stuck


def _put_back(changes: Sequence[Change], root: Path, tell: Tell) -> list[tuple[Change, str]]:
    """All that can be; what cannot, and why."""
    stuck = []
    for change in changes:
        tell(change)
        try:
            making.make(change, root)
        except OSError as error:
            stuck.append((change, error.strerror or str(error)))
    if any(change.slot.kind in _FILES for change in changes) and root == Path("/"):
        with suppress(OSError):
            making.tell_systemd()
    return stuck


def _now(slot: Slot, root: Path) -> str | None:
    return looking.present([slot], rtnetlink.read(), root)[slot]


def _tell_all(plan: Plan, tell: Tell) -> None:
    for change in plan.changes:
        tell(change)
