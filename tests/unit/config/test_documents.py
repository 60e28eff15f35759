"""What documents say: defaults, inheritance, and back to a document again."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernlb.config import ConfigError, Defaults, document_of, parse_service
from kernlb.config.block import DECLINED, read_block
from kernlb.config.edit import render
from kernlb.config.syntax import _read_yaml, _scalar, lines_of, read_values
from kernlb.declaration import Declaration, Vip
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    Tunnel,
    TunnelType,
)
from tests.unit.config.documents import services

HEAD = "address: 192.0.2.10\nport: 80\n"


def parse(text: str, defaults: Defaults | None = None, source: str = "web.yaml") -> Declaration:
    return parse_service(text.encode(), name="web", source=source, defaults=defaults or Defaults())


def test_two_lines_are_a_service_with_the_defaults_of_the_host() -> None:
    web = parse(HEAD)
    assert web.service.key == AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
    assert (web.name, web.source, web.datapath) == ("web", "web.yaml", DatapathKind.IPVS)
    assert web.service.scheduler is Scheduler.WLC
    assert (web.servers, web.sorry_servers, web.vip, web.drain_timeout) == ((), (), None, None)


def test_the_host_decides_what_a_service_leaves_open() -> None:
    host = Defaults(DatapathKind.XDP, Scheduler.MH, Forwarding.DSR, "eth0", 60.0)
    web = parse(HEAD + "servers: [{address: 10.0.0.1}]\n", host)
    assert web.datapath is DatapathKind.XDP
    assert web.service.scheduler is Scheduler.MH
    assert web.service.flags == {SchedulerFlag.MH_FALLBACK}
    assert web.servers[0].forwarding is Forwarding.DSR
    assert web.vip == Vip("eth0", "eth0")
    assert web.drain_timeout == 60.0


def test_a_service_can_decline_what_the_host_defaults_to() -> None:
    host = Defaults(vip_interface="eth0", drain_timeout=60.0)
    web = parse(HEAD + "vip: false\ndrain_timeout: 0\n", host)
    assert (web.vip, web.drain_timeout) == (None, None)


def test_servers_inherit_from_their_service_and_override_it() -> None:
    web = parse(
        HEAD + "forwarding: tunnel\ntunnel: {type: gue, port: 6080}\nweight: 7\n"
        "upper_threshold: 100\nservers:\n"
        "  - address: 10.0.0.1\n"
        "  - {address: 10.0.0.2, weight: 0, tunnel: {type: gre, checksum: true}}\n"
        "  - {address: 10.0.0.3, forwarding: nat, port: 8080, upper_threshold: 0}\n"
        "  - {address: '2001:db8::1'}\n"
        "sorry_server: {address: 10.0.0.9}\n"
    )
    gue = Tunnel(TunnelType.GUE, 6080)
    gre = Tunnel(TunnelType.GRE, 0, checksum=True)
    assert web.servers == (
        RealServer(ip_address("10.0.0.1"), 80, 7, Forwarding.TUNNEL, gue, 100),
        RealServer(ip_address("10.0.0.2"), 80, 0, Forwarding.TUNNEL, gre, 100),
        RealServer(ip_address("10.0.0.3"), 8080, 7, Forwarding.NAT),
        RealServer(ip_address("2001:db8::1"), 80, 7, Forwarding.TUNNEL, gue, 100),
    )
    sorry = RealServer(ip_address("10.0.0.9"), 80, 1, Forwarding.TUNNEL, gue)
    assert web.sorry_servers == (sorry,)


def test_a_mark_names_a_service_and_its_servers_keep_the_clients_port() -> None:
    web = parse("fwmark: 7\nfamily: ipv6\nservers: [{address: '2001:db8::1'}]\n")
    assert web.service.key == FwmarkKey(Family.IPV6, 7)
    assert web.servers[0].port == 0
    assert web.address is None


def test_a_mark_without_persistence_may_send_all_to_one_port() -> None:
    assert parse("fwmark: 7\nservers: [{address: 10.0.0.1, port: 80}]\n").servers[0].port == 80


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("300", Persistence(300, 32)),
        ("5m", Persistence(300, 32)),
        ("1h", Persistence(3600, 32)),
        ("{}", Persistence(300, 32)),
        ("{timeout: 90s, netmask: 255.255.255.0}", Persistence(90, 24)),
        ("{prefix: 16}", Persistence(300, 16)),
    ],
)
def test_persistence_is_a_duration_or_its_settings(said: str, meant: Persistence) -> None:
    assert parse(HEAD + f"persistence: {said}\n").service.persistence == meant


def test_a_scheduler_has_its_fallback_flag_unless_flags_are_given() -> None:
    assert parse(HEAD + "scheduler: sh\n").service.flags == {SchedulerFlag.SH_FALLBACK}
    assert parse(HEAD + "scheduler: sh\nscheduler_flags: []\n").service.flags == frozenset()
    assert parse(HEAD + "scheduler: rr\n").service.flags == frozenset()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("{interface: eth0}", Vip("eth0", "eth0")),
        ("{interface: lo}", Vip("lo", None)),
        ("{interface: lo, announce: eth1}", Vip("lo", "eth1")),
        ("{interface: eth0, announce: false}", Vip("eth0", None)),
        ("false", None),
    ],
)
def test_a_vip_is_announced_where_it_is_put_unless_that_is_lo(said: str, meant: Vip) -> None:
    assert parse(HEAD + f"vip: {said}\n").vip == meant


def test_labels_are_kept_by_server() -> None:
    web = parse(
        HEAD + "labels: {team: web}\nservers:\n"
        "  - {address: 10.0.0.1, labels: {rack: a1}}\n  - {address: 10.0.0.2, labels: {}}\n"
    )
    assert web.labels == {"team": "web"}
    assert web.server_labels == {ServerKey(ip_address("10.0.0.1"), 80): {"rack": "a1"}}


def test_a_server_on_the_balancer_itself_is_reached_by_nat() -> None:
    assert parse(HEAD + "servers: [{address: 127.0.0.1, port: 8080}]\n").servers[0].port == 8080


def test_words_of_yaml_1_1_are_text() -> None:
    said = (
        "a: no\nb: on\nc: 012\nd: 1_000\ne: 22:22\nf: 1e3\ng: 2001-01-01\nh: '7'\ni: =\nj: .inf\n"
    )
    values = ["no", "on", "012", "1_000", "22:22", "1e3", "2001-01-01", "7", "=", ".inf"]
    assert list(read_values(said.encode(), "x.yaml").values()) == values


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse("\ufeff" + HEAD) == parse(HEAD)
    good = json.dumps({"address": "192.0.2.10", "port": 80})
    assert parse("\ufeff" + good, source="web.json") == parse(good, source="web.json")


@given(services())
def test_a_declaration_goes_to_a_document_and_back(document: dict[str, Any]) -> None:
    there = parse(json.dumps(document), source="web.json")
    for host in (
        Defaults(),
        Defaults(DatapathKind.XDP, Scheduler.MH, Forwarding.DSR, "eth0", 60.0),
    ):
        back = document_of(there, host)
        assert parse(json.dumps(back), host, "web.json") == there
        assert len(json.dumps(back)) <= len(json.dumps(document)) + 200


@given(services())
def test_yaml_and_json_say_the_same(document: dict[str, Any]) -> None:
    text = render(document)
    assert read_values(text.encode(), "web.yaml") == document
    assert (
        parse(text, source="web.json.yaml").service
        == parse(json.dumps(document), source="web.json").service
    )


USUAL = st.builds(
    "{}{}{}:{}".format,
    st.sampled_from(["", "", "  ", "  ", "    "]),
    st.sampled_from(["", "", "", "- "]),
    st.sampled_from("abcdefghijklmnopqrstuvwxyz_"),
    st.sampled_from(
        ["", "", " 1", " 01", " 1.5", " 10.0.0.1", " 1::2", " true", " 5m", " a/b # c"]
    ),
)
UNUSUAL = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "  ", "    ", " ", "\t"]),
    st.sampled_from(["", "- ", "-", "-  ", "# "]),
    st.sampled_from(["a:", "A:", "a :", "", "1:", "'a':", "? ", "<<:", "a.b:"]),
    st.sampled_from(
        ["", " x y", " x: y", " x:", " ::1", " 1::", " x#c", " {}", " [1]", " 'q'", " |"]
    ),
)
TEXTS = st.lists(USUAL, min_size=1, max_size=6).map("\n".join) | st.lists(
    USUAL | UNUSUAL, max_size=6
).map("\n".join)


@given(TEXTS)
@settings(max_examples=300)
@example("a:\n- b: 1\n  a: 2\n- b: 3\nb:\n  a:\n  b: x # c\n")
@example("a:\n  - b:\n    - a: 1\n    a: 1\n")
@example("a:\n  b: 1\n - a: 1\n")
@example("a: 1\n  b: 1\n")
def test_reading_by_lines_says_what_libyaml_says(text: str) -> None:
    fast = read_block(text.encode(), _scalar)
    if fast is not DECLINED:
        assert fast == _read_yaml(text.encode(), "", None)


WHOLE = """\
address: 192.0.2.10
port: 80   # http
persistence:
  timeout: 5m
  prefix: 24

