"""The options of one line of ipvsadm as they stand, each held as it comes.

Options count in order, as with ipvsadm: a netmask in front of an IPv6 service is lost, -6 goes
behind -f, a server's port is the service's only if that came first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from kernlb.migrate.ipvsadm.grammar import Given, RefusedError
from kernlb.migrate.ipvsadm.names import Names
from kernlb.model import MAX_FWMARK, Forwarding, IPAddress, L4Protocol, TunnelType

MAX_TIMEOUT = 31 * 24 * 60 * 60
DEFAULT_PERSISTENCE = 360  # what ipvsadm 1.31 sets; its manual says 300
MAX_INT = 2**31 - 1
WHOLE_V4 = 0xFFFFFFFF

_PROTOCOLS = {
    "tcp-service": L4Protocol.TCP,
    "udp-service": L4Protocol.UDP,
    "sctp-service": L4Protocol.SCTP,
}
_METHODS = {
    "masquerading": Forwarding.NAT,
    "ipip": Forwarding.TUNNEL,
    "gatewaying": Forwarding.DSR,
}
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", re.ASCII)  # as strtol() takes it


@dataclass
class Line:
    """What was read of a line so far."""

    names: Names
    saved: bool
    parts: set[str] = field(default_factory=set)
    protocol: L4Protocol | None = None
    address: IPAddress | None = None
    fwmark: int = 0
    version: int = 0  # of the service's addresses; 0: not known yet
    port: int = 0
    scheduler: str = ""
    timeout: int | None = None
    netmask: int = WHOLE_V4  # IPv4: bits; IPv6: their number
    engine: str = ""
    one_packet: bool = False
    flags: str = ""
    server: IPAddress | None = None
    server_port: int = 0
    forwarding: Forwarding = Forwarding.DSR
    weight: int = 1
    upper: int = 0
    lower: int = 0
    tunnel_type: TunnelType = TunnelType.IPIP
    tunnel_port: int = 0

    def take(self, given: Given) -> None:
        """One more option."""
        option, text = given
        part = option.part or option.name
        if option.name == "ipv6":
            if not self.fwmark:
                raise RefusedError("-6 goes behind -f")
            self.version, self.netmask = 6, 128
            return
        if option.name == "sort":
            return
        if part in self.parts:
            raise RefusedError(f"{part} is there twice")
        self.parts.add(part)
        if option.name in _PROTOCOLS:
            self._take_service(_PROTOCOLS[option.name], text or "")
        elif option.name in _METHODS:
            self.forwarding = _METHODS[option.name]
        elif (take := getattr(self, f"_take_{option.name.replace('-', '_')}", None)) is not None:
            take(text or "" if option.name != "persistent" else text)

    def _take_service(self, protocol: L4Protocol, text: str) -> None:
        self.protocol = protocol
        self.address, port = self._endpoint(text, "virtual service")
        self.version = self.address.version
        if self.version == 6:
            self.netmask = 128
        if port is not None:
            self.port = port

    def _take_fwmark_service(self, text: str) -> None:
        mark = _number(text)
        if self.saved and mark is not None and -(2**31) <= mark < 0:
            mark += 2**32
        if mark is None or not 0 < mark <= MAX_FWMARK:
            raise RefusedError(f'"{text}" is no firewall mark: 1..{MAX_FWMARK}')
        self.protocol, self.version, self.fwmark = L4Protocol.TCP, 4, mark

    def _take_scheduler(self, text: str) -> None:
        self.scheduler = text[:15]  # IP_VS_SCHEDNAME_MAXLEN less its end

    def _take_persistent(self, text: str | None) -> None:
        self.timeout = DEFAULT_PERSISTENCE if text is None else seconds(text, 1)

    def _take_netmask(self, text: str) -> None:
        if self.version == 6:
            match = _NUMBER.match(text)
            self.netmask = int(match[1]) if match else 0
            if not 1 <= self.netmask <= 128:
                raise RefusedError(f'"{text}" is no prefix length of IPv6: 1..128')
            return
        mask = self.names.address(text)
        if mask is None:
            raise RefusedError(f'"{text}" is no netmask')
        self.netmask = int(mask)

    def _take_real_server(self, text: str) -> None:
        self.server, port = self._endpoint(text, "real server")
        self.server_port = self.port if port is None else port

    def _take_weight(self, text: str) -> None:
        self.weight = _within(text, 0, MAX_INT, "weight")

    def _take_u_threshold(self, text: str) -> None:
        self.upper = _within(text, 0, MAX_INT, "upper threshold")

    def _take_l_threshold(self, text: str) -> None:
        self.lower = _within(text, 0, MAX_INT, "lower threshold")

    def _take_syncid(self, text: str) -> None:
        _within(text, 0, 255, "syncid")

    def _take_mcast_port(self, text: str) -> None:
        _within(text, 1, 65535, "mcast-port")

    def _take_mcast_ttl(self, text: str) -> None:
        _within(text, 1, 255, "mcast-ttl")

    def _take_sync_maxlen(self, text: str) -> None:
        _within(text, 1, 65535 - 20 - 8, "sync-maxlen")

    def _take_mcast_group(self, text: str) -> None:
        try:
            group = IPv6Address(text) if ":" in text else IPv4Address(text)
        except ValueError:
            group = None
        if group is None or not group.is_multicast:
            raise RefusedError(f'"{text}" is no multicast group')

    def _take_ops(self, _: str) -> None:
        self.one_packet = True

    def _take_pe(self, text: str) -> None:
        self.engine = text

    def _take_sched_flags(self, text: str) -> None:
        self.flags = text

    def _take_tun_type(self, text: str) -> None:
        if text not in list(TunnelType):
            raise RefusedError(f'"{text}" is no type of tunnel: {", ".join(TunnelType)}')
        self.tunnel_type = TunnelType(text)

    def _take_tun_port(self, text: str) -> None:
        self.tunnel_port = _within(text, 1, 65535, "port of a tunnel")

    def _endpoint(self, text: str, what: str) -> tuple[IPAddress, int | None]:
        """``host[:port]`` as ipvsadm takes it. Port None: none is named."""
        refused = RefusedError(f'"{text}" is no address[:port] of a {what}')
        if not text or (text.isascii() and text.isdigit()):
            raise refused
        host, port = text, None
        if text.startswith("["):
            host, bracket, behind = text[1:].partition("]")
            if not bracket or not behind.startswith(":"):
                raise refused
            port = behind[1:]
        address: IPAddress | None = _ipv6(host)
        if address is None:
            host, colon, behind = host.rpartition(":") if ":" in host else (host, "", "")
            port = behind if colon else None
            address = self.names.address(host)
        if address is None:
            raise refused
        return address, None if port is None else self._port(port, refused)

    def _port(self, text: str, refused: RefusedError) -> int:
        number = _number(text)
        if number is not None and 0 <= number <= 65535:
            return number
        named = self.names.port(text, self.protocol) if self.protocol is not None else None
        if named is None:
            raise refused
        return named


def seconds(text: str, least: int) -> int:
    return _within(text, least, MAX_TIMEOUT, "timeout")


def _within(text: str, least: int, most: int, what: str) -> int:
    number = _number(text)
    if number is None or not least <= number <= most:
        raise RefusedError(f'"{text}" is no {what}: {least}..{most}')
    return number


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    return int(match[1]) if match and len(text) < 40 else None


def split_flags(flags: str) -> list[str]:
    """As strtok() does: nothing between two commas is nothing."""
    return [flag for flag in flags[:127].split(",") if flag]


def _ipv6(text: str) -> IPv6Address | None:
    if text.count(":") < 2 or "%" in text:
        return None
    try:
        return IPv6Address(text)
    except ValueError:
        return None
