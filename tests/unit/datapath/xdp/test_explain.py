"""The packet that explain asks about is one that a client could have sent."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet

from kernlb.datapath.xdp.explain import MEANINGS, Verdict, crc32c, frame, reason, sent, verdict
from kernlb.datapath.xdp.layout import EXPLANATION, Reason
from kernlb.model import L4Protocol, ServerKey

ENDS = {
    4: (ServerKey(ip_address("198.51.100.7"), 40000), ServerKey(ip_address("192.0.2.1"), 80)),
    6: (ServerKey(ip_address("2001:db8:c::7"), 40000), ServerKey(ip_address("2001:db8::1"), 443)),
}
LAYERS = {L4Protocol.TCP: TCP, L4Protocol.UDP: UDP, L4Protocol.SCTP: SCTP}


def rebuilt(packet: Packet) -> bytes:
    """The same packet with lengths and checksums computed by somebody else."""
    for layer, names in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",))):
        if layer in packet:
            for name in names:
                delattr(packet[layer], name)
    if UDP in packet:
        del packet[UDP].chksum, packet[UDP].len
    if SCTP in packet:
        del packet[SCTP].chksum
    return bytes(packet)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("protocol", L4Protocol)
@pytest.mark.parametrize("family", [4, 6])
def test_the_packet_is_whole(family: int, protocol: L4Protocol, within: bool) -> None:
    client, vip = ENDS[family]
    made = frame(protocol, client, vip, within=within)
    packet = Ether(made)
    assert rebuilt(Ether(made)) == made
    ip, upper = packet[IP if family == 4 else IPv6], packet[LAYERS[protocol]]
    assert (ip.src, ip.dst) == (str(client.address), str(vip.address))
    assert (upper.sport, upper.dport) == (client.port, vip.port)


def test_it_begins_a_connection_or_is_within_one() -> None:
    client, vip = ENDS[4]
    assert Ether(frame(L4Protocol.TCP, client, vip))[TCP].flags == "S"
    assert Ether(frame(L4Protocol.TCP, client, vip, within=True))[TCP].flags == "A"
    assert SCTPChunkInit in Ether(frame(L4Protocol.SCTP, client, vip))
    assert SCTPChunkData in Ether(frame(L4Protocol.SCTP, client, vip, within=True))


def test_two_families_make_no_packet() -> None:
    with pytest.raises(ValueError, match="different address families"):
        frame(L4Protocol.TCP, ENDS[4][0], ENDS[6][1])


def test_the_sum_of_sctp_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, B.4 and every catalogue of CRCs


def test_where_it_was_sent_is_read_off_the_frame() -> None:
    plain = bytes(Ether(dst="02:00:00:00:02:01", src="02:00:00:00:02:02") / IP())
    tagged = bytes(Ether(dst="02:00:00:00:02:01") / Dot1Q(vlan=77, prio=3) / IP())
    assert sent(plain) == ("02:00:00:00:02:01", 0)
    assert sent(tagged) == ("02:00:00:00:02:01", 77)


def test_every_action_of_xdp_has_its_verdict() -> None:
    actions = [verdict(action) for action in range(5)]
    assert actions == [Verdict.DROP, Verdict.DROP, Verdict.PASS, Verdict.SEND, Verdict.SEND]
    assert verdict(99) is Verdict.DROP  # as the kernel treats what it does not know


def test_every_reason_has_a_meaning() -> None:
    assert list(MEANINGS) == list(Reason)


def test_a_reason_of_a_newer_program_is_no_error() -> None:
    known = EXPLANATION.unpack(bytes(EXPLANATION.size))
    assert reason(known) is Reason.NOT_OURS
    assert reason(known._replace(reason=len(Reason))) is None
