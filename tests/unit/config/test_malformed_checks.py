"""Every malformed check or health block gets an error that names file, line and key, and why."""

from __future__ import annotations

import pytest

from kernlb.config import ConfigError, Defaults, Fault, parse_service
from kernlb.config.settings import parse_settings
from kernlb.health.check import HealthPolicy, TcpCheck, Watch

FILE = "services.d/web.yaml"
HEAD = "address: 192.0.2.10\nport: 80\n"  # a good service in two lines
SERVERS = "servers:\n  - address: 10.0.0.1\n  - address: 10.0.0.2\n    weight: 2\n"  # weigh 3
DSR = "forwarding: dsr\n"
SORRY = "sorry_server: {address: 10.0.0.9}\n"


def check(said: str) -> str:
    return f"{HEAD}check: {said}\n{SERVERS}"


def health(said: str, more: str = "") -> str:
    return f"{HEAD}health: {said}\n{more}{SERVERS}"


# (story, text, line, key, part of the message)
MALFORMED: list[tuple[str, str, int, str, str]] = [
    # kinds of check
    ("unknown", check("tcpp"), 3, "check", '"tcpp" is unknown: did you mean "tcp"?'),
    ("keepalived's HTTP_GET", check("HTTP_GET"), 3, "check", 'did you mean "http"?'),
    ("SSL_GET", check("{type: SSL_GET}"), 3, "check.type", 'did you mean "https"?'),
    ("MISC_CHECK", check("{type: MISC_CHECK}"), 3, "check.type", 'did you mean "exec"?'),
    ("a list", check("[tcp]"), 3, "check", "or a mapping, not a list"),
    ("true", check("true"), 3, "check", "not true"),
    ("nothing", check(""), 3, "check", "has no value"),
    ("no type", check("{interval: 5s}"), 3, "check", 'has no "type"'),
    ("type none", check("{type: none}"), 3, "check.type", '"none" is unknown'),
    ("two of them", check("{type: tcp, any: [icmp]}"), 3, "check.any", "does not go with type"),
    ("unknown key", check("{type: tcp, intervall: 1}"), 3, "check.intervall", '"interval"?'),
    ("connect_port", check("{type: tcp, connect_port: 1}"), 3, "check.connect_port", '"port"?'),
    ("virtualhost", check("{type: http, virtualhost: a}"), 3, "check.virtualhost", '"host"?'),
    ("in a server", HEAD + SERVERS + "    check: {type: http, path: x}\n", 7,
     "servers[1].check.path", "must be a path that begins with /"),
    # keys of another type
    ("path of tcp", check("{type: tcp, path: /}"), 3, "check.path",
     "goes with type http, https only, and this is tcp"),
    ("ca of http", check("{type: http, ca: /ca.pem}"), 3, "check.ca",
     "goes with type https, tls, grpc only, and this is http"),
    ("port of icmp", check("{type: icmp, port: 1}"), 3, "check.port", "and this is icmp"),
    ("send of tcp", check("{type: tcp, send: x}"), 3, "check.send", "type agent only"),
    # several
    ("an empty list", check("{all: []}"), 3, "check.all", "has 0 items: at least 1"),
    ("no need", check("{of: [tcp, icmp]}"), 3, "check", 'has no "need": how many of the 2'),
    ("need 3 of 2", check("{of: [tcp, icmp], need: 3}"), 3, "check.need", "within 1..2, not 3"),
    ("need 0", check("{of: [tcp], need: 0}"), 3, "check.need", "within 1..16, not 0"),
    ("need of all", check("{all: [tcp], need: 1}"), 3, "check.need", "goes with of only"),
    ("twice the same", check("{all: [tcp, {type: tcp}]}"), 3, "check.all[1]", "there already"),
    ("none in a list", check("{all: [none]}"), 3, "check.all[0]", '"none" is unknown'),
    ("a list in a list", check("{all: [{any: [tcp]}]}"), 3, "check.all[0].any", "unknown key"),
    ("timing in a list", check("{all: [{type: tcp, rise: 1}]}"), 3, "check.all[0].rise",
     "unknown key"),
    ("no type in a list", check("{all: [{port: 1}]}"), 3, "check.all[0]", 'has no "type"'),
    ("a key beside a list", check("{all: [tcp], port: 1}"), 3, "check.port",
     "goes into the checks under all"),
    # timing
    ("no duration", check("{type: tcp, interval: soon}"), 3, "check.interval",
     'must be a duration: seconds, or text as "500ms"'),
    ("interval 0", check("{type: tcp, interval: 0}"), 3, "check.interval", "within 100ms..1d"),
    ("interval 2d", check("{type: tcp, interval: 2d}"), 3, "check.interval", "within 100ms..1d"),
    ("timeout 0", check("{type: tcp, timeout: 0}"), 3, "check.timeout", "10ms at least"),
    ("fast 0", check("{type: tcp, fast_interval: 0}"), 3, "check.fast_interval", "10ms at least"),
    ("timeout above interval", check("{type: tcp, interval: 1, timeout: 2}"), 3, "check.timeout",
     "must not be above interval: 2 s > 1 s, and probes of one server do not overlap"),
    ("the same in keepalived's words",
     check("{type: tcp, delay_loop: 1, connect_timeout: 2}"), 3, "check.connect_timeout",
     "must not be above delay_loop"),
    ("fast above interval", check("{type: tcp, interval: 1, fast_interval: 2}"), 3,
     "check.fast_interval", "must not be above interval: 2 s > 1 s"),
    ("rise 0", check("{type: tcp, rise: 0}"), 3, "check.rise", "within 1..1000, not 0"),
    ("fall 0", check("{type: tcp, fall: 0}"), 3, "check.fall", "within 1..1000, not 0"),
    ("jitter 60%", check("{type: tcp, jitter: 60%}"), 3, "check.jitter", "0.5 at most"),
    ("jitter 7", check("{type: tcp, jitter: 7}"), 3, "check.jitter", 'a share: a number within'),
    ("interval twice", check("{type: tcp, interval: 6, delay_loop: 6}"), 3, "check.delay_loop",
     "does not go with interval: they are two words for one thing"),
    ("timeout twice", check("{type: tcp, timeout: 1, connect_timeout: 1}"), 3,
     "check.connect_timeout", "two words for one thing"),
    ("fall twice", check("{type: tcp, fall: 2, retry: 1}"), 3, "check.retry", "two words"),
    ("fast twice", check("{type: tcp, fast_interval: 1, delay_before_retry: 1}"), 3,
     "check.delay_before_retry", "two words"),
    # http
    ("a path with a space", check('{type: http, path: "/a b"}'), 3, "check.path", "as %XX"),
    ("a path with a line", check('{type: http, path: "/a\\r\\nX: y"}'), 3, "check.path", "path"),
    ("a host with a line", check('{type: http, host: "a\\r\\nX: y"}'), 3, "check.host",
     "the name of a host"),
    ("a method in small letters", check("{type: http, method: get}"), 3, "check.method",
     "a method in capitals"),
    ("status 99", check("{type: http, status: 99}"), 3, "check.status", "must be a status as 204"),
    ("status 6xx", check("{type: http, status: 6xx}"), 3, "check.status", 'not "6xx"'),
    ("status 2..3", check("{type: http, status: [200, 2-3]}"), 3, "check.status[1]", 'not "2-3"'),
    ("status backwards", check("{type: http, status: 299-200}"), 3, "check.status",
     "ends before it begins"),
    ("no status", check("{type: http, status: []}"), 3, "check.status", "has 0 items: at least 1"),
    ("a pattern", check('{type: http, body_regex: "(a"}'), 3, "check.body_regex",
     "is not a regular expression: missing )"),
    ("no body", check('{type: http, body: ""}'), 3, "check.body", "must be text, 1 to 4096"),
    ("the body of HEAD", check("{type: http, method: HEAD, body: a}"), 3, "check.body",
     "its answer has no body"),
    ("max_bytes 0", check("{type: http, max_bytes: 0}"), 3, "check.max_bytes", "within 1.."),
    ("a header with a line", check('{type: http, headers: {a: "b\\nc: d"}}'), 3,
     "check.headers.a", "must be text of one line"),
    ("a header's name", check('{type: http, headers: {"a b": c}}'), 3, "check.headers.a b",
     "must be the name of a header"),
    ("a number", check("{type: http, headers: {a: 1}}"), 3, "check.headers.a",
     "(numbers in quotes), not 1"),
    ("Host", check("{type: http, headers: {Host: a}}"), 3, "check.headers.Host",
     "has a key of its own: host"),
    ("Content-Length", check('{type: http, headers: {content-length: "9"}}'), 3,
     "check.headers.content-length", "is the check's own to send"),
    ("a header twice", check("{type: http, headers: {A: b, a: c}}"), 3, "check.headers.a",
     "is there already"),
    # tls
    ("a relative ca", check("{type: https, ca: ca.pem}"), 3, "check.ca", "an absolute path"),
    ("ca unverified", check("{type: tls, verify: false, ca: /ca.pem}"), 3, "check.ca",
     "does not go with verify: false"),
    ("a name", check("{type: tls, server_name: a/b}"), 3, "check.server_name", "must be a name"),
    ("verify of a plain grpc", check("{type: grpc, verify: false}"), 3, "check.verify",
     "goes with tls: true only"),
    # udp, dns
    ("odd digits", check("{type: udp, payload: {hex: abc}}"), 3, "check.payload.hex", "pairs of"),
    ("no digits", check('{type: udp, reply: {hex: ""}}'), 3, "check.reply.hex", "pairs of"),
    ("a pattern of udp", check('{type: udp, reply_regex: "["}'), 3, "check.reply_regex",
     "is not a regular expression"),
    ("no record", check("{type: dns, query: a.example}"), 3, "check", 'has no "record"'),
    ("an unknown record", check("{type: dns, record: MXX}"), 3, "check.record", "is unknown"),
    ("an unknown rcode", check("{type: dns, rcodes: OK}"), 3, "check.rcodes", "(known: NOERROR"),
    ("a dot too many", check("{type: dns, query: a..b, record: A}"), 3, "check.query",
     "a..b"),
    ("an answer", check('{type: dns, query: a, record: A, answer: "::1"}'), 3, "check.answer",
     "is no value of DNS type A"),
    # exec, agent
    ("no command", check("exec"), 3, "check", 'has no "command"'),
    ("a relative command", check("{type: exec, command: check}"), 3, "check.command",
     "must begin with the absolute path of a program"),
    ("an empty command", check('{type: exec, command: ""}'), 3, "check.command", "absolute path"),
    ("no words", check("{type: exec, command: []}"), 3, "check.command", "has 0 items: at least 1"),
    ("an open quote", check('{type: exec, command: "/bin/a \'b"}'), 3, "check.command",
     "has a quote that does not close"),
    ("a NUL", check('{type: exec, command: ["/bin/a", "b\\0"]}'), 3, "check.command", "NUL byte"),
    ("root", check("{type: exec, command: /a, user: root}"), 3, "check.user", "not be root"),
    ("no user", check("{type: exec, command: /a, user: A}"), 3, "check.user", "name of a user"),
    ("agent", check("agent"), 3, "check", 'has no "port", which an agent check needs'),
    ("agent port 0", check("{type: agent, port: 0}"), 3, "check.port", "within 1..65535, not 0"),
    # what does not fit the service
    ("vip of nat", check("{type: tcp, via: vip}"), 3, "check.via",
     "vip goes with forwarding dsr and tunnel only, and a server is nat"),
    ("vip of one nat server",
     HEAD + DSR + "check: {type: tcp, via: vip}\nservers:\n  - address: 10.0.0.1\n"
     "  - {address: 10.0.0.2, forwarding: nat}\n", 4, "check.via", "and a server is nat"),
    ("vip of a mark", "fwmark: 7\n" + DSR + "check: {type: tcp, port: 1, via: vip}\n" + SERVERS, 3,
     "check.via", "such a service has no address"),
    ("vip of icmp", HEAD + DSR + "check: {type: icmp, via: vip}\n" + SERVERS, 4, "check.via",
     "echo requests are not forwarded"),
    ("vip of exec in a list",
     HEAD + DSR + "check: {any: [tcp, {type: exec, command: /a}], via: vip}\n" + SERVERS, 4,
     "check.via", "what a program sends cannot be steered"),
    ("a port of every port",
     "address: 192.0.2.10\nport: any\npersistence: 5m\ncheck: http\n" + SERVERS, 4, "check",
     "http needs a port: this service keeps the client's port"),
    ("in a list",
     "fwmark: 7\ncheck: {all: [icmp, tcp]}\n" + SERVERS, 2, "check.all[1]", "tcp needs a port"),
    ("sctp", HEAD + "protocol: sctp\ncheck: tcp\n" + SERVERS, 4, "check",
     "tcp does not speak to an SCTP port"),
    # health
    ("unknown policy", health("{keeep: 1}"), 3, "health.keeep", 'did you mean "keep"?'),
    ("inhibit_on_failure", health("{inhibit_on_failure: true}"), 3, "health.inhibit_on_failure",
     '"on_down"?'),
    ("on_down", health("{on_down: drop}"), 3, "health.on_down", "(known: remove, inhibit)"),
    ("quorum 0", health("{quorum: 0}"), 3, "health.quorum", "within 1.."),
    ("a quorum too high", health("{quorum: 4}"), 3, "health.quorum",
     "asks for more than there is: 4, and the servers weigh 3 together"),
    ("a hysteresis too high", health("{quorum: 2, hysteresis: 2}"), 3, "health.hysteresis",
     "asks for more than there is: 2 + 2"),
    ("keep 2", health("{keep: 2}"), 3, "health.keep", "a share: a number within 0..1"),
    ("keep 101%", health("{keep: 101%}"), 3, "health.keep", "a share"),
    ("keep twice", health("{keep: 0.5, depool_threshold: 0.5}"), 3, "health.depool_threshold",
     "does not go with keep"),
    ("when_all_down", health("{when_all_down: panic}"), 3, "health.when_all_down", "fail-open"),
    ("a sorry server that is never used", health("{when_all_down: reject}", SORRY), 3,
     "health.when_all_down", "reject does not go with sorry_server"),
    ("fail-open too", health("{when_all_down: fail-open}", SORRY), 3, "health.when_all_down",
     "fail-open does not go with sorry_server"),
    ("passive by ipvs", health("{passive: true}"), 3, "health.passive", "datapath xdp only"),
    ("passive and nothing is checked", "datapath: xdp\n" + health("{passive: true}"), 4,
     "health.passive", "goes with a check only: what clients meet is heard beside probes"),
    ("passive and a check that is faulty",
     "datapath: xdp\n" + health("{passive: true}", "check: {type: tcp, rise: 0}\n"), 5,
     "check.rise", "within 1..1000"),
    ("no vip to withdraw", health("{withdraw_vip: true}"), 3, "health.withdraw_vip",
     "goes with vip only"),
    ("damping true", health("{damping: true}"), 3, "health.damping", "or false, not true"),
    ("damping 0", health("{damping: {changes: 0}}"), 3, "health.damping.changes", "1..1000"),
    ("a long hold", health("{damping: {hold: 2d}}"), 3, "health.damping.hold", "within 1s..1d"),
    # sorry servers
    ("a sorry server twice",
     HEAD + "sorry_server:\n  - address: 10.0.0.9\n  - address: 10.0.0.9\n", 5, "sorry_server[1]",
     "10.0.0.9:80 is there already"),
    ("a real server among them",
     HEAD + SERVERS + "sorry_server:\n  - address: 10.0.0.8\n  - address: 10.0.0.1\n", 9,
     "sorry_server[1]", "10.0.0.1:80 is servers[0] already"),
    ("a sorry server that is checked", HEAD + "sorry_server: {address: 10.0.0.9, check: tcp}\n", 3,
     "sorry_server.check", "unknown key"),
    ("weight 0", HEAD + "sorry_server:\n  - {address: 10.0.0.9, weight: 0}\n", 4,
     "sorry_server[0].weight", "within 1..65535, not 0"),
    ("their other name", HEAD + "sorry_servers: []\n", 3, "sorry_servers", '"sorry_server"?'),
]  # fmt: skip


