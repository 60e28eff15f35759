"""Sockets for probes: how one is opened towards a target, and one epoll set for all of them.

- A ``Dial`` is all that opening needs, worked out once: family, address, mark, source.
- ``Poller`` watches many short-lived sockets for one event loop. The loop sees a single
  descriptor, the epoll set; a socket costs two epoll_ctl calls instead of the loop's own handles,
  which is most of what a probe would cost. Edge-triggered: a socket is added once, and whoever is
  told of it reads until there is nothing left.
- Deadlines are kept in one queue for each length of timeout, where they come in the order in
  which they were made: appending is all there is to do, and the loop has one timer a queue.
- Answers that are there already are heard before a deadline is held against anybody: after a
  pause of this process the answers count, and where there are more than can be heard at once,
  deadlines wait for those that came before them.
- How late answers are heard is measured by a mark: a descriptor that is always ready goes to the
  end of the kernel's list of those that are, and when it comes out again, all before it were told.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Protocol

from kernlb.health.check import Target

_BATCH = 4  # events taken from the kernel at a time: few, for one may cost a TLS handshake
_TURN = 0.02  # seconds of them, before the loop may do something else
_MARK = select.EPOLLIN | select.EPOLLET
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
IN_LEVEL = select.EPOLLIN  # for a socket that stays: told as long as there is something
FAILED = select.EPOLLERR | select.EPOLLHUP
READABLE = select.EPOLLIN | select.EPOLLRDHUP | FAILED
ENDED = select.EPOLLRDHUP | FAILED

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger
_IP_BIND_ADDRESS_NO_PORT = 24  # the port is chosen by connect(2), which can share it


@dataclass(frozen=True, slots=True)
class Dial:
    """Where to, and from where."""

    family: int
    address: tuple[str, int]
    mark: int = 0
    source: str | None = None
    chosen: bool = False  # connect(2) may choose this very port for our end

    @classmethod
    def to(cls, target: Target, port: int | None = None) -> Dial:
        """``port`` is the check's own, None for the target's."""
        address = target.to
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        there = str(address), target.to_port(port)
        chosen = there[1] in _chosen_ports()
        if target.carried is None:
            return cls(family, there, chosen=chosen)
        source = str(target.carried.source) if target.carried.source is not None else None
        return cls(family, there, target.carried.mark, source, chosen)

    def open(self, kind: int = socket.SOCK_STREAM) -> socket.SocketType:
        """A non-blocking socket, marked and bound as it must be; a stream is reset when it is
        closed, and so leaves no TIME_WAIT. May raise OSError."""
        # SocketType is the C class: half the price of socket.socket, and no finalizer's warning
        opened = socket.SocketType(self.family, kind | socket.SOCK_NONBLOCK)
        try:
            if kind == socket.SOCK_STREAM:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            if self.mark:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            if self.source is not None:
                if kind == socket.SOCK_STREAM:
                    opened.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                opened.bind((self.source, 0))
        except OSError:
            opened.close()
            raise
        return opened


@cache
def _chosen_ports() -> range:
    """The ports from which the kernel chooses one for a connection of ours."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return range(1024, 65536)
    return range(int(first), int(last) + 1)


class Watched(Protocol):
    """Who hears of a socket, and of its own deadline."""

    __slots__ = ()

    def ready(self, events: int) -> None: ...

    def expire(self) -> None: ...

    @property
    def over(self) -> bool: ...


class Deadlines:
    """All that end ``timeout`` seconds after their start, in order. ``before`` tells of answers
    that are there, and says up to which moment all were told."""

    __slots__ = ("_before", "_loop", "_timer", "queue", "timeout")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, before: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._before = before
        self._timer: asyncio.TimerHandle | None = None
        self.timeout = timeout
        self.queue: deque[tuple[float, Watched]] = deque()

    def add(self, started: float, watched: Watched) -> None:
        self.queue.append((started + self.timeout, watched))
        if self._timer is None:
            self._timer = self._loop.call_later(self.timeout, self._fire)

    def _fire(self) -> None:
        self._timer = None
        heard = self._before()
        queue = self.queue
        while queue:
            due, watched = queue[0]
            if watched.over:
                queue.popleft()
            elif due <= heard:
                queue.popleft()
                try:
                    watched.expire()
                except Exception as error:
                    report(self._loop, error)
            else:
                self._arm(due)
                return

    def _arm(self, due: float) -> None:
        if self._timer is not None:  # set by a later one, which came while others expired
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._fire)


