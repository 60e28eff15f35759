"""A balancer with something to show: kernlbd by XDP in a lab, three services, real traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kernlb.control.protocol import ServerState
from kernlb.lab.background import Stream
from kernlb.lab.network import Lab
from tests.netns.traffic.daemon import Daemon
from tests.netns.traffic.wait import wait_for

URL = "http://127.0.0.1:9107/"
SETTINGS: dict[str, Any] = {
    "metrics_listen": "127.0.0.1:9107",
    "overview_interval": 1,
    "audit_interval": 60,
    "defaults": {"datapath": "xdp"},
    "xdp": {
        "interfaces": ["front", "back"],
        "connections": 131072,
        "connections6": 131072,
        "services": 64,
        "servers": 1024,
        "slots": 131072,
    },
}
CHECK = {"type": "http", "path": "/health", "interval": 1, "timeout": 1, "rise": 2, "fall": 2}
RATES = {"web": 60.0, "api": 25.0, "downloads": 8.0}


def declare(lab: Lab, daemon: Daemon) -> None:
    """web (weights 1, 2, 3), api (equal, hashed) and downloads (two servers), all watched."""
    addresses = [str(server.v4) for server in lab.topology.servers]
    vips = lab.topology.vips(4)
    services: dict[str, dict[str, Any]] = {
        "web": {
            "scheduler": "wrr",
            "labels": {"team": "shop"},
            "servers": [{"address": a, "weight": n} for n, a in enumerate(addresses, 1)],
        },
        "api": {
            "scheduler": "mh",
            "labels": {"team": "shop"},
            "servers": [{"address": a, "labels": {"rack": "b2"}} for a in addresses],
        },
        "downloads": {
            "scheduler": "wlc",
            "labels": {"team": "media"},
            "servers": [{"address": a} for a in addresses[:2]],
        },
    }
    for vip, (name, document) in zip(vips, services.items(), strict=False):
        whole = {"address": str(vip), "port": 80, "forwarding": "nat", "check": CHECK, **document}
        daemon.client.add_service(name, whole, replace=True)
    wait_for(lambda: set(states(daemon)) == {ServerState.UP}, 30, "all servers are up")


def states(daemon: Daemon) -> list[ServerState]:
    return [each.state for view in daemon.client.services_in_full() for each in view.servers]


@contextmanager
def traffic(lab: Lab, rates: Mapping[str, float] = RATES) -> Iterator[list[Stream]]:
    """Requests a second to each service, on and on."""
    vips = lab.topology.vips(4)
    streams = [
        lab.load.stream(vip, rate=rate, timeout=3)
        for vip, rate in zip(vips, rates.values(), strict=False)
    ]
    try:
        yield streams
    finally:
        for stream in streams:
            stream.stop()
