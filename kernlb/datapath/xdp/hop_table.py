"""The next hops of servers, in their entries: one for all servers at an address.

Who keeps them true says which hop an address has; servers that come later get it before packets
find them. While an entry's hop is being written the program asks the kernel's FIB instead, as it
does where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from kernlb.datapath.xdp.hops import Hop, Outcome
from kernlb.datapath.xdp.layout import (
    SERVER,
    AddressFamily,
    Encapsulation,
    Forward,
    Server,
    ServerFlag,
    address_bytes,
)
from kernlb.datapath.xdp.maps import Maps
from kernlb.model import IPAddress, ServerKey, ServiceKey

_FLAGS = SERVER.offset["flags"]
_WORDS = Struct("=4H")
_HOP_FIELDS = ("source", "hop_ifindex", "hop_dst", "hop_src", "mtu", "vlan", "outer_sum")
_IP = {AddressFamily.IPV4: 20, AddressFamily.IPV6: 40}
_SHIM = {Encapsulation.IPIP: 0, Encapsulation.GUE: 12, Encapsulation.GRE: 4}


class HopTable:
    """Which servers are at which address, and the hop of each address."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._endpoints: dict[int, tuple[ServiceKey, ServerKey]] = {}
        self._at: dict[IPAddress, set[int]] = {}
        self._outcomes: dict[IPAddress, Outcome] = {}

    def __len__(self) -> int:
        """Servers."""
        return len(self._endpoints)

    def endpoints(self) -> Iterable[tuple[ServiceKey, ServerKey]]:
        """Every real server that there is."""
        return self._endpoints.values()

    def enter(self, number: int, service: ServiceKey, server: ServerKey) -> None:
        """The server is in the maps now, with the hop that ``resolved`` gave it."""
        self._endpoints[number] = service, server
        self._at.setdefault(server.address, set()).add(number)

    def leave(self, number: int) -> None:
        _, server = self._endpoints.pop(number)
        there = self._at[server.address]
        there.discard(number)
        if not there:
            del self._at[server.address]

    def resolved(self, address: IPAddress, record: Server) -> Server:
        """The record with the hop of its address."""
        outcome = self._outcomes.get(address)
        if outcome is None and record.forwarding != Forward.TUNNEL and not record.mtu:
            return record  # as it is
        return with_hop(record, outcome)

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        """Of every server at this address, those to come included."""
        self._outcomes[address] = outcome
        self._write(address)

    def forget_hop(self, address: IPAddress) -> None:
        """Nobody looks after it any more; forgetting the unknown succeeds."""
        if self._outcomes.pop(address, None) is not None:
            self._write(address)

    def _write(self, address: IPAddress) -> None:
        for number in self._at.get(address, ()):
            before = self._maps.server(number)
            after = self.resolved(address, before)
            if after != before:
                write_hop(self._maps.servers, number, after)


def with_hop(record: Server, outcome: Outcome | None) -> Server:
    """What is known of an unresolved one serves the program when it asks the FIB.

    None: nobody has looked yet, so the source stays as it was."""
    flags = record.flags & ~ServerFlag.HOP_KNOWN
    source, destination, own, ifindex, mtu, vlan = record.source, bytes(6), bytes(6), 0, 0, 0
    if outcome is not None:
        source, ifindex, mtu = bytes(16), outcome.ifindex, outcome.mtu
        if outcome.source is not None and outcome.source.version == record.family:
            source = address_bytes(outcome.source)
    if isinstance(outcome, Hop):
        destination, own, vlan = outcome.destination_mac, outcome.source_mac, outcome.vlan
        if record.forwarding in (Forward.DSR, Forward.NAT) or any(source):
            flags |= ServerFlag.HOP_KNOWN
    outer_sum = 0
    if record.forwarding == Forward.TUNNEL:
        mtu = max(0, mtu - overhead(record))
        if record.family == AddressFamily.IPV4:
            outer_sum = sum(_WORDS.unpack(source[:4] + record.addr[:4]))
    return record._replace(
        flags=flags,
        source=source,
        hop_ifindex=ifindex,
        hop_dst=destination,
        hop_src=own,
        mtu=min(mtu, 0xFFFF),
        vlan=vlan.to_bytes(2, "big"),
        outer_sum=outer_sum,
    )


def overhead(record: Server) -> int:
    """Bytes of the headers in front of a packet in a tunnel: outer_length() of bpf/forward.h."""
    return _IP[AddressFamily(record.family)] + _SHIM[Encapsulation(record.tunnel)]


def write_hop(servers: memoryview, number: int, record: Server) -> None:
    """Nothing but the hop of an entry that packets go by."""
    at = number * SERVER.size
    servers[at + _FLAGS] = record.flags & ~ServerFlag.HOP_KNOWN
    content = SERVER.pack(record)
    for name in _HOP_FIELDS:
        start, size = SERVER.places[name]
        servers[at + start : at + start + size] = content[start : start + size]
    servers[at + _FLAGS] = record.flags
