"""What travels over the control socket about XDP: bodies of ``protocol``, and nothing else."""

from __future__ import annotations

import msgspec


class XdpInterface(msgspec.Struct, frozen=True, omit_defaults=True):
    """An interface that settings name: ``mode`` native or generic, "" while it has no program."""

    name: str
    mode: str = ""
    error: str = ""


class XdpTable(msgspec.Struct, frozen=True):
    """``used`` of ``size`` entries; of connection tables as of the last whole sweep."""

    name: str
    used: int
    size: int


class XdpUnresolved(msgspec.Struct, frozen=True):
    """A server whose next hop is not known, or may not be reached."""

    service: str
    server: str
    reason: str


class XdpStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """The XDP datapath of the host. ``packets`` by reason, since the maps were made."""

    program: str  # tag: the kernel's name for these very instructions
    abi: int
    memory: int  # bytes, of all tables
    interfaces: list[XdpInterface]
    tables: list[XdpTable]
    half_open: int = 0
    unresolved: list[XdpUnresolved] = []
    warnings: list[str] = []
    packets: dict[str, int] = {}


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the loaded program would do with a packet, and why."""

    protocol: str
    client: str
    to: str
    verdict: str  # send, pass, drop
    reason: str
    meaning: str
    interface: str = ""  # where it comes in
    service: str = ""  # its name; "" where the service is undeclared
    key: str = ""
    scheduler: str = ""
    server: str = ""
    forwarding: str = ""
    tunnel: str = ""  # type, and port of gue
    chosen_by: str = ""  # connection, template or scheduler
    state: str = ""  # of the connection that was found
    out: str = ""  # interface that it leaves by
    next_hop: str = ""  # Ethernet address
    vlan: int = 0
    by_fib: bool = False  # the next hop was asked from the kernel's routes for this packet


class MapDump(msgspec.Struct, frozen=True):
    """A map as text, one entry a line."""

    name: str
    text: str
