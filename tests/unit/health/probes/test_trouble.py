"""What this host cannot do before it has asked is never the server's fault."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from kernlb.health.check import Check, DnsCheck, HttpCheck, IcmpCheck, TcpCheck, Tls, UdpCheck
from kernlb.health.outcome import Outcome
from kernlb.health.probes import datagram, icmp
from kernlb.health.probes.sockets import Dial, Poller
from tests.unit.health.probes.far_ends import ask, closed_port, no_sockets_left, target

# All of them count against a server if they come of asking it.
ERRORS = (errno.EACCES, errno.ENOPROTOOPT, errno.EPROTO, errno.EOPNOTSUPP, errno.ENETUNREACH)
CHECKS = [TcpCheck(), HttpCheck(), HttpCheck(tls=Tls(verify=False)), DnsCheck(tcp=True)]
DATAGRAMS = [UdpCheck(), DnsCheck()]


def refuse(number: int):  # type: ignore[no-untyped-def]
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("check", [*CHECKS, *DATAGRAMS])
def test_a_socket_that_is_not_given(
    check: Check, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SELinux refuses one, by EACCES."""
    monkeypatch.setattr(Dial, "open", refuse(number))
    assert_not_asked(check, number)


@pytest.mark.parametrize("check", [*CHECKS, *DATAGRAMS])
def test_a_socket_that_cannot_be_watched(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Poller, "watch", refuse(errno.EACCES))
    assert_not_asked(check, errno.EACCES)


@pytest.mark.parametrize("check", DATAGRAMS)
def test_an_option_that_the_kernel_does_not_have(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {socket.AF_INET: (socket.IPPROTO_IP, 9999)}
    monkeypatch.setattr(datagram, "_RECVERR", unknown)
    assert_not_asked(check, errno.ENOPROTOOPT)


@pytest.mark.parametrize("number", ERRORS)
def test_a_socket_for_echoes_that_is_not_given(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(icmp, "_pinger_of", refuse(number))
    assert_not_asked(IcmpCheck(), number)


def assert_not_asked(check: Check, number: int) -> None:
    with no_sockets_left():
        result = ask(check, target(closed_port()))
    assert result[::2] == (Outcome.NOT_ASKED, os.strerror(number).lower())
