"""DNS probes: against dnsmasq, over UDP and TCP, and against servers that say what they like."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from kernlb.health.check import DnsCheck
from kernlb.health.outcome import Outcome
from kernlb.health.probes.dns import LONGEST
from tests.unit.health.probes.far_ends import (
    HERE,
    PATIENCE,
    SHORT,
    answering,
    ask,
    closed_port,
    full_backlog,
    says,
    serving,
    target,
)

RECORDS = (
    "--host-record=www.example.test,192.0.2.1",
    "--host-record=www.example.test,192.0.2.2",
    "--host-record=six.example.test,2001:db8::1",
    "--cname=alias.example.test,www.example.test",
    "--mx-host=example.test,mail.example.test,10",
    "--txt-record=example.test,v=spf1 -all,second",
    "--srv-host=_http._tcp.example.test,www.example.test,8080,1,2",
    "--ptr-record=1.2.0.192.in-addr.arpa,www.example.test",
    "--address=/nowhere.test/",  # NXDOMAIN
)


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    """Somebody else's server."""
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None, "dnsmasq is not installed (.ci/setup installs it)"
    port = closed_port()
    plain = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts")
    bound = ("--bind-interfaces", f"--listen-address={HERE}", f"--port={port}", "--pid-file=")
    with subprocess.Popen([program, *plain, *bound, *RECORDS]) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while socket.socket().connect_ex((HERE, port)):
                assert process.poll() is None
                assert time.monotonic() < deadline
            yield port
        finally:
            process.terminate()


WWW = "www.example.test"
ASKED = [
    (DnsCheck(WWW, "A"), Outcome.PASSED, ""),
    (DnsCheck(f"{WWW}.", "A"), Outcome.PASSED, ""),
    (DnsCheck("WWW.Example.Test", "A", answer="192.0.2.1"), Outcome.PASSED, ""),
    (DnsCheck(WWW, "A", answer="192.0.2.2"), Outcome.PASSED, ""),
    (
        DnsCheck(WWW, "A", answer="192.0.2.3"),
        Outcome.WRONG_ANSWER,
        '"192.0.2.1", "192.0.2.2", expected "192.0.2.3"',
    ),
    (DnsCheck("six.example.test", "AAAA", answer="2001:0DB8:0::1"), Outcome.PASSED, ""),
    (
        DnsCheck("six.example.test", "AAAA", answer="2001:db8::2"),
        Outcome.WRONG_ANSWER,
        '"2001:db8::1", expected "2001:db8::2"',
    ),
    (DnsCheck("alias.example.test", "A", answer="192.0.2.1"), Outcome.PASSED, ""),
    (DnsCheck("alias.example.test", "CNAME", answer="WWW.example.test"), Outcome.PASSED, ""),
    (DnsCheck("example.test", "MX", answer="10 mail.example.test"), Outcome.PASSED, ""),
    (DnsCheck("example.test", "TXT", answer="v=spf1 -allsecond"), Outcome.PASSED, ""),
    (
        DnsCheck("_http._tcp.example.test", "SRV", answer="1 2 8080 www.example.test."),
        Outcome.PASSED,
        "",
    ),
    (DnsCheck("1.2.0.192.in-addr.arpa", "PTR", answer=WWW), Outcome.PASSED, ""),
    (
        DnsCheck("x.nowhere.test", "A"),
        Outcome.WRONG_RCODE,
        "NXDOMAIN, expected NOERROR",
    ),
    (DnsCheck("x.nowhere.test", "A", rcodes=("NOERROR", "NXDOMAIN")), Outcome.PASSED, ""),
    (DnsCheck("elsewhere.invalid", "A"), Outcome.WRONG_RCODE, "REFUSED, expected NOERROR"),
    (DnsCheck(rcodes=("REFUSED",)), Outcome.PASSED, ""),
    (DnsCheck("a..b", "A"), Outcome.NOT_ASKED, "DNS name 'a..b.' has a label that is not of 1"),
    (DnsCheck("a b", "A"), Outcome.NOT_ASKED, "DNS name 'a b.' has a label that is not plain"),
    (DnsCheck("é", "A"), Outcome.NOT_ASKED, "DNS name 'é.' has a label that is not plain"),
    (DnsCheck("a" * 64, "A"), Outcome.NOT_ASKED, "DNS name 'aaaa"),
    (DnsCheck("a." * 127 + "a", "A"), Outcome.NOT_ASKED, "DNS name 'a.a."),
    (DnsCheck("a", "B"), Outcome.NOT_ASKED, "DNS type B is unknown (known: A, NS"),
    (DnsCheck("a", "A", answer="::1"), Outcome.NOT_ASKED, "'::1' is no value of DNS type A"),
    (DnsCheck("a", "DS", answer="1"), Outcome.NOT_ASKED, "answers of DNS type DS cannot be"),
    (DnsCheck("a", "A", rcodes=("OK",)), Outcome.NOT_ASKED, "DNS rcode OK is unknown (known: NO"),
]


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("asked", range(len(ASKED)))
def test_dnsmasq(dnsmasq: int, asked: int, tcp: bool) -> None:
    check, outcome, detail = ASKED[asked]
    check = DnsCheck(check.query, check.type, check.rcodes, check.answer, tcp)
    result = ask(check, target(dnsmasq), timeout=10)
    assert result.outcome is outcome, result
    if outcome is Outcome.WRONG_ANSWER and "192.0.2" in detail:  # dnsmasq takes turns
        assert result.detail in (detail, '"192.0.2.2", "192.0.2.1", expected "192.0.2.3"')
    else:
        assert result.detail.startswith(detail)
        assert bool(result.detail) == bool(detail)


