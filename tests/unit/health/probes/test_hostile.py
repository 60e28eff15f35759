"""Backends that mean harm: one named outcome each, in bounded time and memory."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Callable

import pytest

from kernlb.health.check import HttpCheck, Target, TcpCheck, Tls, TlsCheck
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes.making import make_probe
from kernlb.health.probes.wording import LIMIT, line, quote
from tests.unit.health.probes.backends import (
    LOCALHOST,
    LOOPS,
    PATIENCE,
    Behaviour,
    ask_backend,
    run,
    says,
    without_end,
)

TIMEOUT = 0.5
MEMORY = 16 << 20  # bytes at most, the backend's own included
OK = b"HTTP/1.1 200 OK\r\n"
LARGE = OK + b"Content-Length: 1073741824\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b"ok" * 5_000_000)


def drips(data: bytes) -> Behaviour:
    """A byte at a time, a little later each: whoever waits for the end waits too long."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for byte in data:
            writer.write(bytes([byte]))
            await asyncio.wait([asyncio.ensure_future(reader.read())], timeout=0.02)
            if writer.is_closing() or reader.at_eof():
                break
        writer.close()

    return behave


def redirects(count: list[int]) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count.append(1)
        await says(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")(
            reader, writer
        )

    return behave


# what the backend does, the check, the outcome, whether the timeout ends it
TABLE: dict[str, tuple[Behaviour, HttpCheck, Outcome, bool]] = {
    "headers without end": (
        without_end(b"X-More: and more\r\n" * 100, OK),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "one header without end": (
        without_end(b"x" * 4096, OK + b"X: "),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "interim answers without end": (
        without_end(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "a status line without end": (without_end(b"9" * 999), HttpCheck(), Outcome.MALFORMED, False),
    "a gigabyte, nothing wanted of it": (
        without_end(bytes(65536), LARGE),
        HttpCheck(),
        Outcome.PASSED,
        False,
    ),
    "a gigabyte without what is wanted": (
        without_end(b"x" * 65536, LARGE),
        HttpCheck(body="ok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "a body without end": (
        without_end(b"x" * 65536, OK + b"\r\n"),
        HttpCheck(body="ok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "chunks without end, each of a byte": (
        without_end(b"1\r\nx\r\n" * 2000, CHUNKED),
        HttpCheck(body="ok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "a chunk of 2**64 - 1 bytes": (
        without_end(b"x" * 65536, CHUNKED + b"ffffffffffffffff\r\n"),
        HttpCheck(body="ok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "a chunk's line without end": (
        without_end(b"0" * 4096, CHUNKED),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "a chunk's extension without end": (
        without_end(b";" * 4096, CHUNKED + b"5"),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "trailers without end": (
        without_end(b"X-More: and more\r\n" * 100, CHUNKED + b"0\r\n"),
        HttpCheck(),
        Outcome.TOO_LONG,
        False,
    ),
    "a negative length": (
        says(OK + b"Content-Length: -1\r\n\r\n"),
        HttpCheck(),
        Outcome.MALFORMED,
        False,
    ),
    "a length of a thousand digits": (
        says(OK + b"Content-Length: " + b"9" * 1000 + b"\r\n\r\n"),
        HttpCheck(),
        Outcome.MALFORMED,
        False,
    ),
    "a thousand lengths": (
        says(OK + b"".join(b"Content-Length: %d\r\n" % n for n in range(1000)) + b"\r\n"),
        HttpCheck(),
        Outcome.MALFORMED,
        False,
    ),
    "a gzip bomb nobody asked for": (
        says(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        HttpCheck(body="okokokokokok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "no UTF-8": (
        says(OK + b"\r\n" + bytes(range(128, 256)) * 50),
        HttpCheck(body="ok"),
        Outcome.WRONG_BODY,
        False,
    ),
    "no UTF-8, searched": (
        says(OK + b"\r\n" + bytes(range(128, 256)) * 50),
        HttpCheck(body_regex="o+k$"),
        Outcome.WRONG_BODY,
        False,
    ),
    "escape sequences and the like": (
        says("\x1b[2J\r\u202e\u0000\u0085\u2028 SSH".encode()),
        HttpCheck(),
        Outcome.MALFORMED,
        False,
    ),
    "NUL bytes": (says(bytes(5000)), HttpCheck(), Outcome.MALFORMED, False),
    "NUL in a header": (says(OK + b"X: \0\r\n\r\n"), HttpCheck(), Outcome.MALFORMED, False),
    "a head in drips": (drips(OK + b"X: " + b"x" * 999), HttpCheck(), Outcome.STALLED, True),
    "a body in drips": (drips(OK + b"\r\n" + b"x" * 999), HttpCheck(), Outcome.STALLED, True),
    "another protocol in drips": (drips(b"220 mail"), HttpCheck(), Outcome.MALFORMED, False),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("case", TABLE)
def test_harm_ends_in_one_named_outcome_in_bounded_time_and_memory(case: str, loop: str) -> None:
    behaviour, check, outcome, ends_late = TABLE[case]
    timeout = TIMEOUT if ends_late else PATIENCE
    tracemalloc.start()
    try:
        result = run(ask_backend(check, behaviour, timeout), LOOPS[loop])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.outcome is outcome
    assert_readable(result)
    assert result.duration < timeout + PATIENCE
    assert (result.duration >= timeout) is ends_late
    assert most < MEMORY


def assert_readable(result: Result) -> None:
    assert result.detail.isprintable()
    assert len(result.detail) <= LIMIT


def test_a_loop_of_redirects_is_one_request() -> None:
    count: list[int] = []
    result = run(ask_backend(HttpCheck(), redirects(count)))
    assert result.outcome is Outcome.PASSED
    assert len(count) == 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "piece", [b"\x16\x03\x03\x40\0" + b"\x02" * 0x4000, b"\x14\x03\x03\0\x01\x01"]
)
def test_records_of_tls_without_end_are_no_handshake(piece: bytes, loop: str) -> None:
    tracemalloc.start()
    try:
        check = TlsCheck(Tls(verify=False))
        result = run(ask_backend(check, without_end(piece), TIMEOUT), LOOPS[loop])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.outcome in (Outcome.TLS_REFUSED, Outcome.STALLED)
    assert_readable(result)
    assert most < MEMORY


@pytest.mark.parametrize("loop", LOOPS)
def test_a_flood_leaves_the_others_their_turn(loop: str) -> None:
    """A probe that could read for ever at the speed of memory, and one beside it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await without_end(b"x" * 65536, LARGE)(reader, writer)

    async def asked() -> Result:
        there = asyncio.get_running_loop()
        flood: list[Result] = []

        async def beside() -> Result:
            return await ask_backend(TcpCheck(), says())

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        check = HttpCheck(body="ok", max_bytes=1 << 40)
        target = Target(LOCALHOST, port)
        running = make_probe(check, 30.0, target, there).start(flood.append)
        results = [await beside() for _ in range(5)]
        running.cancel()
        server.close()
        assert not flood
        assert {each.outcome for each in results} == {Outcome.PASSED}
        return results[-1]

    factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[loop]
    run(asked(), factory)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain", '"plain"'),
        (b" two\r\nlines ", '"two..lines"'),
        (b"\xff\xfe", '"��"'),
        ("\u202eevil\x1b[0m", '".evil.[0m"'),
        (b"x" * 1000, '"' + "x" * 79 + '…"'),
    ],
)
def test_what_is_quoted_is_one_printable_line(data: bytes | str, shown: str) -> None:
    assert quote(data) == shown
    assert shown.isprintable()


def test_a_detail_is_cut_at_its_limit() -> None:
    assert line("x" * LIMIT) == "x" * LIMIT
    assert line("x" * (LIMIT + 1)) == "x" * (LIMIT - 1) + "…"
    assert len(line("\0" * 10_000)) == LIMIT
