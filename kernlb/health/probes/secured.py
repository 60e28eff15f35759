"""TLS over bytes: no socket, only what is to be sent and what came. And how its errors are named.

Contexts are shared by all probes that trust the same certificates, and made anew when the file of
them changes. No session is resumed: each handshake shows the certificate of that moment.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from time import time

from kernlb.health.check import Tls
from kernlb.health.outcome import Outcome
from kernlb.health.probes.wording import quote

_RECORD = range(20, 24)  # content types of TLS records: RFC 8446, 5.1
_READ = 16384
_DAY = 86400

# X509_verify_cert_error_string(3)
_VERIFY = {
    9: Outcome.CERTIFICATE_NOT_YET_VALID,
    10: Outcome.CERTIFICATE_EXPIRED,
    62: Outcome.CERTIFICATE_NAME,
    64: Outcome.CERTIFICATE_NAME,  # of another address
}


def context_for(tls: Tls, *alpn: str) -> ssl.SSLContext:
    """May raise OSError (ssl.SSLError among them): the file of certificates cannot be read."""
    if not tls.verify or tls.ca is None:
        return _context(tls.verify, None, (), alpn)
    state = Path(tls.ca).stat()
    return _context(True, tls.ca, (state.st_mtime_ns, state.st_ino, state.st_size), alpn)


@lru_cache(maxsize=64)
def _context(
    verify: bool, ca: str | None, version: tuple[int, ...], alpn: tuple[str, ...]
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def outcome_of_tls(error: ssl.SSLError) -> tuple[Outcome, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        outcome = _VERIFY.get(error.verify_code, Outcome.CERTIFICATE_UNTRUSTED)
        return outcome, str(error.verify_message).rstrip(".")
    reason = (error.reason or "").replace("_", " ").lower()
    return Outcome.TLS_REFUSED, reason or str(error)  # an alert that Python has no name for


class NotTls(Exception):
    """The far end speaks something else."""


class Secured:
    """One connection's TLS. ``handshake`` and ``read`` may raise ssl.SSLError, and NotTls where
    what came first is no TLS; after either, ``pending`` is what is to be sent."""

    __slots__ = ("_incoming", "_object", "_outgoing", "begun", "shaken")

    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.begun = False  # something came
        self.shaken = False  # the handshake is done

    def handshake(self) -> bool:
        """Whether it is done."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.shaken = True
        return True

    def feed(self, data: bytes) -> None:
        if not self.begun:
            self.begun = True
            if data[0] not in _RECORD or (len(data) > 1 and data[1] != 3):
                raise NotTls(f"it answered with {quote(data)}")
        self._incoming.write(data)

    def pending(self) -> bytes:
        return self._outgoing.read()

    def write(self, data: bytes) -> None:
        self._object.write(data)

    def read(self) -> bytes | None:
        """None: nothing yet; b"": the far end closed in good order."""
        try:
            return self._object.read(_READ)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return b""

    def certificate(self) -> bytes:
        return self._object.getpeercert(binary_form=True) or b""

    def expires(self) -> float:
        """Seconds since the epoch; infinite where the certificate was not verified."""
        found = self._object.getpeercert()
        if not found:
            return float("inf")
        return float(ssl.cert_time_to_seconds(str(found["notAfter"])))


class Expiry:
    """When the certificate that a target shows will expire; read once a certificate."""

    __slots__ = ("_certificate", "_expires", "_warning")

    def __init__(self, warning: float) -> None:
        self._warning = warning
        self._certificate = b""
        self._expires = float("inf")

    def warning(self, secured: Secured) -> str:
        """What is to be said of it; "" for nothing."""
        if not self._warning:
            return ""
        shown = secured.certificate()
        if shown != self._certificate:
            self._certificate = shown
            self._expires = secured.expires()
        left = self._expires - time()
        if left >= self._warning:
            return ""
        return f"in {left / _DAY:.1f} days"