def faults_of(text: str, defaults: Defaults | None = None) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_service(text.encode(), name="web", source=FILE, defaults=defaults)
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [pytest.param(*row[1:], id=row[0]) for row in MALFORMED],
)
def test_a_malformed_document_is_told_by_line_and_key(
    text: str, line: int, key: str, message: str
) -> None:
    [fault] = faults_of(text)
    assert message in fault.message
    assert (fault.file, fault.line, fault.key) == (FILE, line, key)
    assert "\n" not in str(fault)


def test_every_fault_of_a_check_is_told_at_once() -> None:
    text = check("{all: [{type: tcp, path: /}, {type: agent}], interval: 0, jitter: 0.9}")
    assert {fault.key for fault in faults_of(text)} == {
        "check.all[0].path",
        "check.all[1]",
        "check.interval",
        "check.jitter",
    }


def test_a_fault_that_servers_share_is_told_once() -> None:
    servers = "".join(f"  - address: 10.0.1.{n}\n" for n in range(1, 100))
    [fault] = faults_of(HEAD + "check: {type: tcp, via: vip}\nservers:\n" + servers)
    assert fault.key == "check.via"


def test_a_default_check_that_cannot_be_is_told_of_the_service() -> None:
    host = Defaults(check=Watch(TcpCheck()))
    [fault] = faults_of("fwmark: 7\n" + SERVERS, host)
    assert fault.message.startswith("the host's default check does not fit: tcp needs a port")
    parse_service(b"fwmark: 7\ncheck: icmp\nservers: [{address: 10.0.0.1}]", name="a", source="",
                  defaults=host)  # fmt: skip


