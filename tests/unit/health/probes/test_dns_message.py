"""DNS messages: held to scapy's codec, and to whatever bytes come."""

from __future__ import annotations

import struct
import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRMX, DNSRRSOA, DNSRRSRV

from kernlb.health.probes.dns import LONGEST
from kernlb.health.probes.dns_message import RCODES, TYPES, Malformed, Query, query, read, value


@pytest.mark.parametrize("name", [".", "a.", "www.example.test.", "_http._tcp.x-y.test."])
@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_query_is_what_scapy_makes_of_it(name: str, kind: str) -> None:
    expected = bytes(DNS(id=4711, rd=1, qd=DNSQR(qname=name, qtype=TYPES[kind])))
    assert query(name, kind).pack(4711) == expected


RECORDS = [
    (DNSRR(type="A", rdata="192.0.2.7"), "A", "192.0.2.7"),
    (DNSRR(type="AAAA", rdata="2001:db8::7"), "AAAA", "2001:DB8:0:0::7"),
    (DNSRR(type="NS", rdata="NS1.example.test."), "NS", "ns1.example.test"),
    (DNSRR(type="CNAME", rdata="x.example.test."), "CNAME", "X.example.test."),
    (DNSRR(type="PTR", rdata="x.example.test."), "PTR", "x.example.test"),
    (DNSRR(type="TXT", rdata=[b"one ", "zwö".encode()]), "TXT", "one zwö"),
    (DNSRRMX(preference=10, exchange="mail.test."), "MX", "10  mail.test"),
    (DNSRRSRV(priority=1, weight=2, port=80, target="w.test."), "SRV", "1 2 80 W.test."),
    (
        DNSRRSOA(mname="a.test.", rname="b.test.", serial=1, refresh=2, retry=3, expire=4),
        "SOA",
        "a.test b.test 1 2 3 4 {minimum}",
    ),
]


@pytest.mark.parametrize(("record", "kind", "text"), RECORDS)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_scapy_packs_is_read(record, kind: str, text: str, compressed: bool) -> None:  # type: ignore[no-untyped-def]
    record.rrname = "example.test."
    text = text.format(minimum=getattr(record, "minimum", None))
    question = DNSQR(qname="example.test.", qtype=kind)
    message = DNS(id=7, qr=1, qd=question, an=[record])
    reply = read(
        bytes(message.compress() if compressed else message), 7, query("example.test", kind)
    )
    assert reply.values == (value(text, kind),)


@pytest.mark.parametrize("number", range(16))
def test_an_rcode_has_its_name(number: int) -> None:
    message = bytes(DNS(id=7, qr=1, rcode=number, qd=DNSQR(qname="a.", qtype="A")))
    assert read(message, 7, query("a", "A")).rcode == RCODES[number]


A = query("a.test", "A")
GOOD = bytes(
    DNS(
        id=7,
        qr=1,
        qd=DNSQR(qname="a.test.", qtype="A"),
        an=[DNSRR(rrname="a.test.", rdata="1.2.3.4")],
    )
)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    readable(data, A)
    readable(b"\0\7\x80\0\0\1\0\3\0\0\0\0" + A.pack(7)[12:] + data, A)


@given(
    place=st.integers(0, len(GOOD) - 1),
    byte=st.integers(0, 255),
    length=st.integers(0, len(GOOD)),
    kind=st.sampled_from(sorted(TYPES.values())),
)
def test_a_damaged_answer_is_read_or_malformed(
    place: int, byte: int, length: int, kind: int
) -> None:
    message = bytearray(GOOD)
    message[place] = byte
    readable(bytes(message[:length]), A)
    readable(bytes(message), Query("a.test.", kind))


def readable(message: bytes, asked: Query) -> None:
    try:
        reply = read(message, 7, asked)
    except Malformed:
        return
    assert reply.rcode in RCODES


NS = TYPES["NS"]
NAME_AT = 12 + len(b"\1q\0") + 4 + 12  # where the data of the first answer begins


def dear(names: bytes, place: int, size: int, kind: int = NS) -> bytes:
    """An answer of ``size`` bytes whose first record, of ``kind``, holds ``names``; all others are
    names that point at ``place`` within it."""
    question = b"\1q\0" + struct.pack("!HH", NS, 1)
    first = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(names)) + names
    other = b"\xc0\x0c" + struct.pack("!HHIHH", NS, 1, 0, 2, 0xC000 | NAME_AT + place)
    count = (size - 12 - len(question) - len(first)) // len(other)
    return struct.pack("!6H", 7, 0x8180, 1, 1 + count, 0, 0) + question + first + other * count


def labels(count: int) -> bytes:
    return b"\1a" * count + b"\0"


def chain(count: int) -> bytes:
    """A name, and so many pointers, each to the one before."""
    return b"\0" + b"".join(
        struct.pack("!H", 0xC000 | NAME_AT + max(0, 2 * number - 1)) for number in range(count)
    )


def steps_of(message: bytes, enough: int) -> int:
    """How many lines of Python it takes to read it, counted up to ``enough``."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> object:
        nonlocal steps
        steps += 1
        if steps > enough:
            raise TimeoutError
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        read(message, 7, query("q", "NS"))
    except (Malformed, TimeoutError):
        pass
    finally:
        sys.settrace(before)
    return steps


LONG = 4000  # pointers, in half of what fits into the longest answer
DEAR: dict[str, tuple[bytes, int, int]] = {
    "as many labels as may be": (labels(126), 0, NS),
    "some labels in very many records": (labels(20), 0, NS),
    "a chain of pointers": (chain(LONG), 2 * LONG - 1, TYPES["TXT"]),
    "a chain as long as it may be": (chain(LONG), 2 * 127 - 1, TYPES["TXT"]),
    "labels of one byte each that has to be escaped": (b"\1." * 126 + b"\0", 0, NS),
    "the longest labels": (b"\x3f" + b"." * 63 + b"\0", 0, NS),
}


@pytest.mark.parametrize("size", [LONGEST[True], 65535])
@pytest.mark.parametrize("case", DEAR)
def test_the_dearest_answer_takes_few_steps(case: str, size: int) -> None:
    names, place, kind = DEAR[case]
    enough = 1_000_000  # of some ten nanoseconds each
    assert steps_of(dear(names, place, size, kind), enough) < enough


def test_as_many_jumps_as_labels_make_a_name_and_one_more_does_not() -> None:
    asked = query("q", "NS")
    pieces = dear(chain(LONG), 2 * 126 - 1, 9000, TYPES["TXT"])
    assert set(read(pieces, 7, asked).values) == {"."}
    with pytest.raises(Malformed, match="a name is in more than 127 pieces"):
        read(dear(chain(LONG), 2 * 127 - 1, 9000, TYPES["TXT"]), 7, asked)


def test_an_answer_of_usual_names_may_be_as_long_as_any() -> None:
    """Names of eight labels, in as many records as fit into the longest answer that is heard."""
    message = dear(labels(8), 0, LONGEST[True])
    assert set(read(message, 7, query("q", "NS")).values) == {"a." * 8}
    with pytest.raises(Malformed, match="its names take more than 16384 labels"):
        read(dear(labels(126), 0, LONGEST[True]), 7, query("q", "NS"))
