"""The packet that `kernlb explain` asks about, and what the program's answer means. Pure.

The packet is whole, checksums included, so that the program treats it as any other: the first
packet of a connection (SYN, a datagram, INIT), or one from the middle of it. Who runs the program
is not of this module.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from kernlb.datapath.xdp.layout import Explanation, Reason
from kernlb.model import IPAddress, L4Protocol, ServerKey

_NUMBERS = {L4Protocol.TCP: 6, L4Protocol.UDP: 17, L4Protocol.SCTP: 132}
_MACS = bytes.fromhex("020000000001020000000002")  # nobody's: the program does not look at them
_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_VLANS = (b"\x81\x00", b"\x88\xa8")
_TTL = 64
_PAYLOAD = b"kernlb explain"
_SYN, _ACK, _WINDOW = 0x02, 0x10, 65535
_INIT, _DATA = 1, 0  # SCTP chunks, RFC 9260


class Verdict(StrEnum):
    """What becomes of a packet. The kernel's own words are beside it (enum xdp_action)."""

    DROP = "drop"  # XDP_DROP, XDP_ABORTED
    PASS = "pass"  # XDP_PASS: to the kernel's network stack
    SEND = "send"  # XDP_TX, XDP_REDIRECT


_VERDICTS = (Verdict.DROP, Verdict.DROP, Verdict.PASS, Verdict.SEND, Verdict.SEND)

MEANINGS: dict[Reason, str] = {
    Reason.NOT_OURS: "no service and no server has to do with these addresses",
    Reason.NO_SERVICE: "the address is a service's, and none is on this port",
    Reason.FORWARDED: "forwarded to the server",
    Reason.REPLY: "a server's answer, sent to the client",
    Reason.ICMP_FORWARDED: "an ICMP error, sent to the server that it concerns",
    Reason.ECHO_ANSWERED: "an echo request, answered for the service's address",
    Reason.TOO_BIG_ANSWERED: "too big for the way to the server: the sender is told",
    Reason.TTL_ANSWERED: "its TTL has expired: the sender is told",
    Reason.REFUSED: "no server may take it: the client is told",
    Reason.MALFORMED: "its headers contradict each other",
    Reason.FRAGMENT_UNPLACED: "a fragment whose first one was not seen",
    Reason.NO_SERVER: "no server may take it",
    Reason.NO_CONNECTION: "within a connection that is not known here",
    Reason.TABLE_FULL: "the connection table has no room",
    Reason.NO_SOURCE_PORT: "fullnat has no free port towards the server",
    Reason.NO_NEIGHBOUR: "the next hop's Ethernet address is not known",
    Reason.NO_ROUTE: "the kernel has no route",
    Reason.TOO_BIG: "too big for the way, and the sender may not be told",
    Reason.TTL_EXPIRED: "its TTL has expired, and the sender may not be told",
    Reason.ICMP_UNMATCHED: "an ICMP error that quotes no known connection",
    Reason.NO_HEADROOM: "the driver leaves no room for an outer header",
    Reason.UNSUPPORTED: "of a kind that cannot be forwarded",
}


class Sent(NamedTuple):
    """Where the program put the packet on the wire."""

    mac: str  # of the next machine
    vlan: int  # 0: no tag


def verdict(action: int) -> Verdict:
    """Of an enum xdp_action."""
    return _VERDICTS[action] if action < len(_VERDICTS) else Verdict.DROP


def reason(explanation: Explanation) -> Reason | None:
    """None for one that a newer program has and this module does not know."""
    known = explanation.reason < len(Reason)
    return Reason(explanation.reason) if known else None


def sent(packet: bytes) -> Sent:
    """Of the frame that the program left behind."""
    tagged = packet[12:14] in _VLANS
    vlan = int.from_bytes(packet[14:16], "big") & 0xFFF if tagged else 0
    return Sent(packet[:6].hex(":"), vlan)


def frame(protocol: L4Protocol, client: ServerKey, to: ServerKey, *, within: bool = False) -> bytes:
    """What ``client`` would send to begin a connection, or with ``within`` in the middle of one.

    Raises ValueError for addresses of two families."""
    version = client.address.version
    if version != to.address.version:
        raise ValueError(f"{client} and {to} are of different address families")
    pseudo = _pseudo_header(client.address, to.address, _NUMBERS[protocol])
    upper = _transport(protocol, client.port, to.port, pseudo, within)
    return _MACS + _ETHERTYPES[version] + _ip(version, client, to, protocol, upper) + upper


def _ip(
    version: int, client: ServerKey, to: ServerKey, protocol: L4Protocol, upper: bytes
) -> bytes:
    number, addresses = _NUMBERS[protocol], client.address.packed + to.address.packed
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(upper), number, _TTL) + addresses
    dont_fragment = 0x4000
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(upper), 1, dont_fragment, _TTL, number)
    total = checksum(head + addresses)
    return head + struct.pack("!H", total) + addresses


def _pseudo_header(source: IPAddress, destination: IPAddress, number: int) -> bytes:
    """Without the length, which the sum takes from what follows."""
    return source.packed + destination.packed + struct.pack("!H", number)


def _transport(protocol: L4Protocol, sport: int, dport: int, pseudo: bytes, within: bool) -> bytes:
    match protocol:
        case L4Protocol.TCP:
            flags = _ACK if within else _SYN
            head = struct.pack("!HHIIBBHHH", sport, dport, 1, within, 5 << 4, flags, _WINDOW, 0, 0)
            return _summed(head, 16, pseudo)
        case L4Protocol.UDP:
            head = struct.pack("!HHHH", sport, dport, 8 + len(_PAYLOAD), 0)
            return _summed(head + _PAYLOAD, 6, pseudo)
        case L4Protocol.SCTP:
            return _sctp(sport, dport, within)


def _summed(upper: bytes, at: int, pseudo: bytes) -> bytes:
    total = checksum(pseudo + struct.pack("!H", len(upper)) + upper)
    return upper[:at] + struct.pack("!H", total or 0xFFFF) + upper[at + 2 :]


def _sctp(sport: int, dport: int, within: bool) -> bytes:
    chunk = struct.pack("!BBHIIHHI", _INIT, 0, 20, 1, _WINDOW, 1, 1, 1)
    if within:
        chunk = struct.pack("!BBHIHHI", _DATA, 3, 20, 1, 0, 0, 0) + b"data"
    head = struct.pack("!HHI", sport, dport, within)  # INIT has verification tag 0
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _crc_table()[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        return value

    return tuple(map(entry, range(256)))
