"""The frames that announce a VIP, byte for byte as the RFCs draw them."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from kernlb.vip.announce import frame

MAC = bytes.fromhex("02005e100001")


def test_a_gratuitous_arp_has_the_vip_as_sender_and_target() -> None:
    expected = (
        "ffffffffffff" "02005e100001" "0806"  # to all, from the balancer, ARP
        "0001" "0800" "06" "04"  # Ethernet, IPv4, lengths of both
        "0001"  # request: RFC 5227 section 3, an ARP announcement
        "02005e100001" "c000020a"
        "000000000000" "c000020a"
    )  # fmt: skip
    assert frame(ip_address("192.0.2.10"), MAC) == bytes.fromhex(expected)


def test_an_unsolicited_advertisement_goes_to_all_nodes_and_overrides() -> None:
    built = frame(ip_address("2001:db8::10"), MAC)
    expected = (
        "333300000001" "02005e100001" "86dd"  # ff02::1 as RFC 2464 section 7 maps it
        "60000000" "0020" "3a" "ff"  # 32 bytes of ICMPv6, hop limit 255
        "20010db8000000000000000000000010"
        "ff020000000000000000000000000001"
        "88" "00" f"{built[56:58].hex()}" "20000000"  # advertisement, O set, S and R clear
        "20010db8000000000000000000000010"
        "02" "01" "02005e100001"  # option: target link-layer address
    )  # fmt: skip
    assert built == bytes.fromhex(expected)
    assert checksum_holds(built)


@given(st.ip_addresses(v=6), st.binary(min_size=6, max_size=6))
def test_the_checksum_holds_for_every_address(address: object, mac: bytes) -> None:
    assert checksum_holds(frame(address, mac))  # type: ignore[arg-type]


@given(st.ip_addresses(), st.binary(min_size=6, max_size=6))
def test_a_frame_comes_from_the_mac_it_announces(address: object, mac: bytes) -> None:
    built = frame(address, mac)  # type: ignore[arg-type]
    assert built[6:12] == mac
    assert mac in built[14:]


def checksum_holds(built: bytes) -> bool:
    """RFC 4443 section 2.3: the sum over pseudo-header and message is all ones."""
    source, destination, message = built[22:38], built[38:54], built[54:]
    covered = source + destination + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    total = sum(int.from_bytes(covered[at : at + 2], "big") for at in range(0, len(covered), 2))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total == 0xFFFF
