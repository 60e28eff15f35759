"""gRPC health probes: against a real gRPC server, and against h2 servers that misbehave."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import ProtocolError
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame

from kernlb.health.check import GrpcCheck, Tls
from kernlb.health.outcome import Outcome
from kernlb.health.probes.found import Found
from kernlb.health.probes.grpc import LONGEST
from kernlb.health.probes.grpc_health import Call, _read_varint, _request, _serving_status, _varint
from tests.unit.health.probes.certificates import NAME, Certificates
from tests.unit.health.probes.far_ends import (
    HERE,
    SHORT,
    Handler,
    ask,
    closed_port,
    says,
    serving,
    target,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.UNKNOWN


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Somebody else's server, with the health service that comes with it."""
    there = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", SERVING)
    servicer.set("good", SERVING)
    servicer.set("bad", NOT_SERVING)
    servicer.set("unsure", UNKNOWN)
    servicer.set("n" * 300, SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, there)
    port = there.add_insecure_port(f"{HERE}:0")
    there.start()
    yield port
    there.stop(None).wait()


@pytest.mark.parametrize(
    ("service", "outcome", "detail"),
    [
        ("", Outcome.PASSED, ""),
        ("good", Outcome.PASSED, ""),
        ("n" * 300, Outcome.PASSED, ""),
        ("bad", Outcome.NOT_SERVING, ""),
        ("unsure", Outcome.NOT_SERVING, "UNKNOWN"),
        ("absent", Outcome.UNKNOWN_SERVICE, "NOT_FOUND"),
    ],
)
def test_a_real_server(server: int, service: str, outcome: Outcome, detail: str) -> None:
    result = ask(GrpcCheck(service), target(server), timeout=10)
    assert (result.outcome, result.detail) == (outcome, detail)


def test_a_real_server_without_the_health_service() -> None:
    there = grpc.server(ThreadPoolExecutor(2))
    port = there.add_insecure_port(f"{HERE}:0")
    there.start()
    try:
        result = ask(GrpcCheck(), target(port), timeout=10)
    finally:
        there.stop(None).wait()
    assert result.outcome is Outcome.WRONG_STATUS
    assert result.detail.startswith("UNIMPLEMENTED")


def test_no_server() -> None:
    assert ask(GrpcCheck(), target(closed_port())).outcome is Outcome.REFUSED


# Servers of h2, which say what they like.

GOOD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0")]
UP = b"\0\0\0\0\2\x08\1"

Say = Callable[[H2Connection], None]


def answers(say: Say, then_hang: bool = False) -> Handler:
    def handle(sock: socket.socket) -> None:
        # what it says may be against the protocol
        config = H2Configuration(client_side=False, validate_outbound_headers=False)
        connection = H2Connection(config)
        connection.initiate_connection()
        sock.sendall(connection.data_to_send())
        with suppress(ProtocolError):  # it goes on hearing after its own GOAWAY
            while data := sock.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, RequestReceived):
                        say(connection)
                        sock.sendall(connection.data_to_send())
                        if not then_hang:
                            sock.shutdown(socket.SHUT_WR)
                sock.sendall(connection.data_to_send())

    return handle


def call(*frames: list[tuple[str, str]] | bytes, end: bool = True) -> Say:
    def say(connection: H2Connection) -> None:
        for each in frames:
            last = end and each is frames[-1]
            if isinstance(each, bytes):
                connection.send_data(1, each, end_stream=last)
            else:
                connection.send_headers(1, each, end_stream=last)

    return say


def frames(*order: str, code: int = 0, last: int = 2**31 - 1, hang: bool = True) -> Handler:
    """The answer "serving" as frames: G(OAWAY), H(eaders), D(ata), T(railers), P(ing). Those of
    one word are sent at once."""
    encoder = Encoder()
    headers = HeadersFrame(1, encoder.encode(GOOD), flags=["END_HEADERS"])
    trailers = HeadersFrame(1, encoder.encode(OK), flags=["END_HEADERS", "END_STREAM"])
    known: dict[str, Frame] = {
        "G": GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=b"bye"),
        "H": headers,
        "D": DataFrame(1, UP),
        "T": trailers,
        "P": PingFrame(0, b"12345678"),
    }
    pieces = [b"".join(known[each].serialize() for each in piece) for piece in order]

    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        for piece in (SettingsFrame(0).serialize(), *pieces):
            sock.sendall(piece)
        if not hang:
            sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    return handle


def pings(connection: H2Connection) -> None:
    for _ in range(5000):
        connection.ping(b"12345678")


def header_bomb(connection: H2Connection) -> None:
    """After the first, each is one byte."""
    connection.send_headers(1, [*GOOD, *[("x", "y" * 3000)] * 200])


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


