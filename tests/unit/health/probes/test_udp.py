"""UDP probes against sockets on loopback: each named outcome."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from kernlb.health.check import Carried, Target, UdpCheck
from kernlb.health.outcome import Outcome, Result
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


@pytest.mark.parametrize(("host", "told"), [(HERE, "port "), ("127.0.0.2", "127.0.0.2 port ")])
@pytest.mark.parametrize("check", [PING, UdpCheck(b"ping")])
def test_a_reply_from_elsewhere(check: UdpCheck, host: str, told: str) -> None:
    with relayed(host) as port:
        result = ask(check, target(port), SHORT)
    assert result.outcome is Outcome.WRONG_SOURCE
    assert result.detail.startswith(f"came from {told}")


def test_a_reply_from_elsewhere_does_not_hide_the_right_one() -> None:
    with relayed("127.0.0.2", then=b"pong") as port:
        assert ask(PING, target(port)).outcome is Outcome.PASSED


def test_a_flood_from_elsewhere_ends_with_the_timeout() -> None:
    with relayed("127.0.0.2", times=5000) as port:
        result = ask(PING, target(port), SHORT)
    assert result.outcome is Outcome.WRONG_SOURCE
    assert result.duration < PATIENCE / 4


class relayed:  # noqa: N801
    """A server on loopback that answers "pong" from another socket, at ``host``."""

    def __init__(self, host: str, then: bytes | None = None, times: int = 1) -> None:
        self._here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._here.bind((HERE, 0))
        self._other.bind((host, 0))
        self._then, self._times = then, times
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            data, source = self._here.recvfrom(100)
            if data == b"stop":
                return
            for _ in range(self._times):
                self._other.sendto(b"pong", source)
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
