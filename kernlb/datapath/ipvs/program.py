"""Compiling ops to requests. Pure.

An op becomes one request, with one exception. Each server added to a service whose scheduler is
``mh`` makes the kernel build the whole lookup table again (ip_vs_mh.c, ip_vs_mh_add_dest(); 128 us
natively). So a new mh service that gets several servers in the same apply is made without a
scheduler and is given it after its last server: one table instead of one per server. If anything
dies in between, the next diff sees a service whose scheduler is to be edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernlb.datapath.ipvs import requests
from kernlb.datapath.ipvs.abi import Command
from kernlb.datapath.ipvs.requests import Request
from kernlb.model import Scheduler, ServiceKey
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)

Step = tuple[Op, Request]

_NEW_DEST = int(Command.NEW_DEST)  # looking up a member of an enum costs at this place


def steps(ops: Sequence[Op]) -> Iterator[Step]:
    """Each op with its request; a late-scheduled service has a second one, SET_SERVICE."""
    late = _late(ops)
    waiting: dict[ServiceKey, AddService] = {}
    key: ServiceKey | None = None
    named = b""
    for op in ops:
        if op.key is not key:
            key, named = op.key, requests.service_key(op.key)
        if type(op) is AddServer:  # first and inline: a hundred times as many as anything else
            yield op, (_NEW_DEST, named + requests.server(op.server))
            if waiting and key in waiting:
                late[key] -= 1
                if not late[key]:
                    service = waiting.pop(key)
                    yield service, requests.set_service(service.service)
        elif type(op) is AddService and op.key in late:
            waiting[op.key] = op
            yield op, requests.new_idle_service(op.service)
        else:
            yield op, _request(op, named)


def forced(op: Op) -> Request:
    """The request for an op that adds what exists already."""
    match op:
        case AddService():
            return requests.set_service(op.service)
        case AddServer():
            return Command.SET_DEST, requests.service_key(op.key) + requests.server(op.server)
        case _:
            raise ValueError(f"only additions find what exists: {op}")


def _request(op: Op, named: bytes) -> Request:
    match op:
        case AddService():
            return requests.new_service(op.service)
        case EditService():
            return requests.set_service(op.new)
        case RemoveService():
            return Command.DEL_SERVICE, named
        case AddServer():
            return Command.NEW_DEST, named + requests.server(op.server)
        case EditServer():
            return Command.SET_DEST, named + requests.server(op.new)
        case RemoveServer():
            return Command.DEL_DEST, named + requests.server_key(*op.server.key)


def _late(ops: Sequence[Op]) -> dict[ServiceKey, int]:
    """The new mh services that get several servers and nothing else, with how many."""
    counts = {
        op.key: 0 for op in ops if type(op) is AddService and op.service.scheduler is Scheduler.MH
    }
    if not counts:
        return counts
    seen = set()
    for op in ops:
        if op.key not in counts:
            continue
        if type(op) is AddServer and op.key in seen:
            counts[op.key] += 1
        elif type(op) is AddService and op.key not in seen:
            seen.add(op.key)
        else:
            del counts[op.key]
    return {key: count for key, count in counts.items() if count > 1}
