"""DNS messages (RFC 1035): a query out, and as much of a reply as a check looks at. Pure.

Written for replies from a hostile server: every step goes forward or, by compression, strictly
backward, every length is held against the message, and only records of the type that was asked
are decoded. A name may jump as often as it may have labels, and all names of a message together
may take _MOST_STEPS: the worst message costs some milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

TYPES = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "HINFO": 13,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "NAPTR": 35,
    "DS": 43,
    "DNSKEY": 48,
    "TLSA": 52,
    "SVCB": 64,
    "HTTPS": 65,
    "ANY": 255,
    "CAA": 257,
}
RCODES = (
    *("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET"),
    *("NXRRSET", "NOTAUTH", "NOTZONE", "RCODE11", "RCODE12", "RCODE13", "RCODE14", "RCODE15"),
)

_HEADER = struct.Struct("!6H")  # id, flags, counts of question, answer, authority, additional
_QUESTION = struct.Struct("!HH")  # type, class
_RECORD = struct.Struct("!HHIH")  # type, class, TTL, length
_INTERNET = 1
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RCODE = 0x8000, 0x0200, 0x0100, 0x000F
_LONGEST_NAME, _LONGEST_LABEL = 255, 63  # bytes
_POINTER = 0xC0
_MOST_JUMPS = 127  # of one name: no name has more labels
_MOST_STEPS = 16384  # labels and jumps of all names: ten in each record of 16 KB that are full

# A character of a name as text: RFC 4343, 2.1.
_TEXT = tuple(
    chr(byte).lower() if 0x21 <= byte <= 0x7E and byte not in b'."();@$\\' else f"\\{byte:03d}"
    for byte in range(256)
)


class Malformed(Exception):
    """It is no DNS message, or not the answer to this question."""


class Foreign(Malformed):
    """It answers some other query."""


class Query(NamedTuple):
    name: str  # with its final dot
    type: int

    def pack(self, number: int) -> bytes:
        """``number`` is the id (16 bits)."""
        header = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
        return header + _pack_name(self.name) + _QUESTION.pack(self.type, _INTERNET)


class Reply(NamedTuple):
    rcode: str
    truncated: bool
    values: tuple[str, ...]  # of the answers of the type that was asked, as text


class _Message:
    """Its bytes, and how many more labels and jumps its names may take."""

    __slots__ = ("data", "left")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = _MOST_STEPS


def query(name: str, kind: str) -> Query:
    """Raises ValueError with a sentence."""
    if kind not in TYPES:
        raise ValueError(f"DNS type {kind} is unknown (known: {', '.join(TYPES)})")
    made = Query(name if name.endswith(".") else f"{name}.", TYPES[kind])
    made.pack(0)
    return made


def read(data: bytes, number: int, asked: Query) -> Reply:
    """Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed(f"{len(data)} bytes are no DNS message")
    found, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    if not flags & _RESPONSE:
        raise Malformed("a query came back, not an answer")
    if found != number:
        raise Foreign("the answer has the id of another query")
    rcode = RCODES[flags & _RCODE]
    message, offset = _Message(data), _HEADER.size
    if questions == 1:
        offset = _question(message, offset, asked)
    elif questions or rcode == "NOERROR":
        raise Malformed(f"the answer repeats {questions} questions, not 1")
    values = []
    for _ in range(answers):
        try:
            value, offset = _record(message, offset, asked.type)
        except Malformed:
            if flags & _TRUNCATED:
                break
            raise
        if value is not None:
            values.append(value)
    return Reply(rcode, bool(flags & _TRUNCATED), tuple(values))


def _question(message: _Message, offset: int, asked: Query) -> int:
    name, offset = _name(message, offset)
    _need(message.data, offset, _QUESTION.size)
    kind, family = _QUESTION.unpack_from(message.data, offset)
    if (name, kind, family) != (asked.name.lower(), asked.type, _INTERNET):
        raise Foreign("the answer is to another question")
    return offset + _QUESTION.size


def _record(message: _Message, offset: int, wanted: int) -> tuple[str | None, int]:
    data = message.data
    offset = _past_name(data, offset)
    _need(data, offset, _RECORD.size)
    kind, family, _, length = _RECORD.unpack_from(data, offset)
    offset += _RECORD.size
    _need(data, offset, length)
    if kind != wanted or family != _INTERNET or kind not in _DECODERS:
        return None, offset + length
    return _DECODERS[kind](message, offset, offset + length), offset + length


def _need(data: bytes, offset: int, length: int) -> None:
    if offset + length > len(data):
        raise Malformed("the message ends too early")


def _past_name(data: bytes, offset: int) -> int:
    while True:
        _need(data, offset, 1)
        length = data[offset]
        if length >= _POINTER:
            _need(data, offset, 2)
            return offset + 2
        if length > _LONGEST_LABEL:
            raise Malformed("a label is of an unknown kind")
        offset += 1 + length
        if not length:
            return offset


