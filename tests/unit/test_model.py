"""The vocabulary: keys that print and parse back, values that are consistent in themselves."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.model import (
    DEFAULT_FLAGS,
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    RealServer,
    ServerKey,
    ServiceKey,
    ServiceState,
    Tunnel,
    VirtualService,
    endpoint,
    parse_endpoint,
    parse_service_key,
)

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda a: a.scope_id is None)
WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
ONE = RealServer(ip_address("10.0.0.1"), 80, 3)
TWO = RealServer(ip_address("10.0.0.2"), 80, 0)


@given(ADDRESSES, st.integers(0, 65535))
@settings(max_examples=100)
def test_an_endpoint_parses_back(address: object, port: int) -> None:
    assert parse_endpoint(endpoint(address, port)) == ServerKey(address, port)  # type: ignore[arg-type]


@given(
    st.builds(AddressKey, st.sampled_from(L4Protocol), ADDRESSES, st.integers(0, 65535))
    | st.builds(FwmarkKey, st.sampled_from(Family), st.integers(1, 2**32 - 1))
)
@settings(max_examples=100)
def test_a_service_key_parses_back(key: ServiceKey) -> None:
    assert parse_service_key(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:http",
        "10.0.0.1:65536",
        "10.0.0.1:-1",
        "10.0.0.1:+80",
        "10.0.0.1: 80",
        "10.0.0.1:80 ",
        "10.0.0.1:٨٠",
        "[10.0.0.1]:80",
        "2001:db8::1:80",
        "[2001:db8::1]",
        "[]:80",
        "web:80",
        "10.0.0.1:80:80",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "192.0.2.1:80",
        "icmp/192.0.2.1:80",
        "TCP/192.0.2.1:80",
        "fwmark/7",
        "fwmark/ipv4/0",
        "fwmark/ipv4/4294967296",
        "fwmark/ipv4/-1",
        "fwmark/ipv4/²",
        "fwmark/ipv5/1",
    ],
)
def test_what_is_no_service_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_service_key(text)


@pytest.mark.parametrize("forwarding", [Forwarding.NAT, Forwarding.DSR])
def test_a_tunnel_goes_with_forwarding_tunnel_only(forwarding: Forwarding) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1:80: tunnel is set exactly when"):
        RealServer(ip_address("10.0.0.1"), 80, forwarding=forwarding, tunnel=Tunnel())
    with pytest.raises(ValueError, match="tunnel"):
        RealServer(ip_address("10.0.0.1"), 80, forwarding=Forwarding.TUNNEL)


def test_a_service_serves_while_one_server_has_a_weight() -> None:
    service = VirtualService(WEB)
    assert ServiceState(service, (TWO, ONE)).serves
    assert not ServiceState(service, (TWO,)).serves
    assert not ServiceState(service).serves


def test_a_weight_that_stays_makes_no_new_value() -> None:
    assert ONE.with_weight(3) is ONE
    assert ONE.with_weight(0).weight == 0
    assert ONE.weight == 3


def test_each_default_flag_belongs_to_its_scheduler() -> None:
    assert all(flag.scheduler is each for each, flags in DEFAULT_FLAGS.items() for flag in flags)


def test_keys_of_different_protocols_and_families_differ() -> None:
    assert AddressKey(L4Protocol.UDP, WEB.address, 80) != WEB
    assert FwmarkKey(Family.IPV4, 7) != FwmarkKey(Family.IPV6, 7)
