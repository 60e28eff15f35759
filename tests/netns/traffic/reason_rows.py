"""The table of `reasons`: every way in which a real server can fail its probe."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.health.outcome import Outcome
from tests.netns.traffic.balancer import Json
from tests.netns.traffic.reason_backends import (
    Backend,
    Datagrams,
    Filtered,
    Full,
    Nothing,
    Script,
    Stream,
    drips,
)
from tests.unit.health.probes.certificates import NAME
from tests.unit.health.probes.far_ends import Handler, resets, says
from tests.unit.health.probes.test_dns import A_RECORD, reply
from tests.unit.health.probes.test_grpc import GOOD as HEADERS
from tests.unit.health.probes.test_grpc import OK as TRAILERS
from tests.unit.health.probes.test_grpc import UP, answers, call, message

FOLDER = "@folder@"  # stands for the run's own, in checks


@dataclass(frozen=True, slots=True)
class Row:
    """``why`` begins with an outcome. ``serves``: clients are served by the lab's nginx, which the
    check does not ask, so that a server which is down would answer."""

    check: Json
    good: Backend
    bad: Backend
    why: str
    serves: bool = False


def tells(status: str, body: bytes = b"hello", length: int = 0) -> Handler:
    """An answer of HTTP, with a body of this length in its header."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return says(head.encode() + body, reads=True)


SILENT = Stream(says(then_hang=True))
SMTP = Stream(says(b"220 mail\r\n", then_hang=True))
HELLO = tells("200 OK")
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"
ENDLESS = Stream(says(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 9999, reads=True))
RECORD = b"\x16\x03\x03\0\x80\x02"  # of TLS, begun

TCP: Json = {"type": "tcp"}
HTTP: Json = {"type": "http", "body": "hello"}
_TLS: Json = {"ca": f"{FOLDER}/ca.pem", "server_name": NAME}
HTTPS: Json = {"type": "https", "body": "hello", **_TLS}
TLS: Json = {"type": "tls", **_TLS}
UDP: Json = {"type": "udp", "payload": "ping", "reply": "pong"}
DNS: Json = {"type": "dns", "query": "a.test", "record": "A", "answer": "192.0.2.1"}
GRPC: Json = {"type": "grpc"}
AGENT: Json = {"type": "agent"}
SHELL = f". {FOLDER}/$KERNLB_SERVICE_PORT.$KERNLB_ADDRESS"  # what the server's backend wrote
EXEC: Json = {"type": "exec", "command": ["/bin/sh", "-c", SHELL]}


def icmp(size: int, verdict: str, why: str, serves: bool = False) -> Row:
    """The packet filter knows a row's requests by their size."""
    return Row({"type": "icmp", "size": size}, Nothing(), Filtered(verdict), why, serves)


def tcp(bad: Backend, why: str) -> Row:
    return Row(TCP, SILENT, bad, why)


def http(bad: Backend | Handler, why: str, **more: object) -> Row:
    return Row({**HTTP, **more}, Stream(HELLO), _stream(bad), why)


def https(bad: Backend, why: str) -> Row:
    return Row(HTTPS, Stream(HELLO, "good"), bad, why)


def tls(bad: Backend, why: str) -> Row:
    return Row(TLS, Stream(SILENT.handler, "good"), bad, why)


def udp(bad: Backend, why: str, **more: object) -> Row:
    return Row({**UDP, **more}, Datagrams(lambda _: [b"pong"]), bad, why)


def dns(bad: Backend, why: str) -> Row:
    return Row(DNS, Datagrams(lambda query: [reply()(query)]), bad, why)


def dns_tcp(bad: bytes, why: str) -> Row:
    def good(sock) -> None:  # type: ignore[no-untyped-def]
        said = reply()(sock.recv(512)[2:])
        sock.sendall(len(said).to_bytes(2, "big") + said)

    return Row({**DNS, "tcp": True}, Stream(good), Stream(says(bad, then_hang=True)), why)


