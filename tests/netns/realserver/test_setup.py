"""Setting a server up and putting it back, seen by the system's own tools."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from ipaddress import ip_address

import pytest

from kernlb.realserver import record
from kernlb.realserver.preparing import PreparingError
from kernlb.realserver.wish import Decap, Guard, Tunnel
from tests.netns.realserver.world import DSR, OWN, PEER, TUNNEL, VIP, VIP6, Server

pytestmark = pytest.mark.netns

WISHES = {
    "dsr": DSR,
    "dsr guarded by nft": replace(DSR, guard=Guard.NFT),
    "tunnel by xdp": replace(TUNNEL, decap=Decap.XDP),
    "gue by xdp, larger links": replace(
        TUNNEL, decap=Decap.XDP, tunnel=Tunnel.GUE, port=7000, mtu=1600
    ),
    "small segments": replace(DSR, mss=1200),
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_removal_leaves_a_server_as_it_was(bare: Server, wish) -> None:
    before = bare.snapshot()
    assert bare.setup(wish).changes
    prepared = bare.snapshot()
    assert prepared != before
    assert bare.setup(wish).changes == ()
    assert bare.snapshot() == prepared
    assert bare.remove().notes == ()
    assert bare.snapshot() == before
    assert bare.remove().changes == ()
    assert [path for path in bare.root.rglob("*") if not path.is_dir()] == []


def test_a_dry_run_changes_nothing(bare: Server) -> None:
    before = bare.snapshot()
    planned = bare.setup(TUNNEL, dry_run=True)
    assert bare.snapshot() == before
    assert not list(bare.root.rglob("*"))
    assert bare.setup(TUNNEL).changes == planned.changes
    assert bare.remove(dry_run=True).changes == bare.remove().changes


def test_from_one_method_to_another_and_back_to_nothing(bare: Server) -> None:
    before = bare.snapshot()
    for wish in (DSR, TUNNEL, replace(DSR, vips=(VIP6,), guard=Guard.NFT)):
        bare.setup(wish)
    assert json.loads(bare.run("ip", "-j", "link", "show", "eth0"))[0].get("xdp") is None
    bare.remove()
    assert bare.snapshot() == before


def test_a_vip_that_is_not_named_again_goes(bare: Server) -> None:
    bare.setup(DSR)
    gone = bare.setup(replace(DSR, vips=(VIP6,))).changes
    assert [str(change) for change in gone] == [
        "ip address del 10.9.0.100/32 dev lo",
        "sysctl -w net.ipv4.conf.all.arp_announce=0  # was 2",
        "sysctl -w net.ipv4.conf.all.arp_ignore=0  # was 1",
    ]


def test_what_was_there_already_is_not_taken_away(bare: Server) -> None:
    bare.ip(f"addr add {VIP}/32 dev lo")
    bare.sysctl("net/ipv4/conf/all/arp_ignore", "2")
    before = bare.snapshot()
    bare.setup(DSR)
    bare.remove()
    assert bare.snapshot() == before


def test_a_sysctl_that_somebody_changed_since_stays(bare: Server) -> None:
    bare.setup(DSR)
    bare.sysctl("net/ipv4/conf/all/arp_announce", "1")
    assert bare.remove().notes == (
        "left net.ipv4.conf.all.arp_announce as it is: it was changed since",
    )
    assert bare.sysctl("net/ipv4/conf/all/arp_announce") == "1"
    assert bare.sysctl("net/ipv4/conf/all/arp_ignore") == "0"


def test_a_change_that_fails_takes_back_those_before_it(bare: Server) -> None:
    """An IPv6 address cannot be where IPv6 is disabled, and addresses come late."""
    before = bare.snapshot()
    bare.setup(replace(DSR, vips=(VIP,)))
    bare.sysctl("net/ipv6/conf/lo/disable_ipv6", "1")
    kept = bare.snapshot(), record.path_under(bare.root).read_text()
    with pytest.raises(PreparingError, match=r"cannot ip address add fd00:9::100/128 .*as it was"):
        bare.setup(replace(TUNNEL, decap=Decap.XDP, mtu=1600, guard=Guard.NFT))
    assert (bare.snapshot(), record.path_under(bare.root).read_text()) == kept
    bare.sysctl("net/ipv6/conf/lo/disable_ipv6", "0")
    bare.remove()
    assert bare.snapshot() == before


def test_another_program_on_the_interface_stays(bare: Server) -> None:
    from kernlb.datapath.xdp import decap

    bare.inside(lambda: decap.hold_pass(["eth0"]))
    before = bare.snapshot()
    with pytest.raises(PreparingError, match="another XDP program is there already"):
        bare.setup(replace(TUNNEL, decap=Decap.XDP))
    assert bare.snapshot() == before


def test_after_a_boot_the_recorded_wish_is_made_again(bare: Server) -> None:
    before = bare.snapshot()
    bare.setup(DSR)
    bare.ip(f"addr del {VIP}/32 dev lo")  # what a boot forgets
    bare.sysctl("net/ipv4/conf/all/arp_ignore", "0")
    done = bare.setup(record.read(bare.root).wish)
    assert [str(change) for change in done.changes] == [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1  # was 0",
        "ip address add 10.9.0.100/32 dev lo",
    ]
    bare.remove()
    assert bare.snapshot() == before


def test_a_vip_on_the_wrong_interface_moves_and_comes_back(bare: Server) -> None:
    bare.ip(f"addr add {VIP}/32 dev eth0")
    before = bare.snapshot()
    bare.setup(DSR)
    shown = json.loads(bare.run("ip", "-j", "addr", "show", "to", str(VIP)))
    assert [link["ifname"] for link in shown if link] == ["lo"]
    bare.remove()
    assert bare.snapshot() == before


def test_a_guard_of_nftables_keeps_a_server_quiet(bare: Server) -> None:
    """The peer asks for the VIP; and is asked by a server that answers as the VIP."""
    ping = ("ping", "-c1", "-W1", "-I", str(VIP), str(PEER))
    bare.ip(f"addr add {VIP}/32 dev lo")
    assert neighbours(bare, VIP) == "answered"
    bare.run(*ping, check=False)
    assert str(VIP) in bare.run("ip", "neigh", "show", where=bare.peer)
    bare.ip("neigh flush all", bare.peer)
    bare.ip("neigh flush all")
    bare.setup(replace(DSR, guard=Guard.NFT))
    assert neighbours(bare, VIP) == "silent"
    assert neighbours(bare, OWN) == "answered"
    bare.ip("neigh flush all", bare.peer)
    bare.ip("neigh flush all")
    bare.run(*ping, check=False)
    known = bare.run("ip", "neigh", "show", "nud", "all", where=bare.peer)
    assert not [line for line in known.splitlines() if str(VIP) in line and "lladdr" in line]
    assert "lladdr" in bare.run("ip", "neigh", "show", str(PEER))


def neighbours(server: Server, address) -> str:
    from kernlb.vip.asking import who_has

    asked = {ip_address(str(address)): PEER}
    heard = server.inside(lambda: who_has("eth0", asked, 0.5), server.peer)
    return "answered" if heard else "silent"


def test_the_commands_print_what_they_do(bare: Server) -> None:
    def kernlb(*words: str, check: bool = True) -> str:
        argv = [sys.executable, "-m", "kernlb.cli", "realserver", *words, "--root", str(bare.root)]
        return bare.run(*argv, check=check)

    named = ("--method", "dsr", "--vip", str(VIP), "--interface", "eth0")
    commands = kernlb("setup", *named, "--dry-run")
    assert commands == kernlb("setup", *named)  # and says so
    assert commands.splitlines()[:3] == [
        "sysctl -w net.ipv4.conf.all.arp_ignore=1  # was 0",
        "sysctl -w net.ipv4.conf.all.arp_announce=2  # was 0",
        "ip address add 10.9.0.100/32 dev lo",
    ]
    assert kernlb("setup", "--from-state") == "nothing to do\n"
    bare.ip(f"addr del {VIP}/32 dev lo")
    fixed = json.loads(kernlb("check", "--watch", "0", "--fix", "--yes", "-o", "json"))
    assert fixed["fixed"] == [{"op": "ip addr add 10.9.0.100/32 dev lo"}]
    assert fixed["findings"] == []
    undone = json.loads(kernlb("remove", "-o", "json"))
    assert [change["text"] for change in undone["changes"]][-1].startswith("sysctl -w")


def test_what_commands_printed_does_the_same_by_hand(bare: Server) -> None:
    """Each line of a plan is the command of the system's own tool."""
    wish = replace(DSR, mss=1200, mtu=1400, persist=False)
    planned = [str(change) for change in bare.setup(wish, dry_run=True).changes]
    for line in planned:
        bare.run("sh", "-c", line)
    assert bare.setup(wish).changes == ()
