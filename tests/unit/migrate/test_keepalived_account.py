"""Nothing is dropped in silence: every directive is in a document or is told as lost."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.config import parse_service
from kernlb.migrate.keepalived import read_keepalived, translate
from kernlb.migrate.keepalived.checkers import READERS
from kernlb.migrate.report import MigrationError, texts
from tests.unit.migrate.configurations import SAMPLES, Memory, read, virtual_server

ALL_SAMPLES = sorted(SAMPLES.glob("keepalived.conf.*"))
EVERYTHING = Path(__file__).parents[2] / "netns" / "ipvs" / "everything.keepalived.conf"

WORDS = [
    *READERS,
    *("virtual_server", "virtual_server_group", "real_server", "sorry_server", "url", "host"),
    *("global_defs", "vrrp_instance", "SSL", "fwmark", "group", "weight", "retry", "delay_loop"),
    *("delay_before_retry", "connect_timeout", "warmup", "alpha", "omega", "quorum", "hysteresis"),
    *("quorum_up", "lvs_sched", "lb_algo", "lvs_method", "lb_kind", "persistence_timeout"),
    *("persistence_engine", "persistence_granularity", "protocol", "ha_suspend", "virtualhost"),
    *("ops", "sh-port", "mh-port", "flag-1", "hashed", "ip_family", "smtp_alert", "snmp_name"),
    *("inhibit_on_failure", "sorry_server_inhibit", "sorry_server_lvs_method", "uthreshold"),
    *("lthreshold", "notify_up", "connect_ip", "connect_port", "bindto", "bind_port", "path"),
    *("digest", "status_code", "regex", "regex_no_match", "regex_options", "misc_path", "user"),
    *("misc_timeout", "misc_dynamic", "payload", "require_reply", "name", "type", "track_file"),
    *("http_protocol", "enable_sni", "helo_name", "lvs_sync_daemon", "virtual_ipaddress", "junk"),
]
ARGUMENTS = [
    *("", "1", "0", "7", "65536", "-1", "x", "80", "TCP", "udp", "NAT", "DR", "TUN", "rr", "mh"),
    *("192.0.2.1", "192.0.2.1 80", "10.0.0.1 80", "10.0.0.2", "2001:db8::1 80", "10.0.0.1-9 80"),
    *("fwmark 3", "group g", "g", "inet6", "on", "no", '"two words"', "'a b'", "/a/b c", '"open'),
    *("type gue port 6080 csum", "TUN type gre", "255.255.255.0", "64", "sip", "200-299 404"),
    *("a(b", "^x$", "caseless", "A", "00ff", "ab xx", "1.5", "A B C D"),
]


@st.composite
def blocks(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Lines of directives, known and not, that may stand anywhere."""
    found: list[str] = []
    for _ in range(draw(st.integers(0, 5))):
        head = f"{draw(st.sampled_from(WORDS))} {draw(st.sampled_from(ARGUMENTS))}".strip()
        if depth < 4 and draw(st.booleans()):
            found += [f"{head} {{", *draw(blocks(depth + 1)), "}"]
        else:
            found.append(head)
    return found


@given(blocks())
@settings(max_examples=100, deadline=None)
def test_every_directive_is_used_or_told_whatever_stands_where(body: list[str]) -> None:
    text = "\n".join([*body, virtual_server("\n".join(body), "\n".join(body)), *body])
    report, (ledger, tree) = translate("k", Memory({"k": text}), "here")
    used = {id(directive) for directive in ledger.used}
    places = {loss.line for loss in report.losses}
    covered: set[int] = set()
    for directive in tree:
        for each in directive.walk():
            if each.place.line in places and id(each) not in used:
                covered.update(id(inner) for inner in each.walk())
            assert id(each) in used or id(each) in covered, each.text
    assert ledger.forgotten == []
    read_keepalived("k", Memory({"k": text}), "here")  # nor is there a service config refuses


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: path.suffix[1:] or path.name)
def test_every_sample_of_keepalived_is_read_and_accounted_for(path: Path) -> None:
    report, (ledger, _) = translate(str(path))
    assert ledger.forgotten == []
    assert report.unsaid == 0
    settled = read_keepalived(str(path))
    if b"\nvirtual_server " in path.read_bytes():
        assert settled.services
    for name, text in texts(settled).items():
        parse_service(text.encode(), name=name, source="")


def test_the_samples_of_keepalived_are_there() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("keepalived is not installed: no samples")
    assert len(ALL_SAMPLES) >= 25


def outcome(service: str = "", server: str = "", checker: str = "") -> str:
    report = read(virtual_server(service, server, checker))
    said = [(loss.kind, loss.why, loss.what) for loss in report.losses]
    return json.dumps([[each.document for each in report.services], said])


