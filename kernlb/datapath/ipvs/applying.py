"""One apply: windows of requests out, refusals back, idempotence in between.

What exists is set to what was asked, what is absent need not be removed; anything else that the
kernel refuses is a :class:`~kernlb.datapath.Failure` of its op, and those after it go on.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from kernlb.datapath import Failure
from kernlb.datapath.ipvs import requests
from kernlb.datapath.ipvs.abi import Command
from kernlb.datapath.ipvs.netlink import WINDOW
from kernlb.datapath.ipvs.program import Step, forced, steps
from kernlb.datapath.ipvs.refusal import failure
from kernlb.datapath.ipvs.requests import Request
from kernlb.model import Forwarding, ServerKey, ServiceKey
from kernlb.plan import AddServer, AddService, EditServer, Op, RemoveServer, RemoveService


class Door(Protocol):
    def exchange(self, requests: Sequence[Request]) -> dict[int, int]:
        """Errnos by the index of the request that was refused."""


class Applying:
    """The state of one apply. Ops are told apart by identity: equal ones may occur twice."""

    def __init__(self, door: Door, ops: Sequence[Op]) -> None:
        self._door = door
        self._ops = ops
        self._failed: dict[int, Failure] = {}
        self._existed: set[int] = set()
        self._withdrawn: set[ServiceKey] = set()

    def run(self) -> list[Failure]:
        sayable = [op for op in self._ops if not self._unsayable(op)]
        pending = steps(sayable)
        while window := list(islice(pending, WINDOW)):
            self._send(window)
        return self._failures() if self._failed else []

    def _unsayable(self, op: Op) -> bool:
        """IPVS has no number for that: there is nothing to ask the kernel."""
        server = op.server if type(op) is AddServer else op.new if type(op) is EditServer else None
        if server is None or server.forwarding is not Forwarding.FULLNAT:
            return False
        self._failed[id(op)] = failure(op, errno.EOPNOTSUPP)
        return True

    def _send(self, window: Sequence[Step]) -> None:
        errors = self._door.exchange([request for _op, request in window])
        if not errors:
            return
        existing = []
        for index in sorted(errors):
            op, request = window[index]
            number = errors[index]
            if number == errno.EEXIST and isinstance(op, AddService | AddServer):
                self._existed.add(id(op))
                existing.append(index)
            elif not _is_gone(op, number):
                self._refused(op, request, number)
        if existing:
            self._set(_standing(window, existing))

    def _set(self, ops: Sequence[Op]) -> None:
        errors = self._door.exchange([forced(op) for op in ops]) if ops else {}
        for index in sorted(errors):
            self._refused(ops[index], forced(ops[index]), errors[index])

    def _refused(self, op: Op, request: Request, number: int) -> None:
        if id(op) in self._failed:
            return
        self._failed[id(op)] = failure(op, number)
        late = isinstance(op, AddService) and request[0] == Command.SET_SERVICE
        if late and id(op) not in self._existed:
            # Made without a scheduler, and the one it was to have is refused: as if never made.
            self._door.exchange([requests.del_service(op.key)])
            self._withdrawn.add(op.key)

    def _failures(self) -> list[Failure]:
        found = []
        for op in self._ops:
            if id(op) in self._failed:
                found.append(self._failed[id(op)])
            elif op.key in self._withdrawn:
                found.append(failure(op, errno.ESRCH))
        return found


def _is_gone(op: Op, number: int) -> bool:
    return number in (errno.ESRCH, errno.ENOENT) and isinstance(op, RemoveService | RemoveServer)


def _standing(window: Sequence[Step], existing: Sequence[int]) -> list[Op]:
    """The additions that no later op of the window overrides: those have been carried out
    already, and each says all there is to say about its service or server."""
    later: set[tuple[ServiceKey, ServerKey | None]] = set()
    removed: set[ServiceKey] = set()
    wanted, standing = set(existing), []
    for index in range(len(window) - 1, existing[0] - 1, -1):
        op = window[index][0]
        target = op.key, _server_of(op)
        if index in wanted and target not in later and op.key not in removed:
            standing.append(op)
        later.add(target)
        if isinstance(op, RemoveService):
            removed.add(op.key)
    return standing[::-1]


def _server_of(op: Op) -> ServerKey | None:
    match op:
        case AddServer() | RemoveServer():
            return op.server.key
        case EditServer():
            return op.new.key
        case _:
            return None
