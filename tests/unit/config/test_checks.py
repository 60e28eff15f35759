"""What check and health documents say, as values."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given

from kernlb.config import Defaults, HealthSettings, document_of, parse_service
from kernlb.config.check_words import Rcode, Record
from kernlb.config.plain_check import plain_watch
from kernlb.config.settings import parse_settings
from kernlb.declaration import Declaration
from kernlb.health.check import (
    AgentCheck,
    Check,
    Damping,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HealthPolicy,
    HttpCheck,
    IcmpCheck,
    Initial,
    OnDown,
    Several,
    TcpCheck,
    Timing,
    Tls,
    TlsCheck,
    UdpCheck,
    Via,
    Watch,
    WhenAllDown,
)
from kernlb.health.probes import dns_message
from kernlb.model import ServerKey
from tests.unit.config.documents import services

HEAD = "address: 192.0.2.10\nport: 80\n"
SERVERS = "servers: [{address: 10.0.0.1}, {address: 10.0.0.2}]\n"
ONE, TWO = (ServerKey(ip_address(f"10.0.0.{n}"), 80) for n in (1, 2))


def parse(text: str, defaults: Defaults | None = None) -> Declaration:
    return parse_service(text.encode(), name="web", source="web.yaml", defaults=defaults)


def watch(said: str, more: str = "") -> Watch:
    return parse(f"{HEAD}{more}check: {said}\n{SERVERS}").watches[ONE]


CHECKS: list[tuple[str, Check]] = [
    ("tcp", TcpCheck()),
    ("{type: tcp, port: 8080}", TcpCheck(8080)),
    ("icmp", IcmpCheck()),
    ("{type: icmp, size: 1400}", IcmpCheck(1400)),
    ("http", HttpCheck()),
    (
        "{type: http, method: POST, path: /a?b, host: a.example, status: 204, port: 81}",
        HttpCheck(method="POST", path="/a?b", host="a.example", status=((204, 204),), port=81),
    ),
    ("{type: http, status: 2xx}", HttpCheck(status=((200, 299),))),
    ("{type: http, status: [200-204, 301]}", HttpCheck(status=((200, 204), (301, 301)))),
    (
        '{type: http, headers: {Accept: "*/*"}, body: ok, body_regex: "o+", max_bytes: 10}',
        HttpCheck(headers=(("Accept", "*/*"),), body="ok", body_regex="o+", max_bytes=10),
    ),
    ("https", HttpCheck(tls=Tls())),
    (
        "{type: https, ca: /ca.pem, server_name: a.example, expiry_warning: 0}",
        HttpCheck(tls=Tls(ca="/ca.pem", name="a.example", expiry_warning=0)),
    ),
    ("tls", TlsCheck()),
    ("{type: tls, verify: false, port: 443}", TlsCheck(Tls(verify=False), 443)),
    ("udp", UdpCheck()),
    (
        '{type: udp, payload: "a\\n", reply: {hex: 00 ff}, reply_regex: é, require_reply: true}',
        UdpCheck(b"a\n", b"\x00\xff", "é".encode(), require_reply=True),
    ),
    ("dns", DnsCheck()),
    (
        "{type: dns, query: a.example, record: AAAA, answer: '2001:DB8:0::1', tcp: true}",
        DnsCheck("a.example", "AAAA", answer="2001:DB8:0::1", tcp=True),
    ),
    ("{type: dns, rcodes: [NOERROR, NXDOMAIN]}", DnsCheck(rcodes=("NOERROR", "NXDOMAIN"))),
    ("grpc", GrpcCheck()),
    ("{type: grpc, service: a.B, tls: true}", GrpcCheck("a.B", Tls())),
    ("{type: exec, command: /bin/a b 'c d'}", ExecCheck(("/bin/a", "b", "c d"))),
    (
        '{type: exec, command: ["/bin/a b", ""], user: monitor, warning_fails: true}',
        ExecCheck(("/bin/a b", ""), "monitor", warning_fails=True),
    ),
    ("{type: agent, port: 9999, send: hello}", AgentCheck(9999, "hello")),
    ("{all: [icmp, tcp]}", Several((IcmpCheck(), TcpCheck()), 2)),
    ("{any: [icmp, {type: tcp, port: 1}]}", Several((IcmpCheck(), TcpCheck(1)), 1)),
    ("{of: [icmp, tcp, udp], need: 2}", Several((IcmpCheck(), TcpCheck(), UdpCheck()), 2)),
]


@pytest.mark.parametrize(("said", "meant"), CHECKS, ids=[said for said, _ in CHECKS])
def test_what_a_check_asks(said: str, meant: Check) -> None:
    assert watch(said) == Watch(meant)
    plain = json.dumps(plain_watch(Watch(meant)))
    assert watch(plain) == Watch(meant)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("rise: 1", Timing(rise=1)),
        ("interval: 1m, timeout: 10s, fast_interval: 5s, fall: 2", Timing(60, 5, 10, fall=2)),
        ("interval: 1s", Timing(1, 1, 1)),  # no probe of a server outlasts its interval
        ("interval: 200ms", Timing(0.2, 0.2, 0.2)),
        ("timeout: 500ms", Timing(5, 0.5, 0.5)),  # looks again as soon as a probe has ended
        ("interval: 1s, timeout: 100ms, fast_interval: 1s", Timing(1, 1, 0.1)),
        ("jitter: 50%", Timing(jitter=0.5)),
        ("delay_loop: 6, connect_timeout: 3, retry: 1, delay_before_retry: 3",
         Timing(6, 3, 3, fall=2)),
        ("retry: 0", Timing(fall=1)),
    ],
)  # fmt: skip
def test_when_a_check_asks(said: str, meant: Timing) -> None:
    there = Watch(TcpCheck(), meant)
    assert watch(f"{{type: tcp, {said}}}") == there
    assert watch(json.dumps(plain_watch(there))) == there


def test_a_server_has_its_own_check_or_its_services_or_the_hosts() -> None:
    host = Defaults(check=Watch(IcmpCheck()))
    assert parse(HEAD + SERVERS).watches == {}
    assert parse(HEAD + SERVERS, host).watches == dict.fromkeys((ONE, TWO), host.check)
    assert parse(HEAD + "check: none\n" + SERVERS, host).watches == {}
    own = "check: tcp\nservers:\n- {address: 10.0.0.1, check: none}\n- {address: 10.0.0.2}\n"
    assert parse(HEAD + own, host).watches == {TWO: Watch(TcpCheck())}
    own = "servers:\n- {address: 10.0.0.1, check: http}\n- {address: 10.0.0.2}\n"
    assert parse(HEAD + own, host).watches == {ONE: Watch(HttpCheck()), TWO: host.check}


def test_servers_of_a_service_share_one_value() -> None:
    first, second = parse(HEAD + "check: http\n" + SERVERS).watches.values()
    assert first is second


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("{type: tcp, via: vip}", "forwarding: dsr\n"),
        ("{all: [tcp, dns], via: vip}", "forwarding: tunnel\n"),
    ],
)
def test_a_probe_may_go_by_the_way_of_the_clients(said: str, more: str) -> None:
    assert watch(said, more).via is Via.VIP


@pytest.mark.parametrize("said", ["icmp", "{type: tcp, port: 8080}", "{type: agent, port: 1}"])
def test_services_without_a_port_that_can_be_asked_name_one(said: str) -> None:
    server = "servers: [{address: 10.0.0.1}]\n"
    assert parse(f"fwmark: 7\ncheck: {said}\n{server}").watches
    assert parse(f"{HEAD}protocol: sctp\ncheck: {said}\n{server}").watches
    assert parse("fwmark: 7\ncheck: tcp\nservers: [{address: 10.0.0.1, port: 80}]\n").watches


POLICIES: list[tuple[str, str, HealthPolicy]] = [
    ("{}", "", HealthPolicy()),
    ("{on_down: inhibit, initial: up}", "", HealthPolicy(OnDown.INHIBIT, Initial.UP)),
    ("{quorum: 1, hysteresis: 1}", "", HealthPolicy(hysteresis=1)),
    ("{keep: 50%}", "", HealthPolicy(keep=0.5)),
    ("{depool_threshold: .5}", "", HealthPolicy(keep=0.5)),
    ("{when_all_down: reject}", "", HealthPolicy(when_all_down=WhenAllDown.REJECT)),
    ("{when_all_down: sorry}", "", HealthPolicy()),
    ("{damping: false}", "", HealthPolicy(damping=Damping(changes=0))),
    ("{damping: {hold: 5m}}", "", HealthPolicy(damping=Damping(hold=300))),
    ("{passive: true}", "datapath: xdp\ncheck: tcp\n", HealthPolicy(passive=True)),
    ("{withdraw_vip: true}", "vip: {interface: lo}\n", HealthPolicy(withdraw_vip=True)),
]


@pytest.mark.parametrize(
    ("said", "more", "meant"), POLICIES, ids=[f"{said} {more}" for said, more, _ in POLICIES]
)
def test_what_verdicts_mean(said: str, more: str, meant: HealthPolicy) -> None:
    there = parse(f"{HEAD}{more}health: {said}\n{SERVERS}")
    assert there.health == meant
    assert parse(json.dumps(document_of(there))).health == meant


def test_a_policy_is_the_hosts_where_the_service_says_nothing() -> None:
    host = Defaults(
        health=HealthPolicy(
            OnDown.INHIBIT, keep=0.5, damping=Damping(1, 60, 60), initial=Initial.UP
        )
    )
    said = parse(f"{HEAD}health: {{keep: 0, damping: {{changes: 3}}}}\n{SERVERS}", host)
    assert said.health == HealthPolicy(
        OnDown.INHIBIT, keep=0, damping=Damping(3, 60, 60), initial=Initial.UP
    )


def test_what_the_host_wants_and_a_service_cannot_have_is_left_out() -> None:
    host = Defaults(
        health=HealthPolicy(withdraw_vip=True, passive=True, when_all_down=WhenAllDown.FAIL_OPEN)
    )
    plain = parse(HEAD + SERVERS, host).health
    assert plain == HealthPolicy(when_all_down=WhenAllDown.FAIL_OPEN)
    fast = parse(f"{HEAD}datapath: xdp\ncheck: tcp\n{SERVERS}", host)
    assert fast.health == HealthPolicy(passive=True, when_all_down=WhenAllDown.FAIL_OPEN)
    assert parse(f"{HEAD}datapath: xdp\n{SERVERS}", host).health == plain, "nothing is checked"
    sorry = parse(HEAD + SERVERS + "sorry_server: {address: 10.0.0.9}\n", host)
    assert sorry.health == HealthPolicy()


def test_what_clients_meet_may_be_asked_for_before_there_are_servers() -> None:
    said = f"{HEAD}datapath: xdp\nhealth: {{passive: true}}\n"
    assert parse(f"{said}servers: []\n").health.passive
    one = "servers:\n- {address: 10.0.0.1, check: none}\n- {address: 10.0.0.2, check: tcp}\n"
    assert parse(said + one).health.passive, "one that is checked is enough"


def test_a_quorum_may_be_said_before_there_are_servers() -> None:
    assert parse(HEAD + "health: {quorum: 5}\n").health.quorum == 5
    idle = "weight: 0\nhealth: {quorum: 5}\n"
    assert parse(HEAD + idle + SERVERS).health.quorum == 5


def test_there_may_be_several_sorry_servers() -> None:
    said = "sorry_server:\n- {address: 10.0.0.8}\n- {address: 10.0.0.9, labels: {a: b}}\n"
    there = parse(HEAD + said)
    assert [str(server.address) for server in there.sorry_servers] == ["10.0.0.8", "10.0.0.9"]
    assert there.server_labels == {there.sorry_servers[1].key: {"a": "b"}}
    assert parse(HEAD + "sorry_server: []\n").sorry_servers == ()


def test_the_host_has_a_check_a_policy_and_a_monitor() -> None:
    settings = parse_settings(
        b"defaults: {check: {type: http, path: /up}, health: {keep: 50%}}\n"
        b"health: {lateness_limit: 0.1, partition_grace: 0, partition_share: 80%,"
        b" concurrent_execs: 4}\n",
        source="kernlb.yaml",
    )
    assert settings.defaults.check == Watch(HttpCheck(path="/up"))
    assert settings.defaults.health == HealthPolicy(keep=0.5)
    assert settings.health == HealthSettings(0.1, 0, 0.8, 4)
    assert parse_settings(b"defaults: {}", source="").health == HealthSettings()


@given(services())
def test_a_host_that_checks_by_default_changes_no_document(document: dict[str, Any]) -> None:
    there = parse_service(json.dumps(document).encode(), name="web", source="web.json")
    host = Defaults(
        check=Watch(IcmpCheck(), Timing(7)),
        health=HealthPolicy(OnDown.INHIBIT, keep=0.3, when_all_down=WhenAllDown.REJECT),
    )
    back = json.dumps(document_of(there, host)).encode()
    assert parse_service(back, name="web", source="web.json", defaults=host) == there


def test_documents_know_the_records_and_codes_that_the_probe_knows() -> None:
    assert {record.value for record in Record} == set(dns_message.TYPES)
    assert [rcode.value for rcode in Rcode] == list(dns_message.RCODES[: len(Rcode)])


def test_an_interpreter_that_has_read_checks_ends_well() -> None:
    """msgspec 0.22 can free a pattern as if it were a type: see ``check_document``."""
    text = HEAD + "check: {any: [{type: http, status: [2xx], headers: {a: b}}, {type: exec,"
    text += f" command: [/a, b]}}, {{type: udp, reply: {{hex: '00'}}}}]}}\n{SERVERS}"
    program = f"from kernlb.config import *\nparse_service({text.encode()!r}, name='a', source='')"
    for more in ("", "\nservice_schema()", "\nsettings_schema()"):
        subprocess.run([sys.executable, "-c", program + more], check=True, timeout=60)
