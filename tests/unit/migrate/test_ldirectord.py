"""ldirectord.cf: settings of the file and of virtual services, and what is lost of them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.migrate.ldirectord import read_ldirectord
from kernlb.migrate.ldirectord_services import KNOWN
from kernlb.migrate.report import MigrationError, Report
from tests.unit.migrate.configurations import Memory

# As in the sample that ldirectord's Debian package installs.
SAMPLE = """# Global Directives
checktimeout=3
checkinterval=5
autoreload=yes
quiescent=no
fallback=10.0.0.99:80 gate

virtual=192.168.6.240:80
	servicename=Web Site
	comment=Test load balanced web site
	real=192.168.6.2:80 gate
	real=192.168.6.3:80 gate 5 "other.html", "Other" l:10 u:100
	real=192.168.6.10->192.168.6.12:8080 masq 2
	service=http
	scheduler=rr
	persistent=600
	netmask=255.255.255.0
	protocol=tcp
	checktype=negotiate
	checkport=80
	request="index.html"
	receive="Test Page"
	virtualhost=www.x.y.z

virtual=1
    # a mark
    real=192.168.6.2 gate
    service=http
    protocol=fwm
    emailalert="admin@x.y.z"

virtual6=[2001:db8::5]:119
    real6=[2001:db8:0:1::4]:119 masq
    service=nntp
    login="me"
    passwd="hush"
