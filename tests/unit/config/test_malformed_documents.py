"""Every malformed document gets an error that names file, line and key, and says why."""

from __future__ import annotations

import json

import pytest

from kernlb.config import ConfigError, Defaults, Fault, parse_service
from kernlb.config.syntax import MAX_BYTES, MAX_DEPTH

FILE = "services.d/web.yaml"
HEAD = "address: 192.0.2.10\nport: 80\n"  # a good service in two lines
ONE = HEAD + "servers:\n  - address: 10.0.0.1\n"  # and one real server, in four

# (story, text, line, key, part of the message)
MALFORMED: list[tuple[str, str | bytes, int, str, str]] = [
    # the file itself
    ("empty file", "", 1, "", "is empty"),
    ("only comments", "# soon\n\n", 3, "", "is empty"),
    ("a list at the top", "- address: 192.0.2.10\n", 1, "", "must be a mapping, not a list"),
    ("one word", "web\n", 0, "", 'must be a mapping, not "web"'),
    ("invalid UTF-8", HEAD.encode() + b"# caf\xe9\n", 3, "", "is not UTF-8: byte 0xe9"),
    ("UTF-16", HEAD.encode("utf-16"), 1, "", "is not UTF-8: byte 0xff"),
    ("a NUL byte", HEAD.encode() + b"weight: 1\x00\n", 3, "", "control character: byte 0x00"),
    ("an escape sequence", HEAD + "# \x1b[31m\n", 3, "", "control character: byte 0x1b"),
    ("more than is read", b"#" * (MAX_BYTES + 1), 0, "", "is too large: 4194305 bytes"),
    # YAML
    ("several documents", HEAD + "---\n" + HEAD, 3, "", "several documents: one service a file"),
    ("tabs", "address: 192.0.2.10\n\tport: 80\n", 2, "", "a tab indents this line"),
    ("an open bracket", HEAD + "labels: {a: b\nweight: 1\n", 4, "", "did not find expected"),
    ("an open quote", HEAD + 'labels: {a: "b}\n', 4, "", "is not YAML: found unexpected end"),
    ("a bad indent", HEAD + "   weight: 1\n", 3, "", "is not YAML: "),
    ("an anchor", HEAD + "weight: &w 5\n", 3, "weight", "has an anchor (&w)"),
    ("an anchored list", HEAD + "servers: &all\n  - {}\n", 3, "servers", "has an anchor (&all)"),
    ("an alias", HEAD + "weight: *w\n", 3, "weight", "has an alias (*w)"),
    ("a merge key", HEAD + "<<: {weight: 1}\n", 3, "<<", "has a merge key"),
    ("a tag", HEAD + "weight: !!int 5\n", 3, "weight", "has a tag"),
    ("a Python tag", HEAD + "labels: !!python/object:os.system {}\n", 3, "labels", "has a tag"),
    ("a bomb of aliases", "a: &a [x, x]\nb: &b [*a, *a]\n", 1, "a", "has an anchor (&a)"),
    ("a duplicate key", HEAD + "port: 81\n", 3, "port", "is a duplicate key: first on line 2"),
    (
        "a duplicate key in a server",
        ONE + "    port: 1\n    port: 2\n",
        6,
        "servers[0].port",
        "first on line 5",
    ),
    ("a key that is a list", HEAD + "? [a]\n: b\n", 3, "", "has a key that is not text"),
    ("deep nesting", "a: " + "[" * 5000, 1, "a" + "[0]" * (MAX_DEPTH - 1), "is nested deeper than"),
    # keys and kinds
    ("an unknown key", HEAD + "wieght: 5\n", 3, "wieght", 'did you mean "weight"?'),
    ("a key of another program", HEAD + "backends: []\n", 3, "backends", 'you mean "servers"?'),
    (
        "an unknown key in a server",
        ONE + "    wait: 1\n",
        5,
        "servers[0].wait",
        "is an unknown key",
    ),
    ("a key like nothing", HEAD + "xyzzy: 1\n", 3, "xyzzy", "is an unknown key"),
    ("a key without a value", HEAD + "scheduler:\n", 3, "scheduler", "has no value"),
    ("an empty server", HEAD + "servers:\n  -\n", 4, "servers[0]", "must be a mapping, not null"),
    ("servers in a mapping", HEAD + "servers: {}\n", 3, "servers", "must be a list, not a mapping"),
    ("a server without address", HEAD + "servers: [{}]\n", 3, "servers[0]", 'has no "address"'),
    # the service
    ("no port", "address: 192.0.2.10\n", 1, "", 'has no "port"'),
    ("no address", "port: 80\n", 1, "", 'has no "address"'),
    ("port 0", "address: 192.0.2.10\nport: 0\n", 2, "port", "every port needs persistence"),
    ("port 70000", "address: 192.0.2.10\nport: 70000\n", 2, "port", "within 0..65535, not 70000"),
    ("port -1", "address: 192.0.2.10\nport: -1\n", 2, "port", "within 0..65535, not -1"),
    (
        "a port as text",
        'address: 192.0.2.10\nport: "80"\n',
        2,
        "port",
        'number within 0..65535 or any, not "80"',
    ),
    ("a port as true", "address: 192.0.2.10\nport: true\n", 2, "port", "not true"),
    ("a port as a fraction", "address: 192.0.2.10\nport: 80.5\n", 2, "port", "not 80.5"),
    ("a port too long", "address: 192.0.2.10\nport: " + "9" * 5000 + "\n", 2, "port", 'not "9999'),
    ("a name", "address: web.example\nport: 80\n", 1, "address", "names are not resolved"),
    ("a network", "address: 192.0.2.0/24\nport: 80\n", 1, "address", "leave the prefix length out"),
    ("an endpoint", "address: 192.0.2.1:80\nport: 80\n", 1, "address", "port has a key of its own"),
    (
        "a number",
        "address: 3221225994\nport: 80\n",
        1,
        "address",
        "must be an IP address, not 32212",
    ),
    ("octal octets", "address: 192.0.02.10\nport: 80\n", 1, "address", "is not an IP address"),
    ("a zone", "address: fe80::1%eth0\nport: 80\n", 1, "address", "has a zone"),
    ("link-local", "address: fe80::1\nport: 80\n", 1, "address", "is a link-local address"),
    (
        "IPv4-mapped",
        "address: ::ffff:192.0.2.1\nport: 80\n",
        1,
        "address",
        "write the IPv4 address",
    ),
    ("multicast", "address: 224.0.0.1\nport: 80\n", 1, "address", "is a multicast address"),
    ("IPv6 multicast", "address: ff02::1\nport: 80\n", 1, "address", "is a multicast address"),
    ("unspecified", "address: 0.0.0.0\nport: 80\n", 1, "address", "is the unspecified address"),
    ("IPv6 unspecified", 'address: "::"\nport: 80\n', 1, "address", "is the unspecified address"),
    ("broadcast", "address: 255.255.255.255\nport: 1\n", 1, "address", "is the broadcast address"),
    ("a loopback VIP", "address: 127.0.0.1\nport: 80\n", 1, "address", "no client could reach it"),
    ("fwmark 0", "fwmark: 0\n", 1, "fwmark", "within 1..4294967295, not 0"),
    ("fwmark and address", "fwmark: 1\naddress: 192.0.2.1\n", 2, "address", "not go with fwmark"),
    ("fwmark and protocol", "fwmark: 1\nprotocol: udp\n", 2, "protocol", "not go with fwmark"),
    ("fwmark and vip", "fwmark: 1\nvip: {interface: lo}\n", 2, "vip", "service has no address"),
    ("family and address", HEAD + "family: ipv4\n", 3, "family", "goes with fwmark only"),
    ("unknown protocol", HEAD + "protocol: icmp\n", 3, "protocol", '"icmp" is unknown'),
    ("unknown scheduler", HEAD + "scheduler: foo\n", 3, "scheduler", "(known: rr, wrr, lc, wlc,"),
    ("misspelt scheduler", HEAD + "scheduler: wlcc\n", 3, "scheduler", 'did you mean "wlc"?'),
    ("its other name", HEAD + "scheduler: maglev\n", 3, "scheduler", 'did you mean "mh"?'),
    ("keepalived's DR", HEAD + "forwarding: DR\n", 3, "forwarding", 'did you mean "dsr"?'),
    ("keepalived's NAT", HEAD + "forwarding: NAT\n", 3, "forwarding", 'did you mean "nat"?'),
    ("unknown datapath", HEAD + "datapath: dpdk\n", 3, "datapath", "(known: ipvs, xdp)"),
    (
        "another scheduler's flag",
        HEAD + "scheduler: mh\nscheduler_flags:\n  - sh-port\n",
        5,
        "scheduler_flags[0]",
        "no flag of scheduler mh: it has mh-fallback, mh-port",
    ),
    (
        "a flag where there is none",
        HEAD + "scheduler_flags: [mh-port]\n",
        3,
        "scheduler_flags[0]",
        "no flag of scheduler wlc: it has none",
    ),
    (
        "a flag twice",
        HEAD + "scheduler: sh\nscheduler_flags: [sh-port, sh-port]\n",
        4,
        "scheduler_flags[1]",
        "is there already",
    ),
    ("one_packet over TCP", HEAD + "one_packet: true\n", 3, "one_packet", "protocol udp only"),
    ("one_packet: yes", HEAD + "one_packet: yes\n", 3, "one_packet", 'true or false, not "yes"'),
    ("one_packet: 1", HEAD + "one_packet: 1\n", 3, "one_packet", "true or false, not 1"),
    ("persistence 0", HEAD + "persistence: 0\n", 3, "persistence", "whole seconds within 1.."),
    ("persistence: true", HEAD + "persistence: true\n", 3, "persistence", "a duration: seconds"),
    ("persistence: 5 min", HEAD + "persistence: 5 min\n", 3, "persistence", '"5m", "1h"'),
    ("half a second", HEAD + "persistence: 500ms\n", 3, "persistence", "whole seconds"),
    ("two months", HEAD + "persistence: 60d\n", 3, "persistence", "(31 days)"),
    (
        "a netmask with holes",
        HEAD + "persistence:\n  netmask: 255.0.255.0\n",
        4,
        "persistence.netmask",
        "one bits are not all in front",
    ),
    (
        "netmask and prefix",
        HEAD + "persistence: {netmask: 255.255.255.0, prefix: 24}\n",
        3,
        "persistence.prefix",
        "give one of them",
    ),
    (
        "a prefix of the other family",
        HEAD + "persistence: {prefix: 64}\n",
        3,
        "persistence.prefix",
        "within 1..32 for ipv4, not 64",
    ),
    (
        "an IPv6 netmask",
        "address: 2001:db8::1\nport: 80\npersistence: {netmask: 255.255.255.0}\n",
        3,
        "persistence.netmask",
        "give prefix for an IPv6 service",
    ),
    (
        "SIP over TCP",
        HEAD + "persistence:\n  engine: sip\n",
        4,
        "persistence.engine",
        "sip goes with protocol udp only",
    ),
    (
        "another engine",
        HEAD + "persistence: {engine: http}\n",
        3,
        "persistence.engine",
        'must be "sip", not "http"',
    ),
    ("weight -1", HEAD + "weight: -1\n", 3, "weight", "within 0..65535, not -1"),
    ("vip: true", HEAD + "vip: true\n", 3, "vip", "or false, not true"),
    (
        "a long interface",
        HEAD + "vip: {interface: abcdefghijklmnop}\n",
        3,
        "vip.interface",
        "1 to 15",
    ),
    ("no interface", HEAD + "vip: {announce: eth0}\n", 3, "vip", 'has no "interface"'),
    ("a negative drain", HEAD + "drain_timeout: -5\n", 3, "drain_timeout", "must be a duration"),
    (
        "a label that is a number",
        HEAD + "labels: {tier: 1}\n",
        3,
        "labels.tier",
        "numbers in quotes",
    ),
    ("a label key with spaces", HEAD + "labels: {a b: x}\n", 3, "labels.a b", "a label key"),
    ("a label of two lines", HEAD + 'labels: {a: "x\\ny"}\n', 3, "labels.a", "text on one line"),
    # the real servers
    ("weight 65536", ONE + "    weight: 65536\n", 5, "servers[0].weight", "65535, not 65536"),
    ("a weight of half", ONE + "    weight: 0.5\n", 5, "servers[0].weight", "not 0.5"),
    ("server port 0", ONE + "    port: 0\n", 5, "servers[0].port", "within 1..65535, not 0"),
    (
        "a server twice",
        ONE + "  - address: 10.0.0.1\n    port: 80\n",
        5,
        "servers[1]",
        "10.0.0.1:80 is servers[0] already",
    ),
    (
        "the VIP as a server",
        HEAD + "servers:\n  - address: 192.0.2.10\n    port: 8080\n",
        4,
        "servers[0].address",
        "is the service's own address",
    ),
    (
        "an IPv6 server by nat",
        HEAD + "servers:\n  - address: 2001:db8::1\n",
        4,
        "servers[0].address",
        "only forwarding tunnel mixes address families",
    ),
    (
        "an IPv4 server by dsr",
        "address: 2001:db8::1\nport: 80\nforwarding: dsr\nservers:\n  - address: 10.0.0.1\n",
        5,
        "servers[0].address",
        "cannot serve an ipv6 service by dsr",
    ),
    (
        "another port by dsr",
        ONE + "    port: 8080\n    forwarding: dsr\n",
        5,
        "servers[0].port",
        "must be the service's, 80, not 8080: forwarding dsr does not change ports",
    ),
    (
        "a loopback server by tunnel",
        HEAD + "forwarding: tunnel\nservers: [{address: 127.0.0.1}]\n",
        4,
        "servers[0].address",
        "forwarding tunnel cannot reach it",
    ),
    (
        "a local server in XDP",
        HEAD + "datapath: xdp\nservers: [{address: 192.0.2.1, local: true}]\n",
        4,
        "servers[0].local",
        "goes with datapath ipvs only",
    ),
    (
        "a server port on every port",
        "address: 192.0.2.1\nport: 0\npersistence: 60\nservers: [{address: 10.0.0.1, port: 8}]\n",
        4,
        "servers[0].port",
        "a service on every port keeps the client's port",
    ),
    (
        "a server port under a mark by dsr",
        "fwmark: 1\nforwarding: dsr\nservers:\n  - {address: 10.0.0.1, port: 80}\n",
        4,
        "servers[0].port",
        "must be left out, not 80",
    ),
    (
        "crossed thresholds",
        ONE + "    upper_threshold: 5\n    lower_threshold: 6\n",
        6,
        "servers[0].lower_threshold",
        "must not be above upper_threshold: 6 > 5",
    ),
    (
        "crossed thresholds of the service",
        HEAD + "lower_threshold: 6\nservers: [{address: 10.0.0.1}]\n",
        3,
        "lower_threshold",
        "6 > 0",
    ),
    (
        "a tunnel without tunnelling",
        ONE + "    tunnel: {type: gre}\n",
        5,
        "servers[0].tunnel",
        "goes with forwarding tunnel only, and this is nat",
    ),
    ("an idle tunnel", HEAD + "tunnel: {}\n", 3, "tunnel", "only, and this is nat"),
    (
        "GUE without a port",
        HEAD + "forwarding: tunnel\ntunnel:\n  type: gue\n",
        4,
        "tunnel",
        "needs a port within 1..65535 with type gue",
    ),
    (
        "GRE with a port",
        HEAD + "forwarding: tunnel\ntunnel:\n  type: gre\n  port: 6080\n",
        6,
        "tunnel.port",
        "goes with type gue only, and this is gre",
    ),
    (
        "IPIP with a checksum",
        HEAD + "forwarding: tunnel\ntunnel: {checksum: true}\n",
        4,
        "tunnel.checksum",
        "ipip has none",
    ),
    (
        "a sorry server of weight 0",
        HEAD + "sorry_server: {address: 10.0.0.9, weight: 0}\n",
        3,
        "sorry_server.weight",
        "within 1..65535, not 0",
    ),
    (
        "a sorry server that is a server",
        ONE + "sorry_server:\n  address: 10.0.0.1\n",
        5,
        "sorry_server",
        "10.0.0.1:80 is servers[0] already",
    ),
    (
        "a sorry server at the VIP",
        HEAD + "sorry_server:\n  address: 192.0.2.10\n",
        4,
        "sorry_server.address",
        "is the service's own address",
    ),
]


