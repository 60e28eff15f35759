"""Who answers whom: every forwarding method with every scheduler, family and protocol.

Each case has a virtual address of its own, so that no connection of an earlier case weighs in.
"""

from __future__ import annotations

import pytest

from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.shares import PORTS, SCHEDULERS, assert_shares

pytestmark = pytest.mark.ipvs

METHODS = ("nat", "tunnel", "dsr")


@pytest.mark.parametrize("protocol", PORTS)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("method", METHODS)
def test_each_server_gets_its_share_and_sees_the_client(
    balancer: Balancer, method: str, scheduler: str, version: int, protocol: str
) -> None:
    number = METHODS.index(method) * len(SCHEDULERS) + SCHEDULERS.index(scheduler)
    vip = balancer.topology.vips(version)[number]
    assert_shares(balancer, vip, method, scheduler, protocol)
