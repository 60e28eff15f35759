"""Every way in which a real server can fail its probe: it leaves the kernel for the reason that
is shown, and comes back, in any datapath.

One table. A row is a service with a check, on two servers: server1's backend goes bad and is good
again, server2's stays good. Rows run side by side and are switched at one time; then each test
looks at its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from kernlb.config.check_words import CheckType
from kernlb.control.protocol import Documents, ServerState
from kernlb.health.outcome import Opinion, Outcome
from kernlb.health.probes.making import PROBES
from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer, Json
from tests.netns.traffic.reason_backends import (
    Backend,
    Backends,
    Datagrams,
    Filtered,
    Full,
    Nothing,
    Places,
    Script,
    Stream,
    drips,
)
from tests.netns.traffic.wait import wait_for
from tests.unit.health.probes.certificates import NAME, Certificates
from tests.unit.health.probes.far_ends import Handler, resets, says
from tests.unit.health.probes.test_dns import A_RECORD, reply
from tests.unit.health.probes.test_grpc import GOOD as HEADERS
from tests.unit.health.probes.test_grpc import OK as TRAILERS
from tests.unit.health.probes.test_grpc import UP, answers, call, message

# An emulated machine bears a few rows at a time, and asks more slowly.
SLOW, AT_ONCE = (3, 12) if "KERNLB_IN_GUEST" in os.environ else (1, 64)
TIMING = {
    "interval": 2.0 * SLOW,
    "fast_interval": 0.5 * SLOW,
    "timeout": 1.0 * SLOW,
    "rise": 1,
    "fall": 2,
}
LIMIT = 60.0  # seconds from a switch until every row has followed
PORT = 10000  # the first row's; none of those that the kernel gives to connections
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


def rows_of(module: object) -> list[str]:
    """A module of tests may say TYPES, and have the rows of these only."""
    types = getattr(module, "TYPES", None)
    return [name for name, row in ROWS.items() if types is None or row.check.get("type") in types]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", rows_of(metafunc.module))
    if "served" in metafunc.fixturenames:
        names = [name for name in rows_of(metafunc.module) if ROWS[name].serves]
        metafunc.parametrize("served", names)


def test_every_probe_type_and_every_bad_outcome_is_in_the_table() -> None:
    types = {row.check.get("type", "several") for row in ROWS.values()}
    assert types == {*CheckType, "several"}
    assert {kind.__name__.removesuffix("Check").lower() for kind in PROBES} < types
    met = {Outcome(row.why.partition(": ")[0]) for row in ROWS.values()}
    assert not met & set(EXCUSED)
    assert met | set(EXCUSED) == {each for each in Outcome if each.opinion is Opinion.BAD}


class Seen(NamedTuple):
    """A server of a row, as the daemon tells it. ``since`` is of its condition."""

    state: ServerState
    in_kernel: bool
    why: str
    since: float


Servers = dict[str, Seen]  # by role
UP_AND_IN, DOWN_AND_OUT = (ServerState.UP, True), (ServerState.DOWN, False)


def is_up(servers: Servers, _: Row) -> bool:
    return {each[:2] for each in servers.values()} == {UP_AND_IN}


def is_down(servers: Servers, row: Row) -> bool:
    one = servers["server1"]
    return one[:2] == DOWN_AND_OUT and one.why.startswith(row.why)


class Looks(NamedTuple):
    """Of one row, while its server1 was good, bad, and good again: what the daemon told, the first
    time it was as it should be, else the last; and who answered clients. ``went_bad``: when."""

    good: Servers
    bad: Servers
    again: Servers
    went_bad: float
    answered: dict[str, int]
    answered_again: dict[str, int]


class Table:
    """Rows side by side on a balancer, on ports of their own."""

    def __init__(
        self, balancer: Balancer, vip: IPAddress, folder: Path, rows: dict[str, Row]
    ) -> None:
        self._balancer, self._vip, self._folder = balancer, vip, folder
        self._rows = rows
        self._ports = {name: PORT + number for number, name in enumerate(rows)}

    def run(self, made: Certificates) -> dict[str, Looks]:
        """Nothing of it stays."""
        with (
            closing(self._backends("server1", made)) as server1,
            closing(self._backends("server2", made)),
        ):
            self._declare()
            good = self._follow(is_up)
            went_bad = time.time()
            server1.be("bad")
            bad, answered = self._follow(is_down), self._answered()
            server1.be("good")
            again, answered_again = self._follow(is_up), self._answered()
            for name in self._rows:
                self._balancer.daemon.client.remove_service(name)
        return {
            name: Looks(
                *(good[name], bad[name], again[name], went_bad),
                *(answered.get(name, {}), answered_again.get(name, {})),
            )
            for name in self._rows
        }

    def _declare(self) -> None:
        documents = {name: json.dumps(self._document(name)) for name in self._rows}
        change = self._balancer.daemon.client.apply(Documents(documents))
        assert change.applied
        assert not change.faults

    def _document(self, name: str) -> Json:
        row, port = self._rows[name], self._ports[name]
        check = json.loads(json.dumps(row.check).replace(FOLDER, str(self._folder)))
        if check.get("type") == "agent":
            check["port"] = port
        weights = {"server1": 1, "server2": 1}
        return {
            "address": str(self._vip),
            "port": port,
            "protocol": "udp" if isinstance(row.good, Datagrams) else "tcp",
            "scheduler": "rr",
            "forwarding": "nat",
            "check": {**check, **TIMING},
            "servers": self._balancer.servers(4, weights, port=80 if row.serves else port),
        }

    def _backends(self, role: str, made: Certificates) -> Backends:
        """Those of server2 are the good ones, whatever they are told."""
        rows = {}
        for name, row in self._rows.items():
            kind = "udp" if isinstance(row.good, Datagrams) else "tcp"
            match = f"{kind} dport {self._ports[name]}"
            if row.check.get("type") == "icmp":
                match = f"icmp type echo-request ip length {row.check['size'] + 28}"
            script = self._folder / str(self._ports[name])
            rows[name] = Places(self._ports[name], match, script, row.good, row.bad)
        namespace = self._balancer.topology.namespace(role)
        return Backends(namespace, self._balancer.address(role, 4), rows, made)

    def _follow(self, as_wanted: Callable[[Servers, Row], bool]) -> dict[str, Servers]:
        """Each row's first look that is as wanted, or its last within the limit."""
        found: dict[str, Servers] = {}
        missing = set(self._rows)
        deadline = time.monotonic() + LIMIT

        def all_did() -> bool:
            seen = self._look()
            for name in list(missing):
                found[name] = seen[name]
                if as_wanted(found[name], self._rows[name]):
                    missing.remove(name)
            return not missing or time.monotonic() > deadline

        wait_for(all_did, 2 * LIMIT, "all rows have followed, or had their time")
        return found

    def _look(self) -> dict[str, Servers]:
        client, name_of = self._balancer.daemon.client, self._balancer.name_of
        told = {
            (service.name, each.server): each
            for service in client.health().services
            for each in service.servers
        }
        found: dict[str, Servers] = {}
        for view in client.services_in_full():
            servers = found[view.name] = {}
            for each in view.servers:
                health = told[view.name, f"{each.address}:{each.port}"]
                seen = Seen(each.state, each.in_kernel, health.why, health.since)
                servers[name_of(each.address)] = seen
        return found

    def _answered(self) -> dict[str, dict[str, int]]:
        """Who answers four clients of each row that has nginx behind it."""
        load = self._balancer.load
        return {
            name: share_by_server(load.http(self._vip, port=self._ports[name], count=4))
            for name, row in self._rows.items()
            if row.serves
        }


