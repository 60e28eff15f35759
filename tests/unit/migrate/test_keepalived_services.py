"""What a virtual server of keepalived's becomes: defaults, schedulers, methods, quorum, checks."""

from __future__ import annotations

import pytest

from tests.unit.migrate.configurations import document, read, told, virtual_server

TCP = "TCP_CHECK {\n}"


def check(checker: str, service: str = "", server: str = "") -> object:
    return document(read(virtual_server(service, server, checker)))["check"]


def test_a_plain_service_says_all_that_the_hosts_defaults_could_change() -> None:
    assert document(read(virtual_server())) == {
        "address": "192.0.2.1",
        "port": 80,
        "protocol": "tcp",
        "datapath": "ipvs",
        "scheduler": "wlc",
        "forwarding": "nat",
        "check": "none",
        "health": {"initial": "up", "damping": False},
        "servers": [{"address": "10.0.0.1"}],
    }


def test_timing_is_handed_down_from_service_to_server_to_checker() -> None:
    usual = {"type": "tcp", "interval": 60, "fast_interval": 1, "timeout": 5, "rise": 1, "fall": 2}
    assert check(TCP) == usual
    assert check(TCP, "delay_loop 10") == usual | {"interval": 10}
    assert check(TCP, "delay_loop 10", "delay_loop 20") == usual | {"interval": 20}
    inner = "TCP_CHECK {\ndelay_loop 30.5\nretry 0\nconnect_timeout 2.25\n}"
    assert check(inner, "delay_loop 10", "retry 4") == usual | {
        "interval": 30.5,
        "timeout": 2.25,
        "fall": 1,
    }


def test_each_kind_of_checker_has_its_own_defaults() -> None:
    dns = check("DNS_CHECK {\n}", "delay_loop 20")
    assert isinstance(dns, dict)
    assert (dns["record"], dns["query"]) == ("SOA", ".")
    assert (dns["interval"], dns["fast_interval"], dns["fall"]) == (20, 20, 4)
    misc = check("MISC_CHECK {\nmisc_path /bin/x\n}", "delay_loop 20")
    assert isinstance(misc, dict)
    assert (misc["fall"], misc["timeout"]) == (1, 20)
    http = check("HTTP_GET {\nurl {\npath /\n}\n}")
    assert isinstance(http, dict)
    assert http["fast_interval"] == 3


def test_a_timeout_longer_than_the_interval_is_cut_and_told() -> None:
    report = read(virtual_server("delay_loop 2", checker="TCP_CHECK {\nconnect_timeout 9\n}"))
    assert document(report)["check"]["timeout"] == 2
    assert told(report) == [
        "9: changed: connect_timeout 9: the timeout is 2 s here, no longer than the interval"
    ]


@pytest.mark.parametrize(
    ("said", "scheduler", "flags"),
    [
        ("", "wlc", None),
        ("lvs_sched mh", "mh", []),
        ("lvs_sched mh\nmh-fallback", "mh", None),
        ("lvs_sched sh\nsh-port\nflag-1", "sh", ["sh-port", "sh-fallback"]),
        ("lb_algo rr", "rr", None),
    ],
)
def test_schedulers_have_the_flags_that_are_said_and_no_others(
    said: str, scheduler: str, flags: list[str] | None
) -> None:
    found = document(read(virtual_server(said)))
    assert (found["scheduler"], found.get("scheduler_flags")) == (scheduler, flags)


def test_a_flag_in_front_of_its_scheduler_is_ignored_as_keepalived_does() -> None:
    report = read(virtual_server("sh-port\nlvs_sched sh"))
    assert document(report)["scheduler_flags"] == []
    assert (
        told(report)
        == [
            "4: lost: sh-port: must stand after lvs_sched sh: keepalived ignores it",
            "3: note: lvs_sched wlc: is said again in line 5, which counts",
        ][::-1]
    )


@pytest.mark.parametrize(
    ("said", "forwarding", "tunnel"),
    [
        ("lvs_method NAT", "nat", None),
        ("lb_kind DR", "dsr", None),
        ("lvs_method TUN", "tunnel", None),
        ("lvs_method TUN type gue port 6080", "tunnel", {"type": "gue", "port": 6080}),
        ("lvs_method TUN type gre csum", "tunnel", {"type": "gre", "checksum": True}),
    ],
)
def test_methods_and_tunnels(said: str, forwarding: str, tunnel: object) -> None:
    found = document(read(virtual_server(said)))
    assert (found["forwarding"], found.get("tunnel")) == (forwarding, tunnel)


def test_a_server_has_the_method_that_stands_above_it() -> None:
    text = """virtual_server 192.0.2.1 80 {
    protocol TCP
    lvs_method DR
    real_server 10.0.0.1 80 {
    }
    lvs_method NAT
    real_server 10.0.0.2 8080 {
        lvs_method TUN
    }
    real_server 10.0.0.3 8080 {
    }
}"""
    assert document(read(text))["servers"] == [
        {"address": "10.0.0.1"},
        {"address": "10.0.0.2", "forwarding": "tunnel"},
        {"address": "10.0.0.3", "port": 8080, "forwarding": "nat"},
    ]


def test_quorum_and_hysteresis_keep_keepalived_s_two_bounds() -> None:
    servers = "".join(f"}}\nreal_server 10.0.1.{n} 80 {{\n" for n in range(9))
    health = document(read(virtual_server("quorum 7\nhysteresis 2", servers)))["health"]
    assert health == {"initial": "up", "damping": False, "quorum": 5, "hysteresis": 4}


def test_a_quorum_above_all_weights_is_all_of_them_as_in_keepalived() -> None:
    report = read(virtual_server("quorum 7"))
    assert "quorum" not in document(report)["health"]
    assert told(report)[0].startswith("4: note: quorum 7: the servers weigh 1 together")


