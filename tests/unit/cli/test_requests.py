"""What each verb sends: method, path and body, as the protocol has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.cli import checking
from kernlb.config.check_document import CheckDocument
from kernlb.config.check_words import CheckName
from kernlb.control.protocol import Change, OpView

WEB = {"address": "192.0.2.10", "port": 80}


def sent(daemon, kernlb, *args):
    outcome = kernlb(*args)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return tuple(daemon.only)


def test_a_service_of_an_address_becomes_a_document(daemon, kernlb):
    assert sent(
        daemon, kernlb, "service", "add", "web", "192.0.2.10:80",
        "--server", "10.0.0.1:8080", "--server", "10.0.0.2:8080,weight=2,upper=90,lower=10",
    ) == (
        "PUT",
        "/v1/services/web",
        WEB
        | {
            "servers": [
                {"address": "10.0.0.1", "port": 8080},
                {
                    "address": "10.0.0.2",
                    "port": 8080,
                    "weight": 2,
                    "upper_threshold": 90,
                    "lower_threshold": 10,
                },
            ]
        },
    )  # fmt: skip


SETTINGS = [
    (["--protocol", "udp"], {"protocol": "udp"}),
    (["--scheduler", "mh"], {"scheduler": "mh"}),
    (["--flag", "mh-port", "--flag", "mh-fallback"],
     {"scheduler_flags": ["mh-port", "mh-fallback"]}),
    (["--no-flags"], {"scheduler_flags": []}),
    (["--forwarding", "dsr"], {"forwarding": "dsr"}),
    (["--tunnel", "gue:6080+csum"], {"tunnel": {"type": "gue", "port": 6080, "checksum": True}}),
    (["--tunnel", "gre+csum"], {"tunnel": {"type": "gre", "checksum": True}}),
    (["--tunnel", "ipip"], {"tunnel": {"type": "ipip"}}),
    (["--weight", "7"], {"weight": 7}),
    (["--upper-threshold", "9", "--lower-threshold", "3"],
     {"upper_threshold": 9, "lower_threshold": 3}),
    (["--persistence", "300"], {"persistence": {"timeout": 300}}),
    (["--persistence", "5m/24"], {"persistence": {"timeout": "5m", "prefix": 24}}),
    (["--persistence", "60", "--persistence-engine", "sip"],
     {"persistence": {"timeout": 60, "engine": "sip"}}),
    (["--one-packet"], {"one_packet": True}),
    (["--sorry-server", "10.9.9.9:81,weight=3"],
     {"sorry_server": {"address": "10.9.9.9", "port": 81, "weight": 3}}),
    (["--vip-interface", "eth0"], {"vip": {"interface": "eth0"}}),
    (["--vip-interface", "lo", "--announce", "eth0"],
     {"vip": {"interface": "lo", "announce": "eth0"}}),
    (["--vip-interface", "eth0", "--no-announce"],
     {"vip": {"interface": "eth0", "announce": False}}),
    (["--no-vip"], {"vip": False}),
    (["--datapath", "ipvs"], {"datapath": "ipvs"}),
    (["--drain-timeout", "0.5"], {"drain_timeout": 0.5}),
    (["--drain-timeout", "5m"], {"drain_timeout": "5m"}),
    (["--check", "tcp"], {"check": "tcp"}),
    (["--check", "none"], {"check": "none"}),
    (["--check", "http", "--check-path", "/healthz", "--check-interval", "5s"],
     {"check": {"type": "http", "path": "/healthz", "interval": "5s"}}),
    (["--check", "https", "--check-port", "8443", "--check-host", "a.example",
      "--check-status", "2xx", "--check-timeout", "1", "--check-rise", "1", "--check-fall", "2",
      "--check-via", "vip"],
     {"check": {"type": "https", "port": 8443, "host": "a.example", "status": "2xx", "timeout": 1,
                "rise": 1, "fall": 2, "via": "vip"}}),
    (["--label", "team=web", "--label", "note=a=b"], {"labels": {"team": "web", "note": "a=b"}}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "keys"), SETTINGS)
def test_every_setting_of_a_service_has_its_option(daemon, kernlb, options, keys):
    *_, body = sent(daemon, kernlb, "service", "add", "web", "192.0.2.10:80", *options)
    assert body == WEB | keys


def test_a_firewall_mark_stands_for_the_address(daemon, kernlb):
    *_, body = sent(
        daemon, kernlb, "service", "add", "edge", "--fwmark", "7", "--family", "ipv6",
        "--server", "2001:db8::1", "--server", "[2001:db8::2]:80",
    )  # fmt: skip
    assert body == {
        "fwmark": 7,
        "family": "ipv6",
        "servers": [{"address": "2001:db8::1"}, {"address": "2001:db8::2", "port": 80}],
    }


def test_replacing_is_said_in_the_query(daemon, kernlb):
    _, path, _ = sent(
        daemon, kernlb, "service", "add", "web", "192.0.2.10:80", "--replace", "--dry-run"
    )
    assert path == "/v1/services/web?replace=true&dry_run=true"


EDITS = [
    (["--address", "192.0.2.11:81"],
     {"address": "192.0.2.11", "port": 81, "fwmark": None, "family": None}),
    (["--fwmark", "9"], {"fwmark": 9, "address": None, "port": None, "protocol": None}),
    (["--scheduler", "rr", "--weight", "0"], {"scheduler": "rr", "weight": 0}),
    (["--tunnel", "ipip"], {"tunnel": {"type": "ipip", "port": None, "checksum": None}}),
    (["--persistence", "600"], {"persistence": {"timeout": 600}}),
    (["--persistence", "600/24"],
     {"persistence": {"timeout": 600, "prefix": 24, "netmask": None}}),
    (["--no-persistence"], {"persistence": None}),
    (["--no-sorry-server"], {"sorry_server": None}),
    (["--no-one-packet"], {"one_packet": False}),
    (["--check-interval", "2s"], {"check": {"interval": "2s"}}),
    (["--check", "icmp"], {"check": "icmp"}),
    (["--unset", "check", "--unset", "health"], {"check": None, "health": None}),
    (["--label", "a=1", "--remove-label", "b"], {"labels": {"a": "1", "b": None}}),
    (["--unset", "drain_timeout", "--unset", "vip"], {"drain_timeout": None, "vip": None}),
    (["--announce", "eth1"], {"vip": {"announce": "eth1"}}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "patch"), EDITS)
def test_an_edit_is_a_merge_patch_of_what_was_said(daemon, kernlb, options, patch):
    assert sent(daemon, kernlb, "service", "edit", "web", *options) == (
        "PATCH",
        "/v1/services/web",
        patch,
    )


def test_a_new_sorry_server_keeps_nothing_of_the_old(daemon, kernlb):
    *_, patch = sent(daemon, kernlb, "service", "edit", "web", "--sorry-server", "10.9.9.9")
    assert patch["sorry_server"]["address"] == "10.9.9.9"
    assert patch["sorry_server"]["port"] is None
    assert patch["sorry_server"]["tunnel"] is None


def test_a_new_check_keeps_nothing_of_the_old(daemon, kernlb):
    *_, patch = sent(
        daemon, kernlb, "service", "edit", "web", "--check", "http", "--check-path", "/healthz"
    )
    assert patch["check"] == dict.fromkeys(CheckDocument.__struct_fields__) | {
        "type": "http",
        "path": "/healthz",
    }


def test_the_options_know_every_check_but_the_one_with_a_command_line_of_its_own():
    assert set(checking.CHECKS) == set(CheckName) - {CheckName.EXEC}


def test_no_check_has_no_path(kernlb):
    said = kernlb("service", "edit", "web", "--check", "none", "--check-path", "/")
    assert said.code == 2
    assert "--check none does not go with --check-path" in said.err


SIMPLE = [
    ("service rm web", "DELETE", "/v1/services/web", None),
    ("service adopt web", "POST", "/v1/services/web/adopt", None),
    ("server rm web 10.0.0.1:80", "DELETE", "/v1/services/web/servers/10.0.0.1:80", None),
    ("server rm web 10.0.0.1", "DELETE", "/v1/services/web/servers/10.0.0.1", None),
    ("server rm web [2001:DB8::1]:80", "DELETE",
     "/v1/services/web/servers/%5B2001:db8::1%5D:80", None),
    ("server rm web 2001:db8::1", "DELETE", "/v1/services/web/servers/2001:db8::1", None),
    ("server add web 10.0.0.1:80 --weight 2 --label a=b", "POST", "/v1/services/web/servers",
     {"address": "10.0.0.1", "port": 80, "weight": 2, "labels": {"a": "b"}}),
    ("server add web 10.0.0.1", "POST", "/v1/services/web/servers", {"address": "10.0.0.1"}),
    ("server edit web 10.0.0.1:80 --weight 0", "PATCH", "/v1/services/web/servers/10.0.0.1:80",
     {"weight": 0}),
    ("server edit web 10.0.0.1:80 --unset weight --remove-label a", "PATCH",
     "/v1/services/web/servers/10.0.0.1:80", {"weight": None, "labels": {"a": None}}),
    ("server enable web 10.0.0.1:80", "POST", "/v1/services/web/servers/10.0.0.1:80/enable", None),
    ("server disable web 10.0.0.1:80", "POST", "/v1/services/web/servers/10.0.0.1:80/disable",
     None),
    ("server drain web 10.0.0.1:80", "POST", "/v1/services/web/servers/10.0.0.1:80/drain", {}),
    ("server drain web 10.0.0.1:80 --timeout 2m", "POST",
     "/v1/services/web/servers/10.0.0.1:80/drain", {"timeout": 120.0}),
    ("server drain web 10.0.0.1:80 --timeout 0", "POST",
     "/v1/services/web/servers/10.0.0.1:80/drain", {"timeout": 0.0}),
    ("reload", "POST", "/v1/reload", None),
    ("plan", "POST", "/v1/plan", {}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "path", "body"), SIMPLE)
def test_a_verb_is_one_request(daemon, kernlb, line, method, path, body):
    assert sent(daemon, kernlb, *line.split()) == (method, path, body)


CHANGERS = [
    "service add web 192.0.2.10:80",
    "service edit web --weight 2",
    "service rm web",
    "service adopt web",
    "server add web 10.0.0.1",
    "server edit web 10.0.0.1 --weight 2",
    "server rm web 10.0.0.1",
    "server drain web 10.0.0.1 --wait",
    "server enable web 10.0.0.1",
    "server disable web 10.0.0.1",
    "reload",
]


@pytest.mark.parametrize("line", CHANGERS)
def test_every_verb_that_changes_can_run_dry(daemon, kernlb, line):
    daemon.change = Change([OpView("add", "service", "web", "+ service tcp/1.2.3.4:80 rr")], False)
    outcome = kernlb(*line.split(), "--dry-run")
    assert outcome == (0, "+ service tcp/1.2.3.4:80 rr\n", "dry run: nothing was changed\n")
    assert daemon.only.path.endswith("?dry_run=true")


def test_several_services_are_removed_one_by_one(daemon, kernlb):
    assert kernlb("service", "rm", "a", "b").code == 0
    assert [request.path for request in daemon.requests] == ["/v1/services/a", "/v1/services/b"]


def test_applied_files_are_sent_together_under_their_stems(daemon, kernlb, tmp_path: Path):
    folder = tmp_path / "services.d"
    folder.mkdir()
    (folder / "web.yaml").write_text("port: 80\n")
    (folder / "dns.yml").write_text("port: 53\n")
    (folder / ".web.yaml.swp.yaml").write_text("half")
    (folder / "README").write_text("not a document")
    (tmp_path / "mail.json").write_text("{}")
    assert sent(daemon, kernlb, "apply", str(folder), str(tmp_path / "mail.json")) == (
        "POST",
        "/v1/apply",
        {"documents": {"dns": "port: 53\n", "web": "port: 80\n", "mail": "{}"}},
    )


def test_standard_input_is_a_document_that_needs_a_name(daemon, kernlb, tmp_path, monkeypatch):
    (tmp_path / "in").write_text("port: 80\n# ä\n")
    with (tmp_path / "in").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert sent(daemon, kernlb, "plan", "-", "--name", "web") == (
            "POST",
            "/v1/plan",
            {"documents": {"web": "port: 80\n# ä\n"}},
        )


@pytest.mark.parametrize("line", ["--socket {} service ls", "service ls --socket {}"])
def test_the_socket_may_be_named_before_and_after_the_verb(daemon, kernlb_at, line, tmp_path):
    daemon.says("GET /v1/services", [])
    outcome = kernlb_at(tmp_path / "nowhere")(*line.format(daemon.path).split())
    assert outcome.code == 0
    assert daemon.only == ("GET", "/v1/services", None)
