"""One attempt at a TCP connection: begin, be told, finish. TCP, TLS and HTTP probes build on it.

An attempt ends once: by ``finish``, which closes the socket and then calls ``done``, or by
``cancel``, which closes it and says nothing. An ended one stays in the queue of deadlines until
its own would have come, so it keeps nothing large.
"""

from __future__ import annotations

import asyncio
import socket
from errno import EINPROGRESS
from time import monotonic

from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.sockets import FAILED, Deadlines, Dial, Poller
from kernlb.health.probes.trouble import detail_of, outcome_of, unasked
from kernlb.health.probes.wording import line


class Attempt:
    """Base of what happens on one connection. ``ready`` is told of its socket from then on."""

    __slots__ = ("connected", "descriptor", "done", "poller", "sock", "started")

    def __init__(self, poller: Poller, done: Done) -> None:
        self.poller = poller
        self.done: Done | None = done
        self.sock: socket.SocketType | None = None
        self.descriptor = -1
        self.connected = False
        self.started = monotonic()

    @property
    def over(self) -> bool:
        return self.done is None

    def begin(self, dial: Dial, deadlines: Deadlines, loop: asyncio.AbstractEventLoop) -> None:
        try:
            sock = self.sock = dial.open()
            error = sock.connect_ex(dial.address)
            if error == EINPROGRESS or not error:
                self.poller.watch(sock.fileno(), self)
                self.descriptor = sock.fileno()
                deadlines.add(self.started, self)
                return
        except OSError as trouble:  # of opening or watching; never from within start()
            loop.call_soon(self.finish, *unasked(trouble))
        else:
            loop.call_soon(self.finish, outcome_of(error), detail_of(error))

    def ready(self, events: int) -> None:
        raise NotImplementedError

    def expire(self) -> None:
        self.finish(Outcome.RESPONSE_TIMEOUT if self.connected else Outcome.CONNECT_TIMEOUT)

    def connection(self, events: int, dial: Dial) -> bool:
        """After the first event: whether there is a connection. If not, this has ended."""
        assert self.sock is not None
        if events & FAILED and (error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self.finish(outcome_of(error), detail_of(error))
            return False
        # Where nobody listens on a port of this host, connect(2) may be given that very port as
        # its own, and then the socket meets itself (RFC 9293, 3.5: simultaneous open).
        if dial.chosen and self.sock.getsockname()[:2] == dial.address:
            self.finish(Outcome.REFUSED)
            return False
        self.connected = True
        return True

    def finish(self, outcome: Outcome, detail: str = "", percent: int | None = None) -> None:
        """End with this; nothing if it has ended."""
        done = self.done
        if done is None:
            return
        self.cancel()
        detail = line(detail) if detail else detail
        done(Result(outcome, monotonic() - self.started, detail, percent))

    def cancel(self) -> None:
        self.done = None
        if self.descriptor >= 0:
            self.poller.forget(self.descriptor)
            self.descriptor = -1
        if self.sock is not None:
            self.sock.close()
            self.sock = None
