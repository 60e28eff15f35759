"""One call of grpc.health.v1.Health/Check as bytes in and out: HTTP/2, gRPC, protobuf. Pure.

HTTP/2 and HPACK are the h2 library's, but for GOAWAY, after which h2 hears nothing more: a server
that leaves in good order says it early, and still answers what was asked (RFC 9113, 6.8). Of
protobuf there is one field each way, packed here. The protocol: grpc/doc/health-checking.md and
PROTOCOL-HTTP2.md. Whoever feeds it bounds the bytes.
"""

from __future__ import annotations

import struct
from typing import Any
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from kernlb.health.outcome import Outcome
from kernlb.health.probes.found import Found
from kernlb.health.probes.wording import quote

PATH = "/grpc.health.v1.Health/Check"
_STREAM = 1
_FRAME_HEADER, _FRAME_TYPE, _FRAME_STREAM = 9, 3, 5
_LONGEST_FRAME = 16384  # of its payload, as we announce no other
_SETTINGS, _GOAWAY = 4, 7
_FAREWELL = struct.Struct("!II")  # last stream, error code; then words for people
_31_BITS = 0x7FFFFFFF  # of a stream's number; the one before them is reserved
_QUOTED = 64  # bytes

# HealthCheckResponse.ServingStatus
_SERVING = {
    0: Found(Outcome.NOT_SERVING, "UNKNOWN"),
    1: Found(Outcome.PASSED),
    2: Found(Outcome.NOT_SERVING),
    3: Found(Outcome.UNKNOWN_SERVICE, "SERVICE_UNKNOWN"),
}
_NOT_FOUND = 5
_STATUS = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)


class Call:
    """One call. ``pending`` is what is to be sent: after making it and after each ``hear``."""

    __slots__ = ("_begun", "_body", "_came", "_connection", "_headers", "leaving")

    def __init__(self, authority: str, service: str, *, secure: bool) -> None:
        # h2 says "bytes" by False; from its 4.2 on None says the same, and is the default
        connection = H2Connection(H2Configuration(client_side=True, header_encoding=False))
        wanted = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_HEADER_LIST_SIZE: 16384}
        connection.local_settings = Settings(client=True, initial_values=wanted)
        connection.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "https" if secure else "http"),
            (":path", PATH),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "kernlb"),
        ]
        connection.send_headers(_STREAM, headers)
        connection.send_data(_STREAM, _request(service), end_stream=True)
        self._connection = connection
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._came = bytearray()  # the beginning of a frame
        self._begun = False  # a whole frame came
        self.leaving = False  # the server said so, and what was asked it will answer

    def pending(self) -> bytes:
        data: bytes = self._connection.data_to_send()
        return data

    def hear(self, data: bytes) -> Found | None:
        """What the answer says, once it is whole; None: not yet."""
        came = self._came
        came += data
        # A server opens with SETTINGS (RFC 9113, 3.4). One would wait for the four megabytes that
        # "HTTP/1.1" says if it is read as the length of a frame.
        if not self._begun and len(came) > _FRAME_TYPE and came[_FRAME_TYPE] != _SETTINGS:
            return Found(Outcome.MALFORMED, f"no HTTP/2: {quote(came[:_QUOTED])}")
        farewell: bytes | None = b""
        while farewell is not None:
            start, end, farewell = _whole_frames(came)
            self._begun = self._begun or end > 0
            frames = bytes(came[:start])
            del came[:end]
            if (found := self._hear_frames(frames)) is not None:
                return found
            if farewell is not None and (found := self._hear_farewell(farewell)) is not None:
                return found
        return None

    def _hear_frames(self, frames: bytes) -> Found | None:
        try:
            events = self._connection.receive_data(frames)
        except (H2Error, ValueError) as error:
            return Found(Outcome.MALFORMED, f"no HTTP/2: {type(error).__name__}: {error}")
        for event in events:
            if (found := self._take(event)) is not None:
                return found
        return None

    def _hear_farewell(self, farewell: bytes) -> Found | None:
        last, code = _FAREWELL.unpack_from(farewell)
        if code:
            return Found(Outcome.CLOSED, f"HTTP/2 GOAWAY, {_code(code)}")
        if last & _31_BITS < _STREAM:
            return Found(Outcome.CLOSED, f"HTTP/2 GOAWAY, {_code(code)}, before our call")
        self.leaving = True
        return None

    def _take(self, event: Any) -> Found | None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._headers.update((bytes(key), bytes(value)) for key, value in event.headers)
            case DataReceived():
                self._body += event.data
            case StreamReset():
                return Found(Outcome.RESET, f"HTTP/2 stream, {_code(event.error_code)}")
            case StreamEnded():
                return _judge(self._headers, bytes(self._body))
        return None


