"""Whom `explain` asks, and what it says where nobody can answer."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import ProblemKind
from kernlb.control.protocol_xdp import Explanation, MapDump, XdpStatus
from kernlb.datapath.fake import EVERYTHING_OF_XDP, FakeDatapath
from kernlb.model import L4Protocol, ServerKey
from tests.unit.daemon.world import World, story, web

CLIENT = ServerKey(ip_address("198.51.100.7"), 40000)
VIP = ServerKey(ip_address("192.0.2.10"), 80)
STATUS = XdpStatus("8a67f4bd1f7cd1e2", 1, 64 << 20, [], [])


class Program:
    """A loaded program that knows one service, and the IPv4 clients of it."""

    def __init__(self, key: str = "tcp/192.0.2.10:80") -> None:
        self.key = key
        self.asked: list[tuple[object, ...]] = []

    def status(self) -> XdpStatus:
        return STATUS

    def explain(
        self, protocol: L4Protocol, client: ServerKey, to: ServerKey, within: bool, interface: str
    ) -> Explanation:
        self.asked.append((protocol, client, to, within, interface))
        if client.address.version != to.address.version:
            raise ValueError("two address families")
        if interface == "eth9":
            raise OSError("there is no such interface")
        return Explanation(
            protocol, str(client), str(to), "send", "forwarded", "as asked", key=self.key
        )

    def dump(self, maps: Sequence[str]) -> list[MapDump]:
        if "nonsense" in maps:
            raise ValueError('there is no map "nonsense"')
        return [MapDump(name, "0\n") for name in maps]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.xdp_kernel = FakeDatapath(features=EVERYTHING_OF_XDP)
    world.xdp = Program()
    world.restart()
    return world


@story
async def test_the_service_is_called_by_its_name(world: World) -> None:
    await world.start(shop=web("10.0.0.1", datapath="xdp"))
    told = world.overview.explain(L4Protocol.TCP, CLIENT, VIP)
    assert (told.service, told.key, told.reason) == ("shop", "tcp/192.0.2.10:80", "forwarded")


@story
async def test_a_service_that_nobody_declares_has_its_key(world: World) -> None:
    await world.start()
    told = world.overview.explain(L4Protocol.TCP, CLIENT, VIP)
    assert (told.service, told.key) == ("", "tcp/192.0.2.10:80")


@story
async def test_a_packet_of_no_service_is_explained_too(world: World) -> None:
    await world.start()
    world.xdp = Program(key="")
    world.restart()
    assert world.overview.explain(L4Protocol.UDP, CLIENT, VIP).key == ""


@story
async def test_ipvs_is_not_asked(world: World) -> None:
    await world.start(shop=web("10.0.0.1"))
    with pytest.raises(RequestRefusedError, match="datapath ipvs carries it, not xdp") as caught:
        world.overview.explain(L4Protocol.TCP, CLIENT, VIP)
    assert caught.value.problem.type is ProblemKind.INVALID_REQUEST


@story
async def test_xdp_takes_the_packet_where_both_have_the_service(world: World) -> None:
    await world.start(a=web("10.0.0.1"), b=web("10.0.0.2", port=0, datapath="xdp", scheduler="rr"))
    other = ServerKey(VIP.address, 81)
    assert world.overview.explain(L4Protocol.TCP, CLIENT, other).reason == "forwarded"


@story
async def test_what_cannot_be_asked_is_refused_with_the_reason(world: World) -> None:
    await world.start()
    six = ServerKey(ip_address("2001:db8::7"), 1)
    for client, interface, why in ((six, "", "two address families"), (CLIENT, "eth9", "no such")):
        with pytest.raises(RequestRefusedError, match=f"cannot explain tcp from .*: .*{why}"):
            world.overview.explain(L4Protocol.TCP, client, VIP, interface=interface)


@story
async def test_a_host_without_xdp_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    with pytest.raises(RequestRefusedError, match=r"xdp is not in use .*: xdp.interfaces"):
        world.overview.explain(L4Protocol.TCP, CLIENT, VIP)
    with pytest.raises(RequestRefusedError, match=r"xdp is not in use .*: xdp.interfaces"):
        world.overview.dump([])
    assert world.overview.status().xdp is None


@story
async def test_maps_are_dumped_by_name(world: World) -> None:
    await world.start()
    assert world.overview.dump(["slots"]) == [MapDump("slots", "0\n")]
    with pytest.raises(RequestRefusedError, match='there is no map "nonsense"'):
        world.overview.dump(["nonsense"])
    assert world.overview.status().xdp == STATUS


@story
async def test_one_change_may_concern_both_datapaths(world: World) -> None:
    await world.start(a=web("10.0.0.1"), b=web("10.0.0.2", port=81, datapath="xdp"))
    assert world.xdp_kernel is not None
    assert [str(key) for key in world.kernel.state] == ["tcp/192.0.2.10:80"]
    assert [str(key) for key in world.xdp_kernel.state] == ["tcp/192.0.2.10:81"]


@story
async def test_a_service_moves_from_one_datapath_to_the_other_before_it_goes(world: World) -> None:
    await world.start(a=web("10.0.0.1"))
    await world.put("a", web("10.0.0.1", datapath="xdp"), replace=True)
    assert world.xdp_kernel is not None
    assert (len(world.kernel.state), len(world.xdp_kernel.state)) == (0, 1)
    assert world.journal == ["- service tcp/192.0.2.10:80"]
