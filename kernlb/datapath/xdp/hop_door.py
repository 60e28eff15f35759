"""The one door to routes, neighbours and links: two rtnetlink sockets.

One asks and is answered, bounded in time; those calls may wait for the kernel's rtnl lock, so a
daemon makes them in a thread. The other hears what changes and never blocks: wait for its
``fileno`` to be readable, then ``events()``. Both belong to the network namespace in which the
door was made.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from kernlb.datapath.xdp import hop_replies, hop_requests
from kernlb.datapath.xdp.hop_replies import DONE, ERROR, MalformedError, Message
from kernlb.datapath.xdp.hop_requests import GROUPS
from kernlb.datapath.xdp.hops import Event, Link, Neighbour, NextHop, NoRoute, Question, Route
from kernlb.model import Family

Request = Callable[[int], bytes]  # by sequence number

WINDOW = 128  # questions in flight; their answers fit the smallest receive buffer
AT_ONCE = 64  # datagrams of events in one call, so that others get their turn

_NETLINK_ROUTE = 0
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 270, 1, 10
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_DATAGRAM = 1 << 16
_TIMEVAL = struct.Struct("@ll")


class HopDoorError(OSError):
    """The kernel did not say what was asked."""


class HopDoor:
    """Asking is for one thread at a time; events may be read beside it."""

    def __init__(self, timeout: float = 5.0) -> None:
        """``timeout``: seconds to wait for an answer that the kernel owes at once."""
        self._asking = _open()
        try:
            self._hearing = _open()
        except BaseException:
            self._asking.close()
            raise
        seconds = int(timeout)
        wait = _TIMEVAL.pack(seconds, int((timeout - seconds) * 1e6))
        self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        self._asking.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)  # errors without a copy of the request
        self._hearing.setblocking(False)
        for group in GROUPS:
            with suppress(OSError):  # a kernel without IPv6 has none of its groups
                self._hearing.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._sequence = 0

    def close(self) -> None:
        self._asking.close()
        self._hearing.close()

    def fileno(self) -> int:
        """Of the socket that hears."""
        return self._hearing.fileno()

    def events(self) -> list[Event] | None:
        """What has changed, in order, some at a time; empty if nothing has. None if events were
        lost, as more happened than the socket holds: everything has to be looked at anew."""
        heard: list[Event] = []
        for _ in range(AT_ONCE):
            try:
                for message in hop_replies.split(self._hearing.recv(_DATAGRAM)):
                    heard += hop_replies.event(message)
            except BlockingIOError:
                break
            except MalformedError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return None
        return heard

    def links(self) -> list[Link]:
        return [each for each in self._dump(hop_requests.get_links) if isinstance(each, Link)]

    def neighbours(self) -> list[Neighbour]:
        found: list[Event] = []
        for family in Family:
            found += self._dump(partial(hop_requests.get_neighbours, family))
        return [each for each in found if isinstance(each, Neighbour)]

    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]:
        """The answer to each question, in order.

        An IPv4 lookup fails with a source that is not this host's own: what fails with one is
        asked again without."""
        answers = self._exchange([partial(hop_requests.get_route, each) for each in questions])
        again = [
            index
            for index, answer in enumerate(answers)
            if answer.type == ERROR and questions[index].source
        ]
        plain = [questions[index]._replace(source=None) for index in again]
        second = self._exchange([partial(hop_requests.get_route, each) for each in plain])
        for index, answer in zip(again, second, strict=True):
            answers[index] = answer
        return [hop_replies.route(*each) for each in zip(questions, answers, strict=True)]

    def keep(self, next_hops: Mapping[NextHop, bool]) -> dict[NextHop, int]:
        """Have neighbours kept resolved; True beside one: only where it is not there yet
        (else EEXIST). Returns errnos of those that were refused."""
        asked = [partial(hop_requests.keep, to, new) for to, new in next_hops.items()]
        answers = zip(next_hops, self._exchange(asked), strict=True)
        return {to: answer.errno for to, answer in answers if answer.errno}

    def look_up(self, next_hops: Sequence[NextHop]) -> None:
        """Have neighbours looked up once; where there is no such interface, nothing is."""
        self._exchange([partial(hop_requests.look_up, each) for each in next_hops])

    def release(self, next_hops: Sequence[NextHop]) -> None:
        """Have them kept no longer; what is gone already is no error."""
        self._exchange([partial(hop_requests.release, each) for each in next_hops])

    def _exchange(self, requests: Sequence[Request]) -> list[Message]:
        """The single answer to each request, in order."""
        answers: list[Message] = []
        for start in range(0, len(requests), WINDOW):
            answers += self._ask(requests[start : start + WINDOW])
        return answers

    def _ask(self, requests: Sequence[Request]) -> list[Message]:
        first = self._numbered(len(requests))
        self._asking.send(b"".join(each(first + i) for i, each in enumerate(requests)))
        answers: dict[int, Message] = {}
        while len(answers) < len(requests):
            for message in self._receive():
                if first <= message.sequence < first + len(requests):
                    answers[message.sequence - first] = message
        return [answers[index] for index in range(len(requests))]

    def _dump(self, request: Request) -> list[Event]:
        number = self._numbered(1)
        self._asking.send(request(number))
        found: list[Event] = []
        while True:
            for message in self._receive():
                if message.sequence != number:
                    continue  # left over from a question that was given up
                if message.type == DONE:
                    return found
                if message.type == ERROR:
                    text = f"cannot list links or neighbours: {os.strerror(message.errno)}"
                    raise HopDoorError(message.errno, text)
                found += hop_replies.event(message)

    def _receive(self) -> list[Message]:
        try:
            return list(hop_replies.split(self._asking.recv(_DATAGRAM)))
        except BlockingIOError as error:
            text = "cannot hear rtnetlink: the kernel does not answer"
            raise HopDoorError(errno.ETIMEDOUT, text) from error

    def _numbered(self, count: int) -> int:
        """The first of ``count`` sequence numbers that were not used lately."""
        first = self._sequence + 1 if self._sequence + count < 0x7FFFFFFF else 1
        self._sequence = first + count - 1
        return first


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # clipped to rmem_max
        opened.bind((0, 0))
    except BaseException:
        opened.close()
        raise
    return opened
