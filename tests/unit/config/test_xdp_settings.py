"""The host's XDP in kernlb.yaml: whole, in part, and wrong."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.config import ConfigError, Settings, XdpSettings
from kernlb.config.settings import parse_settings
from kernlb.config.xdp_document import MAX_SERVERS
from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.memory import Sizes
from kernlb.model import DatapathKind


def parse(text: str) -> Settings:
    return parse_settings(text.encode(), source="kernlb.yaml")


def test_without_interfaces_there_is_no_xdp() -> None:
    assert parse("audit_interval: 60\n").xdp == XdpSettings()
    assert XdpSettings().interfaces == ()


def test_what_is_not_said_is_the_default() -> None:
    xdp = parse("xdp:\n  interfaces: [eth0, eth1]\n  timeouts: {udp: 30s}\n").xdp
    assert (xdp.interfaces, xdp.mode) == (("eth0", "eth1"), "native")
    assert xdp.timeouts == dict(XdpSettings().timeouts) | {"udp": 30.0}
    assert xdp.timeouts["tcp"] == 900.0


def test_everything_can_be_said() -> None:
    xdp = parse(
        "defaults: {datapath: xdp, scheduler: mh, forwarding: fullnat}\n"
        "xdp:\n  interfaces: [eth0]\n  mode: generic\n  connections: 4096\n  connections6: 64\n"
        "  services: 10\n  servers: 100\n  slots: 70000\n  icmp_per_second: 0\n"
        "  source_addresses: [10.0.0.2, '2001:db8::2']\n"
    ).xdp
    assert (xdp.mode, xdp.connections, xdp.connections6) == ("generic", 4096, 64)
    assert (xdp.services, xdp.servers, xdp.slots, xdp.icmp_per_second) == (10, 100, 70000, 0)
    assert xdp.source_addresses == (ip_address("10.0.0.2"), ip_address("2001:db8::2"))


def test_the_defaults_are_those_of_the_loader() -> None:
    ours, sizes = XdpSettings(), Sizes()
    assert (ours.connections, ours.connections6) == (sizes.conns4, sizes.conns6)
    assert (ours.services, ours.servers, ours.slots) == (
        sizes.services,
        sizes.servers,
        sizes.slots,
    )
    assert MAX_SERVERS == layout.MOST_SERVERS


HEAD = "xdp:\n  interfaces: [eth0]\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("xdp:\n  interface: eth0\n", 2, "xdp.interface", 'did you mean "interfaces"?'),
        ("xdp:\n  interfaces: eth0\n", 2, "xdp.interfaces", "must be a list"),
        ("xdp:\n  interfaces: [a/b]\n", 2, "xdp.interfaces[0]", "the name of an interface"),
        ("xdp:\n  interfaces: [e, e]\n", 2, "xdp.interfaces[1]", "e is there already"),
        (HEAD + "  mode: offload\n", 3, "xdp.mode", "must be generic or native"),
        (HEAD + "  connections: 0\n", 3, "xdp.connections", "within 1..1073741824, not 0"),
        (HEAD + "  servers: 16777217\n", 3, "xdp.servers", "within 1..16777216"),
        (HEAD + "  timeouts: {udp: 0}\n", 3, "xdp.timeouts.udp", "within 1..2147483 seconds"),
        (HEAD + "  timeouts: {tcp_fin: 1}\n", 3, "xdp.timeouts.tcp_fin", 'did you mean "tcpfin"?'),
        (HEAD + "  source_addresses: [lb]\n", 3, "xdp.source_addresses[0]", "not an IP address"),
        (HEAD + "  source_addresses: ['::1']\n", 3, "xdp.source_addresses[0]", "loopback"),
        (HEAD + "  source_addresses: [fe80::1]\n", 3, "xdp.source_addresses[0]", "link-local"),
        ("defaults: {datapath: xdp}\n", 1, "defaults.datapath", "needs an interface"),
        ("defaults: {forwarding: fullnat}\n", 1, "defaults.forwarding", "datapath xdp only"),
        (
            HEAD + "defaults: {datapath: xdp, scheduler: dh}\n",
            3,
            "defaults.scheduler",
            "dh is not in datapath xdp",
        ),
    ],
)
def test_wrong_settings_are_named_by_line_and_key(
    text: str, line: int, key: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    [fault] = caught.value.faults
    assert message in fault.message
    assert (fault.line, fault.key) == (line, key)


def test_the_host_may_default_to_xdp() -> None:
    host = parse(HEAD + "defaults: {datapath: xdp}\n")
    assert host.defaults.datapath is DatapathKind.XDP
