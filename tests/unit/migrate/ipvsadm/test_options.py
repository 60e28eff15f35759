"""ipvsadm's command lines as values: every way to write them, and the order that counts."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.migrate.ipvsadm.grammar import FAILED, RULES, USAGE, RefusedError, Verb
from kernlb.migrate.ipvsadm.names import Numbers, Resolver
from kernlb.migrate.ipvsadm.options import parse
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    Scheduler,
    SchedulerFlag,
    Tunnel,
    TunnelType,
)
from tests.unit.migrate.ipvsadm.lines import command

WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)


@pytest.mark.parametrize(
    "line",
    [
        "-A -t 192.0.2.10:80 -s rr -p 60",
        "-At 192.0.2.10:80 -s rr -p60",
        "-At192.0.2.10:80 -srr -p 60",
        "-A -t=192.0.2.10:80 -s=rr -p=60",
        "--add-service --tcp-service 192.0.2.10:80 --scheduler rr --persistent 60",
        "--add-service --tcp-service=192.0.2.10:80 --scheduler=rr --persistent=60",
        "-A -p 60 -s rr -t web.example.net:http",
        "-A -t 192.0.522:80 -s rr -p +60",  # C's short notation of 192.0.2.10
    ],
)
def test_a_line_can_be_written_in_many_ways(line: str) -> None:
    asked = command(line)
    assert (asked.verb, asked.key) == (Verb.ADD_SERVICE, WEB)
    assert asked.service is not None
    assert asked.service.scheduler is Scheduler.RR
    assert asked.service.persistence == Persistence(60, 32)


def test_a_timeout_may_be_left_out_in_front_of_an_option_only() -> None:
    asked = command("-A -t 192.0.2.10:80 -p -s rr")
    assert asked.service is not None and asked.service.persistence == Persistence(360, 32)
    with pytest.raises(RefusedError, match='"web" is no timeout'):
        command("-A -t 192.0.2.10:80 -p web")


def test_a_service_has_ipvsadms_defaults_and_not_kernlbs() -> None:
    asked = command("-A -t 192.0.2.10:80")
    assert asked.service is not None
    assert asked.service.scheduler is Scheduler.WLC
    asked = command("-A -t 192.0.2.10:80 -s mh")
    assert asked.service is not None and asked.service.flags == frozenset()


def test_flags_go_by_name_or_number() -> None:
    for flags in ("mh-fallback,mh-port", "flag-1,flag-2", "mh-port,,flag-1"):
        asked = command(f"-A -t 192.0.2.10:80 -b {flags} -s mh")
        assert asked.service is not None
        assert asked.service.flags == {SchedulerFlag.MH_FALLBACK, SchedulerFlag.MH_PORT}


def test_a_mark_is_of_ipv4_until_it_is_said_to_be_of_ipv6() -> None:
    assert command("-D -f 7").key == FwmarkKey(Family.IPV4, 7)
    assert command("-D -f 7 -6").key == FwmarkKey(Family.IPV6, 7)
    asked = command("-A -f 7 -M 255.255.255.0 -6 -p")
    assert asked.service is not None and asked.service.persistence == Persistence(360, 128)


def test_a_netmask_in_front_of_an_ipv6_service_is_lost() -> None:
    asked = command("-A -M 255.0.0.0 -t [2001:db8::1]:80 -p")
    assert asked.service is not None and asked.service.persistence == Persistence(360, 128)
    asked = command("-A -t [2001:db8::1]:80 -p -M 64")
    assert asked.service is not None and asked.service.persistence == Persistence(360, 64)


def test_a_server_has_the_port_of_its_service_where_the_method_changes_none() -> None:
    for line, port in (
        ("-a -t 192.0.2.10:80 -r 10.0.0.1", 80),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1:8080", 80),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -i", 80),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1:8080 -m", 8080),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -m", 80),
        ("-a -r 10.0.0.1 -t 192.0.2.10:80 -m", 0),  # the service was not known yet
        ("-a -f 1 -r 10.0.0.1:8080 -m", 8080),
        ("-a -f 1 -r 10.0.0.1", 0),
    ):
        asked = command(line)
        assert asked.server is not None and asked.server.port == port, line


def test_a_server_is_direct_of_weight_one_unless_it_is_said_otherwise() -> None:
    asked = command("-e -t 192.0.2.10:80 -r one.example.net")
    assert asked.server is not None
    assert (asked.server.forwarding, asked.server.weight) == (Forwarding.DSR, 1)
    assert asked.server.address == ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("options", "tunnel"),
    [
        ("", Tunnel()),
        ("--tun-type ipip", Tunnel()),
        ("--tun-type gre --tun-csum", Tunnel(TunnelType.GRE, 0, True)),
        ("--tun-type gue --tun-port 6080", Tunnel(TunnelType.GUE, 6080)),
        ("--tun-port 6080 --tun-nocsum --tun-type gue", Tunnel(TunnelType.GUE, 6080)),
    ],
)
def test_tunnels_are_of_three_types(options: str, tunnel: Tunnel) -> None:
    asked = command(f"-a -t 192.0.2.10:80 -r 10.0.0.1 -i {options}")
    assert asked.server is not None and asked.server.tunnel == tunnel


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        ("", FAILED, "a command comes first"),
        ("surplus", FAILED, "a command comes first"),
        ("-t 192.0.2.10:80 -A", FAILED, "a command comes first"),
        ("--nosuch", FAILED, "no option --nosuch"),
        ("-A --nosuch", FAILED, "no option --nosuch"),
        ("-A -tq", USAGE, "no address[:port] of a virtual service"),
        ("-A -q", FAILED, "no option -q"),
        ("-A -t", FAILED, "needs a value"),
        ("-A --numeric=3", FAILED, "takes no value"),
        ("-A -D", USAGE, "one command"),
        ("-A", USAGE, "--add-service needs a service-address"),
        ("-a -t 192.0.2.10:80", USAGE, "--add-server needs a real-server"),
        ("-A -t 192.0.2.10:80 -w 3", USAGE, "weight does not go with --add-service"),
        ("-A -t 192.0.2.10:80 -t 192.0.2.10:80", USAGE, "service-address is there twice"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -m -g", USAGE, "forwarding-method is there twice"),
        ("-A -t 192.0.2.10:80 more", USAGE, 'no place for "more"'),
        ("-A -t 192.0.2.10", USAGE, "port 0, every port, needs -p"),
        ("-A -t 80", USAGE, "no address"),
        ("-A -t [2001:db8::1]", USAGE, "no address"),
        ("-A -t [2001:db8::1", USAGE, "no address"),
        ("-A -u 192.0.2.10:http", USAGE, "no address"),
        ("-A -t [192.0.2.10]:80", USAGE, "port 0"),  # ipvsadm loses the port here
        ("-A -t 192.0.2.10:80 -o", USAGE, "UDP"),
        ("-A -6 -f 1", USAGE, "-6 goes behind -f"),
        ("-A -f -1", USAGE, "no firewall mark"),
        ("-A -t 192.0.2.10:80 -s 2wrr", FAILED, 'no scheduler "2wrr"'),
        ("-A -t 192.0.2.10:80 -s rr -b sh-port", USAGE, "no flag of scheduler rr"),
        ("-A -t 192.0.2.10:80 -b x", USAGE, 'no scheduler flag "x"'),
        ("-A -t 192.0.2.10:80 -p --pe x", FAILED, 'no persistence engine "x"'),
        ("-A -t 192.0.2.10:80 -s rr -b flag-3", FAILED, "kernlb carries no flag-3"),
        ("-A -u 192.0.2.10:53 --pe sip", FAILED, "kernlb carries --pe sip with -p only"),
        ("-A -t 192.0.2.10:80 -p -M 255.0.255.0", FAILED, "kernlb carries no netmask"),
        ("-A -t 192.0.2.10:80 -p -M 0.0.0.0", FAILED, "kernlb carries no netmask"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -w 65536", FAILED, "kernlb carries no weight above"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -w 1x", USAGE, "no weight"),
        ("-a -t 192.0.2.10:80 -r [2001:db8::1]:80 -m", USAGE, "only tunnels"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 --tun-csum", USAGE, "--tun-csum goes with -i only"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -i --tun-csum", USAGE, "not go with --tun-type ipip"),
        ("-a -t 192.0.2.10:80 -r 10.0.0.1 -i --tun-type gue", USAGE, "needs --tun-port"),
        ("-L -t 192.0.2.10:80 --timeout", USAGE, "timeout does not go with service-address"),
        ("-L --timeout --stats", USAGE, "--stats does not go with --timeout"),
        ("--set 1 2", USAGE, "three timeouts"),
        ("--set 1 2 x", USAGE, "no timeout"),
        ("--set 1 2 3 4", USAGE, 'no place for "4"'),
        ("--start-daemon both", USAGE, "takes master or backup"),
        ("--start-daemon master --mcast-group 192.0.2.1", USAGE, "no multicast group"),
    ],
)
def test_what_makes_no_sense_is_refused_with_ipvsadms_code(line: str, code: int, why: str) -> None:
    with pytest.raises(RefusedError) as refused:
        command(line)
    assert why in str(refused.value)
    assert refused.value.code == code


def test_what_is_left_over_may_begin_with_a_dash_behind_two() -> None:
    with pytest.raises(RefusedError, match='no place for "-t"'):
        command("-C -- -t")


def test_a_set_has_three_timeouts_wherever_they_stand() -> None:
    assert parse(["1", "--set", "2", "0"], Numbers()).words == ("1", "2", "0")


def test_every_command_has_a_rule_and_every_rule_a_command() -> None:
    assert set(RULES) == set(Verb) - {Verb.HELP, Verb.VERSION}


def test_this_hosts_names_are_asked_for_what_is_no_number() -> None:
    names = Resolver()
    assert names.address("127.1") == ip_address("127.0.0.1")
    assert names.address("localhost") == ip_address("127.0.0.1")
    assert names.port("no-such-port", L4Protocol.TCP) is None
    assert names.address("no host\0") is None