SERVICE_DIRECTIVES = {
    "delay_loop": ("10", "20"),
    "retry": ("2", "3"),
    "delay_before_retry": ("2", "3"),
    "connect_timeout": ("2", "3"),
    "warmup": ("1", "2"),
    "lvs_sched": ("rr", "lc"),
    "lb_algo": ("rr", "lc"),
    "lvs_method": ("DR", "TUN"),
    "lb_kind": ("DR", "TUN type gre"),
    "persistence_timeout": ("60", "61"),
    "persistence_granularity": ("255.255.255.0", "255.255.0.0"),
    "persistence_engine": ("sip", "x"),
    "protocol": ("UDP", "SCTP"),
    "quorum": ("1", "2"),
    "hysteresis": ("1", "2"),
    "virtualhost": ("a.example", "b.example"),
    "snmp_name": ("a", "b"),
    "weight": ("5", "6"),
    "sorry_server": ("10.0.0.9 80", "10.0.0.8 80"),
    "quorum_up": ("/a", "/b"),
    "quorum_down": ("/a", "/b"),
    "smtp_alert": ("on", "off"),
    "sorry_server_lvs_method": ("DR", "TUN"),
    "ip_family": ("inet", "inet6"),
}
SERVICE_SWITCHES = (
    *("alpha", "omega", "ops", "hashed", "ha_suspend", "inhibit_on_failure"),
    *("sorry_server_inhibit", "flag-1", "flag-2", "flag-3", "sh-port", "mh-port"),
)
SERVER_DIRECTIVES = {
    "weight": ("5", "6"),
    "lvs_method": ("DR", "TUN"),
    "uthreshold": ("5", "6"),
    "lthreshold": ("5", "6"),
    "notify_up": ("/a", "/b"),
    "notify_down": ("/a", "/b"),
    "smtp_alert": ("on", "off"),
    "virtualhost": ("a.example", "b.example"),
    "snmp_name": ("a", "b"),
    "inhibit_on_failure": ("on", "off"),
    "alpha": ("on", "off"),
    "delay_loop": ("10", "20"),
    "retry": ("2", "3"),
    "delay_before_retry": ("2", "3"),
    "connect_timeout": ("2", "3"),
    "warmup": ("1", "2"),
}
HTTP = "HTTP_GET {{\n{0}\nurl {{\npath /\n{1}\n}}\n}}"


@pytest.mark.parametrize("name", SERVICE_DIRECTIVES)
def test_what_a_virtual_server_says_makes_a_difference(name: str) -> None:
    first, second = SERVICE_DIRECTIVES[name]
    checker = HTTP.format("", "")
    sorry = "sorry_server 10.0.0.9 80\n" if name == "sorry_server_lvs_method" else ""
    server = "}\nreal_server 10.0.0.2 80 {\n" if name in ("quorum", "weight") else ""
    one = outcome(f"{sorry}{name} {first}", server, checker)
    assert one != outcome(f"{sorry}{name} {second}", server, checker) or name == "hysteresis"
    assert one != outcome(sorry, server, checker) or name in ("quorum", "ip_family")


@pytest.mark.parametrize("name", SERVICE_SWITCHES)
def test_what_a_virtual_server_switches_makes_a_difference(name: str) -> None:
    checker = HTTP.format("", "")
    assert outcome(name, "", checker) != outcome("", "", checker)


@pytest.mark.parametrize("name", SERVER_DIRECTIVES)
def test_what_a_real_server_says_makes_a_difference(name: str) -> None:
    first, second = SERVER_DIRECTIVES[name]
    checker = HTTP.format("", "")
    one = outcome("", f"{name} {first}", checker)
    assert one != outcome("", f"{name} {second}", checker)


@pytest.mark.parametrize(
    "said",
    [
        *("path /other", "digest ff20ad2481f97b1754ef3e12ecd3a9cc", "status_code 204"),
        *("virtualhost c.example", "regex a.b", "regex_no_match", "regex_options caseless"),
        *("regex_stack 1 2", "regex_min_offset 1", "regex_max_offset 9"),
    ],
)
def test_what_a_url_says_makes_a_difference(said: str) -> None:
    with_regex = "regex x\n" if said in ("regex_no_match", "regex_options caseless") else ""
    assert outcome("", "", HTTP.format("", with_regex + said)) != outcome(
        "", "", HTTP.format("", with_regex)
    )


def mutated(text: bytes, random: Random) -> bytes:
    changed = bytearray(text)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(changed))
        match random.randrange(5):
            case 0:
                changed[at] = random.randrange(256)
            case 1:
                del changed[at : at + random.randrange(40)]
            case 2:
                changed[at:at] = random.choice(
                    [b"{", b"}", b'"', b"\\", b"$", b"~SEQ(", b"@", b"\n"]
                )
            case 3:
                end = at + random.randrange(200)
                changed[at:at] = changed[at:end]
            case 4:
                changed[at:at] = random.choice([b"999999999999999999999", b"-1", b"\0", b"\xff"])
    return bytes(changed) or b" "


def test_mutated_configurations_are_read_or_refused_in_one_sentence() -> None:
    random = Random(5)
    originals = [path.read_bytes() for path in ALL_SAMPLES] + [EVERYTHING.read_bytes()]
    for _ in range(200):
        text = mutated(random.choice(originals), random)
        try:
            report, (ledger, _) = translate("k", Memory({"k": text}), "here")
        except MigrationError as error:
            assert "\n" not in str(error)
            continue
        assert ledger.forgotten == []
        assert all(loss.line > 0 or loss.service for loss in report.losses)