def faults_of(text: str | bytes, source: str = FILE, name: str = "web") -> tuple[Fault, ...]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse_service(raw, name=name, source=source, defaults=Defaults())
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [case[1:] for case in MALFORMED],
    ids=[case[0].replace(" ", "-") for case in MALFORMED],
)
def test_a_malformed_document_gets_one_fault_that_names_file_line_and_key(
    text: str | bytes, line: int, key: str, message: str
) -> None:
    [fault] = faults_of(text)
    assert message in fault.message
    assert (fault.file, fault.line, fault.key) == (FILE, line, key)
    assert "\n" not in str(fault)


def test_the_table_has_sixty_stories_and_no_story_twice() -> None:
    names = [case[0] for case in MALFORMED]
    assert len(names) == len(set(names)) >= 60


def test_every_fault_of_a_document_is_told_in_the_order_of_its_lines() -> None:
    text = (
        "sheduler: rr\naddress: 192.0.2.10\nport: 70000\nweight: true\n"
        "servers:\n  - addres: 10.0.0.1\n  - address: 10.0.0.2\n    weight: -1\n"
    )
    assert [str(fault) for fault in faults_of(text)] == [
        f'{FILE}:1: sheduler: is an unknown key: did you mean "scheduler"?',
        f"{FILE}:3: port: must be a whole number within 0..65535, not 70000",
        f"{FILE}:4: weight: must be a whole number within 0..65535, not true",
        f'{FILE}:6: servers[0].addres: is an unknown key: did you mean "address"?',
        f'{FILE}:6: servers[0]: has no "address", which it needs',
        f"{FILE}:8: servers[1].weight: must be a whole number within 0..65535, not -1",
    ]


