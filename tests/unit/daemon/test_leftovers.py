"""What IPVS would remember of a dead server is told, once, and only where it matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.config import parse_service
from kernlb.daemon.events import Events
from kernlb.daemon.leftovers import NODEST, QUIESCENT, Leftovers, sysctl
from kernlb.declaration import Declaration


def declared(name: str, more: str, protocol: str = "udp") -> dict[str, Declaration]:
    text = f"address: 192.0.2.10\nport: 53\nprotocol: {protocol}\n{more}\n"
    text += "servers: [{address: 10.0.0.1}]\n"
    return {name: parse_service(text.encode(), name=name, source=f"{name}.yaml")}


class Host:
    def __init__(self, *on: str) -> None:
        self.on = set(on)
        self.events = Events(lambda: 0.0)
        self.leftovers = Leftovers(self.events, lambda name: name in self.on)

    def told(self, *declarations: dict[str, Declaration]) -> list[str]:
        before = len(list(self.events))
        self.leftovers.look({name: each for some in declarations for name, each in some.items()})
        return [event.text for event in list(self.events)[before:]]


PERSISTENT = "check: icmp\npersistence: 300\nhealth: {on_down: inhibit}"


@pytest.mark.parametrize(
    ("more", "protocol", "setting"),
    [
        ("check: icmp", "udp", NODEST),
        ("check: icmp\none_packet: true", "udp", None),
        ("check: icmp", "tcp", None),
        ("check: none", "udp", None),
        ("check: icmp\ndatapath: xdp\nscheduler: mh", "udp", None),
        (PERSISTENT, "tcp", QUIESCENT),
        ("check: icmp\npersistence: 300", "tcp", None),
    ],
)
def test_a_setting_is_asked_for_where_clients_would_stay(
    more: str, protocol: str, setting: str | None
) -> None:
    told = Host().told(declared("dns", more, protocol))
    assert [f"net.ipv4.vs.{setting} is 0" in text for text in told] == [True] * bool(setting)
    assert Host(NODEST, QUIESCENT).told(declared("dns", more, protocol)) == []


def test_each_service_is_told_of_once() -> None:
    host, udp = Host(), "check: icmp"
    assert "flows of a stay" in host.told(declared("a", udp))[0]
    assert host.told(declared("a", udp)) == []
    assert "flows of b stay" in host.told(declared("a", udp), declared("b", udp))[0]
    host.on = {NODEST}
    assert host.told(declared("a", udp)) == []
    host.on = set()
    many = [declared(name, udp) for name in "abcde"]
    assert "flows of a, b, c and 2 more stay" in host.told(*many)[0]


def test_a_kernel_without_the_setting_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernlb.daemon.leftovers.SYSCTLS", tmp_path)
    assert sysctl(NODEST)
    (tmp_path / NODEST).write_text("0\n")
    assert not sysctl(NODEST)
    (tmp_path / NODEST).write_text("1\n")
    assert sysctl(NODEST)
