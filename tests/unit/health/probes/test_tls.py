"""TLS: what may be wrong with a certificate or a handshake, on real ones, for both probes of it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import threading
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from kernlb.health.check import Check, HttpCheck, Target, Tls, TlsCheck
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes.secured import Secured
from tests.unit.health.probes.backends import (
    LOCALHOST,
    LOOPS,
    PATIENCE,
    SHORT,
    Behaviour,
    ask,
    ask_backend,
    closed_port,
    reset,
    run,
    says,
)
from tests.unit.health.probes.certificates import NAME, Certificates
from tests.unit.health.probes.far_ends import serving

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
DAY = 86400.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["tls", "https"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def check_of(kind: str, tls: Tls) -> Check:
    return TlsCheck(tls) if kind == "tls" else HttpCheck(tls=tls, body="hello")


# the certificate, what the check says, the outcome, its detail
TABLE: dict[str, tuple[str, dict[str, object], Outcome, str]] = {
    "good, by name": ("good", {"name": NAME}, Outcome.PASSED, ""),
    "good, by address": ("good", {}, Outcome.PASSED, ""),
    "expired": ("expired", {"name": NAME}, Outcome.CERTIFICATE_EXPIRED, "certificate has expired"),
    "not yet valid": (
        "future",
        {"name": NAME},
        Outcome.CERTIFICATE_NOT_YET_VALID,
        "certificate is not yet valid",
    ),
    "of another name": ("other", {"name": NAME}, Outcome.CERTIFICATE_NAME, "Hostname mismatch"),
    "of another address": ("other", {}, Outcome.CERTIFICATE_NAME, "IP address mismatch"),
    "of a stranger": (
        "untrusted",
        {"name": NAME},
        Outcome.CERTIFICATE_UNTRUSTED,
        "unable to get local issuer certificate",
    ),
    "not in the system's": ("good", {"name": NAME, "ca": None}, Outcome.CERTIFICATE_UNTRUSTED, ""),
    "expires soon": ("soon", {"name": NAME}, Outcome.CERTIFICATE_EXPIRES_SOON, "in 3.0 days"),
    "soon is a matter of taste": (
        "soon",
        {"name": NAME, "expiry_warning": 2 * DAY},
        Outcome.PASSED,
        "",
    ),
    "no warning wanted": ("soon", {"name": NAME, "expiry_warning": 0.0}, Outcome.PASSED, ""),
    "expired, not verified": ("expired", {"verify": False}, Outcome.PASSED, ""),
    "of a stranger, not verified": ("untrusted", {"verify": False}, Outcome.PASSED, ""),
    "of another name, not verified": ("other", {"verify": False, "name": NAME}, Outcome.PASSED, ""),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", TABLE)
def test_what_is_wrong_with_a_certificate_has_its_name(
    case: str, loop: str, kind: str, certificates: Certificates
) -> None:
    shown, words, outcome, detail = TABLE[case]
    tls = Tls(**{"ca": certificates.ca, **words})  # type: ignore[arg-type]
    context = certificates.server(shown)
    result = run(ask_backend(check_of(kind, tls), says(ANSWER), tls=context), LOOPS[loop])
    assert result.outcome is outcome
    assert result.detail.startswith(detail)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    reset(writer)


# what a backend without TLS does, the outcome, its detail
NOT_SECURED: dict[str, tuple[Behaviour, Outcome, str]] = {
    "plain HTTP": (
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Outcome.NOT_TLS,
        'it answered with "HTTP/1.1 400 Bad Request"',
    ),
    "a greeting": (says(b"220 mail\r\n", then="hang"), Outcome.NOT_TLS, 'it answered with "220'),
    "an alert": (says(b"\x15\x03\x03\0\x02\x02\x28"), Outcome.TLS_REFUSED, "sslv3 alert handshake"),
    "a record of nonsense": (
        says(b"\x16\x03\x03\0\x04abcd", then="hang"),
        Outcome.TLS_REFUSED,
        "",
    ),
    "closed": (says(), Outcome.CLOSED, "in the TLS handshake"),
    "closed half way": (says(b"\x16\x03\x03\0\x80\x02"), Outcome.CLOSED, "in the TLS handshake"),
    "reset": (resets, Outcome.RESET, ""),
    "silence": (says(then="hang"), Outcome.RESPONSE_TIMEOUT, "in the TLS handshake"),
    "half a record": (
        says(b"\x16\x03\x03\0\x80\x02", then="hang"),
        Outcome.STALLED,
        "in the TLS handshake",
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", NOT_SECURED)
def test_what_is_no_tls_has_its_name(case: str, loop: str, kind: str) -> None:
    behaviour, outcome, detail = NOT_SECURED[case]
    timeout = SHORT if outcome in (Outcome.STALLED, Outcome.RESPONSE_TIMEOUT) else PATIENCE
    check = check_of(kind, Tls(verify=False))
    result = run(ask_backend(check, behaviour, timeout), LOOPS[loop])
    assert result.outcome is outcome
    assert result.detail.startswith(detail)


def test_a_closed_port_refuses(kind: str) -> None:
    check = check_of(kind, Tls(verify=False))
    assert run(ask(check, Target(LOCALHOST, closed_port()))).outcome is Outcome.REFUSED


def test_no_cipher_in_common_is_refused(kind: str, certificates: Certificates) -> None:
    context = certificates.server("good")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA")  # for a certificate of RSA, which this is not

    def serve() -> None:  # asyncio's servers keep the alert to themselves
        accepted, _ = listener.accept()
        with accepted, pytest.raises(ssl.SSLError):
            context.wrap_socket(accepted, server_side=True)

    async def asked() -> Result:
        serving = asyncio.get_running_loop().run_in_executor(None, serve)
        target = Target(LOCALHOST, listener.getsockname()[1])
        result = await ask(check_of(kind, Tls(verify=False)), target)
        await serving
        return result

    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run(asked())
    assert result.outcome is Outcome.TLS_REFUSED
    assert "handshake failure" in result.detail


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("loop", LOOPS)
def test_both_versions_pass_and_a_large_answer_comes_whole(
    version: ssl.TLSVersion, loop: str, certificates: Certificates
) -> None:
    context = certificates.server("good")
    context.minimum_version = context.maximum_version = version
    body = b"x" * 300_000 + b"the end"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    check = HttpCheck(tls=Tls(ca=certificates.ca), body="the end", max_bytes=1 << 20)
    result = run(ask_backend(check, says(answer, then="hang"), tls=context), LOOPS[loop])
    assert result.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("pieces", "then", "outcome"),
    [
        ((), "hang", Outcome.RESPONSE_TIMEOUT),
        ((ANSWER[:-1],), "hang", Outcome.STALLED),
        ((ANSWER[:-1],), "close", Outcome.CLOSED),
        ((b"HTTP/1.0 200 OK\r\n\r\nhello",), "close", Outcome.PASSED),
    ],
)
def test_an_answer_over_tls_is_judged_as_any(
    pieces: tuple[bytes, ...], then: str, outcome: Outcome, certificates: Certificates
) -> None:
    check = HttpCheck(tls=Tls(ca=certificates.ca), body="hello")
    waits = outcome in (Outcome.STALLED, Outcome.RESPONSE_TIMEOUT)
    context = certificates.server("good")
    result = run(
        ask_backend(check, says(*pieces, then=then), SHORT if waits else PATIENCE, tls=context)
    )
    assert result[::2] == (outcome, "")


def test_the_name_of_the_host_header_is_sent_and_held_against_the_certificate(
    certificates: Certificates,
) -> None:
    seen = []
    context = certificates.server("good")
    context.sni_callback = lambda _connection, name, _context: seen.append(name)
    tls = Tls(ca=certificates.ca)
    for check, outcome in [
        (HttpCheck(tls=tls, host=f"{NAME}:8443"), Outcome.PASSED),
        (HttpCheck(tls=tls, host="x.kernlb.test"), Outcome.CERTIFICATE_NAME),
        (HttpCheck(tls=Tls(ca=certificates.ca, name=NAME), host="x.test"), Outcome.PASSED),
        (HttpCheck(tls=tls), Outcome.PASSED),  # by address, which is no name to send
    ]:
        assert run(ask_backend(check, says(ANSWER), tls=context)).outcome is outcome
    assert seen == [NAME, "x.kernlb.test", NAME, None]


def test_a_handshake_that_the_server_wants_anew_is_made(certificates: Certificates) -> None:
    """As a web server does that wants a certificate for one of its folders only."""
    port = closed_port()
    words = f"s_server -msg -tls1_2 -accept 127.0.0.1:{port} -cert good.pem -key server.key"
    with Popen(
        ["openssl", *words.split()], stdin=PIPE, stdout=PIPE, cwd=certificates.folder
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        told, said = process.stdin, process.stdout

        def wait_for(sign: bytes) -> None:
            while (line := said.readline()) and not re.search(sign, line):
                pass

        def tell(words: bytes) -> None:
            told.write(words)
            told.flush()

        def converse() -> None:
            wait_for(b"GET / ")
            tell(b"r\n")  # its command to negotiate anew
            wait_for(b"^<<< .* Finished")
            tell(ANSWER)

        wait_for(b"ACCEPT")
        partner = threading.Thread(target=converse)
        partner.start()
        try:
            check = HttpCheck(tls=Tls(ca=certificates.ca), body="hello")
            result = run(ask(check, Target(LOCALHOST, port), PATIENCE / 4))
        finally:
            process.kill()
            partner.join()
    assert result.outcome is Outcome.PASSED


def test_who_asks_tls_for_much_and_reads_nothing_is_left(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificates.server("good")

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1000)
            secured.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                secured.sendall(bytes(1000))

    read = Secured.read

    def wanting(secured: Secured) -> bytes | None:  # no library's server can be made to
        if plain := read(secured):
            secured._outgoing.write(bytes(1 << 14))
        return plain

    monkeypatch.setattr(Secured, "read", wanting)
    check = HttpCheck(tls=Tls(verify=False), body="hello", max_bytes=1 << 40)
    with serving(serve) as port:
        result = run(ask(check, Target(LOCALHOST, port)))
    assert result[::2] == (Outcome.MALFORMED, "it asks TLS for more than it reads")


def test_certificates_that_cannot_be_read_are_our_own_trouble_until_they_can(
    kind: str, certificates: Certificates, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    check = check_of(kind, Tls(ca=str(ca)))
    context = certificates.server("good")

    def now() -> Result:
        return run(ask_backend(check, says(ANSWER), tls=context))

    missing = now()
    assert missing.outcome is Outcome.NOT_ASKED
    assert missing.outcome.opinion is Opinion.NONE
    assert str(ca) in missing.detail and "No such file" in missing.detail
    ca.write_text("no certificate")
    assert now().outcome is Outcome.NOT_ASKED
    shutil.copy(certificates.folder / "stranger.pem", ca)
    assert now().outcome is Outcome.CERTIFICATE_UNTRUSTED
    shutil.copy(certificates.ca, ca)
    assert now().outcome is Outcome.PASSED
