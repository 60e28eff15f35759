"""UDP probes against sockets on loopback: each named outcome."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from kernlb.health.check import Carried, DnsCheck, Target, UdpCheck
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes.datagram import STRANGERS, Exchange
from kernlb.health.probes.making import make_probe
from tests.unit.health.probes.far_ends import (
    HERE,
    PATIENCE,
    SHORT,
    answering,
    ask,
    closed_port,
    run,
    sockets,
    target,
)

STRANGER = "127.0.0.2"
PING = UdpCheck(payload=b"ping", reply=b"pong")


@pytest.mark.parametrize(
    ("check", "reply", "outcome"),
    [
        (PING, b"pong", Outcome.PASSED),
        (PING, b"<<pong>>", Outcome.PASSED),
        (PING, b"gnop", Outcome.WRONG_REPLY),
        (PING, b"", Outcome.WRONG_REPLY),
        (PING, b"\xff\x00\x1b" * 20000, Outcome.WRONG_REPLY),
        (UdpCheck(b"ping", reply_regex=rb"\xffn[0-9]+$"), b"\xffn42", Outcome.PASSED),
        (UdpCheck(b"ping", reply_regex=rb"n[0-9]+$"), b"n42 ", Outcome.WRONG_REPLY),
        (UdpCheck(b"ping", reply_regex=rb"(a+)+$"), b"a" * 64 + b"!", Outcome.WRONG_REPLY),
        (UdpCheck(b"ping", reply=b"a", reply_regex=rb"b"), b"ab", Outcome.PASSED),
        (UdpCheck(b"ping", reply=b"a", reply_regex=rb"b"), b"a", Outcome.WRONG_REPLY),
        (UdpCheck(b"ping", reply=b"a", reply_regex=rb"b"), b"b", Outcome.WRONG_REPLY),
        (UdpCheck(b"ping", require_reply=True), b"", Outcome.PASSED),
        (UdpCheck(b"ping"), b"anything", Outcome.PASSED),
        (UdpCheck(), b"anything", Outcome.PASSED),
    ],
)
def test_a_reply(check: UdpCheck, reply: bytes, outcome: Outcome) -> None:
    with answering(lambda data: [reply] if data == check.payload else []) as port:
        result = ask(check, target(port))
    assert result.outcome is outcome, result


def test_a_wrong_reply_is_quoted() -> None:
    with answering(lambda _: [b"gnop\n"]) as port:
        assert ask(PING, target(port)).detail == '"gnop", expected "pong"'


@pytest.mark.parametrize(
    ("check", "outcome"),
    [
        (UdpCheck(b"ping"), Outcome.PASSED),
        (UdpCheck(b"ping", require_reply=True), Outcome.NO_REPLY),
        (PING, Outcome.NO_REPLY),
        (UdpCheck(b"ping", reply_regex=b"."), Outcome.NO_REPLY),
    ],
)
def test_silence(check: UdpCheck, outcome: Outcome) -> None:
    with answering(lambda _: []) as port:
        result = ask(check, target(port), SHORT)
    assert result.outcome is outcome
    assert result.duration >= SHORT - 0.01  # the loop's clock goes by milliseconds


@pytest.mark.parametrize("check", [PING, UdpCheck(b"ping"), UdpCheck()])
@pytest.mark.parametrize("host", [HERE, "::1"])
def test_a_closed_port_is_known_at_once(check: UdpCheck, host: str) -> None:
    port = closed_port(socket.SOCK_DGRAM)
    result = ask(check, target(port, host))
    assert result.outcome is Outcome.REFUSED
    assert result.duration < PATIENCE / 4  # half of the timeout


def test_a_reply_over_ipv6() -> None:
    with answering(lambda _: [b"pong"], "::1") as port:
        assert ask(PING, target(port, "::1")).outcome is Outcome.PASSED


@pytest.mark.parametrize("check", [PING, UdpCheck(b"ping")])
def test_a_reply_from_another_port_of_the_server(check: UdpCheck) -> None:
    with relayed(HERE) as port:
        result = ask(check, target(port), SHORT)
    assert result.outcome is Outcome.WRONG_SOURCE
    assert result.detail.startswith("came from port ")


def test_a_reply_from_another_host_where_one_was_due() -> None:
    """A server with two addresses, or the VIP's answer from its own: told, and no sooner than that
    nothing came would be."""
    with relayed(STRANGER) as port:
        result = ask(PING, target(port), SHORT)
    assert result.outcome is Outcome.WRONG_SOURCE
    assert result.detail.startswith(f"came from {STRANGER} port ")
    assert result.duration >= SHORT - 0.01  # the loop's clock goes by milliseconds


def test_a_stranger_makes_no_silence_bad() -> None:
    with relayed(STRANGER) as port:
        assert ask(UdpCheck(b"ping"), target(port), SHORT).outcome is Outcome.PASSED


def test_a_stranger_hides_nothing_that_the_server_said() -> None:
    with relayed(STRANGER, then=b"pong") as port:
        assert ask(PING, target(port)).outcome is Outcome.PASSED
    with relayed(HERE, after=STRANGER) as port:
        assert ask(PING, target(port), SHORT).detail.startswith("came from port ")


@pytest.mark.parametrize("check", [PING, UdpCheck(b"ping")])
def test_a_flood_from_elsewhere_ends_with_the_timeout(check: UdpCheck) -> None:
    with relayed(STRANGER, times=5000) as port:
        result = ask(check, target(port), SHORT)
    silence = Outcome.WRONG_SOURCE if check is PING else Outcome.PASSED
    assert result.outcome is silence
    assert result.duration < PATIENCE / 4


@pytest.mark.parametrize("host", [HERE, STRANGER])
def test_of_a_flood_little_is_heard_and_the_server_still_is(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    enough = asyncio.Event()
    hear = Exchange._hear

    def noting(exchange: Exchange, data: bytes, source: tuple[str, int]) -> None:
        heard.append(source[0])
        hear(exchange, data, source)
        if len(heard) == STRANGERS:
            enough.set()

    monkeypatch.setattr(Exchange, "_hear", noting)

    async def main() -> Result:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = loop.create_future()
        with bound(HERE) as server, bound(host) as other:
            port = server.getsockname()[1]
            make_probe(PING, PATIENCE, target(port), loop).start(ended.set_result)
            _, probe = server.recvfrom(100)
            for _ in range(STRANGERS):
                other.sendto(b"pong", probe)
            await asyncio.wait_for(enough.wait(), PATIENCE)
            for _ in range(1000):
                other.sendto(b"pong", probe)
            server.sendto(b"pong", probe)
            return await asyncio.wait_for(ended, PATIENCE)

    assert run(main).outcome is Outcome.PASSED
    assert heard == [host] * STRANGERS + [HERE]


def test_a_server_that_floods_with_what_is_no_answer_is_not_heard_out() -> None:
    async def main() -> Result:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = loop.create_future()
        with bound(HERE) as server:
            port = server.getsockname()[1]
            make_probe(DnsCheck(), PATIENCE, target(port), loop).start(ended.set_result)
            query, probe = server.recvfrom(100)
            foreign = bytes([query[0] ^ 1, query[1], 0x81, 0x80, *bytes(8)])
            while not ended.done():
                server.sendto(foreign, probe)
                await asyncio.sleep(0)
            return await ended

    result = run(main)
    assert result.outcome is Outcome.MALFORMED
    assert result.duration < PATIENCE / 2


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    return sock


class relayed:  # noqa: N801
    """A server on loopback that answers "pong" from another socket, at ``host``."""

    def __init__(
        self, host: str, then: bytes | None = None, times: int = 1, after: str | None = None
    ) -> None:
        """``after``: where one more comes from."""
        self._here, self._other = bound(HERE), bound(host)
        self._last = None if after is None else bound(after)
        self._then, self._times = then, times
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            data, source = self._here.recvfrom(100)
            if data == b"stop":
                return
            for _ in range(self._times):
                self._other.sendto(b"pong", source)
            if self._last is not None:
                self._last.sendto(b"pong", source)
            if self._then is not None:
                self._here.sendto(self._then, source)

    def __enter__(self) -> int:
        self._thread.start()
        return int(self._here.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._other.sendto(b"stop", self._here.getsockname())
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._here.close()
        self._other.close()
        if self._last is not None:
            self._last.close()


def test_nobody_counts_what_this_host_cannot_send() -> None:
    source = target(1, "192.0.2.1").address  # no address of ours
    carried = Carried(mark=7, vip=target(1).address, source=source)
    result = ask(PING, Target(target(1).address, 9, carried=carried, service_port=9))
    assert result.outcome is Outcome.NOT_ASKED


def test_a_probe_that_is_cancelled_says_nothing_and_leaves_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        heard: list[Result] = []
        port = closed_port(socket.SOCK_DGRAM)
        probe = make_probe(PING, 0.05, target(port), loop)
        before = sockets()
        running = probe.start(heard.append)
        running.cancel()
        running.cancel()
        assert sockets() == before
        later: asyncio.Future[Result] = loop.create_future()
        with answering(lambda _: []) as silent:  # ends after the other's timeout
            make_probe(PING, 0.1, target(silent), loop).start(later.set_result)
            await later
        assert not heard

    run(main)
