"""Ops print as the commands that they stand for; what a boot would undo is written down once."""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path

import pytest

from kernlb.doctor.doors import mending, sysctl
from kernlb.doctor.ops import (
    AddAddress,
    LoadModule,
    Op,
    RemoveFile,
    SetChannels,
    SetMode,
    SetSysctl,
    SetUp,
    SwitchOff,
)


@pytest.mark.parametrize(
    ("op", "command"),
    [
        (SetSysctl("net/ipv4/ip_forward", "1"), "sysctl -w net.ipv4.ip_forward=1"),
        (
            SetSysctl("net/ipv4/conf/eth0.5/rp_filter", "2"),
            "sysctl -w net/ipv4/conf/eth0.5/rp_filter=2",
        ),
        (
            SetSysctl("net/ipv4/ip_local_port_range", "1 2"),
            'sysctl -w net.ipv4.ip_local_port_range="1 2"',
        ),
        (AddAddress(ip_interface("192.0.2.1/32"), "lo"), "ip addr add 192.0.2.1/32 dev lo"),
        (
            AddAddress(ip_interface("2001:db8::1/128"), "lo"),
            "ip addr add 2001:db8::1/128 dev lo nodad",
        ),
        (SetUp("eth0"), "ip link set eth0 up"),
        (SwitchOff("eth0", "lro"), "ethtool -K eth0 lro off"),
        (SetChannels("eth0", 8), "ethtool -L eth0 combined 8"),
        (SetMode("/x", 0o755), "chmod 0755 /x"),
    ],
)
def test_an_op_prints_as_its_command(op: Op, command: str) -> None:
    assert str(op) == command


def test_files_are_mended_twice_as_once(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.touch(mode=0o666)
    mending.carry_out(SetMode(str(path), 0o600))
    assert path.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        mending.carry_out(RemoveFile(str(path)))
    assert not path.exists()


def test_what_cannot_be_done_says_which_op_and_why() -> None:
    with pytest.raises(OSError, match=r"cannot sysctl -w net\.no_such=1: No such file"):
        mending.carry_out(SetSysctl("net/no_such", "1"))


def test_what_is_persisted_goes_beside_what_is_there(tmp_path: Path) -> None:
    sysctls, modules = tmp_path / "etc/70.conf", tmp_path / "etc/modules.conf"
    first = [SetSysctl("net/ipv4/ip_forward", "1"), SetSysctl("net/ipv4/vs/conntrack", "0")]
    assert mending.persist(first, sysctls, modules) == [sysctls]
    second = [SetSysctl("net/ipv4/vs/conntrack", "1"), LoadModule("ip_vs"), SetUp("eth0")]
    assert mending.persist(second, sysctls, modules) == [sysctls, modules]
    lines = sysctls.read_text().splitlines()
    assert lines[1:] == ["net.ipv4.ip_forward = 1", "net.ipv4.vs.conntrack = 1"]
    assert modules.read_text().splitlines()[-1] == "ip_vs"
    assert list(tmp_path.rglob(".*")) == []  # nothing half-written is left


def test_sysctls_are_read_by_patterns_and_absent_ones_left_out(tmp_path: Path) -> None:
    for name, value in (("conf/a/rp_filter", "1"), ("conf/b.5/rp_filter", "0")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"{value}\n")
    read = sysctl.read(("conf/*/rp_filter", "none"), tmp_path)
    assert dict(read.values) == {"conf/a/rp_filter": "1", "conf/b.5/rp_filter": "0"}
    assert read.number("none") is None
