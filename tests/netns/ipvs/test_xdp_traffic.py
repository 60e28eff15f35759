"""XDP on the oldest kernel, beside IPVS: real traffic by every method, to servers with tunnels."""

from __future__ import annotations

import pytest

from kernlb.lab.load import share_by_server
from tests.netns.traffic import ways
from tests.netns.traffic.balancer import EQUAL, Balancer
from tests.netns.traffic.web import web
from tests.netns.xdp.conftest import balancer, pins  # noqa: F401 (fixtures)
from tests.netns.xdp.test_traffic import IPV4_AND_6, WAYS

pytestmark = pytest.mark.ipvs


@IPV4_AND_6
@pytest.mark.parametrize("way", WAYS)
def test_a_megabyte_goes_both_ways_to_every_server(
    balancer: Balancer,  # noqa: F811
    way: str,
    version: int,
) -> None:
    ways.assert_megabytes_both_ways(balancer, balancer.fresh_vip(version), **WAYS[way])


def test_a_service_of_each_datapath_on_one_host(balancer: Balancer) -> None:  # noqa: F811
    """XDP passes what is not its own, and IPVS takes it."""
    by_xdp, by_ipvs = balancer.fresh_vip(4), balancer.fresh_vip(4)
    web(balancer, by_xdp)
    document = {"address": str(by_ipvs), "port": 80, "scheduler": "rr", "datapath": "ipvs"}
    balancer.declare("other", {**document, "servers": balancer.servers(4)})
    try:
        for vip in (by_xdp, by_ipvs):
            assert share_by_server(balancer.load.http(vip, count=6)) == dict.fromkeys(EQUAL, 2)
    finally:
        balancer.daemon.client.remove_service("other")
