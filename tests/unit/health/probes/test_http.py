"""HTTP: a table of what a backend does and what that is called; then what is asked, and details."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from kernlb.health.check import Carried, HttpCheck, Target, Tls
from kernlb.health.outcome import Outcome
from kernlb.health.probes.http import host_name, request_of
from kernlb.health.probes.http_answer import LONGEST_TRAILER, MOST_CHUNKS, Answer, Unreadable
from kernlb.health.probes.patterns import Pattern
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

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PASSED = (Outcome.PASSED, "")
HELLO = HttpCheck(body="hello")
ONLY_200 = HttpCheck(status=((200, 299),))


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    reset(writer)


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await reader.read()
    writer.close()


# what it is: what the backend does, the check, the outcome, its detail
TABLE: dict[str, tuple[Behaviour, HttpCheck, Outcome, str]] = {
    "counted body": (says(OK), HELLO, *PASSED),
    "counted body, kept open": (says(OK, then="hang"), HELLO, *PASSED),
    "body until the end": (says(b"HTTP/1.0 200 OK\r\n\r\nhello"), HELLO, *PASSED),
    "chunks": (
        says(CHUNKED, b"3\r\nhel\r\n", b"2;x=y\r\nlo\r\n0\r\n\r\n", then="hang"),
        HELLO,
        *PASSED,
    ),
    "interim answers first": (
        says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK),
        HELLO,
        *PASSED,
    ),
    "no reason phrase, bare line feeds": (says(b"HTTP/1.1 200\n\nhello"), HELLO, *PASSED),
    "no content, kept open": (says(b"HTTP/1.1 204 No\r\n\r\n", then="hang"), HttpCheck(), *PASSED),
    "HEAD has no body": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", then="hang"),
        HttpCheck(method="HEAD"),
        *PASSED,
    ),
    "an answer before the request was read": (says(OK), HttpCheck(path="/" + "x" * 9000), *PASSED),
    "a redirect is an answer": (
        says(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
        HttpCheck(),
        *PASSED,
    ),
    "500": (
        says(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
        ONLY_200,
        Outcome.WRONG_STATUS,
        "status 500, expected 200-299",
    ),
    "404": (
        says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        HttpCheck(status=((200, 200), (401, 403))),
        Outcome.WRONG_STATUS,
        "status 404, expected 200, 401-403",
    ),
    "wrong body": (
        says(OK),
        HttpCheck(body="goodbye"),
        Outcome.WRONG_BODY,
        'no "goodbye" in "hello"',
    ),
    "empty body": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        HELLO,
        Outcome.WRONG_BODY,
        'no "hello" in an empty body',
    ),
    "regular expression": (says(OK), HttpCheck(body_regex=r"^h.l+o$"), *PASSED),
    "regular expression of letters beyond ASCII": (
        says(b"HTTP/1.0 200 OK\r\n\r\n" + "größe 7".encode()),
        HttpCheck(body_regex=r"^gr[öo]\wße|gr[öo]ße \d$"),
        *PASSED,
    ),
    "regular expression not found": (
        says(OK),
        HttpCheck(body_regex="l{3}"),
        Outcome.WRONG_BODY,
        '/l{3}/ is not in "hello"',
    ),
    "only the first bytes are looked at": (
        says(OK),
        HttpCheck(body="hello", max_bytes=4),
        Outcome.WRONG_BODY,
        'no "hello" in "hell"',
    ),
    "the first bytes are awaited and no more": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello", then="hang"),
        HttpCheck(body="hello", max_bytes=5),
        *PASSED,
    ),
    "reset": (resets, HttpCheck(), Outcome.RESET, ""),
    "reset half way": (says(OK[:-2], then="reset"), HttpCheck(), Outcome.RESET, ""),
    "closed at once": (hangs_up, HttpCheck(), Outcome.CLOSED, ""),
    "closed after the request": (says(), HttpCheck(), Outcome.CLOSED, ""),
    "closed in the head": (says(OK[:12]), HttpCheck(), Outcome.CLOSED, ""),
    "closed in the body": (says(OK[:-1]), HttpCheck(), Outcome.CLOSED, ""),
    "closed between chunks": (says(CHUNKED + b"3\r\nhel\r\n"), HttpCheck(), Outcome.CLOSED, ""),
    "another protocol": (
        says(b"SSH-2.0-OpenSSH_9.2\r\n", then="hang"),
        HttpCheck(),
        Outcome.MALFORMED,
        'it begins with "SSH-2.0-OpenSSH_9.2"',
    ),
    "no status": (
        says(b"HTTP/1.1 fine\r\n\r\n"),
        HttpCheck(),
        Outcome.MALFORMED,
        'it begins with "HTTP/1.1 fine"',
    ),
    "two lengths": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        HttpCheck(),
        Outcome.MALFORMED,
        "Content-Length",
    ),
    "the same length twice": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nhello"),
        HELLO,
        *PASSED,
    ),
    "nothing, ever": (says(then="hang"), HttpCheck(), Outcome.RESPONSE_TIMEOUT, ""),
    "a head, then nothing": (says(OK[:9], then="hang"), HttpCheck(), Outcome.STALLED, ""),
    "half a body, then nothing": (says(OK[:-1], then="hang"), HttpCheck(), Outcome.STALLED, ""),
    "no end of a body": (
        says(b"HTTP/1.1 200 OK\r\n\r\nhello", then="hang"),
        HELLO,
        Outcome.STALLED,
        "",
    ),
}
TIMED = {Outcome.RESPONSE_TIMEOUT, Outcome.STALLED}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", TABLE)
def test_what_a_backend_does_has_its_name(case: str, loop: str) -> None:
    behaviour, check, outcome, detail = TABLE[case]
    timeout = SHORT if outcome in TIMED else PATIENCE
    result = run(ask_backend(check, behaviour, timeout), LOOPS[loop])
    assert result.outcome is outcome
    assert result.detail.startswith(detail) if detail else not result.detail
    if outcome in TIMED:
        assert timeout <= result.duration < timeout + PATIENCE


def test_a_closed_port_refuses() -> None:
    assert run(ask(HttpCheck(), Target(LOCALHOST, closed_port()))).outcome is Outcome.REFUSED


def test_a_large_request_goes_out_whole() -> None:
    """More than a socket's buffer takes at once."""
    value = "x" * 4_000_000
    lengths = []

    async def reads_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += await reader.read(1 << 20)
        lengths.append(len(data))
        writer.write(OK)
        writer.close()

    check = HttpCheck(headers=(("X-Large", value),), body="hello")
    assert run(ask_backend(check, reads_all)).outcome is Outcome.PASSED
    assert lengths[0] > len(value)