def grpc(bad: Backend | Handler, why: str) -> Row:
    return Row(GRPC, Stream(SERVING), _stream(bad), why)


def program(bad: str, why: str, serves: bool = False, **more: object) -> Row:
    return Row({**EXEC, **more}, Script("echo fine"), Script(bad), why, serves)


def agent(bad: Backend | Handler, why: str, serves: bool = True) -> Row:
    return Row(AGENT, Stream(says(b"up\n")), _stream(bad), why, serves)


def _stream(bad: Backend | Handler) -> Backend:
    return Stream(bad) if callable(bad) else bad


def rcode(flags: int) -> Datagrams:
    return Datagrams(lambda query: [reply(flags, b"", 0)(query)])


def health(number: int) -> Handler:
    """The health service says this status, by its number."""
    return answers(call(HEADERS, message(bytes([8, number])), TRAILERS))


SERVING = answers(call(HEADERS, UP, TRAILERS))
OTHER_RECORD = A_RECORD[:-1] + b"\x09"
ROWS: dict[str, Row] = {
    "icmp-unanswered": icmp(32, "drop", "no reply", serves=True),
    "icmp-prohibited": icmp(
        64, "reject with icmp admin-prohibited", "administratively prohibited: by a filter"
    ),
    "icmp-unreachable": icmp(
        96, "reject with icmp host-unreachable", "unreachable: host unreachable"
    ),
    "tcp-closed-port": tcp(Nothing(), "connection refused"),
    "tcp-blackhole": tcp(Filtered("drop"), "no answer to connect"),
    "tcp-slow-accept": tcp(Full(), "no answer to connect"),
    "tcp-unreachable": tcp(
        Filtered("reject with icmp host-unreachable"), "unreachable: no route to host"
    ),
    "tcp-no-protocol": tcp(Filtered("reject with icmp prot-unreachable"), "protocol unreachable"),
    "http-closed-port": http(Nothing(), "connection refused"),
    "http-blackhole": http(Filtered("drop"), "no answer to connect"),
    "http-slow-answer": http(SILENT, "connected, then nothing"),
    "http-slow-body": http(drips(LONG, b"hello" * 100), "answer stopped half way"),
    "http-half-then-hang": http(says(HALF, then_hang=True, reads=True), "answer stopped half way"),
    "http-half-then-end": http(says(HALF, reads=True), "closed before an answer was whole"),
    "http-reset": http(resets, "connection reset"),
    "http-500": http(tells("500 Oops"), "wrong status: status 500, expected 200-399"),
    "http-404": http(tells("404 Gone"), "wrong status: status 404, expected 200", status=[200]),
    "http-wrong-body": http(tells("200 OK", b"bye"), 'wrong body: no "hello" in "bye"'),
    "http-wrong-regex": http(
        tells("200 OK", b"halo"),
        'wrong body: /l{2}o/ is not in "halo"',
        body="h",
        body_regex="l{2}o",
    ),
    "http-other-protocol": http(SMTP, "not the protocol: "),
    "http-headers-without-end": http(ENDLESS, "answer is too long: headers of more than"),
    "https-expired": https(Stream(HELLO, "expired"), "certificate has expired"),
    "https-not-yet-valid": https(Stream(HELLO, "future"), "certificate is not valid yet"),
    "https-wrong-name": https(Stream(HELLO, "other"), "certificate is of another name: Hostname"),
    "https-untrusted": https(Stream(HELLO, "untrusted"), "certificate is not trusted: unable to"),
    "https-not-tls": https(Stream(HELLO), 'not TLS: it answered with "HTTP/1.1 200 OK'),
    "https-500": https(Stream(tells("500 Oops"), "good"), "wrong status: status 500"),
    "https-half-then-hang": https(
        Stream(says(HALF, then_hang=True, reads=True), "good"), "answer stopped half way"
    ),
    "tls-expired": tls(Stream(SILENT.handler, "expired"), "certificate has expired"),
    "tls-wrong-name": tls(Stream(SILENT.handler, "other"), "certificate is of another name"),
    "tls-not-tls": tls(SMTP, 'not TLS: it answered with "220 mail"'),
    "tls-refused": tls(
        Stream(SILENT.handler, "good", "ECDHE-RSA-AES128-GCM-SHA256"), "TLS refused: "
    ),
    "tls-slow-handshake": tls(SILENT, "connected, then nothing: in the TLS handshake"),
    "tls-half-a-handshake": tls(
        Stream(says(RECORD, then_hang=True)), "answer stopped half way: in the TLS handshake"
    ),
    "udp-closed-port": udp(Nothing(), "connection refused"),
    "udp-no-reply": udp(Datagrams(lambda _: []), "no reply"),
    "udp-from-wrong-port": udp(
        Datagrams(lambda _: [b"pong"], elsewhere=True),
        "reply from another address or port: came from port ",
    ),
    "udp-wrong-reply": udp(Datagrams(lambda _: [b"gnop"]), 'wrong reply: "gnop", expected "pong"'),
    "udp-prohibited": udp(
        Filtered("reject with icmp admin-prohibited"), "administratively prohibited"
    ),
    "dns-servfail": dns(rcode(0x8182), "wrong rcode: SERVFAIL, expected NOERROR"),
    "dns-nxdomain": dns(rcode(0x8183), "wrong rcode: NXDOMAIN, expected NOERROR"),
    "dns-wrong-answer": dns(
        Datagrams(lambda query: [reply(answers=OTHER_RECORD)(query)]),
        'wrong answer: "192.0.2.9", expected "192.0.2.1"',
    ),
    "dns-echo": dns(Datagrams(lambda query: [query]), "not the protocol: a query came back"),
    "dns-no-reply": dns(Datagrams(lambda _: []), "no reply"),
    "dns-tcp-half": dns_tcp(b"\0\x40half", "answer stopped half way"),
    "grpc-closed-port": grpc(Nothing(), "connection refused"),
    "grpc-not-serving": grpc(health(2), "not serving"),
    "grpc-unknown-service": grpc(health(3), "unknown service: SERVICE_UNKNOWN"),
    "grpc-unavailable": grpc(
        answers(call([*HEADERS, ("grpc-status", "14")])), "wrong status: UNAVAILABLE"
    ),
    "grpc-slow-answer": grpc(SILENT, "connected, then nothing"),
    "grpc-half-then-hang": grpc(
        answers(call(HEADERS, UP, end=False), then_hang=True), "answer stopped half way"
    ),
    "exec-hang": program("exec sleep 60", "program took too long"),
    "exec-critical": program("echo disk full; exit 2", "exit status critical: disk full", True),
    "exec-unknown": program("exit 77", "exit status unknown: status 77"),
    "exec-warning": program("exit 1", "exit status critical: status 1", warning_fails=True),
    "exec-killed": program("kill -9 $$", "killed by a signal: SIGKILL"),
    "agent-down": agent(says(b"down # disk full\n"), "agent says down: down: disk full"),
    "agent-unknown-word": agent(says(b"sideways\n"), 'not the protocol: unknown word "sideways"'),
    "agent-closed-port": agent(Nothing(), "connection refused"),
    "agent-half-a-line": agent(says(b"u", then_hang=True), "answer stopped half way"),
    "agent-says-nothing": agent(says(), "closed before an answer was whole: the agent said"),
    "several-one-of-two": Row(
        {"all": ["tcp", HTTP]},
        Stream(HELLO),
        Stream(tells("500 Oops")),
        "too few checks passed: http: wrong status: status 500",
    ),
}
EXCUSED: dict[Outcome, str] = {
    Outcome.PATH_WRONG: "of probes at the VIP, which at_the_vip asks for",
}