class Poller:
    """One epoll set on one event loop, for as long as the loop lives."""

    __slots__ = ("_deadlines", "_epoll", "_heard", "_late", "_loop", "_mark", "_marked", "_watched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}
        self._deadlines: dict[float, Deadlines] = {}
        self._mark = os.eventfd(1, os.EFD_CLOEXEC)  # never read, so always ready
        self._marked: float | None = None  # when the mark was set that has not come out yet
        self._heard = monotonic()  # all that was there then has been told
        self._late = 0.0  # seconds: the worst wait of a mark since it was asked for
        self._epoll.register(self._mark, 0)
        loop.add_reader(self._epoll.fileno(), self._take_turn)

    def watch(self, descriptor: int, watched: Watched, events: int = _EVENTS) -> None:
        """May raise OSError, with nothing watched."""
        self._epoll.register(descriptor, events)
        self._watched[descriptor] = watched

    def again(self, descriptor: int) -> None:
        """Tell once more of what is there: the reader stopped before the end."""
        self._epoll.modify(descriptor, _EVENTS)

    def forget(self, descriptor: int) -> None:
        """Before it is closed: a child between fork and exec keeps a closed socket in the set."""
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def deadlines(self, timeout: float) -> Deadlines:
        if (found := self._deadlines.get(timeout)) is None:
            found = self._deadlines[timeout] = Deadlines(self._loop, timeout, self._catch_up)
        return found

    def lag(self) -> float:
        """How late answers are heard, in seconds: the worst since this was asked the last time."""
        waits = 0.0 if self._marked is None else monotonic() - self._marked
        lag, self._late = max(self._late, waits), 0.0
        self._set_mark()
        return lag

    def _set_mark(self) -> None:
        """To the end of the list of what is ready (fs/eventpoll.c: ep_modify)."""
        if self._marked is None:
            self._marked = monotonic()
            self._epoll.modify(self._mark, _MARK)

    def _mark_came_out(self) -> None:
        if self._marked is not None:
            self._late = max(self._late, monotonic() - self._marked)
            self._heard, self._marked = self._marked, None

    def _catch_up(self) -> float:
        """Tell of what is there, for a while. Up to which moment has all been told?

        Who sends without end is told of again and again, and keeps nobody waiting for long."""
        began = monotonic()
        while True:
            if self._heard < began:
                self._set_mark()
            if not self._dispatch() or monotonic() - began >= _TURN:
                return self._heard

    def _take_turn(self) -> None:
        until = monotonic() + _TURN
        while self._dispatch() == _BATCH and monotonic() < until:
            pass

    def _dispatch(self) -> int:
        """How many events there were."""
        watched = self._watched
        happened = [
            (each, watched.get(each), events) for each, events in self._epoll.poll(0, _BATCH)
        ]
        for descriptor, who, events in happened:
            # one of this batch may have ended another, and a new one may have its descriptor
            if who is not None and watched.get(descriptor) is who:
                try:
                    who.ready(events)
                except Exception as error:  # edge-triggered: the others must hear theirs
                    report(self._loop, error)
            elif descriptor == self._mark:
                self._mark_came_out()
        return len(happened)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._mark)


def report(loop: asyncio.AbstractEventLoop, error: Exception) -> None:
    """As the loop reports an error of a callback of its own."""
    loop.call_exception_handler({"message": "error in a probe", "exception": error})


_pollers: dict[asyncio.AbstractEventLoop, Poller] = {}


def poller_of(loop: asyncio.AbstractEventLoop) -> Poller:
    """The loop's one poller."""
    if (poller := _pollers.get(loop)) is None:
        for closed in [each for each in _pollers if each.is_closed()]:
            _pollers.pop(closed).close()
        poller = _pollers[loop] = Poller(loop)
    return poller
