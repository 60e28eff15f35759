"""What ``kernlb wait`` can wait for: from what the daemon says to whether it is so. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kernlb.control.protocol import ServerState, ServiceStatsView, Status, SyncState
from kernlb.control.protocol_health import Health
from kernlb.control.protocol_overview import ServerLine, ServiceLine

# No new connections go there, by whomever it was taken out.
_OUT = (
    ServerState.DRAINING,
    ServerState.DRAINED,
    ServerState.DISABLED,
    ServerState.DOWN,
    ServerState.INHIBITED,
    ServerState.LEAVING,
    ServerState.WAITING,
)
_BAD = (ServerState.DOWN, ServerState.INHIBITED, ServerState.KEPT)
# Out because an operator wants it so, or not in use while all is well.
_NOT_EXPECTED = (
    ServerState.DRAINING,
    ServerState.DRAINED,
    ServerState.DISABLED,
    ServerState.STANDBY,
)
_UNHEARD = ("waiting", "unconfirmed")


class Found(NamedTuple):
    """``now`` says how it stands. ``never``: waiting makes no sense, it says why."""

    met: bool
    now: str
    never: bool = False


Judge = Callable[[ServiceLine], Found]


def ready(status: Status, health: Health) -> Found:
    """What is declared is in the kernel or refused, and every check has spoken."""
    servers = [server for service in health.services for server in service.servers]
    unheard = sum(server.condition in _UNHEARD for server in servers)
    pending = status.services.get(SyncState.PENDING, 0)
    if pending or unheard:
        parts = [f"{pending} services pending"] if pending else []
        parts += [f"{unheard} of {len(servers)} servers without a verdict"] if unheard else []
        return Found(False, ", ".join(parts))
    return Found(True, f"{sum(status.services.values())} services")


def synced(service: ServiceLine) -> Found:
    return Found(service.state == SyncState.SYNCED, _of_the_kernel(service))


def gone(service: ServiceLine) -> Found:
    return Found(False, _of_the_kernel(service))


def quorum(service: ServiceLine) -> Found:
    """Enough of its servers are good; of a service without checks one that has a weight."""
    phase = service.phase or ("serving" if service.serving else "no server has a weight")
    return Found(phase == "serving" and service.serving > 0, f"{phase}, {_serving(service)}")


def healthy(service: ServiceLine) -> Found:
    """In the kernel, and each of its servers up that no operator took out."""
    expected = [server for server in service.servers if server.state not in _NOT_EXPECTED]
    bad = [server for server in expected if not _is_well(server)]
    if service.state != SyncState.SYNCED:
        return Found(False, _of_the_kernel(service))
    if not expected:
        return Found(False, "no server is to serve")
    if bad:
        return Found(False, ", ".join(_server(server) for server in bad))
    return Found(True, f"{len(expected)} of {len(expected)} servers up")


def _is_well(server: ServerLine) -> bool:
    return server.state == ServerState.UP and server.condition not in (*_UNHEARD, "down", "held")


def server_is(state: str, address: str) -> Judge:
    """``up``, ``down`` or ``gone``. ``address`` is an address, or address:port."""

    def judge(service: ServiceLine) -> Found:
        server = find(service, address)
        if server is None:
            there = state == "gone"
            return Found(there, f"{service.name} has no server {address}", never=not there)
        if state == "gone":
            return Found(False, _server(server))
        if state == "up":
            met = server.state == ServerState.UP and server.condition != "waiting"
            return Found(met, _server(server))
        return Found(server.state in _BAD, _server(server))

    return judge


def drained(service: ServiceLine, address: str, stats: list[ServiceStatsView]) -> Found:
    """No connection is active, and none comes; ``stats`` are as the kernel counts just now."""
    server = find(service, address)
    if server is None:
        return Found(True, f"{service.name} has no server {address}")
    if server.state == ServerState.DRAINED:
        return Found(True, "its deadline has passed")
    if server.state not in _OUT:
        return Found(False, f"it is {server.state}, and not to be drained", never=True)
    active = sum(
        each.active for view in stats for each in view.servers if each.server == server.server
    )
    plural = "" if active == 1 else "s"
    return Found(not active, f"{server.state}, {active or 'no'} active connection{plural}")


def find(service: ServiceLine, address: str) -> ServerLine | None:
    """By address:port; by address alone where one server has it."""
    same = [server for server in service.servers if server.server == address]
    if not same:
        bare = address.strip("[]")
        same = [each for each in service.servers if _host(each.server) == bare]
    return same[0] if len(same) == 1 else None


def _host(server: str) -> str:
    return server.rpartition(":")[0].strip("[]")


def _server(server: ServerLine) -> str:
    why = f" ({server.why})" if server.why else ""
    unheard = f", {server.condition}" if server.condition in ("waiting", "unconfirmed") else ""
    return f"{server.server} is {server.state}{unheard}{why}"


def _serving(service: ServiceLine) -> str:
    return f"{service.serving} of {len(service.servers)} servers serving"


def _of_the_kernel(service: ServiceLine) -> str:
    return f"{service.state}: {service.error}" if service.error else service.state
