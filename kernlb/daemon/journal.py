"""The log in systemd's journal: a record is a datagram of fields, not a line to be taken apart.

The native protocol of journald (systemd.io/JOURNAL_NATIVE_PROTOCOL). An event is told with what it
is about, so that ``journalctl KERNLB_SERVICE=web`` finds it. The daemon never waits for the
journal: what it does not take at once is lost, counted, and told with the next record.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "kernlbd"
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
# syslog(3), by the level at which each begins
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def is_stderr() -> bool:
    """Does standard error lead into the journal? $JOURNAL_STREAM alone says so of an ancestor's."""
    try:
        place = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{place.st_dev}:{place.st_ino}"


class JournalHandler(logging.Handler):
    """Records that have an ``event`` (control.protocol.Event) are told with its fields."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Raises OSError where no journal listens."""
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._path = str(path)
        self._lost = 0
        try:
            self._socket.setblocking(False)
            self._socket.connect(self._path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, never waits."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "LOGGER": record.name,
            **_of_event(record),
        }
        if self._lost:
            fields["KERNLB_LOST"] = str(self._lost)
        try:
            self._send(_datagram(fields))
            self._lost = 0
        except BlockingIOError:
            self._lost += 1
        except OSError:  # journald is away: what was connected to is gone
            print(fields["MESSAGE"], file=sys.stderr)
            self._connect()

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _connect(self) -> None:
        try:
            self._socket.connect(self._path)
        except OSError:
            return  # the next record tries again

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.send(datagram)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(datagram)

    def _send_file(self, datagram: bytes) -> None:
        """What no datagram holds goes as a sealed file in memory."""
        descriptor = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb") as file:
            file.write(datagram)
            file.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [file.fileno()])


def _priority(level: int) -> int:
    return next((number for least, number in _PRIORITIES if level >= least), 7)


def _of_event(record: logging.LogRecord) -> dict[str, str]:
    event = getattr(record, "event", None)
    if event is None:
        return {}
    fields = {
        "KERNLB_EVENT": str(event.number),
        "KERNLB_CAUSE": event.cause,
        "KERNLB_SERVICE": event.service,
        "KERNLB_SERVER": event.server,
    }
    return {name: value for name, value in fields.items() if value}


def _datagram(fields: Mapping[str, str]) -> bytes:
    """A value of one line as it is, any other with its length in front."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value)
        else:
            parts.append(name.encode() + b"=" + value)
    return b"\n".join(parts) + b"\n"