"""


def read(text: str | bytes) -> Report:
    return read_ldirectord("/etc/ld.cf", Memory({"/etc/ld.cf": text}))


def service(settings: str, address: str = "192.0.2.1:80") -> tuple[dict[str, Any], list[str]]:
    """One service with one server and these settings: its document, and what is told."""
    body = "".join(f"    {line}\n" for line in settings.splitlines())
    report = read(f"virtual={address}\n    real=10.0.0.1:80 masq\n{body}")
    (found,) = report.services
    return found.document, [str(loss).removeprefix("/etc/ld.cf:") for loss in report.losses]


def test_the_sample_becomes_its_services() -> None:
    report = read(SAMPLE)
    web, mark, news = (each.document for each in report.services)
    assert [each.name for each in report.services] == [
        *("web-site", "fwmark-1", "tcp-2001-db8--5-119"),
    ]
    assert web["check"] == {
        "type": "http",
        "port": 80,
        "path": "/index.html",
        "host": "www.x.y.z",
        "status": "200-299",
        "body_regex": "Test Page",
        "interval": 5,
        "timeout": 3,
        "rise": 1,
        "fall": 1,
    }
    assert web["persistence"] == {"timeout": 600, "prefix": 24}
    assert web["health"] == {"initial": "wait", "on_down": "remove", "damping": False}
    assert web["sorry_server"] == {"address": "10.0.0.99", "forwarding": "dsr"}
    one, two, *ranged = web["servers"]
    assert one == {"address": "192.168.6.2", "forwarding": "dsr"}
    assert (two["weight"], two["lower_threshold"], two["upper_threshold"]) == (5, 10, 100)
    assert (two["check"]["path"], two["check"]["body_regex"]) == ("/other.html", "Other")
    assert ranged == [
        {"address": f"192.168.6.{last}", "port": 8080, "weight": 2} for last in (10, 11, 12)
    ]
    assert mark["fwmark"] == 1
    assert mark["servers"] == [{"address": "192.168.6.2"}]
    assert news["check"]["type"] == "tcp"
    said = [str(loss).removeprefix("/etc/ld.cf:") for loss in report.losses]
    assert [each.partition(": ")[0] for each in said] == ["4", "30", "34", "35", "36"]
    assert "hush" not in "".join(said)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("checktype=connect", "tcp"),
        ("checktype=connect\nprotocol=udp", "icmp"),
        ("checktype=ping", "icmp"),
        ("checktype=3\nservice=http", "http"),
        ("service=https", "https"),
        ("service=dns", "dns"),
        ("service=smtp", "tcp"),
        ("service=imaps", "tls"),
        ("service=sip\nprotocol=udp", "udp"),
        ("checktype=external\ncheckcommand=/bin/x y", "exec"),
        ("checktype=on", None),
        ("service=none", None),
    ],
)
def test_what_is_asked_follows_checktype_and_service(settings: str, kind: str | None) -> None:
    found, _ = service(settings)
    check = found["check"]
    assert (check["type"] if isinstance(check, dict) else None) == kind


def test_a_program_is_told_the_service_and_the_server() -> None:
    found, _ = service("checktype=external\ncheckcommand=/bin/x y")
    assert found["check"]["command"] == ["/bin/x", "y", "192.0.2.1", "80", "10.0.0.1", "80"]


def test_servers_of_a_service_whose_checks_are_off_weigh_nothing() -> None:
    found, said = service("checktype=off")
    assert found["servers"] == [{"address": "10.0.0.1", "weight": 0}]
    assert said == ["3: changed: checktype = off: servers are there with weight 0"]


def test_the_port_of_the_service_tells_what_is_asked_where_nothing_does() -> None:
    report = read('virtual=192.0.2.1:domain\n    real=10.0.0.1:53 masq\n    request="a.example"')
    found = report.services[0].document
    assert found["protocol"] == "udp"
    assert (found["check"]["type"], found["check"]["query"]) == ("dns", "a.example")


def test_quiescent_is_yes_where_nothing_is_said() -> None:
    assert service("")[0]["health"]["on_down"] == "inhibit"
    assert service("quiescent=no")[0]["health"]["on_down"] == "remove"


@pytest.mark.parametrize(
    "said",
    [
        *("nonsense=1", "persistent=x", "netmask=255.0.255.0", "protocol=sctp", "ops=yes"),
        *("checkport=0", "real=host.example:80 gate", "real=10.0.0.2:80", "fallback=nobody"),
        *("scheduler=zz", "schedflags=sh-port", "checktype=maybe", "service=gopher"),
        *("fallbackcommand=/bin/x", "emailalert=a@b", "cleanstop=no", "monitorfile=/x", "junk"),
        *('login="x"', 'database="x"', "real6=[2001:db8::1]:80 gate", "checkinterval=0"),
    ],
)
def test_what_has_no_place_in_a_document_is_told_with_its_line(said: str) -> None:
    _, told = service(said)
    assert any(each.startswith("3: ") for each in told), told


def test_settings_below_no_service_are_told() -> None:
    report = read("virtual=192.0.2.1:80\n    real=10.0.0.1:80 masq\n\n    scheduler=rr\n")
    assert [str(loss) for loss in report.losses] == [
        "/etc/ld.cf:4: lost: scheduler=rr: is indented below no virtual service"
    ]


VALUES = ["", "1", "x", "yes", "10.0.0.1:80 masq", "10.0.0.1 gate", '"a b"', "/bin/x 'y", "::1"]


@given(st.lists(st.tuples(st.sampled_from([*sorted(KNOWN), "odd"]), st.sampled_from(VALUES))))
@settings(max_examples=60, deadline=None)
def test_any_settings_are_used_or_told(settings_: list[tuple[str, str]]) -> None:
    lines = [f"    {name}={value}" for name, value in settings_]
    read(
        "\n".join(
            ["virtual=192.0.2.1:80", "    real=10.0.0.1:80 masq", *lines, *map(str.strip, lines)]
        )
    )


def test_mutated_configurations_are_read_or_refused_in_one_sentence() -> None:
    random = Random(7)
    for _ in range(200):
        text = bytearray(SAMPLE.encode())
        for _ in range(random.randint(1, 10)):
            at = random.randrange(len(text))
            if random.random() < 0.5:
                text[at] = random.randrange(256)
            else:
                del text[at : at + random.randrange(20)]
        try:
            report = read(bytes(text))
        except MigrationError as error:
            assert "\n" not in str(error)
            continue
        assert all("\n" not in str(loss) for loss in report.losses)
