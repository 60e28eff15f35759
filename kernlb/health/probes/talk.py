"""A connection on which something is asked and answered, over TLS where wanted.

Phases: connecting, the handshake where there is TLS, then ``request`` goes out and what comes
back goes to ``hear``. How a connection ends in between, or runs into its deadline, is named here,
alike for every protocol above: nothing came at all (RESPONSE_TIMEOUT), something did (STALLED).
"""

from __future__ import annotations

import asyncio
import ssl
from errno import EAGAIN

from kernlb.health.check import Target, Tls
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.attempt import Attempt
from kernlb.health.probes.secured import Expiry, NotTls, Secured, context_for, outcome_of_tls
from kernlb.health.probes.sockets import ENDED, READABLE, Dial, poller_of
from kernlb.health.probes.trouble import detail_of, outcome_of

_READ = 16384
_READS = 2  # in a row, before others have their turn
_MOST_UNSENT = 1 << 16  # bytes of TLS that nobody reads


class Line:
    """What all talks of one probe share: where to, how long, and the certificates to trust."""

    __slots__ = ("alpn", "deadlines", "dial", "expiry", "loop", "name", "poller", "tls")

    def __init__(
        self,
        target: Target,
        port: int | None,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
        tls: Tls | None = None,
        name: str | None = None,
        alpn: tuple[str, ...] = (),
    ) -> None:
        """``name`` is what the certificate must be of, where ``tls`` says nothing of it."""
        self.loop = loop
        self.dial = Dial.to(target, port)
        self.poller = poller_of(loop)
        self.deadlines = self.poller.deadlines(timeout)
        self.tls = tls
        self.alpn = alpn
        self.name = (tls.name if tls is not None else None) or name or str(target.to)
        self.expiry = Expiry(tls.expiry_warning if tls is not None and tls.verify else 0.0)


class Talk(Attempt):
    """Base of a talk: a subclass says what is asked (``request``) and hears the answer."""

    __slots__ = ("_sending", "heard", "line", "secured", "warning")

    def __init__(self, line: Line, done: Done) -> None:
        super().__init__(line.poller, done)
        self.line = line
        self.secured: Secured | None = None
        self.heard = False  # something of the answer came
        self.warning = ""  # of the certificate
        self._sending = b""

    def open(self) -> None:
        line = self.line
        if line.tls is not None:
            try:
                self.secured = Secured(context_for(line.tls, *line.alpn), line.name)
            except (OSError, ValueError) as error:
                why = f"cannot use {line.tls.ca or 'the certificates of the system'}: {error}"
                line.loop.call_soon(self.finish, Outcome.NOT_ASKED, why)
                return
        self.begin(line.dial, line.deadlines, line.loop)

    def request(self) -> bytes:
        """What is asked, when the connection stands; b"" once this has finished."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """A piece of the answer."""
        raise NotImplementedError

    def say(self, data: bytes) -> None:
        """Send more, from within ``hear``: as much as what was heard called for, no more."""
        if self.secured is not None and data:
            self.secured.write(data)
            data = self.secured.pending()
        self._sending += data
        if self._sending:
            self._send()

    def hear_end(self) -> None:
        """The connection has ended."""
        self.finish(Outcome.CLOSED)

    def drop(self) -> None:
        """This has ended: let go of what was heard. Twice is once."""

    def cancel(self) -> None:
        super().cancel()
        self.secured = None
        self._sending = b""
        self.drop()

    def ready(self, events: int) -> None:
        if not self.connected:
            if not self.connection(events, self.line.dial):
                return
            if self.secured is not None:
                self.secured.handshake()
                self._sending = self.secured.pending()
            else:
                self._sending = self.request()
        if self._sending and not self._send():
            return
        if events & READABLE:
            self._receive(events)

    def expire(self) -> None:
        if not self.connected:
            self.finish(Outcome.CONNECT_TIMEOUT)
            return
        shaking = self.secured is not None and not self.secured.shaken
        begun = self.heard or (shaking and self.secured is not None and self.secured.begun)
        self.finish(
            Outcome.STALLED if begun else Outcome.RESPONSE_TIMEOUT,
            "in the TLS handshake" if shaking else "",
        )

    def _send(self) -> bool:
        """Send what there is; whether this goes on."""
        assert self.sock is not None
        try:
            while self._sending:
                self._sending = self._sending[self.sock.send(self._sending) :]
        except BlockingIOError:
            pass  # told again when there is room
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _receive(self, events: int) -> None:
        for _ in range(_READS):
            assert self.sock is not None
            try:
                data = self.sock.recv(_READ)
            except OSError as error:
                if error.errno != EAGAIN:
                    self._fail(error)
                return
            self._heard(data)
            if self.over or not data:
                return
            if len(data) < _READ and not events & ENDED:
                return  # that was all, and more will be told
        self.poller.again(self.descriptor)

    def _heard(self, data: bytes) -> None:
        if self.secured is None:
            if data:
                self.heard = True
                self.hear(data)
            else:
                self.hear_end()
            return
        try:
            if data:
                self._heard_secured(self.secured, data)
            elif self.secured.shaken:
                self.hear_end()
            else:
                self.finish(Outcome.CLOSED, "in the TLS handshake")
        except NotTls as error:
            self.finish(Outcome.NOT_TLS, str(error))
        except ssl.SSLError as error:
            self.finish(*outcome_of_tls(error))

    def _heard_secured(self, secured: Secured, data: bytes) -> None:
        secured.feed(data)
        if not secured.shaken:
            shaken = secured.handshake()
            self._sending += secured.pending()
            if shaken:
                self.warning = self.line.expiry.warning(secured)
                if request := self.request():
                    secured.write(request)
                    self._sending += secured.pending()
            if self.over or (self._sending and not self._send()) or not shaken:
                return
        while not self.over and (plain := secured.read()) is not None:
            if not plain:
                self.hear_end()
                return
            self.heard = True
            self.hear(plain)
        # the far end may want something of TLS itself: other keys, a certificate after all
        if not self.over and (wanted := secured.pending()):
            self._sending += wanted
            if len(self._sending) > _MOST_UNSENT:
                self.finish(Outcome.MALFORMED, "it asks TLS for more than it reads")
            else:
                self._send()

    def _fail(self, error: OSError) -> None:
        self.finish(outcome_of(error), detail_of(error))
