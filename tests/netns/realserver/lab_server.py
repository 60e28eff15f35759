"""A server of the lab, without what the lab prepared, to be set up by kernlb itself."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kernlb.datapath.xdp import decap
from kernlb.lab.network import Lab, LabError
from kernlb.lab.topology import BACK, GUE_PORT
from tests.netns.realserver.world import Server

_DEVICES = ("tunl0", "ip6tnl0", "sit0", "gre0", "ip6gre0")


class LabServer(Server):
    """Behaves as a Server whose interface is the lab's `back`."""

    def __init__(self, lab: Lab, role: str, root: Path) -> None:
        super().__init__(role, root)
        self._namespace = lab.topology.namespace(role)
        self._lab, self._role = lab, role

    @property
    def namespace(self) -> str:
        return self._namespace

    def undress(self) -> None:
        """No VIPs, no guard, nothing that takes tunnels in; the routes stay."""
        self._lab.exec(self._role, ["ip", "addr", "flush", "dev", "lo", "scope", "global"])
        for key in ("arp_ignore", "arp_announce"):
            self.sysctl(f"net/ipv4/conf/all/{key}", "0")
        for device in _DEVICES:
            with suppress(LabError):
                self._lab.exec(self._role, ["ip", "link", "set", device, "down"])
        with suppress(LabError):
            self._lab.exec(self._role, ["ip", "link", "del", "anyip6"])
        for family in ("-4", "-6"):
            with suppress(LabError):
                port = ["fou", "del", "port", str(GUE_PORT)]
                self._lab.exec(self._role, ["ip", family, *port])
        with suppress(OSError):
            self.inside(lambda: decap.detach(BACK))
