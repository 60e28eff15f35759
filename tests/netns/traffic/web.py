"""The service of most tests: HTTP on all servers, round robin."""

from __future__ import annotations

from kernlb.lab.load import Answer, share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import EQUAL, Balancer, Json

SERVERS = tuple(EQUAL)
ECHO = 7


def web(balancer: Balancer, vip: IPAddress, **settings: object) -> Json:
    """A round-robin HTTP service on all servers, declared."""
    document: Json = {
        "address": str(vip),
        "port": 80,
        "scheduler": "rr",
        "servers": balancer.servers(vip.version),
        **settings,
    }
    balancer.declare("web", document)
    return document


def assert_answered(answers: list[Answer]) -> None:
    assert {answer.error for answer in answers} == {None}, share_by_server(answers)
