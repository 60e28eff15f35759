"""Putting a draft into force, so that packets find a whole service at every moment.

Make before break: new servers are complete before an id of theirs is in a run; a run is filled
before one store swaps it; what led to a server is gone before the server is. And a kill anywhere
is seen: what is derived (tables, steps) is written before what it is derived from, so that the
configuration reads as it was until all that follows from it is there.
"""

from __future__ import annotations

from kernlb.datapath.xdp import records
from kernlb.datapath.xdp.draft import Draft
from kernlb.datapath.xdp.editing import write_edit
from kernlb.datapath.xdp.layout import SERVICE, U32, Run, Schedule, Service
from kernlb.datapath.xdp.slots import EMPTY
from kernlb.datapath.xdp.tables import table
from kernlb.model import AddressKey

_HASHED = (Schedule.SH, Schedule.MH)
_DERIVED = ("max_weight", "step", "cursor")
_CONFIGURED = ("flags", "netmask", "persistence", "prefix", "persistence_seconds", "scheduler")


class NoRoomError(Exception):
    """A draft needs more than there is left of ``what``; nothing was changed."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def publish(draft: Draft, *, in_place: bool = False) -> None:
    """``in_place``: within the room that the service has; else raises NoRoomError where it needs
    room that is not there."""
    if not draft.changed or draft.after is None:
        return
    assert isinstance(draft.key, AddressKey)
    members, slots = _runs(draft, in_place=in_place)
    after = draft.after._replace(
        members_first=members.first,
        members_count=members.count,
        table_first=slots.first,
        table_count=slots.count,
    )
    if draft.number is None:
        _publish_new(draft, after)
    else:
        _publish_change(draft, draft.number, after)


def remove(draft: Draft) -> None:
    """The service in force, and all its servers; what was drafted is abandoned."""
    draft.abandon()
    if draft.number is None or draft.before is None:
        return
    assert isinstance(draft.key, AddressKey)
    inventory, maps = draft.inventory, draft.inventory.maps
    maps.service_ids.delete(records.service_id(draft.key))
    inventory.remove_vip(draft.key)
    for which in ("members", "table"):
        maps.publish(draft.number, which, EMPTY)
    start = draft.number * SERVICE.size
    maps.services[start : start + SERVICE.size] = bytes(SERVICE.size)
    inventory.retire_servers(draft.kept)
    now = inventory.clock()
    for run in (draft.before.members, draft.before.table):
        inventory.runs.rest(run, now)
    inventory.service_ids.rest(draft.number, now)


def _runs(draft: Draft, *, in_place: bool) -> tuple[Run, Run]:
    """Of members and table: filled and not in force yet, or what the service has."""
    before, after = draft.before, draft.after
    assert after is not None
    members, slots = (before.members, before.table) if before else (EMPTY, EMPTY)
    if draft.reweighed or before is None or before.scheduler != after.scheduler:
        ids = _dealt(draft, after, slots.count if in_place else None)
        slots = _place(draft, slots, ids, in_place=in_place)
    if draft.members != draft.kept:
        try:
            members = _place(draft, members, draft.members, in_place=in_place)
        except NoRoomError:
            if not in_place and slots != (before.table if before else EMPTY):
                draft.inventory.runs.rest(slots, draft.inventory.clock())
            raise
    return members, slots


def _place(draft: Draft, run: Run, ids: list[int], *, in_place: bool) -> Run:
    if in_place:
        taken = Run(run.first, len(ids)) if len(ids) <= run.count else None
    else:
        taken = draft.inventory.runs.take(len(ids), draft.inventory.clock())
    if taken is None:
        raise NoRoomError("slots")
    draft.inventory.maps.write_ids(taken, ids)
    return taken


def _dealt(draft: Draft, after: Service, most: int | None) -> list[int]:
    """The table of a hash scheduler, of at most that many slots; empty for the others."""
    scheduler = Schedule(after.scheduler)
    if scheduler not in _HASHED:
        return []
    weights, servers = draft.weights(), draft.inventory.maps.servers
    if scheduler is Schedule.MH:
        weights = [
            weight or draft.record(number).last_weight
            for number, weight in zip(draft.members, weights, strict=True)
        ]
    keys = [
        draft.new[each][1] if each in draft.new else records.server_key(servers, each)
        for each in draft.members
    ]
    newest_first = list(zip(keys, weights, strict=True))[::-1]
    ids = draft.members[::-1]
    return [ids[at] for at in table(scheduler, newest_first, draft.key.family, most)]


def _publish_new(draft: Draft, record: Service) -> None:
    inventory, maps, key, number = draft.inventory, draft.inventory.maps, draft.key, draft.place
    assert isinstance(key, AddressKey) and number is not None
    for server, (entry, name) in draft.new.items():
        inventory.write_server(server, entry, key, name)
    maps.service_counters.update(U32.pack(number), bytes(maps.service_counters.stride))
    SERVICE.pack_into(maps.services, number, record)
    try:
        inventory.add_vip(key)
        try:
            maps.service_ids.update(records.service_id(key), U32.pack(number))
        except OSError:
            inventory.remove_vip(key)
            raise
    except OSError as why:
        maps.services[number * SERVICE.size : (number + 1) * SERVICE.size] = bytes(SERVICE.size)
        inventory.retire_servers(list(draft.new))
        draft.new.clear()
        for run in (record.members, record.table):
            inventory.runs.rest(run, inventory.clock())
        raise NoRoomError("services") from why


def _publish_change(draft: Draft, number: int, after: Service) -> None:
    inventory, maps, before = draft.inventory, draft.inventory.maps, draft.before
    assert before is not None
    for server, (entry, name) in draft.new.items():
        inventory.write_server(server, entry, draft.key, name)
    if after.table != before.table and after.table_count:
        maps.publish(number, "table", after.table)
    _write_fields(maps.services, number, before, after, _DERIVED)
    if after.members != before.members:
        maps.publish(number, "members", after.members)
    for server, entry in draft.edited.items():
        write_edit(inventory, server, entry)
    _write_fields(maps.services, number, before, after, _CONFIGURED)
    if after.table != before.table and not after.table_count:
        maps.publish(number, "table", after.table)
    for old, new in ((before.members, after.members), (before.table, after.table)):
        if old.count and (new.first != old.first or not new.count):
            inventory.runs.rest(old, inventory.clock())
        elif new.count < old.count:
            tail = Run(old.first + new.count, old.count - new.count)
            inventory.runs.rest(tail, inventory.clock())
    inventory.retire_servers(draft.removed)


def _write_fields(
    services: memoryview, number: int, before: Service, after: Service, names: tuple[str, ...]
) -> None:
    """Those that are others now, in this order."""
    content = SERVICE.pack(after)
    for name in names:
        if getattr(before, name) != getattr(after, name):
            start, size = SERVICE.places[name]
            at = number * SERVICE.size + start
            services[at : at + size] = content[start : start + size]
