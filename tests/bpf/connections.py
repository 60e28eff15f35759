"""Entries of a connection table, read from its bytes; and how long IPVS keeps each state."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.datapath.xdp import layout
from tests.bpf import records

TIMEOUTS = {  # seconds: ip_vs_proto_tcp.c, _udp.c, _sctp.c
    "none": 2,
    "established": 900,
    "syn_sent": 120,
    "syn_recv": 60,
    "fin_wait": 120,
    "time_wait": 120,
    "close": 10,
    "close_wait": 60,
    "last_ack": 30,
    "listen": 120,
    "synack": 120,
    "udp": 300,
    "sctp_init": 30,
    "sctp_established": 900,
    "sctp_closing": 60,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """One entry of a connection table that is in use. ``age`` is in ticks."""

    family: int
    index: int
    source: str
    sport: int
    destination: str
    dport: int
    protocol: int
    server: int
    generation: int
    state: str
    flags: frozenset[str]
    seen: int
    peer: int
    source_port: int

    @property
    def reverse(self) -> bool:
        return "reverse" in self.flags


def parse(content: bytes, family: int) -> list[Connection]:
    """Those in use, of a whole table."""
    size = layout.CONN_SIZES[family]
    flags = layout.CONN.offset["word_flags"]
    return [
        _connection(content[at : at + size], at // size, family)
        for at in range(0, len(content), size)
        if content[at + flags]
    ]


def _connection(entry: bytes, index: int, family: int) -> Connection:
    conn = layout.CONN.unpack(entry)
    size = 4 if family == 4 else 16
    source, destination = (
        layout.address_of(entry[at : at + size], family)
        for at in (layout.CONN.size, layout.CONN.size + size)
    )
    server, generation = layout.server_of_ref(conn.word_server)
    flags = (name for bit, name in enumerate(records.CONN_FLAGS) if conn.word_flags >> bit & 1)
    return Connection(
        family=family,
        index=index,
        source=str(source),
        sport=int.from_bytes(conn.sport, "big"),
        destination=str(destination),
        dport=int.from_bytes(conn.dport, "big"),
        protocol=conn.protocol,
        server=server,
        generation=generation,
        state=records.STATES[conn.word_state],
        flags=frozenset(flags),
        seen=conn.seen,
        peer=conn.peer,
        source_port=int.from_bytes(conn.source_port, "big"),
    )
