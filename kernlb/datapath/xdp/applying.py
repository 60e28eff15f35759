"""One apply: ops service by service, in order within each; refusals as values.

Services do not depend on each other, so each is drafted whole and put into force once. Where its
new size does not fit, the ops that make it larger are refused and the others carried out within
the room that it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.datapath import Failure
from kernlb.datapath.xdp import reading, refusals
from kernlb.datapath.xdp.draft import Draft
from kernlb.datapath.xdp.inventory import Inventory
from kernlb.datapath.xdp.publishing import NoRoomError, publish, remove
from kernlb.datapath.xdp.refusals import Refused
from kernlb.model import ServiceKey
from kernlb.plan import Op, RemoveService

Numbered = Sequence[tuple[int, Op]]


def apply(inventory: Inventory, ops: Sequence[Op]) -> list[Failure]:
    by_service: dict[ServiceKey, list[tuple[int, Op]]] = {}
    for number, op in enumerate(ops):
        by_service.setdefault(op.key, []).append((number, op))
    refused: dict[int, Refused] = {}
    for key, numbered in by_service.items():
        for part in _parts(numbered):
            refused |= _apply_part(inventory, key, part)
    return [refusals.failure(ops[number], refused[number]) for number in sorted(refused)]


def _parts(numbered: Numbered) -> list[list[tuple[int, Op]]]:
    """Each but the last ends with the removal of the service."""
    parts: list[list[tuple[int, Op]]] = [[]]
    for each in numbered:
        parts[-1].append(each)
        if isinstance(each[1], RemoveService):
            parts.append([])
    return parts


def _apply_part(inventory: Inventory, key: ServiceKey, part: Numbered) -> dict[int, Refused]:
    if not part:
        return {}
    draft = Draft(inventory, key, reading.number_of(inventory.maps, key))
    refused, growing = _take(draft, part)
    if isinstance(part[-1][1], RemoveService):
        remove(draft)
        return refused
    try:
        publish(draft)
    except NoRoomError as why:
        draft.abandon()
        refused = dict.fromkeys(growing, refusals.full(why.what))
        rest = [each for each in part if each[0] not in refused]
        refused |= _apply_within(inventory, key, rest)
    return refused


def _apply_within(inventory: Inventory, key: ServiceKey, part: Numbered) -> dict[int, Refused]:
    """In the room that the service has."""
    draft = Draft(inventory, key, reading.number_of(inventory.maps, key))
    refused, _ = _take(draft, part)
    try:
        publish(draft, in_place=True)
    except NoRoomError as why:
        draft.abandon()
        return refused | dict.fromkeys(
            (number for number, _ in part if number not in refused), refusals.full(why.what)
        )
    return refused


def _take(draft: Draft, part: Numbered) -> tuple[dict[int, Refused], list[int]]:
    """Refusals, and the ops that need more room than there was."""
    refused: dict[int, Refused] = {}
    growing = []
    for number, op in part:
        if isinstance(op, RemoveService):
            break
        draft.grows = False
        if (why := draft.take(op)) is not None:
            refused[number] = why
        elif draft.grows:
            growing.append(number)
    return refused, growing