class Told:
    """What became of each row. Rows are run when the first of their batch is asked for."""

    def __init__(self, balancer: Balancer, names: list[str]) -> None:
        self._balancer, self._names, self._looks = balancer, names, dict[str, Looks]()
        self._folder = balancer.lab.folder / "reasons"  # where programs of exec checks may read
        self._folder.mkdir()
        self._made = Certificates(self._folder)

    def __getitem__(self, name: str) -> Looks:
        if name not in self._looks:
            first = self._names.index(name) // AT_ONCE * AT_ONCE
            rows = {each: ROWS[each] for each in self._names[first : first + AT_ONCE]}
            vip = self._balancer.fresh_vip(4)
            self._looks |= Table(self._balancer, vip, self._folder, rows).run(self._made)
        return self._looks[name]


@pytest.fixture(scope="module")
def told(balancer: Balancer, request: pytest.FixtureRequest) -> Told:
    return Told(balancer, rows_of(request.module))


def test_a_server_goes_down_for_this_reason_and_comes_back(name: str, told: Told) -> None:
    row, seen = ROWS[name], told[name]
    assert {role: each[:2] for role, each in seen.good.items()} == {
        "server1": UP_AND_IN,
        "server2": UP_AND_IN,
    }
    assert {role: each[:2] for role, each in seen.bad.items()} == {
        "server1": DOWN_AND_OUT,
        "server2": UP_AND_IN,
    }
    assert seen.bad["server1"].why.startswith(row.why)
    assert seen.bad["server2"].since < seen.went_bad, "server2 was not good all the time"
    assert {role: each[:2] for role, each in seen.again.items()} == {
        "server1": UP_AND_IN,
        "server2": UP_AND_IN,
    }


def test_clients_are_answered_by_the_server_that_is_good(served: str, told: Told) -> None:
    """The one that is down would answer them, if it were asked."""
    assert told[served].answered == {"server2": 4}
    assert told[served].answered_again == {"server1": 2, "server2": 2}
