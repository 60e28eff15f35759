"""A daemon that declines, that is not there, or that talks nonsense."""

from __future__ import annotations

import json
import socket

import pytest

from kernlb.control.client import Client, DaemonUnreachableError
from kernlb.control.protocol import Fault, ProblemKind

TITLE = "cannot add service web"


def test_each_fault_of_a_refusal_is_one_sentence(daemon, kernlb):
    daemon.refuses(
        ProblemKind.INVALID_DOCUMENT,
        TITLE,
        Fault("weight -1 is not within 0..65535", "services.d/web.yaml", 4, "servers[1].weight"),
        Fault("scheduler foo is unknown", key="scheduler"),
    )
    outcome = kernlb("service", "add", "web", "192.0.2.10:80")
    assert outcome == (
        1,
        "",
        "error: cannot add service web: weight -1 is not within 0..65535 "
        "(services.d/web.yaml:4: servers[1].weight)\n"
        "error: cannot add service web: scheduler foo is unknown (scheduler)\n",
    )


def test_a_refusal_without_faults_is_its_title(daemon, kernlb):
    daemon.refuses(ProblemKind.NOT_FOUND, "there is no service web")
    assert kernlb("service", "rm", "web") == (1, "", "error: there is no service web\n")


def test_programs_get_the_problem_as_json(daemon, kernlb):
    daemon.refuses(ProblemKind.EXISTS, TITLE, Fault("it exists"))
    outcome = kernlb("service", "add", "web", "192.0.2.10:80", "-o", "json")
    assert (outcome.code, outcome.out) == (1, "")
    assert json.loads(outcome.err) == {
        "type": "exists",
        "title": TITLE,
        "status": 409,
        "faults": [{"message": "it exists"}],
    }


def nobody(path):
    pass


def a_file(path):
    path.write_text("")


def a_listener_that_stopped(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_datagram_socket(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    return listener


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (nobody, "no such socket (is kernlbd running? another --socket?)"),
        (a_file, "nobody listens on the socket (kernlbd has stopped)"),
        (a_datagram_socket, "that is not a stream socket"),
        (a_listener_that_stopped, "nobody listens on the socket (kernlbd has stopped)"),
    ],
)
def test_a_daemon_that_is_not_there_exits_4(kernlb_at, tmp_path, what, why):
    path = tmp_path / "c"
    listener = what(path)
    kernlb = kernlb_at(path)
    assert kernlb("status") == (4, "", f"error: cannot reach kernlbd at {path}: {why}\n")
    outcome = kernlb("status", "-o", "json")
    assert outcome.code == 4
    assert json.loads(outcome.err)["type"] == "daemon-unreachable"
    if listener is not None:
        listener.close()


def test_a_path_too_long_for_a_socket_is_said_so(kernlb_at, tmp_path):
    outcome = kernlb_at(tmp_path / ("x" * 200))("status")
    assert outcome.code == 4
    assert "path too long" in outcome.err


NONSENSE = [
    (b"", "it closed the connection without an answer"),
    (b"220 mail.example.org ESMTP\r\n", "what listens there does not speak HTTP"),
    (b"\x00\xff\x00\xff" * 100, "it closed the connection in the middle of its answer"),
    (b"\x00" * 200_000, "what listens there does not speak HTTP"),
    (b"HTTP/1.1 abc\r\n\r\n", "what listens there does not speak HTTP"),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "what listens there does not speak HTTP"),
    (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "what listens there does not speak HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[", "in the middle of its answer"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", '"-1" is no length'),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", "is no length"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", '"zz" is no length'),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[", "in the middle"),
    (b"HTTP/1.1 200 OK\r\n\r\nnot json", "is not what this version of kernlb reads"),
    (b"HTTP/1.1 200 OK\r\n\r\n", "is not what this version of kernlb reads"),
    (b'HTTP/1.1 200 OK\r\n\r\n[{"name": 7}]', "is not what this version of kernlb reads"),
    (b"HTTP/1.1 200 OK\r\n\r\n[\xff]", "is not what this version of kernlb reads"),
]


@pytest.mark.parametrize(("raw", "why"), NONSENSE, ids=[repr(raw)[:50] for raw, _ in NONSENSE])
def test_nonsense_from_the_socket_is_one_error_and_exits_4(daemon, kernlb, raw, why):
    daemon.raw = raw
    outcome = kernlb("service", "ls")
    assert (outcome.code, outcome.out) == (4, "")
    assert why in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("raw", "title"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n404: Not Found", "kernlbd answered 404: 404: Not Found"),
        (b"HTTP/1.1 500 Oops\r\nContent-Type: application/problem+json\r\n\r\nhalf a pro",
         "kernlbd answered 500: half a pro"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", "kernlbd answered 302"),
    ],
)  # fmt: skip
def test_an_error_that_is_no_problem_document_still_says_what_it_is(daemon, kernlb, raw, title):
    daemon.raw = raw
    assert kernlb("service", "ls") == (
        1,
        "",
        f"error: cannot carry out the request: {title}\n",
    )


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [CHUNKED, b"HTTP/1.0 200 OK\n\n[]", b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\n[]rest"],
)
def test_every_way_to_end_a_body_is_understood(daemon, kernlb, raw):
    daemon.raw = raw
    assert kernlb("service", "ls", "-o", "json") == (0, "[]\n", "")


def test_members_this_version_does_not_know_are_passed_over(daemon, kernlb):
    daemon.raw = b'HTTP/1.1 200 OK\r\n\r\n{"ops": [], "applied": true, "tomorrow": 1}'
    assert kernlb("reload").code == 0


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "h"))
        listener.listen()
        with pytest.raises(DaemonUnreachableError, match="it did not answer in time"):
            Client(str(tmp_path / "h"), timeout=0.05).status()
