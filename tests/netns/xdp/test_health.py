"""Servers die and come back, by XDP."""

from __future__ import annotations

import pytest

from kernlb.control.protocol import ServerState
from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.breaking import silent
from tests.netns.traffic.health import *  # noqa: F403 (its tests are of every datapath)
from tests.netns.traffic.health import TIMING, all_up, balancer_says, removed, states
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import web

pytestmark = pytest.mark.netns


def test_what_clients_meet_is_heard_where_it_is_asked_for(
    balancer: Balancer, vip: IPAddress
) -> None:
    """The server answers its probes, and not its clients: their first packets come again."""
    web(balancer, vip, check={**TIMING, "type": "icmp"}, health={"passive": True})
    all_up(balancer)
    with silent(balancer.lab, "server2") as fell_silent:
        stream = balancer.load.stream(vip, rate=30, timeout=8)
        removed(balancer, "server2", fell_silent)
        assert balancer_says(balancer, fell_silent, "first packets sent again")
        wait_for(lambda: states(balancer)["server2"] is not ServerState.UP, 5, "it is out")
        stream.stop()
    assert set(share_by_server(balancer.load.http(vip, count=4))) == {"server1", "server3"}
    wait_for(lambda: states(balancer)["server2"] is ServerState.UP, 30, "it may try again")