def test_a_default_quorum_that_cannot_be_is_told_of_the_service() -> None:
    [fault] = faults_of(HEAD + SERVERS, Defaults(health=HealthPolicy(quorum=9)))
    assert "9, by the host's defaults, and the servers weigh 3 together" in fault.message


@pytest.mark.parametrize(
    ("said", "key", "message"),
    [
        ("defaults: {check: {type: http, path: x}}", "defaults.check.path", "begins with /"),
        ("defaults: {check: {type: tcp, jitter: 0.9}}", "defaults.check.jitter", "0.5 at most"),
        ("defaults: {health: {damping: true}}", "defaults.health.damping", "not true"),
        ("health: {lateness_limit: 1ms}", "health.lateness_limit", "within 20ms..60s"),
        ("health: {lateness_limit: 2m}", "health.lateness_limit", "within 20ms..60s"),
        ("health: {partition_grace: 2h}", "health.partition_grace", "1 hour at most"),
        ("health: {partition_share: 0.2}", "health.partition_share", "0.5 at least"),
        ("health: {partition_share: 200%}", "health.partition_share", "a share"),
        ("health: {concurrent_execs: 0}", "health.concurrent_execs", "within 1..1024"),
        ("health: {interval: 5s}", "health.interval", "is an unknown key"),
    ],
)
def test_malformed_settings_are_told_the_same_way(said: str, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(said.encode(), source="kernlb.yaml")
    [fault] = caught.value.faults
    assert (fault.key, fault.line) == (key, 1)
    assert message in fault.message
