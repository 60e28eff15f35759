"""Text of ipvsadm-save to documents and back: all of it, or a loss with its line."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernlb.config import Defaults, parse_service
from kernlb.declaration import Declaration
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.export import write_rules
from kernlb.migrate.ipvsadm.names import Names, Numbers
from kernlb.migrate.ipvsadm.saved import read_saved
from kernlb.migrate.report import Kind, Report, texts
from kernlb.migrate.settle import settle
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
    ServiceKey,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
)
from tests.unit.migrate.ipvsadm.lines import Known

TUNNELS = (
    Tunnel(),
    Tunnel(TunnelType.GRE),
    Tunnel(TunnelType.GRE, 0, True),
    Tunnel(TunnelType.GUE, 6080),
    Tunnel(TunnelType.GUE, 65535, True),
)


def keys() -> st.SearchStrategy[ServiceKey]:
    v4 = st.sampled_from(["192.0.2.1", "198.51.100.7", "10.0.0.1", "223.255.255.1"])
    v6 = st.sampled_from(["2001:db8::1", "2001:db8:1:2:3:4:5:6", "fd00::ffff"])
    addresses = st.builds(
        AddressKey, st.sampled_from(L4Protocol), (v4 | v6).map(ip_address), st.integers(0, 65535)
    )
    return addresses | st.builds(FwmarkKey, st.sampled_from(Family), st.integers(1, 2**32 - 1))


@st.composite
def services(draw: st.DrawFn, key: ServiceKey) -> VirtualService:
    udp = not isinstance(key, AddressKey) or key.protocol is L4Protocol.UDP
    scheduler = draw(st.sampled_from(Scheduler))
    engine = draw(st.sampled_from([None, "sip"])) if udp else None
    kept = st.builds(
        Persistence,
        st.integers(1, 31 * 86400),
        st.integers(1, key.family.max_prefix),
        st.just(engine),
    )
    any_port = isinstance(key, AddressKey) and key.port == 0
    flags = [flag for flag in SchedulerFlag if flag.scheduler is scheduler]
    return VirtualService(
        key,
        scheduler,
        draw(st.frozensets(st.sampled_from(flags))) if flags else frozenset(),
        draw(kept if any_port else st.none() | kept),
        udp and draw(st.booleans()),
    )


@st.composite
def servers(draw: st.DrawFn, service: VirtualService) -> RealServer:
    key = service.key
    forwarding = draw(st.sampled_from([Forwarding.NAT, Forwarding.DSR, Forwarding.TUNNEL]))
    tunnel = draw(st.sampled_from(TUNNELS)) if forwarding is Forwarding.TUNNEL else None
    family = draw(st.sampled_from(Family)) if tunnel is not None else key.family
    last = draw(st.integers(1, 254))
    port = key.port if isinstance(key, AddressKey) else 0
    if port and forwarding is Forwarding.NAT:
        port = draw(st.integers(1, 65535))
    upper = draw(st.integers(0, 1000))
    return RealServer(
        ip_address(f"172.16.0.{last}" if family is Family.IPV4 else f"fd01::{last:x}"),
        port,
        draw(st.integers(0, 65535)),
        forwarding,
        tunnel,
        upper,
        draw(st.integers(0, upper)),
    )


@st.composite
def states(draw: st.DrawFn) -> list[ServiceState]:
    found = []
    for key in draw(st.lists(keys(), max_size=3, unique=True)):
        service = draw(services(key))
        own = draw(st.lists(servers(service), max_size=3, unique_by=_key_of))
        found.append(ServiceState(service, tuple(own)))
    return found


def _key_of(server: RealServer) -> ServerKey:
    return server.key


def saved(found: list[ServiceState], names: Names) -> str:
    lines = [line for each in found for line in rules.lines(each, names, restorable=True)]
    return "".join(f"{line}\n" for line in lines)


def read(text: str) -> Report:
    report = read_saved(text, "rules", Known())
    settle(report)
    return report


def in_force(report: Report, defaults: Defaults) -> dict[str, Declaration]:
    return {
        name: parse_service(text.encode(), name=name, source="", defaults=defaults)
        for name, text in texts(report).items()
    }


DEFAULTS = (
    Defaults(),
    Defaults(datapath=DatapathKind.XDP, scheduler=Scheduler.SED, forwarding=Forwarding.TUNNEL),
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(states(), st.sampled_from([Numbers(), Known()]), st.sampled_from(DEFAULTS))
def test_every_service_comes_back_whatever_the_hosts_defaults(
    found: list[ServiceState], names: Names, defaults: Defaults
) -> None:
    report = read(saved(found, names))
    assert report.losses == ()
    declarations = in_force(report, defaults)
    assert {each.service.key: each.service for each in declarations.values()} == {
        each.key: each.service for each in found
    }
    by_key = {each.service.key: set(each.servers) for each in declarations.values()}
    assert by_key == {each.key: set(each.servers) for each in found}
    assert {each.datapath for each in declarations.values()} <= {DatapathKind.IPVS}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(states())
def test_what_is_written_of_declarations_says_the_same_again(found: list[ServiceState]) -> None:
    written = write_rules(in_force(read(saved(found, Numbers())), Defaults()), Numbers())
    assert written.losses == ()
    assert sorted(written.text.splitlines()) == sorted(saved(found, Numbers()).splitlines())


def test_names_and_the_program_in_front_of_lines_are_understood() -> None:
    text = """
        # saved on Monday
        ipvsadm -A -t web.example.net:http -s rr
        -a -t web.example.net:http -r one.example.net:http -m -w 1
    """
    report = read(text)
    assert report.losses == ()
    (service,) = report.services
    assert (service.name, service.place.line) == ("tcp-192.0.2.10-80", 3)
    assert service.document["servers"] == [{"address": "10.0.0.1"}]


def test_a_mark_that_was_saved_with_a_sign_is_the_mark_it_was() -> None:
    (service,) = read("-A -f -1 -s rr\n").services
    assert service.document["fwmark"] == 2**32 - 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-A -t nowhere.example.net:80 -s rr", "no address"),
        ("-A -t 192.0.2.10:80 -s rr", "line 1 adds this service already"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 1", "line 2 adds this server already"),
        ("-a -t 192.0.2.11:80 -r 10.0.0.1:80 -g", "no line above adds service"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.2 -w 65536", "no weight above"),
        ("-a -t 192.0.2.10:80 -r 127.0.0.1 -g", "is a loopback address"),
        ("-a -t 192.0.2.10:80 -r 192.0.2.10 -g", "the balancer itself would answer"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.2 -x 1 -y 2", "must not be above upper_threshold"),
        ("-A -t 127.0.0.1:80", "is a loopback address"),
        ("-D -t 192.0.2.10:80", "only -A and -a"),
        ("-C", "only -A and -a"),
        ("--set 900 120 300", "ipvs.timeouts"),
        ("--start-daemon master --mcast-interface eth1", "ipvs.sync"),
        ("-A -t 192.0.2.10:81 --nosuch", "no option"),
        ("it is Monday", "a command comes first"),
    ],
)
def test_what_is_not_carried_over_is_a_loss_with_its_line(line: str, why: str) -> None:
    good = "-A -t 192.0.2.10:80 -s rr\n-a -t 192.0.2.10:80 -r 10.0.0.1:80 -g -w 1\n"
    report = read(f"{good}\n{line}\n")
    (loss,) = report.losses
    assert (loss.kind, loss.file, loss.line) == (Kind.LOST, "rules", 4)
    assert why in loss.why
    (service,) = report.services
    assert len(service.document["servers"]) == 1


def test_a_port_that_means_nothing_is_left_out_and_told() -> None:
    text = "-A -f 1 -s rr\n-a -f 1 -r 10.0.0.1:80 -g -w 1\n-a -f 1 -r 10.0.0.2:80 -m -w 1\n"
    report = read(text)
    (loss,) = report.losses
    assert (loss.kind, loss.line) == (Kind.CHANGED, 2)
    (service,) = report.services
    assert [each.get("port") for each in service.document["servers"]] == [None, 80]


def test_an_export_names_what_ipvsadm_has_no_word_for() -> None:
    text = b"""
address: 192.0.2.10
port: 80
datapath: xdp
forwarding: fullnat
check: tcp
labels: {team: web}
drain_timeout: 60
vip: {interface: eth0}
sorry_server: {address: 10.0.0.9, forwarding: nat}
servers: [{address: 10.0.0.1}, {address: 10.0.0.2, forwarding: nat, weight: 5}]
"""
    written = write_rules({"web": parse_service(text, name="web", source="web.yaml")}, Numbers())
    assert written.text == (
        "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 10.0.0.2:80 -m -w 5\n"
    )
    lost = {each.what.split()[0] for each in written.losses}
    assert lost == {
        *("server", "sorry_server", "check", "vip", "drain_timeout", "labels", "datapath")
    }
    assert {each.file for each in written.losses} == {"web.yaml"}
