"""Who answers whom: every forwarding method with every scheduler, family and protocol, by XDP."""

from __future__ import annotations

import pytest

from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.shares import PORTS, SCHEDULERS, assert_shares

pytestmark = pytest.mark.netns

METHODS = ("nat", "tunnel", "dsr", "fullnat")


@pytest.mark.parametrize("protocol", PORTS)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("method", METHODS)
def test_each_server_gets_its_share_and_sees_whom_the_method_lets_it_see(
    balancer: Balancer, method: str, scheduler: str, version: int, protocol: str
) -> None:
    assert_shares(balancer, balancer.fresh_vip(version), method, scheduler, protocol)
