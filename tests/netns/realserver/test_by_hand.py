"""The commands of docs/real-servers.md, typed: what they make is what `check` wants."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from kernlb.realserver.wish import Decap, Guard
from tests.netns.realserver.world import DSR, TUNNEL, Server
from tests.unit.pages import ROOT, blocks

pytestmark = pytest.mark.netns

VIPS = (ip_address("192.0.2.10"), ip_address("2001:db8::10"))
PAGE = ROOT / "docs/real-servers.md"


def typed(server: Server, containing: str) -> None:
    """The block of the page that has these words."""
    (block,) = [b for b in blocks(PAGE) if b.language == "sh" and containing in b.text]
    for line in block.text.splitlines():
        server.run("sh", "-c", line.replace("10.1.0.11", "10.9.0.11"))


def test_sysctls_and_addresses_are_all_that_dsr_wants(server: Server) -> None:
    typed(server, "ip address add 192.0.2.10/32 dev lo")
    wish = replace(DSR, vips=VIPS)
    assert server.setup(replace(wish, persist=False)).changes == ()
    assert server.found() == set()


def test_a_guard_of_nftables_is_as_good(server: Server) -> None:
    typed(server, "nft 'add table arp guard'")
    server.ip("".join(f"addr add {vip}/{vip.max_prefixlen} dev lo\n" for vip in VIPS))
    server.setup(replace(DSR, vips=VIPS, guard=Guard.NFT), dry_run=True)
    assert server.found() == set()


def test_a_limit_of_segments_is_one_that_fits(server: Server) -> None:
    wish = replace(TUNNEL, vips=VIPS[:1], decap=Decap.XDP, mss=None)
    server.setup(wish)
    assert server.found() == {"segments-too-large-for-tunnel"}
    typed(server, "nft 'add table inet small'")
    assert server.found() == set()


def test_advmss_on_the_route_does_as_well(server: Server) -> None:
    server.setup(replace(TUNNEL, vips=VIPS[:1], decap=Decap.XDP, mss=None))
    server.ip("route replace default via 10.9.0.254 advmss 1440")
    assert server.found() == set()


def test_the_page_shows_what_setup_prints(bare: Server) -> None:
    (block,) = [b for b in blocks(PAGE) if "kernlb realserver setup --method dsr" in b.text][:1]
    shown = block.text.splitlines()
    start = 1 + shown.index("server1# kernlb realserver setup --method dsr --vip 192.0.2.10")
    done = bare.setup(replace(DSR, vips=VIPS[:1]))
    printed = [str(change) for change in done.changes]
    assert shown[start : start + len(printed)] == printed
    bare.asked = replace(bare.asked, ports=())
    report = bare.check()
    clean = len(report.clean) + len(report.not_checked)  # the page names a port
    assert f"0 errors, 0 warnings, 0 notes; {clean} checks clean" in shown
