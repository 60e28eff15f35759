"""ICMP on real sockets; and, for all probes, what only a network can answer (``apart``)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest

from kernlb.health.check import IcmpCheck, Target
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import icmp, icmp_packets
from kernlb.health.probes.making import make_probe
from tests.unit.health.probes.apart import CASES
from tests.unit.health.probes.backends import LOCALHOST, LOOPS, ask, descriptors, run

Answers = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Case -> outcome and detail, from a network of its own."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.unit.health.probes.apart"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    return {name: (outcome, detail) for name, outcome, _, detail in rows}


@pytest.mark.netns
@pytest.mark.parametrize("case", CASES)
def test_what_a_network_answers_has_its_name(case: str, answers: Answers) -> None:
    _, _, outcome, detail = CASES[case]
    assert answers[case] == (outcome.name, detail)


@pytest.mark.netns
@pytest.mark.parametrize("loop", LOOPS)
def test_a_thousand_targets_share_one_socket_and_each_hears_its_own(loop: str) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        await ask(IcmpCheck(), Target(LOCALHOST, 0))  # the socket is there from now on
        before = descriptors()
        futures = []
        for number in range(1000):
            answered: asyncio.Future[Result] = there.create_future()
            target = Target(IPv4Address("127.2.0.0") + number, 0)
            make_probe(IcmpCheck(), 5.0, target, there).start(answered.set_result)
            futures.append(answered)
        assert descriptors() <= before
        results = await asyncio.gather(*futures)
        assert {each.outcome for each in results} == {Outcome.PASSED}
        return results[0]

    run(asked(), LOOPS[loop])


@pytest.mark.netns
@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_echo_says_nothing(loop: str) -> None:
    async def asked() -> Result:
        there = asyncio.get_running_loop()
        heard: list[Result] = []
        target = Target(LOCALHOST, 0)
        running = make_probe(IcmpCheck(), 1.0, target, there).start(heard.append)
        running.cancel()
        running.cancel()
        result = await ask(IcmpCheck(), target)  # answered after the first would have been
        assert not heard
        return result

    assert run(asked(), LOOPS[loop]).outcome is Outcome.PASSED


@pytest.mark.netns
def test_replies_that_are_not_what_was_asked_for_have_their_names_or_none() -> None:
    """Forged ones are put to the socket's own parser: nobody else can send them on loopback."""

    async def asked() -> Result:
        there = asyncio.get_running_loop()
        answered: asyncio.Future[Result] = there.create_future()
        echo = make_probe(IcmpCheck(), 5.0, Target(IPv4Address("127.0.0.1"), 0), there).start(
            answered.set_result
        )
        assert isinstance(echo, icmp._Echo) and echo.pinger is not None
        pinger = echo.pinger
        sequence, payload = echo.sequence, echo.payload

        def reply(identifier: int, sequence: int, payload: bytes) -> bytes:
            return icmp_packets.request(4, identifier, sequence, payload)

        ours = pinger._identifier
        for forged in (
            b"",
            bytes(7),
            reply(ours ^ 1, sequence, payload),
            reply(ours, sequence ^ 1, payload),
            reply(ours, sequence, bytes(8) + payload[8:]),
            reply(ours, sequence, payload[:7]),
        ):
            pinger._hear(forged, "127.0.0.1")
            assert not answered.done()
        pinger._hear(reply(ours, sequence, payload), "127.0.0.2")
        result = await answered
        assert result[::2] == (Outcome.WRONG_SOURCE, "from 127.0.0.2")
        answered = there.create_future()
        echo = make_probe(IcmpCheck(), 5.0, Target(IPv4Address("127.0.0.1"), 0), there).start(
            answered.set_result
        )
        assert isinstance(echo, icmp._Echo)
        pinger._hear(reply(ours, echo.sequence, echo.payload[:-1]), "127.0.0.1")
        return await answered

    assert run(asked()).outcome is Outcome.WRONG_REPLY


def test_without_the_privilege_nothing_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that gave its privileges up."""
    program = (
        "import asyncio, os; os.setgid(65534); os.setuid(65534)\n"
        "from ipaddress import ip_address\n"
        "from kernlb.health.check import IcmpCheck, Target\n"
        "from kernlb.health.probes.icmp import IcmpProbe\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    answered = loop.create_future()\n"
        "    target = Target(ip_address('127.0.0.1'), 0)\n"
        "    IcmpProbe(IcmpCheck(), 1.0, target, loop).start(answered.set_result)\n"
        "    print(await answered)\n"
        "import kernlb.health.probes.trouble\n"
        "asyncio.run(main())\n"
    )
    if os.geteuid():
        program = program.replace("os.setgid(65534); os.setuid(65534)", "pass")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "could not ask: operation not permitted\n", done.stderr


@pytest.mark.netns
@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_where_too_much_waits_to_be_sent_nobody_is_blamed(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(icmp._Pinger, "send", full)
    result = run(ask(IcmpCheck(), Target(LOCALHOST, 0)))
    assert result[::2] == (Outcome.NOT_ASKED, "too many echo requests wait for an answer")


@pytest.mark.parametrize("size", [0, 1, 8, 9, 32, 1000])
@pytest.mark.parametrize("version", [4, 6])
def test_a_request_is_read_back(version: int, size: int) -> None:
    payload = bytes(icmp_packets.COOKIE) + icmp_packets.fill(size)
    assert len(payload) == max(size, icmp_packets.COOKIE)
    packet = icmp_packets.request(version, 0x1234, 0xFFFF, payload)
    echo = icmp_packets.parse(packet)
    assert echo == (icmp_packets.REQUEST[version], 0x1234, 0xFFFF, payload)
    if version == 4:
        assert icmp_packets.checksum(packet) == 0


@pytest.mark.parametrize(
    ("data", "sum_"),
    [
        (b"", 0xFFFF),
        (bytes(4), 0xFFFF),
        (b"\xff\xff", 0),
        # the example of RFC 1071, section 3
        (bytes.fromhex("0001f203f4f5f6f7"), 0xFFFF - 0xDDF2),
        (b"\x01", 0xFEFF),
    ],
)
def test_the_checksum_is_that_of_rfc_1071(data: bytes, sum_: int) -> None:
    assert icmp_packets.checksum(data) == sum_


def test_every_error_of_a_destination_counts_and_no_other_does() -> None:
    assert {kind for kind, _ in icmp_packets.ERRORS_4} == {3, 11}
    assert (3, 4) not in icmp_packets.ERRORS_4  # fragmentation needed
    assert {kind for kind, _ in icmp_packets.ERRORS_6} == {1, 3, 4}
    for outcome, words in [*icmp_packets.ERRORS_4.values(), *icmp_packets.ERRORS_6.values()]:
        assert outcome.opinion == "bad"
        assert words.isprintable()


def test_packets_of_ipv4_are_unwrapped_by_their_own_length() -> None:
    assert icmp_packets.without_ip(b"\x45" + bytes(19) + b"echo") == b"echo"
    assert icmp_packets.without_ip(b"\x46" + bytes(23) + b"echo") == b"echo"
    assert icmp_packets.without_ip(b"") == b""


def test_a_target_of_ipv6_is_asked_from_its_family() -> None:
    assert run(ask(IcmpCheck(), Target(IPv6Address("::1"), 0))).outcome is Outcome.PASSED
