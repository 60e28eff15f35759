"""What the daemon logs arrives in the journal as fields, through a real socket."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.daemon.events import Events
from kernlb.daemon.journal import JournalHandler, is_stderr

Fields = dict[str, str]


class Journald:
    """Takes datagrams apart as journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def next(self) -> Fields:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        for each in descriptors:
            assert not data, "a file comes alone"
            with os.fdopen(each, "rb") as file:
                file.seek(0)
                data = file.read()
        return fields_of(data)

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


def fields_of(data: bytes) -> Fields:
    found: Fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack_from("<Q", rest)
            value, data = rest[8 : 8 + length], rest[8 + length + 1 :]
        assert name.decode() not in found
        found[name.decode()] = value.decode()
    return found


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    journald = Journald(tmp_path / "journal")
    yield journald
    journald.socket.close()


@pytest.fixture
def handler(journald: Journald) -> Iterator[JournalHandler]:
    """At work for the daemon's loggers, as after a start of its own."""
    handler = JournalHandler(journald.path)
    log = logging.getLogger("kernlb")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield handler
    log.removeHandler(handler)
    log.setLevel(before)
    handler.close()


def test_an_event_is_told_with_what_it_is_about(
    journald: Journald, handler: JournalHandler
) -> None:
    Events(lambda: 1.0).add("up -> down: refused", "health", "web", "10.0.0.1:80")
    assert journald.next() == {
        "MESSAGE": "up -> down: refused (health)",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "kernlbd",
        "LOGGER": "kernlb",
        "KERNLB_EVENT": "1",
        "KERNLB_CAUSE": "health",
        "KERNLB_SERVICE": "web",
        "KERNLB_SERVER": "10.0.0.1:80",
    }


def test_an_event_of_the_host_names_no_service(journald: Journald, handler: JournalHandler) -> None:
    Events(lambda: 1.0).add("xdp: detached", "stop")
    told = journald.next()
    assert told["KERNLB_CAUSE"] == "stop"
    assert not told.keys() & {"KERNLB_SERVICE", "KERNLB_SERVER"}


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_levels_are_those_of_syslog(
    journald: Journald, handler: JournalHandler, level: str, priority: str
) -> None:
    getattr(logging.getLogger("kernlb"), level)("said")
    assert journald.next()["PRIORITY"] == priority


def test_a_message_of_many_lines_stays_one_record(
    journald: Journald, handler: JournalHandler
) -> None:
    try:
        raise ValueError("deep\nPRIORITY=0")
    except ValueError:
        logging.getLogger("kernlb.control").exception("GET / failed")
    told = journald.next()
    assert told["MESSAGE"].startswith("GET / failed\nTraceback ")
    assert told["MESSAGE"].endswith("ValueError: deep\nPRIORITY=0")
    assert (told["PRIORITY"], told["LOGGER"]) == ("3", "kernlb.control")


def test_what_no_datagram_holds_comes_as_a_sealed_file(
    journald: Journald, handler: JournalHandler
) -> None:
    text = "a" * (4 << 20)
    logging.getLogger("kernlb").info("%s", text)
    assert journald.next()["MESSAGE"] == text


def test_a_journal_that_does_not_listen_never_holds_the_daemon_up(
    journald: Journald, handler: JournalHandler
) -> None:
    log = logging.getLogger("kernlb")
    for number in range(5000):  # more than any queue of datagrams takes
        log.info("message %d", number)
    taken = 0
    while journald.next()["MESSAGE"] != "last":
        taken += 1
        if taken == 1:
            log.info("last")
    assert 1 <= taken < 5000


def test_what_was_lost_is_counted_with_the_next_record(
    journald: Journald, handler: JournalHandler
) -> None:
    log = logging.getLogger("kernlb")
    for number in range(5000):
        log.info("message %d", number)
    journald.socket.setblocking(False)
    taken = 0
    with pytest.raises(BlockingIOError):
        while True:
            journald.next()
            taken += 1
    journald.socket.settimeout(10)
    log.info("again")
    assert journald.next()["KERNLB_LOST"] == str(5000 - taken)
    log.info("and on")
    assert "KERNLB_LOST" not in journald.next()


def test_a_journal_that_restarts_is_found_again(
    journald: Journald, handler: JournalHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("kernlb")
    log.info("first")
    assert journald.next()["MESSAGE"] == "first"
    journald.close()
    log.info("meanwhile")
    assert capsys.readouterr().err == "meanwhile\n"
    again = Journald(journald.path)
    log.info("on standard error still")
    log.info("back")
    assert again.next()["MESSAGE"] == "back"
    again.socket.close()


def test_the_journal_is_where_standard_error_leads_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{place.st_dev}:{place.st_ino}")
    assert is_stderr()
    monkeypatch.setenv("JOURNAL_STREAM", f"{place.st_dev}:{place.st_ino + 1}")
    assert not is_stderr()
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not is_stderr()