# Servers that say what they like: a query in, messages out.

A_CHECK = DnsCheck("a.test", "A", answer="192.0.2.1")
A_RECORD = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 1])


def reply(
    flags: int = 0x8180,
    answers: bytes = A_RECORD,
    count: int = 1,
    questions: int = 1,
    number: int = 0,
    question: bytes | None = None,
) -> Callable[[bytes], bytes]:
    """An answer to a query: ``number`` is added to its id."""

    def make(query: bytes) -> bytes:
        wrong = (int.from_bytes(query[:2], "big") + number) % 65536
        header = struct.pack("!6H", wrong, flags, questions, count, 0, 0)
        return header + (query[12:] if question is None else question) + answers

    return make


def record(kind: int, data: bytes, length: int | None = None, name: bytes = b"\xc0\x0c") -> bytes:
    size = len(data) if length is None else length
    return name + struct.pack("!HHIH", kind, 1, 60, size) + data


MX = DnsCheck("a.test", "MX", answer="1 a.test")
TXT = DnsCheck("a.test", "TXT", answer="abc")
Make = Callable[[bytes], bytes]
SAYINGS: dict[str, tuple[DnsCheck, Make, Outcome, str]] = {
    "the answer": (A_CHECK, reply(), Outcome.PASSED, ""),
    "the answer among others": (
        A_CHECK,
        reply(answers=record(16, b"\1x") + A_RECORD, count=2),
        Outcome.PASSED,
        "",
    ),
    "servfail": (A_CHECK, reply(0x8182), Outcome.WRONG_RCODE, "SERVFAIL, expected NOERROR"),
    "servfail without a question": (
        A_CHECK,
        reply(0x8182, b"", 0, questions=0, question=b""),
        Outcome.WRONG_RCODE,
        "SERVFAIL, expected NOERROR",
    ),
    "rcode 15": (A_CHECK, reply(0x818F), Outcome.WRONG_RCODE, "RCODE15, expected NOERROR"),
    "truncated": (
        A_CHECK,
        reply(0x8380, b"", 0),
        Outcome.WRONG_ANSWER,
        'none, expected "192.0.2.1", truncated',
    ),
    "truncated, with the answer": (
        A_CHECK,
        reply(0x8380, A_RECORD + b"\xc0", 2),
        Outcome.PASSED,
        "truncated",
    ),
    "no answer": (A_CHECK, reply(answers=b"", count=0), Outcome.WRONG_ANSWER, "none, expected"),
    "a hundred answers": (
        A_CHECK,
        reply(answers=record(1, bytes([192, 0, 2, 9])) * 100, count=100),
        Outcome.WRONG_ANSWER,
        '"192.0.2.9", "192.0.2.9", "192.0.2.9" and 97 more, expected "192.0.2.1"',
    ),
    "empty": (A_CHECK, lambda _: b"", Outcome.MALFORMED, "0 bytes are no DNS message"),
    "eleven bytes": (A_CHECK, lambda query: query[:11], Outcome.MALFORMED, "11 bytes are no"),
    "an echo": (A_CHECK, lambda query: query, Outcome.MALFORMED, "a query came back"),
    "noise": (A_CHECK, lambda _: b"\xff" * 100, Outcome.MALFORMED, "the answer has the id of"),
    "the wrong id": (A_CHECK, reply(number=1), Outcome.MALFORMED, "the answer has the id of"),
    "another name": (
        A_CHECK,
        reply(question=b"\1b\4test\0\0\1\0\1"),
        Outcome.MALFORMED,
        "the answer is to another question",
    ),
    "another type": (
        A_CHECK,
        reply(question=b"\1a\4test\0\0\2\0\1"),
        Outcome.MALFORMED,
        "the answer is to another question",
    ),
    "another case": (A_CHECK, reply(question=b"\1A\4tEst\0\0\1\0\1"), Outcome.PASSED, ""),
    "no question": (
        A_CHECK,
        reply(questions=0, question=b""),
        Outcome.MALFORMED,
        "the answer repeats 0 questions, not 1",
    ),
    "more answers than there are": (
        A_CHECK,
        reply(count=65535),
        Outcome.MALFORMED,
        "the message ends too early",
    ),
    "a short A": (
        A_CHECK,
        reply(answers=record(1, b"abc")),
        Outcome.MALFORMED,
        "an A record is not of 4 bytes",
    ),
    "a length beyond the end": (
        A_CHECK,
        reply(answers=record(1, b"abcd", 5)),
        Outcome.MALFORMED,
        "the message ends too early",
    ),
    "a name that is no label": (
        A_CHECK,
        reply(answers=b"\x80" + A_RECORD),
        Outcome.MALFORMED,
        "a label is of an unknown kind",
    ),
    "a name that points at itself": (
        MX,
        reply(answers=record(15, b"\0\1\xc0\x26")),
        Outcome.MALFORMED,
        "a name points forward or at itself",
    ),
    "a name that points forward": (
        MX,
        reply(answers=record(15, b"\0\1\xc0\xff")),
        Outcome.MALFORMED,
        "a name points forward or at itself",
    ),
    "two names that point at each other": (
        MX,
        reply(answers=record(15, b"\0\1\xc0\x28\xc0\x26")),
        Outcome.MALFORMED,
        "a name points forward or at itself",
    ),
    "a question that points at itself": (
        A_CHECK,
        reply(question=b"\xc0\x0c\0\1\0\1"),
        Outcome.MALFORMED,
        "a name points forward or at itself",
    ),
    "a name by its pointer": (MX, reply(answers=record(15, b"\0\1\xc0\x0c")), Outcome.PASSED, ""),
    "a name longer than 255": (
        MX,
        reply(answers=record(15, b"\0\1" + b"\1a" * 130 + b"\0")),
        Outcome.MALFORMED,
        "a name is too long",
    ),
    "an MX with more behind": (
        MX,
        reply(answers=record(15, b"\0\1\xc0\x0cx")),
        Outcome.MALFORMED,
        "a record is not as long as what it holds",
    ),
    "an MX of a byte": (
        MX,
        reply(answers=record(15, b"\0")),
        Outcome.MALFORMED,
        "a record is too short",
    ),
    "a text": (TXT, reply(answers=record(16, b"\1a\2bc")), Outcome.PASSED, ""),
    "a text beyond its record": (
        TXT,
        reply(answers=record(16, b"\7a") + b"x" * 9),
        Outcome.MALFORMED,
        "a string is longer than its record",
    ),
    "a text of control characters": (
        TXT,
        reply(answers=record(16, b"\4\x1b[2J")),
        Outcome.WRONG_ANSWER,
        '".[2J", expected "abc"',
    ),
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_a_server_that_says_over_udp(saying: str) -> None:
    check, make, outcome, detail = SAYINGS[saying]
    elsewhere = detail.startswith(("the answer has", "the answer is"))  # waits for a better one
    with answering(lambda query: [make(query)]) as port:
        result = ask(check, target(port), *([SHORT] if elsewhere else []))
    assert result.outcome is outcome, result
    assert result.detail.startswith(detail)


@pytest.mark.parametrize("saying", SAYINGS)
def test_a_server_that_says_over_tcp(saying: str) -> None:
    check, make, outcome, detail = SAYINGS[saying]

    def serve(connection: socket.socket) -> None:
        answer = make(connection.recv(4096)[2:])
        connection.sendall(len(answer).to_bytes(2, "big"))
        connection.sendall(answer)
        connection.recv(1)

    with serving(serve) as port:
        result = ask(DnsCheck(check.query, check.type, answer=check.answer, tcp=True), target(port))
    assert result.outcome is outcome, result
    assert result.detail.startswith(detail)


def test_an_answer_to_another_query_does_not_hide_the_right_one() -> None:
    with answering(lambda query: [reply(number=1)(query), reply()(query)]) as port:
        assert ask(A_CHECK, target(port)).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("pieces", "hangs", "outcome"),
    [
        ([b"\0"], False, Outcome.CLOSED),
        ([b"\0\x40abc"], False, Outcome.CLOSED),
        ([], False, Outcome.CLOSED),
        ([b"\0\x40abc"], True, Outcome.STALLED),
        ([], True, Outcome.RESPONSE_TIMEOUT),
        ([b"\xff\xff" + b"x" * 65535], True, Outcome.TOO_LONG),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], False, Outcome.TOO_LONG),
    ],
)
def test_a_server_over_tcp_that_breaks_off(
    pieces: list[bytes], hangs: bool, outcome: Outcome
) -> None:
    with serving(says(*pieces, then_hang=hangs, reads=True)) as port:
        assert ask(DnsCheck(tcp=True), target(port), SHORT).outcome is outcome


def test_no_server() -> None:
    assert ask(DnsCheck(), target(closed_port(socket.SOCK_DGRAM))).outcome is Outcome.REFUSED
    assert ask(DnsCheck(tcp=True), target(closed_port())).outcome is Outcome.REFUSED


def test_silence() -> None:
    with answering(lambda _: []) as port:
        assert ask(DnsCheck(), target(port), SHORT).outcome is Outcome.NO_REPLY
    with full_backlog() as port:
        late = ask(DnsCheck(tcp=True), target(port), SHORT)
        assert late.outcome is Outcome.CONNECT_TIMEOUT


def test_an_answer_over_udp_that_is_too_long() -> None:
    with answering(lambda query: [reply()(query) + b"x" * LONGEST[False]]) as port:
        assert ask(A_CHECK, target(port)).outcome is Outcome.TOO_LONG


def test_each_probe_has_an_id_of_its_own() -> None:
    ids: set[bytes] = set()

    def note(query: bytes) -> list[bytes]:
        ids.add(query[:2])
        return [reply()(query)]

    with answering(note) as port:
        for _ in range(8):
            ask(A_CHECK, target(port))
    assert len(ids) > 2
