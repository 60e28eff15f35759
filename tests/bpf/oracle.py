"""What must come out, byte for byte, said with scapy: whole packets, checksums computed afresh.

Written from the documents (README.md of bpf/, IPVS, the RFCs), not from the program. Input packets
are scapy's own with nothing computed, so an expected packet is the input with fields changed.
"""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from tests.bpf.frames import CLIENT_MAC, ERRORS, OUR_MAC, ethernet, frame, icmp
from tests.bpf.services import Server

OUTER_TTL = ANSWER_TTL = 64
GUE_PORTS = range(49152, 65536)
ETHERTYPE = {4: 0x0800, 6: 0x86DD}
PROTOCOL = {4: 4, 6: 41}  # of an IP packet inside another


def aged(packet: Packet) -> Packet:
    """One hop less to live."""
    packet = packet.copy()
    if IP in packet:
        packet[IP].ttl -= 1
    else:
        packet[IPv6].hlim -= 1
    return packet


def transport_of(packet: Packet) -> Packet | None:
    """Its TCP, UDP or SCTP; None for a later fragment, and what else has no ports."""
    layer = packet.lastlayer()
    while layer is not None and not isinstance(layer, TCP | UDP | SCTP):
        layer = layer.underlayer
    return layer


def translated(
    packet: Packet, *, src: str = "", dst: str = "", sport: int = 0, dport: int = 0
) -> Packet:
    """With other addresses and ports; lengths and checksums follow when it is built."""
    packet = packet.copy()
    header = packet[IP] if IP in packet else packet[IPv6]
    header.src, header.dst = src or header.src, dst or header.dst
    upper = transport_of(packet)
    if upper is not None:  # else a later fragment
        upper.sport, upper.dport = sport or upper.sport, dport or upper.dport
    return packet


def encapsulated(packet: Packet, server: Server, gue_sport: int = 0) -> Packet:
    """Behind the outer header that this server is to get."""
    inner, family = bytes(packet), packet.version
    kind = {"ipip": PROTOCOL[family], "gue": 17, "gre": 47}[server.tunnel]
    if server.tunnel == "gue":
        header = bytes([0, PROTOCOL[family], 0, 0])
        upper = UDP(sport=gue_sport, dport=server.tunnel_port, chksum=0) / Raw(header + inner)
    elif server.tunnel == "gre":
        upper = Raw(b"\0\0" + ETHERTYPE[family].to_bytes(2, "big") + inner)
    else:
        upper = Raw(inner)
    if server.family == 4:
        df = family == 6 or bool(packet.flags.DF)
        outer = IP(
            src=server.ours,
            dst=server.address,
            ttl=OUTER_TTL,
            tos=packet.tos if family == 4 else packet.tc,
            flags="DF" if df else 0,
            id=0 if df else packet.id,
            proto=kind,
        )
    else:
        outer = IPv6(
            src=server.ours,
            dst=server.address,
            hlim=OUTER_TTL,
            tc=packet.tos if family == 4 else packet.tc,
            fl=0,
            nh=kind,
        )
    return outer / upper


def to_server(
    packet: Packet, server: Server, source_port: int = 0, gue_sport: int = 0, padding: bytes = b""
) -> bytes:
    """The frame that reaches the server's next hop. ``source_port`` is the one of fullnat."""
    packet = aged(packet)
    if server.forwarding == "tunnel":
        packet = encapsulated(packet, server, gue_sport)
    elif server.forwarding != "dsr":
        full = {"src": server.ours, "sport": source_port} if server.forwarding == "fullnat" else {}
        packet = translated(packet, dst=server.address, dport=server.port, **full)
    dst, src = server.macs
    vlans = (server.vlan,) if server.vlan else ()
    return frame(packet, vlans, src=src, dst=dst) + padding


def to_client(packet: Packet, vip: str, port: int, client: str, sport: int) -> Packet:
    """A server's answer as the client is to see it, without its Ethernet header."""
    return translated(aged(packet), src=vip, sport=port, dst=client, dport=sport)


def towards_clients(packet: Packet) -> bytes:
    """The frame of what leaves for clients, through `front`."""
    return frame(packet, src=OUR_MAC, dst=CLIENT_MAC)


def gue_source_port(out: bytes, server: Server) -> int:
    """The one that the program chose; it must be an ephemeral one."""
    at = 14 + (4 if server.vlan else 0) + (20 if server.family == 4 else 40)
    port = int.from_bytes(out[at : at + 2], "big")
    assert port in GUE_PORTS
    return port


def answered(packet: Packet, vlans: tuple[int, ...] = ()) -> bytes:
    """A packet of the program's own: back through where its cause came from."""
    return bytes(ethernet(vlans, src=OUR_MAC, dst=CLIENT_MAC) / packet)


def _from_vip(packet: Packet) -> Packet:
    """The IP header of an answer to a packet."""
    if packet.version == 4:
        return IP(src=packet.dst, dst=packet.src, ttl=ANSWER_TTL, flags="DF", id=0)
    return IPv6(src=packet.dst, dst=packet.src, hlim=ANSWER_TTL)


def echo_reply(packet: Packet) -> Packet:
    """All of the question, with type, addresses and TTL turned round."""
    body = bytes(packet.lastlayer())
    kind = {4: (0, 0), 6: (129, 0)}[packet.version]
    rest = int.from_bytes(body[4:8], "big")
    if packet.version == 4:
        how = {"tos": packet.tos, "ident": packet.id, "df": bool(packet.flags.DF)}
    else:
        how = {"tos": packet.tc}
    return icmp(
        packet.version, (*kind, rest), body[8:], packet.dst, packet.src, ttl=ANSWER_TTL, **how
    )


def reset(packet: Packet) -> Packet:
    """RFC 9293, 3.10.7.1: the answer to a segment of a connection that is not there."""
    asked = packet[TCP]
    upper = TCP(sport=asked.dport, dport=asked.sport, window=0)
    if asked.flags.A:
        upper.flags, upper.seq = "R", asked.ack
    else:
        length = len(asked.payload) + bool(asked.flags.S) + bool(asked.flags.F)
        upper.flags, upper.seq, upper.ack = "RA", 0, (asked.seq + length) % 2**32
    return _from_vip(packet) / upper


def error(packet: Packet, kind: str, mtu: int = 0, source: str = "") -> Packet:
    """An ICMP error about a packet, quoting it up to 8 bytes of its transport header.

    From the address that it was sent to, or from one of ours."""
    family, content = packet.version, bytes(packet)
    type_, code, _ = ERRORS[family][kind]
    upper = transport_of(packet)
    quoted = content[: len(content) - len(upper) + 8]
    how = {"ident": 0} if family == 4 else {}
    message = icmp(
        family,
        (type_, code, mtu),
        quoted,
        source or packet.dst,
        packet.src,
        ttl=ANSWER_TTL,
        **how,
    )
    if family == 6:
        message[IPv6].fl = 0
    return message