servers:
  - address: 10.0.0.1
    labels:
      rack: a1
  - address: 2001:db8::1
    weight: 2
labels:
  team: web
"""


@given(st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_a_shifted_line_means_the_same_to_both_readers(chance: random.Random) -> None:
    lines = WHOLE.splitlines()
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(4):
            case 0:
                lines[at] = " " * chance.randint(0, 6) + lines[at].lstrip()
            case 1:
                lines.insert(chance.randrange(len(lines)), lines[at])
            case 2:
                lines[at] = lines[at].partition(":")[0] + ":"
            case _:
                del lines[at]
    text = "\n".join(lines).encode()
    fast = read_block(text, _scalar)
    if fast is not DECLINED:
        assert fast == _read_yaml(text, "", None)


def test_the_usual_shape_is_not_declined() -> None:
    assert read_block(WHOLE.encode(), _scalar) == _read_yaml(WHOLE.encode(), "", None)


@given(services())
def test_documents_as_kernlb_writes_them_are_read_by_lines(document: dict[str, Any]) -> None:
    plain = {key: value for key, value in document.items() if key in ("address", "port", "servers")}
    servers = [{"address": "10.0.0.1", "weight": 2}, {"address": "10.0.0.2"}]
    text = render({**plain, "servers": servers})
    assert read_block(text.encode(), _scalar) == {**plain, "servers": servers}


@given(services(), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=150)
def test_a_damaged_document_parses_or_is_refused(
    document: dict[str, Any], chance: random.Random, as_json: bool
) -> None:
    text = bytearray((json.dumps(document, indent=1) if as_json else render(document)).encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        text[at : at + chance.randint(0, 2)] = chance.choice(string.printable).encode()
    source = "web.json" if as_json else "web.yaml"
    try:
        parse_service(bytes(text), name="web", source=source, defaults=Defaults())
    except ConfigError as error:
        assert error.faults
        assert all(fault.file == source and fault.message for fault in error.faults)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_parse_or_are_refused(text: bytes) -> None:
    for source in ("web.yaml", "web.json"):
        lines_of(text, source)
        with pytest.raises(ConfigError):  # no chance finds address and port
            parse_service(text, name="web", source=source, defaults=Defaults())


def test_a_document_at_every_limit_is_refused_in_bounded_time() -> None:
    for text in (
        b"a: " + b"[" * 2_000_000,
        b"[" + b"1," * 420_000 + b"1]",
        b"a:\n" + b"".join(b" " * i + b"- \n" for i in range(1, 2000)),
        b"a: '" + b"x" * 4_000_000,
        b"? " * 1_000_000,
        b"{a: " * 100_000,
        b"- " * 1_000_000,
        b"!" * 1_000_000,
        b"a: " + b"9" * 4_000_000,
    ):
        for source in ("web.yaml", "web.json"):
            with pytest.raises(ConfigError):
                parse_service(text, name="web", source=source, defaults=Defaults())


def test_importing_config_loads_neither_yaml_nor_ruamel_nor_schemas() -> None:
    code = "import sys, kernlb.config; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    heavy = {"yaml", "ruamel", "ruamel.yaml", "jsonschema", "asyncio", "json", "aiohttp"}
    assert not heavy.intersection(loaded)