def test_a_real_server_understands_the_request() -> None:
    """http.server, which refuses what is not HTTP."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append((self.path, dict(self.headers.items())))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    seen: list[tuple[str, dict[str, str]]] = []
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        check = HttpCheck(path="/health?full=1", headers=(("X-Probe", "yes"),), body="ok")
        try:
            result = run(ask(check, Target(LOCALHOST, server.server_port)))
        finally:
            server.shutdown()
            thread.join()
        port = server.server_port
    assert result.outcome is Outcome.PASSED
    assert seen == [
        (
            "/health?full=1",
            {
                "Host": f"127.0.0.1:{port}",
                "User-Agent": "kernlb",
                "Connection": "close",
                "Accept": "*/*",
                "X-Probe": "yes",
            },
        )
    ]


@pytest.mark.parametrize(
    ("check", "target", "host"),
    [
        (HttpCheck(), Target(LOCALHOST, 80), "127.0.0.1"),
        (HttpCheck(), Target(LOCALHOST, 8080), "127.0.0.1:8080"),
        (HttpCheck(port=80), Target(LOCALHOST, 8080), "127.0.0.1"),
        (HttpCheck(tls=Tls()), Target(LOCALHOST, 443), "127.0.0.1"),
        (HttpCheck(tls=Tls()), Target(LOCALHOST, 80), "127.0.0.1:80"),
        (HttpCheck(), Target(IPv6Address("2001:db8::1"), 8080), "[2001:db8::1]:8080"),
        (HttpCheck(host="www.example"), Target(LOCALHOST, 8080), "www.example"),
        (
            HttpCheck(),
            Target(
                LOCALHOST,
                8080,
                service_port=81,
                carried=Carried(1, IPv4Address("192.0.2.1"), LOCALHOST),
            ),
            "192.0.2.1:81",
        ),
    ],
)
def test_the_host_header_names_what_is_asked(check: HttpCheck, target: Target, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in request_of(check, target)


def test_an_accept_header_of_ones_own_replaces_ours_and_a_post_has_a_length() -> None:
    check = HttpCheck(method="POST", headers=(("accept", "text/html"),))
    request = request_of(check, Target(LOCALHOST, 80))
    assert b"*/*" not in request
    assert b"\r\nContent-Length: 0\r\n" in request
    assert request.startswith(b"POST / HTTP/1.1\r\n")
    assert request.endswith(b"\r\naccept: text/html\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.example", "a.example"), ("a.example:81", "a.example"), ("[::1]:8", "::1")],
)
def test_a_hosts_name_is_without_its_port(host: str, name: str) -> None:
    assert host_name(host) == name


ANSWERS: dict[str, tuple[bytes, str | tuple[int, bytes] | None]] = {
    "counted": (OK, (200, b"hello")),
    "chunked": (
        CHUNKED + b"A;x\r\n0123456789\r\n1\r\n!\r\n000\r\nT: 1\r\n\r\n",
        (200, b"0123456789!"),
    ),
    "interim": (b"HTTP/1.1 100 C\r\n\r\n" + OK, (200, b"hello")),
    "chunked wins over a length": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n") + b"2\r\nab\r\n0\r\n\r\n",
        (200, b"ab"),
    ),
    "chunked in two headers": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\nTRANSFER-ENCODING: Chunked\r\n\r\n"
        b"1\r\na\r\n0\r\n\r\n",
        (200, b"a"),
    ),
    "a folded length": (
        b"HTTP/1.1 200 OK\r\nX: a\r\n\tContent-Length: 7\r\nContent-Length:\r\n  5\r\n\r\nhello",
        (200, b"hello"),
    ),
    "a folded length, by line feeds": (
        b"HTTP/1.1 200 OK\nContent-Length: \n \n\t5 \n\nhello",
        (200, b"hello"),
    ),
    "a folded coding": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip,\r\n chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        (200, b"a"),
    ),
    "a folded length that is none": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 5\r\n\r\n",
        "Content-Length",
    ),
    "a body of blank lines": (
        b"HTTP/1.1 200 OK\nContent-Length: 8\n\na\r\n\r\nb\n\n",
        (200, b"a\r\n\r\nb\n\n"),
    ),
    "switched": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", (101, b"")),
    "not modified": (b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", (304, b"")),
    "open": (b"HTTP/1.1 200 OK\r\n\r\nabc", None),
    "cut": (OK[:-1], None),
    "negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length"),
    "length in words": (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", "Content-Length"),
    "length without end": (
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n",
        "Content-Length",
    ),
    "no hex": (CHUNKED + b"xyz\r\n", "chunk of size"),
    "negative chunk": (CHUNKED + b"-1\r\n", "chunk of size"),
    "a chunk of 2**80": (CHUNKED + b"1" + b"0" * 20 + b"\r\n", "chunk of size"),
    "a chunk longer than it said": (CHUNKED + b"2\r\nabc\r\n", "a chunk is longer"),
    "NUL": (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "NUL"),
    "HTTP/2": (b"HTTP/2 200\r\n\r\n", "it begins"),
    "HTTP/0.9": (b"<html></html>", "it begins"),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_is_the_same_however_it_is_cut(case: str, size: int) -> None:
    data, expected = ANSWERS[case]
    answer = Answer("GET", 1000)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    if isinstance(expected, str):
        with pytest.raises(Unreadable, match=expected) as raised:
            for piece in pieces:
                answer.feed(piece)
        assert raised.value.outcome is Outcome.MALFORMED
        return
    *before, last = [answer.feed(piece) for piece in pieces]
    assert not any(before[: len(data) // size - 1])
    assert last is (expected is not None)
    if expected is not None:
        assert (answer.status, answer.body) == expected
        assert answer.ended()


@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_trailers_may_be_as_long_as_they_may_however_they_are_cut(size: int) -> None:
    def feed(*trailers: bytes) -> bool:
        data = CHUNKED + b"1\r\na\r\n0\r\n" + b"".join(trailers)
        answer = Answer("GET", 1000)
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        return [answer.feed(each) for each in pieces][-1]

    signature = b"Signature: " + b"x" * (LONGEST_TRAILER - 15)
    assert feed(signature, b"\r\n", b"\r\n")
    assert feed(b"A: b\r\n", signature[6:], b"\r\n", b"\r\n")
    for more in (b"x\r\n\r\n", b"\r\nA: b\r\n\r\n", b"x" * LONGEST_TRAILER):
        with pytest.raises(Unreadable, match="trailers of more than 8192 bytes") as raised:
            feed(signature, more)
        assert raised.value.outcome is Outcome.TOO_LONG


def test_of_a_body_in_crumbs_the_first_chunks_are_the_answer() -> None:
    answer = Answer("GET", 1 << 20)
    assert not answer.feed(CHUNKED + b"1\r\nx\r\n" * (MOST_CHUNKS - 1))
    assert answer.feed(b"1\r\nx\r\n" * 9)
    assert (answer.status, answer.body) == (200, b"x" * MOST_CHUNKS)


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        (".*ok", "is ok", True),
        (".*?.*ok", "is not", False),
        (".*", "", True),
        (".*a|b", "b", True),
        (".+ok", "ok", False),
        (".{2}ok", "1ok", False),
        (r"^\d+$", "12", True),
        (r"(?i).*OK", "ok", True),
    ],
)
def test_a_pattern_finds_what_it_says(expression: str, text: str, found: bool) -> None:
    assert Pattern(expression).search(text) is found


def test_a_search_that_would_take_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernlb.health.probes.patterns.LIMIT", 0.01)
    assert Pattern("(a+)+$").search("a" * 64 + "b") is None
    assert Pattern("(a+)+$").search("a" * 64) is True


@pytest.mark.parametrize("loop", LOOPS)
def test_a_body_made_for_the_expression_costs_little_and_is_named(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernlb.health.probes.patterns.LIMIT", 0.01)
    behaviour = says(b"HTTP/1.0 200 OK\r\n\r\n" + b"a" * 64 + b"b")
    factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]
    result = run(ask_backend(HttpCheck(body_regex="(a+)+$"), behaviour), factory)
    assert result[::2] == (
        Outcome.WRONG_BODY,
        "the search for the regular expression took too long",
    )
