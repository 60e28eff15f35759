"""The client's half of HTTP/1.1 over a unix socket: one request a connection.

Spoken on a plain socket because ``http.client`` would add a third to the start-up time of the
command line. Reads bodies with a length, in chunks, or up to the end of the connection; takes
nothing else, and nothing without a bound.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

TYPE_CHECKING = False  # the module typing costs a tenth of the time of a short command
if TYPE_CHECKING:
    from typing import BinaryIO

MAX_ANSWER = 512 << 20  # bytes; the statistics of 100 000 servers are some 30 MB
MAX_HEAD = 64 << 10  # bytes of status line and headers


class GarbledError(Exception):
    """What came back is no HTTP response; says what it is instead."""


def request(method: str, target: str, content: bytes, accept: str) -> bytes:
    """A request with a JSON body; b"" for none."""
    head = [f"{method} {target} HTTP/1.1", "Host: kernlb", "Connection: close"]
    head.append(f"Accept: {accept}")
    if content:
        head.append("Content-Type: application/json")
    if content or method != "GET":
        head.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*head, "", ""]).encode("ascii") + content


def exchange(path: str, message: bytes, timeout: float) -> tuple[int, str, bytes]:
    """Send one request; status, media type and body of the response."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(message)  # a server that refuses early (413) has answered: read on
        with connection.makefile("rb") as stream:
            return _response(stream)


def _response(stream: BinaryIO) -> tuple[int, str, bytes]:
    status_line = _line(stream)
    if not status_line:
        raise GarbledError("it closed the connection without an answer")
    version, _, rest = status_line.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isdecimal()):
        raise GarbledError("what listens there does not speak HTTP")
    headers: dict[str, str] = {}
    room = MAX_HEAD - len(status_line)
    while line := _line(stream):
        name, colon, value = line.partition(":")
        room -= len(line)
        if not colon or room < 0:
            raise GarbledError("what listens there does not speak HTTP")
        headers[name.strip().lower()] = value.strip()
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join(_chunks(stream))
    elif (length := headers.get("content-length")) is not None:
        body = _exactly(stream, _number(length, 10))
    else:
        body = stream.read(MAX_ANSWER)
    return int(code), media_type, body


def _line(stream: BinaryIO) -> str:
    line: bytes = stream.readline(MAX_HEAD)
    if line and not line.endswith(b"\n"):
        if len(line) < MAX_HEAD:
            raise GarbledError("it closed the connection in the middle of its answer")
        raise GarbledError("what listens there does not speak HTTP")
    return line.decode("latin-1").rstrip("\r\n")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The chunks of a chunked body (RFC 9112, 7.1), its trailer left unread."""
    total = 0
    while size := _number(_line(stream).partition(";")[0].strip(), 16):
        total += size
        if total > MAX_ANSWER:
            raise GarbledError("its answer is too large")
        yield _exactly(stream, size)
        _line(stream)


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_ANSWER:
        raise GarbledError(f'"{text[:20]}" is no length that its answer can have')
    return number


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise GarbledError("it closed the connection in the middle of its answer")
    return data