SAYINGS: dict[str, tuple[Handler, Outcome, str]] = {
    "serving": (answers(call(GOOD, UP, OK), then_hang=True), Outcome.PASSED, ""),
    "serving, in two pieces": (answers(call(GOOD, UP[:3], UP[3:], OK)), Outcome.PASSED, ""),
    "serving, with more fields": (
        answers(call(GOOD, message(b"\x12\2ab\x19........\x08\1\x25...."), OK)),
        Outcome.PASSED,
        "",
    ),
    "not serving": (answers(call(GOOD, message(b"\x08\2"), OK)), Outcome.NOT_SERVING, ""),
    "an empty message": (answers(call(GOOD, message(b""), OK)), Outcome.NOT_SERVING, "UNKNOWN"),
    "service unknown": (
        answers(call(GOOD, message(b"\x08\3"), OK)),
        Outcome.UNKNOWN_SERVICE,
        "SERVICE_UNKNOWN",
    ),
    "status 77": (
        answers(call(GOOD, message(b"\x08\x4d"), OK)),
        Outcome.NOT_SERVING,
        "serving status 77",
    ),
    "unavailable": (
        answers(call([*GOOD, ("grpc-status", "14"), ("grpc-message", "too%20hot")])),
        Outcome.WRONG_STATUS,
        "UNAVAILABLE: too hot",
    ),
    "an unknown code": (
        answers(call([*GOOD, ("grpc-status", "99")])),
        Outcome.WRONG_STATUS,
        "status 99",
    ),
    "a code that is none": (
        answers(call([*GOOD, ("grpc-status", "9" * 5000)])),
        Outcome.MALFORMED,
        "grpc-status",
    ),
    "no code": (answers(call(GOOD, UP)), Outcome.MALFORMED, 'grpc-status ""'),
    "HTTP 503": (
        answers(call([(":status", "503"), ("content-type", "text/html")])),
        Outcome.WRONG_STATUS,
        "HTTP status 503",
    ),
    "a web page": (
        answers(call([(":status", "200"), ("content-type", "text/html")], b"<html>")),
        Outcome.MALFORMED,
        'content type "text/html"',
    ),
    "no message": (answers(call(GOOD, OK)), Outcome.MALFORMED, "the body is not one plain"),
    "two messages": (answers(call(GOOD, UP + UP, OK)), Outcome.MALFORMED, "the body is not one"),
    "compressed": (
        answers(call(GOOD, message(b"\x08\1", flag=1), OK)),
        Outcome.MALFORMED,
        "the body is not one plain",
    ),
    "no protobuf": (answers(call(GOOD, message(b"\xff" * 20), OK)), Outcome.MALFORMED, "the mess"),
    "a short field": (
        answers(call(GOOD, message(b"\x12\x7fa"), OK)),
        Outcome.MALFORMED,
        "the message ends too early",
    ),
    "reset": (
        answers(lambda connection: connection.reset_stream(1, 7), then_hang=True),
        Outcome.RESET,
        "HTTP/2 stream, REFUSED_STREAM",
    ),
    "goaway": (
        answers(lambda connection: connection.close_connection(11), then_hang=True),
        Outcome.CLOSED,
        "HTTP/2 GOAWAY, ENHANCE_YOUR_CALM",
    ),
    "a farewell before the answer": (frames("GHDT"), Outcome.PASSED, ""),
    "a farewell within the answer": (frames("HGDT"), Outcome.PASSED, ""),
    "a farewell before the end": (frames("HDGT"), Outcome.PASSED, ""),
    "two farewells, as Go says them": (frames("G", "P", "H", "G", "DT"), Outcome.PASSED, ""),
    "a farewell to those after us": (frames("GHDT", last=1), Outcome.PASSED, ""),
    "a farewell, then silence": (frames("GH"), Outcome.STALLED, ""),
    "a farewell, then the end": (frames("G", hang=False), Outcome.CLOSED, "after a GOAWAY"),
    "a farewell to us": (
        frames("GHDT", last=0),
        Outcome.CLOSED,
        "HTTP/2 GOAWAY, NO_ERROR, before our call",
    ),
    "a farewell in anger": (frames("GHDT", code=2), Outcome.CLOSED, "HTTP/2 GOAWAY, INTERNAL"),
    "no farewell before the settings": (
        says(GoAwayFrame(0, last_stream_id=1).serialize(), reads=True),
        Outcome.MALFORMED,
        "no HTTP/2",
    ),
    "half an answer": (answers(call(GOOD, UP, end=False)), Outcome.CLOSED, ""),
    "half an answer, then hang": (
        answers(call(GOOD, UP, end=False), then_hang=True),
        Outcome.STALLED,
        "",
    ),
    "silence": (says(then_hang=True), Outcome.RESPONSE_TIMEOUT, ""),
    "closing": (says(reads=True), Outcome.CLOSED, ""),
    "HTTP/1.1": (
        says(b"HTTP/1.1 400 Bad Request\r\n\r\n", reads=True),
        Outcome.MALFORMED,
        'no HTTP/2: "HTTP/1.1 400 Bad Request"',
    ),
    "noise": (says(bytes(range(256)) * 10, reads=True), Outcome.MALFORMED, "no HTTP/2"),
    "pings": (answers(pings, then_hang=True), Outcome.TOO_LONG, f"over {LONGEST} bytes"),
    "a bomb of headers": (answers(header_bomb), Outcome.MALFORMED, "no HTTP/2: Denial"),
    "a long body": (
        answers(call(GOOD, b"x" * 16384, b"x" * 16384, OK)),
        Outcome.TOO_LONG,
        f"over {LONGEST} bytes",
    ),
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_a_server_that_says(saying: str) -> None:
    handler, outcome, detail = SAYINGS[saying]
    slow = outcome in (Outcome.STALLED, Outcome.RESPONSE_TIMEOUT)
    with serving(handler) as port:
        result = ask(GrpcCheck(), target(port), timeout=SHORT if slow else 10)
    assert result.outcome is outcome, result
    assert result.detail.startswith(detail)
    assert bool(result.detail) == bool(detail)


@pytest.mark.parametrize("name", ["", "a", "n" * 127, "n" * 128, "n" * 20000, "dienst-ü"])
def test_the_request_is_what_protobuf_makes_of_it(name: str) -> None:
    expected = health_pb2.HealthCheckRequest(service=name).SerializeToString()
    assert _request(name) == message(expected)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**63])