def _name(message: _Message, offset: int) -> tuple[str, int]:
    """A name as text in lower case, and where it ends."""
    data = message.data
    end: int | None = None
    lowest = offset
    labels: list[str] = []
    size, jumps = 1, 0
    while True:
        message.left -= 1
        if message.left < 0:
            raise Malformed(f"its names take more than {_MOST_STEPS} labels")
        _need(data, offset, 1)
        length = data[offset]
        if length >= _POINTER:
            _need(data, offset, 2)
            end = offset + 2 if end is None else end
            offset = (length - _POINTER) << 8 | data[offset + 1]
            jumps += 1
            if offset >= lowest:
                raise Malformed("a name points forward or at itself")
            if jumps > _MOST_JUMPS:
                raise Malformed(f"a name is in more than {_MOST_JUMPS} pieces")
            lowest = offset
            continue
        if length > _LONGEST_LABEL:
            raise Malformed("a label is of an unknown kind")
        size += 1 + length
        if size > _LONGEST_NAME + 1:
            raise Malformed("a name is too long")
        _need(data, offset + 1, length)
        offset += 1 + length
        if not length:
            return "".join(labels) or ".", offset if end is None else end
        labels.append("".join([_TEXT[each] for each in data[offset - length : offset]]) + ".")


def _pack_name(name: str) -> bytes:
    """Raises ValueError."""
    packed = bytearray()
    for label in name[:-1].split(".") if name != "." else ():
        data = label.encode("ascii", "replace")
        if not label.isascii() or not label.isprintable() or {*label} & {*' "();@$\\'}:
            raise ValueError(f"DNS name {name!r} has a label that is not plain ASCII: {label!r}")
        if not 0 < len(data) <= _LONGEST_LABEL:
            raise ValueError(f"DNS name {name!r} has a label that is not of 1 to 63 characters")
        packed.append(len(data))
        packed += data
    if len(packed) >= _LONGEST_NAME:
        raise ValueError(f"DNS name {name!r} is longer than 253 characters")
    return bytes(packed) + b"\0"


_Decoder = Callable[[_Message, int, int], str]  # where the record begins and ends

# Values as text, in the zone file's form; of TXT the strings joined, without quotation marks.


def _address4(message: _Message, offset: int, end: int) -> str:
    if end - offset != 4:
        raise Malformed("an A record is not of 4 bytes")
    return str(IPv4Address(message.data[offset:end]))


def _address6(message: _Message, offset: int, end: int) -> str:
    if end - offset != 16:
        raise Malformed("an AAAA record is not of 16 bytes")
    return str(IPv6Address(message.data[offset:end]))


def _strings(message: _Message, offset: int, end: int) -> str:
    data = bytearray()
    while offset < end:
        length = message.data[offset]
        if offset + 1 + length > end:
            raise Malformed("a string is longer than its record")
        data += message.data[offset + 1 : offset + 1 + length]
        offset += 1 + length
    return data.decode("utf-8", "replace")


def _fields(numbers: str, names: int, then: str = "") -> _Decoder:
    """A decoder of numbers, then names, then numbers (struct's letters)."""
    before, after = struct.Struct(f"!{numbers}"), struct.Struct(f"!{then}")

    def decode(message: _Message, offset: int, end: int) -> str:
        if offset + before.size > end:
            raise Malformed("a record is too short")
        words = [str(each) for each in before.unpack_from(message.data, offset)]
        offset += before.size
        for _ in range(names):
            word, offset = _name(message, offset)
            words.append(word)
        if offset + after.size != end:
            raise Malformed("a record is not as long as what it holds")
        return " ".join([*words, *(str(each) for each in after.unpack_from(message.data, offset))])

    return decode


_DECODERS: dict[int, _Decoder] = {
    TYPES["A"]: _address4,
    TYPES["AAAA"]: _address6,
    TYPES["TXT"]: _strings,
    TYPES["NS"]: _fields("", 1),
    TYPES["CNAME"]: _fields("", 1),
    TYPES["PTR"]: _fields("", 1),
    TYPES["MX"]: _fields("H", 1),
    TYPES["SRV"]: _fields("HHH", 1),
    TYPES["SOA"]: _fields("", 2, "IIIII"),
}


def value(text: str, kind: str) -> str:
    """``text`` as ``Reply.values`` would have it. Raises ValueError with a sentence."""
    try:
        match kind:
            case "A":
                return str(IPv4Address(text))
            case "AAAA":
                return str(IPv6Address(text))
            case "TXT":
                return text
    except AddressValueError as error:
        raise ValueError(f"{text!r} is no value of DNS type {kind}: {error}") from error
    if TYPES.get(kind) not in _DECODERS:
        known = ", ".join(name for name, number in TYPES.items() if number in _DECODERS)
        raise ValueError(f"answers of DNS type {kind} cannot be compared (known: {known})")
    words = text.lower().split()
    return " ".join(
        each if each.isdecimal() or each.endswith(".") else f"{each}." for each in words
    )