def test_what_is_wrong_between_keys_is_told_all_at_once_too() -> None:
    text = ONE + "  - address: 10.0.0.1\n  - address: ff02::1\none_packet: true\n"
    assert [fault.key for fault in faults_of(text)] == [
        "servers[1]",
        "servers[2].address",
        "one_packet",
    ]


def test_a_thousand_faults_are_not_all_told() -> None:
    faults = faults_of(HEAD + "servers:\n" + "  - {}\n" * 1000)
    assert len(faults) == 101
    assert faults[-1].message == "and 900 more faults"


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("", 0, "", "is empty"),
        ('{"address": "192.0.2.10",\n "port": 80,}', 2, "", "is not JSON: "),
        ('{"port": 80,\n "port": 81}', 2, "port", "is a duplicate key: first on line 1"),
        ('{"port": NaN}', 0, "", "NaN is not JSON"),
        ("[" * 100_000, 1, "[0]" * 12, ""),
        ('{"address": "192.0.2.10",\n "port": 70000}', 2, "port", "not 70000"),
        ('{"address": "192.0.2.10", "port": ' + "9" * 5000 + "}", 0, "", "a number is too long"),
        (json.dumps({"address": "\ud800", "port": 80}), 0, "", "half a surrogate pair"),
    ],
)
def test_a_malformed_json_document_is_told_the_same_way(
    text: str, line: int, key: str, message: str
) -> None:
    [fault] = faults_of(text, source="web.json")
    assert message in fault.message
    assert (fault.line, fault.key) == (line, key if line else "")


@pytest.mark.parametrize("name", ["", "Web", "-web", "a/b", "..", "web ", "ü", "x" * 64, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    [fault] = faults_of(ONE, name=name)
    assert "is not a name" in fault.message
