"""DNS messages: held to scapy's codec, and to whatever bytes come."""

from __future__ import annotations

import struct
import time

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


def test_the_dearest_answer_costs_little() -> None:
    """Names of 127 labels, each by pointers, in as many records as fit into the longest answer."""
    name = b"\1a" * 126 + b"\0"
    question = b"\1q\0" + struct.pack("!HH", TYPES["NS"], 1)
    first = b"\xc0\x0c" + struct.pack("!HHIH", TYPES["NS"], 1, 0, len(name)) + name
    where = 12 + len(question) + 12
    other = b"\xc0\x0c" + struct.pack("!HHIHH", TYPES["NS"], 1, 0, 2, 0xC000 | where)
    count = (LONGEST[True] - where - len(name)) // len(other)
    header = struct.pack("!6H", 7, 0x8180, 1, 1 + count, 0, 0)
    message = header + question + first + other * count
    before = time.process_time()
    reply = read(message, 7, query("q", "NS"))
    spent = time.process_time() - before
    assert reply.values == ("a." * 126,) * (1 + count)
    assert spent < 0.5  # seconds; it takes a tenth of that