def test_alpha_and_inhibit_become_settings_of_the_service() -> None:
    assert document(read(virtual_server("alpha\ninhibit_on_failure", "", TCP)))["health"] == {
        "initial": "wait",
        "on_down": "inhibit",
        "damping": False,
    }


def test_a_group_becomes_a_service_for_each_address_and_mark() -> None:
    text = """virtual_server_group g {
    192.0.2.1-3 80
    192.0.2.16/31 81
    2001:db8::1-2 80
    fwmark 5
}
virtual_server group g {
    protocol TCP
    lvs_method TUN
    real_server 10.0.0.1 80 {
    }
}"""
    assert [service.name for service in read(text).services] == [
        *("g-tcp-192.0.2.1-80", "g-tcp-192.0.2.2-80", "g-tcp-192.0.2.3-80"),
        *("g-tcp-192.0.2.16-81", "g-tcp-192.0.2.17-81"),
        *("g-tcp-2001-db8--1-80", "g-tcp-2001-db8--2-80", "g-fwmark-5"),
    ]


def test_no_protocol_is_udp_and_no_port_is_persistent_as_in_keepalived() -> None:
    report = read("virtual_server 192.0.2.1 {\nreal_server 10.0.0.1 {\n}\n}")
    found = document(report)
    assert (found["protocol"], found["port"], found["persistence"]) == ("udp", 0, 360)
    assert len(told(report)) == 2


def test_several_checkers_of_a_server_must_all_pass() -> None:
    found = check(f"{TCP}\nPING_CHECK {{\n}}\n{TCP}")
    assert isinstance(found, dict)
    assert found["all"] == [{"type": "tcp"}, {"type": "icmp"}]


def test_a_url_s_answer_is_held_to_status_and_pattern() -> None:
    found = check(
        "SSL_GET {\nconnect_port 8443\nenable_sni\nvirtualhost a.example\nurl {\npath /x\n"
        'status_code 200-299 404\nregex "^a\\\\.b$"\nregex_options caseless\nregex_no_match\n}\n}'
    )
    assert isinstance(found, dict)
    assert found["type"] == "https"
    assert found["body_regex"] == r"\A(?![\s\S]*(?:(?i:^a\.b$)))"
    assert found["status"] == ["200-299", 404]
    assert (found["port"], found["host"], found["verify"]) == (8443, "a.example", False)


@pytest.mark.parametrize(
    ("checker", "kind", "what"),
    [
        ("SMTP_CHECK {\n}", "tcp", "9: changed: SMTP_CHECK"),
        ("BFD_CHECK {\nname x\n}", "icmp", "9: changed: BFD_CHECK"),
        ("FILE_CHECK {\ntrack_file x\n}", None, "9: lost: FILE_CHECK"),
    ],
)
def test_for_what_kernlb_does_not_ask_the_nearest_stands_in(
    checker: str, kind: str | None, what: str
) -> None:
    report = read(virtual_server("", "", checker).replace("\n        SM", "\n        \nSM"))
    found = document(report)["check"]
    assert (found["type"] if isinstance(found, dict) else None) == kind
    assert any(what.partition(" ")[2] in each for each in told(report))


def test_udp_payload_and_reply_are_read_in_keepalived_s_free_form() -> None:
    found = check("UDP_CHECK {\npayload Ab12f 3 456\nrequire_reply 0x 1x xx\n}")
    assert isinstance(found, dict)
    assert found["payload"] == {"hex": "ab120f034506"}
    assert found["reply_regex"] == r"\A[\x00-\x0f][\x10-\x1f][\s\S]"


def test_a_script_runs_with_its_words_and_its_user() -> None:
    found = check("MISC_CHECK {\nmisc_path \"/bin/check 'a b' c\"\nuser daemon\nmisc_timeout 7\n}")
    assert isinstance(found, dict)
    assert found["command"] == ["/bin/check", "a b", "c"]
    assert (found["user"], found["timeout"], found["warning_fails"]) == ("daemon", 7, True)


def test_vrrp_is_told_and_its_addresses_that_services_have_are_pointed_out() -> None:
    text = """vrrp_instance VI_1 {
    interface eth7
    authentication {
        auth_pass hush
    }
    virtual_ipaddress {
        192.0.2.1/24 dev eth8
        192.0.2.77
    }
}
""" + virtual_server()
    said = told(read(text))
    assert said[0].startswith("1: lost: vrrp_instance VI_1 { ... }: kernlb moves no addresses")
    assert said[1] == (
        "7: note: 192.0.2.1/24 dev eth8: is the address of tcp-192.0.2.1-80; where VRRP does not "
        "put it, vip: {interface: eth8} in the document has kernlb do so"
    )
    assert "hush" not in "".join(said)


def test_passwords_are_not_repeated() -> None:
    assert "hush" not in "".join(told(read("SSL {\npassword hush\n}\n" + virtual_server())))


def test_what_config_refuses_is_taken_out_smallest_part_first_and_told() -> None:
    text = virtual_server("lvs_method DR", "}\nreal_server 127.0.0.1 80 {", TCP)
    report = read(text)
    assert [server["address"] for server in document(report)["servers"]] == ["10.0.0.1"]
    assert "127.0.0.1 is a loopback address" in told(report)[0]


def test_a_server_at_a_virtual_address_is_on_the_balancer_itself() -> None:
    report = read(virtual_server(server="}\nreal_server 192.0.2.1 8080 {"))
    assert document(report)["servers"][1] == {"address": "192.0.2.1", "port": 8080, "local": True}
    assert told(report)[0].startswith("8: note: server 192.0.2.1: is at an address of the balancer")