def test_a_varint_comes_back(number: int) -> None:
    assert _read_varint(_varint(number), 0) == (number, len(_varint(number)))


@pytest.mark.parametrize("status", [SERVING, NOT_SERVING, UNKNOWN])
def test_the_answer_is_what_protobuf_makes_of_it(status: int) -> None:
    answer = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    assert _serving_status(answer) == status


def test_an_answer_with_a_farewell_may_come_in_any_pieces() -> None:
    encoder = Encoder()
    whole = b"".join(
        each.serialize()
        for each in (
            SettingsFrame(0),
            GoAwayFrame(0, last_stream_id=1, additional_data=b"bye"),
            HeadersFrame(1, encoder.encode(GOOD), flags=["END_HEADERS"]),
            DataFrame(1, UP),
            HeadersFrame(1, encoder.encode(OK), flags=["END_HEADERS", "END_STREAM"]),
        )
    )
    for size in range(1, len(whole) + 1):
        call = Call("server:1", "", secure=False)
        found = [call.hear(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert found == [None] * (len(found) - 1) + [Found(Outcome.PASSED)]


def test_what_is_said_after_a_farewell_is_answered() -> None:
    call = Call("server:1", "", secure=False)
    call.pending()
    call.hear(SettingsFrame(0).serialize() + GoAwayFrame(0, last_stream_id=1).serialize())
    call.hear(PingFrame(0, b"12345678").serialize())
    answered = PingFrame(0, b"12345678", flags=["ACK"]).serialize()
    assert call.pending() == SettingsFrame(0, flags=["ACK"]).serialize() + answered


def test_the_longest_answer_costs_little() -> None:
    """Small frames are what costs most for their bytes."""

    def settings(connection: H2Connection) -> None:
        for _ in range(LONGEST // 9):
            connection.update_settings({})

    with serving(answers(settings, then_hang=True)) as port:
        before = time.thread_time()
        result = ask(GrpcCheck(), target(port), timeout=10)
        spent = time.thread_time() - before
    assert result.outcome is Outcome.TOO_LONG
    assert spent < 1.0


@pytest.mark.parametrize(
    ("certificate", "name", "outcome"),
    [
        ("good", NAME, Outcome.PASSED),
        ("good", None, Outcome.PASSED),  # by its address
        ("other", NAME, Outcome.CERTIFICATE_NAME),
        ("expired", NAME, Outcome.CERTIFICATE_EXPIRED),
        ("untrusted", NAME, Outcome.CERTIFICATE_UNTRUSTED),
        ("soon", NAME, Outcome.CERTIFICATE_EXPIRES_SOON),
    ],
)
def test_a_real_server_over_tls(
    certificate: str, name: str | None, outcome: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    key = (made.folder / "server.key").read_bytes()
    chain = (made.folder / f"{certificate}.pem").read_bytes()
    there = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), there)
    credentials = grpc.ssl_server_credentials([(key, chain)])
    port = there.add_secure_port(f"{HERE}:0", credentials)
    there.start()
    try:
        tls = Tls(ca=made.ca, name=name)
        assert ask(GrpcCheck(tls=tls), target(port), timeout=10).outcome is outcome
        assert ask(GrpcCheck(), target(port), timeout=SHORT).outcome in (
            Outcome.CLOSED,
            Outcome.RESET,
            Outcome.MALFORMED,  # a TLS alert
            Outcome.RESPONSE_TIMEOUT,
        )
    finally:
        there.stop(None).wait()


def test_tls_to_a_server_without(server: int) -> None:
    result = ask(GrpcCheck(tls=Tls(verify=False)), target(server), timeout=10)
    assert result.outcome in (Outcome.NOT_TLS, Outcome.RESET, Outcome.CLOSED)
