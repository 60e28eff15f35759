"""Malformed command lines: one clear error, exit code 2, and nothing sent."""

from __future__ import annotations

import pytest

ADD = ["service", "add", "web"]
AT = [*ADD, "192.0.2.10:80"]

MALFORMED = [
    (["serve"], "no such command 'serve'"),
    (["service", "list"], "no such command 'list'"),
    (["service", "ls", "--all"], "no such option"),
    (["-o", "xml", "service", "ls"], "'xml' is not one of 'table', 'json'"),
    (ADD, "give ADDRESS:PORT or --fwmark"),
    ([*ADD, "192.0.2.10"], '"192.0.2.10" is not address:port'),
    ([*ADD, "192.0.2.10:"], 'port "" is not within 0..65535'),
    ([*ADD, "192.0.2.10:70000"], 'port "70000" is not within 0..65535'),
    ([*ADD, "192.0.2.10:-1"], 'port "-1" is not within 0..65535'),
    ([*ADD, "192.0.2.10:http"], 'port "http" is not within 0..65535'),
    ([*ADD, "192.0.2.10:٨٠"], 'port "٨٠" is not within 0..65535'),
    ([*ADD, "192.0.2.300:80"], '"192.0.2.300:80" is not address:port'),
    ([*ADD, "192.0.2.010:80"], '"192.0.2.010:80" is not address:port'),
    ([*ADD, "example.org:80"], '"example.org:80" is not address:port'),
    ([*ADD, "2001:db8::1:80"], '"2001:db8::1:80" is not address:port ([address]:port for IPv6)'),
    ([*ADD, "[2001:db8::1]"], '"[2001:db8::1]" is not address:port'),
    ([*ADD, "[192.0.2.10]:80"], "has brackets, which are for IPv6"),
    ([*ADD, "[fe80::1%eth0]:80"], "has a scope"),
    ([*ADD, ""], '"" is not address:port'),
    ([*AT, "--fwmark", "7"], "--fwmark does not go with ADDRESS:PORT"),
    ([*ADD, "--fwmark", "0"], "0 is not in the range 1<=x<=4294967295"),
    ([*ADD, "--fwmark", "7", "--protocol", "udp"], "--fwmark does not go with --protocol"),
    ([*AT, "--family", "ipv6"], "--family goes with --fwmark only"),
    ([*AT, "--protocol", "icmp"], "'icmp' is not one of 'tcp', 'udp', 'sctp'"),
    ([*AT, "--scheduler", "foo"], "'foo' is not one of 'rr', 'wrr'"),
    ([*AT, "--flag", "mh-any"], "'mh-any' is not one of"),
    ([*AT, "--flag", "mh-port", "--no-flags"], "--flag does not go with --no-flags"),
    ([*AT, "--forwarding", "masq"], "'masq' is not one of 'nat', 'tunnel', 'dsr'"),
    ([*AT, "--tunnel", "vxlan"], '"vxlan" is not ipip, gre[+csum] or gue:PORT[+csum]'),
    ([*AT, "--tunnel", "gue"], '"gue" lacks its UDP port'),
    ([*AT, "--tunnel", "gue:0"], 'port "0" is not within 1..65535'),
    ([*AT, "--tunnel", "gre:80"], '"gre:80" is not ipip'),
    ([*AT, "--tunnel", "gue:80+crc"], '"gue:80+crc" is not ipip'),
    ([*AT, "--weight", "-1"], "-1 is not in the range 0<=x<=65535"),
    ([*AT, "--weight", "65536"], "65536 is not in the range 0<=x<=65535"),
    ([*AT, "--weight", "heavy"], "'heavy' is not a valid integer range"),
    ([*AT, "--weight"], "option '--weight' requires an argument"),
    ([*AT, "--persistence", "soon"], '"soon" is not a duration'),
    ([*AT, "--persistence", "300/0"], 'prefix "0" is not within 1..128'),
    ([*AT, "--persistence", "300/"], 'prefix "" is not within 1..128'),
    ([*AT, "--drain-timeout", "-5"], '"-5" is not a duration'),
    ([*AT, "--drain-timeout", "5 m"], '"5 m" is not a duration'),
    ([*AT, "--drain-timeout", "inf"], '"inf" is not a duration'),
    ([*AT, "--server", "10.0.0.1:80,weight"], '"weight" is not key=value'),
    ([*AT, "--server", "10.0.0.1:80,weight=-1"], 'weight "-1" is not within 0..65535'),
    ([*AT, "--server", "10.0.0.1:80,speed=9"], '"speed" is none of weight, forwarding'),
    ([*AT, "--server", "10.0.0.1:80,weight=1,weight=2"], '"weight" is there twice'),
    ([*AT, "--server", "10.0.0.1:80,forwarding=masq"], 'forwarding "masq" is none of'),
    ([*AT, "--server", ",weight=1"], '"" is not address[:port]'),
    ([*AT, "--label", "team"], '"team" is not key=value'),
    ([*AT, "--label", "=web"], '"=web" is not key=value'),
    ([*AT, "--label", "a=b\nc"], "has characters that do not print"),
    ([*AT, "--announce", "eth0", "--no-announce"], "--announce does not go with --no-announce"),
    ([*AT, "--no-vip", "--vip-interface", "eth0"], "--no-vip does not go with"),
    ([*AT, "extra"], "got unexpected extra argument (extra)"),
    (["service", "add", "Web", "192.0.2.10:80"], '"Web" is not the name of a service'),
    (["service", "show", ".."], '".." is not the name of a service'),
    (["service", "show", "a/b"], '"a/b" is not the name of a service'),
    (["service", "show", "a" * 64], "is not the name of a service"),
    (["service", "show", ""], '"" is not the name of a service'),
    (["service", "show"], "missing argument 'NAME'"),
    (["service", "rm"], "missing argument 'NAME...'"),
    (["service", "rm", "web", "web"], "a service is named twice"),
    (["service", "edit", "web"], "nothing to change was given"),
    (["service", "edit", "web", "--unset", "servers"], "'servers' is not one of"),
    (["service", "edit", "web", "--weight", "1", "--unset", "weight"], "both set and unset"),
    (["service", "edit", "web", "--persistence", "9", "--no-persistence"], "does not go with"),
    (["service", "edit", "web", "--label", "a=b", "--remove-label", "a"], "both set and removed"),
    (["server", "add", "web"], "missing argument 'ADDRESS[:PORT]'"),
    (["server", "add", "web", "localhost"], '"localhost" is not address[:port]'),
    (["server", "edit", "web", "10.0.0.1:80"], "nothing to change was given"),
    (["server", "drain", "web", "10.0.0.1", "--timeout", "1w"], '"1w" is not a duration'),
    (["apply"], "give FILE or DIR"),
    (["apply", "/no/such/file.yaml"], "'/no/such/file.yaml' does not exist"),
    (["apply", "-"], "--name and - go together"),
    (["plan", "--name", "web"], "--name and - go together"),
    (["plan", "/dev"], "/dev holds no service documents"),
    (["schema", "server"], "'server' is not one of 'service', 'settings'"),
    (["completion", "csh"], "'csh' is not one of 'bash', 'zsh', 'fish'"),
    (["stats", "web", "dns"], "got unexpected extra argument (dns)"),
    (["status", "\udcff"], "argument 2 is not UTF-8 text"),
]


