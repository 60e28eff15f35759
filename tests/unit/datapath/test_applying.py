"""One apply against a kernel that refuses what a script says, request by request."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from kernlb.datapath import Refusal
from kernlb.datapath.ipvs import requests
from kernlb.datapath.ipvs.abi import Command
from kernlb.datapath.ipvs.applying import Applying
from kernlb.datapath.ipvs.netlink import WINDOW
from kernlb.datapath.ipvs.requests import Request
from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    RealServer,
    Scheduler,
    VirtualService,
)
from kernlb.plan import AddServer, AddService, EditService, Op, RemoveServer, RemoveService

WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
A = RealServer(ip_address("10.0.0.2"), 80)
B = RealServer(ip_address("10.0.0.3"), 80)
MAGLEV = VirtualService(WEB, Scheduler.MH)


class Door:
    """Records each exchange; ``errnos`` says what becomes of a request."""

    def __init__(self, errnos: Callable[[Request], int] = lambda _request: 0) -> None:
        self.sent: list[list[Request]] = []
        self._errnos = errnos

    def exchange(self, requests: Sequence[Request]) -> dict[int, int]:
        self.sent.append(list(requests))
        found = {index: self._errnos(request) for index, request in enumerate(requests)}
        return {index: number for index, number in found.items() if number}

    @property
    def commands(self) -> list[Command]:
        return [Command(command) for window in self.sent for command, _body in window]


def refusing(**numbers: int) -> Callable[[Request], int]:
    """Refuse commands by name: ``refusing(NEW_DEST=errno.EEXIST)``."""
    return lambda request: numbers.get(Command(request[0]).name, 0)


def test_nothing_to_do_sends_nothing() -> None:
    door = Door()
    assert Applying(door, []).run() == []
    assert door.sent == []


def test_many_ops_go_out_in_windows_and_in_order() -> None:
    servers = [replace(A, port=port) for port in range(1, 2 * WINDOW + 3)]
    door = Door()
    assert Applying(door, [AddServer(WEB, server) for server in servers]).run() == []
    assert [len(window) for window in door.sent] == [WINDOW, WINDOW, 2]
    named = requests.service_key(WEB)
    assert [body for window in door.sent for _command, body in window] == [
        named + requests.server(server) for server in servers
    ]


def test_what_exists_is_set_in_one_more_exchange() -> None:
    door = Door(refusing(NEW_DEST=errno.EEXIST))
    assert Applying(door, [AddServer(WEB, A), AddServer(WEB, B)]).run() == []
    assert door.commands == [
        Command.NEW_DEST,
        Command.NEW_DEST,
        Command.SET_DEST,
        Command.SET_DEST,
    ]


def test_what_exists_and_is_removed_later_is_not_set() -> None:
    door = Door(refusing(NEW_DEST=errno.EEXIST))
    assert Applying(door, [AddServer(WEB, A), RemoveServer(WEB, A)]).run() == []
    assert Command.SET_DEST not in door.commands


def test_absence_is_what_a_removal_wants() -> None:
    door = Door(lambda _request: errno.ESRCH)
    ops: list[Op] = [RemoveServer(WEB, A), RemoveService(MAGLEV)]
    assert Applying(door, ops).run() == []


def test_no_permission_is_told_for_each_op() -> None:
    door = Door(lambda _request: errno.EPERM)
    failures = Applying(door, [AddServer(WEB, A), RemoveServer(WEB, A)]).run()
    assert [failure.refusal for failure in failures] == [Refusal.NO_PERMISSION] * 2
    assert str(failures[0]) == (
        "cannot add real server 10.0.0.2:80 to tcp/192.0.2.10:80: CAP_NET_ADMIN is needed"
    )


# A new mh service with several servers is given its scheduler last.

TOGETHER: list[Op] = [AddService(MAGLEV), AddServer(WEB, A), AddServer(WEB, B)]


def test_a_new_mh_service_is_scheduled_after_its_last_server() -> None:
    door = Door()
    assert Applying(door, [*TOGETHER, RemoveService(replace_key(MAGLEV, 81))]).run() == []
    assert door.commands == [
        Command.NEW_SERVICE,
        Command.NEW_DEST,
        Command.NEW_DEST,
        Command.SET_SERVICE,
        Command.DEL_SERVICE,
    ]
    (window,) = door.sent
    assert window[0] == requests.new_idle_service(MAGLEV)
    assert window[3] == requests.set_service(MAGLEV)


def test_an_mh_service_with_one_server_or_other_changes_is_made_at_once() -> None:
    for ops in (
        TOGETHER[:2],
        [*TOGETHER, RemoveServer(WEB, B)],
        [*TOGETHER, EditService(MAGLEV, MAGLEV)],
        [TOGETHER[1], TOGETHER[0], TOGETHER[2]],
        [TOGETHER[0], *TOGETHER],
    ):
        door = Door()
        assert Applying(door, ops).run() == []
        assert requests.new_service(MAGLEV) in door.sent[0]
        assert requests.new_idle_service(MAGLEV) not in door.sent[0]


def test_an_mh_service_that_exists_is_set_and_never_left_without_scheduler() -> None:
    door = Door(refusing(NEW_SERVICE=errno.EEXIST))
    assert Applying(door, TOGETHER).run() == []
    assert door.sent[0][-1] == requests.set_service(MAGLEV)
    assert Command.DEL_SERVICE not in door.commands


def test_an_mh_service_that_the_kernel_cannot_schedule_is_withdrawn_with_its_servers() -> None:
    door = Door(refusing(SET_SERVICE=errno.ENOENT))
    failures = Applying(door, TOGETHER).run()
    assert [failure.op for failure in failures] == TOGETHER
    assert [failure.refusal for failure in failures] == [
        Refusal.UNSUPPORTED,
        Refusal.ABSENT,
        Refusal.ABSENT,
    ]
    assert door.sent[-1] == [requests.del_service(WEB)]


def test_an_existing_service_that_cannot_become_mh_is_not_withdrawn() -> None:
    door = Door(refusing(NEW_SERVICE=errno.EEXIST, SET_SERVICE=errno.ENOENT))
    (failure,) = Applying(door, TOGETHER).run()
    assert failure.refusal is Refusal.UNSUPPORTED
    assert Command.DEL_SERVICE not in door.commands


def test_what_ipvs_has_no_word_for_is_refused_alone_and_not_sent() -> None:
    door = Door()
    ops: list[Op] = [AddServer(WEB, A), AddServer(WEB, replace(B, forwarding=Forwarding.FULLNAT))]
    (failure,) = Applying(door, ops).run()
    assert (failure.op, failure.refusal) == (ops[1], Refusal.UNSUPPORTED)
    assert str(failure) == (
        "cannot add real server 10.0.0.3:80 to tcp/192.0.2.10:80: "
        "forwarding fullnat goes with datapath xdp only"
    )
    assert door.commands == [Command.NEW_DEST]


def replace_key(service: VirtualService, port: int) -> VirtualService:
    return replace(service, key=replace(WEB, port=port))