def _whole_frames(came: bytearray) -> tuple[int, int, bytes | None]:
    """Where the whole frames end that h2 is to hear, where what comes after those begins, and
    what a GOAWAY in between says."""
    at = 0
    while at + _FRAME_HEADER <= len(came):
        length = int.from_bytes(came[at : at + _FRAME_TYPE], "big")
        if length > _LONGEST_FRAME:
            return len(came), len(came), None  # which h2 complains of
        payload = at + _FRAME_HEADER
        end = payload + length
        if end > len(came):
            break
        if came[at + _FRAME_TYPE] == _GOAWAY and length >= _FAREWELL.size:
            stream = int.from_bytes(came[at + _FRAME_STREAM : payload], "big") & _31_BITS
            if not stream:  # else h2 complains of it
                return at, end, bytes(came[payload:end])
        at = end
    return at, at, None


def _judge(headers: dict[bytes, bytes], body: bytes) -> Found:
    status = headers.get(b":status", b"")
    if status != b"200":
        return Found(Outcome.WRONG_STATUS, f"HTTP status {status.decode('ascii', 'replace')}")
    if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
        return Found(Outcome.MALFORMED, f"content type {quote(headers.get(b'content-type', b''))}")
    told = headers.get(b"grpc-status", b"")
    if not told.isdigit() or len(told) > 9:
        return Found(Outcome.MALFORMED, f"grpc-status {quote(told)}")
    code = int(told)
    if code:
        name = _STATUS[code] if code < len(_STATUS) else f"status {code}"
        why = unquote(headers.get(b"grpc-message", b"").decode("ascii", "replace"))
        outcome = Outcome.UNKNOWN_SERVICE if code == _NOT_FOUND else Outcome.WRONG_STATUS
        return Found(outcome, f"{name}: {why}" if why else name)
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        return Found(Outcome.MALFORMED, "the body is not one plain gRPC message")
    try:
        serving = _serving_status(body[5:])
    except ValueError as error:
        return Found(Outcome.MALFORMED, str(error))
    unknown = Found(Outcome.NOT_SERVING, f"serving status {serving}")
    return _SERVING.get(serving, unknown)


def _code(number: int | None) -> str:
    try:
        return ErrorCodes(number or 0).name
    except ValueError:
        return f"error {number}"


def _request(service: str) -> bytes:
    """HealthCheckRequest { string service = 1; }, with gRPC's five bytes before it."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*packed, number])


def _serving_status(message: bytes) -> int:
    """Of HealthCheckResponse { ServingStatus status = 1; }. Raises ValueError."""
    status = offset = 0
    while offset < len(message):
        key, offset = _read_varint(message, offset)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, offset = _read_varint(message, offset)
            status = value if field == 1 else status
        elif kind == 2:
            length, offset = _read_varint(message, offset)
            offset += length
        elif kind in (1, 5):
            offset += 8 if kind == 1 else 4
        else:
            raise ValueError("the message is no protobuf")
    if offset != len(message):
        raise ValueError("the message ends too early")
    return status


def _read_varint(message: bytes, offset: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if offset >= len(message):
            raise ValueError("the message ends too early")
        byte = message[offset]
        offset += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, offset
    raise ValueError("the message is no protobuf")