@pytest.mark.parametrize(("args", "why"), MALFORMED, ids=lambda value: repr(value)[:60])
def test_a_malformed_line_is_refused_before_anything_is_sent(daemon, kernlb, args, why):
    outcome = kernlb(*args)
    first, *rest = outcome.err.splitlines()
    assert (outcome.code, outcome.out, daemon.requests) == (2, "", [])
    assert first.startswith("error: ")
    assert why in first
    assert len(rest) == 1
    assert rest[0].startswith("try: kernlb")
    assert rest[0].endswith("--help")


def test_no_verb_at_all_is_answered_with_help_and_2(daemon, kernlb):
    for args in ((), ("service",)):
        outcome = kernlb(*args)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("Usage: kernlb")


def test_two_files_cannot_describe_one_service(daemon, kernlb, tmp_path):
    for name in ("web.yaml", "web.yml"):
        (tmp_path / name).write_text("port: 80\n")
    outcome = kernlb("apply", str(tmp_path / "web.yaml"), str(tmp_path / "web.yml"))
    assert (outcome.code, daemon.requests) == (2, [])
    assert "service web is described twice" in outcome.err


def test_a_file_that_names_no_service_is_refused(daemon, kernlb, tmp_path):
    (tmp_path / "My Site.yaml").write_text("port: 80\n")
    outcome = kernlb("apply", str(tmp_path / "My Site.yaml"))
    assert (outcome.code, daemon.requests) == (2, [])
    assert '"My Site" is not the name of a service' in outcome.err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"port: 80\nlabels: \xff\n", "line 2 is not UTF-8"),
        (b"#" * ((16 << 20) + 1), "larger than 16 MiB"),
    ],
)
def test_a_file_that_cannot_be_sent_fails_and_nothing_is(daemon, kernlb, tmp_path, content, why):
    path = tmp_path / "web.yaml"
    path.write_bytes(content)
    outcome = kernlb("apply", str(path))
    assert (outcome.code, daemon.requests) == (1, [])
    assert outcome.err == f"error: cannot read {path}: {why}\n"


def test_a_file_that_does_not_end_is_not_read_to_its_end(daemon, kernlb, tmp_path):
    (tmp_path / "web.yaml").symlink_to("/dev/zero")
    assert "larger than 16 MiB" in kernlb("apply", str(tmp_path / "web.yaml")).err


def test_a_symlink_loop_is_no_file(daemon, kernlb, tmp_path):
    (tmp_path / "web.yaml").symlink_to(tmp_path / "web.yaml")
    outcome = kernlb("apply", str(tmp_path))
    assert (outcome.code, daemon.requests) == (1, [])
    assert "too many levels of symbolic links" in outcome.err
