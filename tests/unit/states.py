"""Strategies for what a datapath holds: few keys and addresses, so that two states meet often."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from hypothesis import strategies as st

from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    ServiceKey,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
)

States = Mapping[ServiceKey, ServiceState]

KEYS: tuple[ServiceKey, ...] = (
    AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80),
    AddressKey(L4Protocol.UDP, ip_address("192.0.2.10"), 80),
    AddressKey(L4Protocol.TCP, ip_address("2001:db8::10"), 443),
    FwmarkKey(Family.IPV4, 7),
    FwmarkKey(Family.IPV6, 7),
)
ADDRESSES = {
    Family.IPV4: tuple(ip_address(f"10.0.0.{n}") for n in range(1, 4)),
    Family.IPV6: tuple(ip_address(f"fd00::{n}") for n in range(1, 4)),
}
TUNNELS = (
    Tunnel(),
    Tunnel(TunnelType.GUE, 6080),
    Tunnel(TunnelType.GUE, 6080, checksum=True),
    Tunnel(TunnelType.GRE),
)


def services(key: ServiceKey) -> st.SearchStrategy[VirtualService]:
    schedulers = st.sampled_from((Scheduler.RR, Scheduler.WLC, Scheduler.MH, Scheduler.SH))
    persistence = st.none() | st.builds(
        Persistence, st.sampled_from((60, 300)), st.just(key.family.max_prefix)
    )
    return st.builds(_service, st.just(key), schedulers, st.booleans(), persistence)


def _service(
    key: ServiceKey, scheduler: Scheduler, flagged: bool, persistence: Persistence | None
) -> VirtualService:
    flags = {flag for flag in SchedulerFlag if flagged and flag.scheduler is scheduler}
    return VirtualService(key, scheduler, frozenset(flags), persistence)


@st.composite
def servers(draw: st.DrawFn, family: Family) -> RealServer:
    tunnel = draw(st.none() | st.sampled_from(TUNNELS))
    of_server = draw(st.sampled_from(Family)) if tunnel is not None else family
    plain = st.sampled_from((Forwarding.NAT, Forwarding.DSR))
    upper = draw(st.sampled_from((0, 0, 100)))
    return RealServer(
        address=draw(st.sampled_from(ADDRESSES[of_server])),
        port=draw(st.sampled_from((80, 8080))),
        weight=draw(st.sampled_from((0, 0, 1, 2, 65535))),
        forwarding=Forwarding.TUNNEL if tunnel is not None else draw(plain),
        tunnel=tunnel,
        upper_threshold=upper,
        lower_threshold=draw(st.sampled_from((0, upper))),
    )


@st.composite
def service_states(draw: st.DrawFn, key: ServiceKey) -> ServiceState:
    found = draw(st.lists(servers(key.family), max_size=4, unique_by=_key_of))
    return ServiceState(draw(services(key)), tuple(found))


@st.composite
def states(draw: st.DrawFn) -> States:
    """Some services with their servers."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3))
    return {key: draw(service_states(key)) for key in keys}


@st.composite
def changes(draw: st.DrawFn) -> tuple[States, States]:
    """What is there, and what is to be: a revision of the same, or something else altogether."""
    before = draw(states())
    if draw(st.booleans()):
        return before, draw(states())
    after = dict(before)
    for key, state in before.items():
        kept = [server for server in state.servers if draw(st.booleans())]
        fresh = draw(service_states(key)).servers
        merged = {server.key: server for server in (*fresh, *kept)}
        service = state.service if draw(st.booleans()) else draw(services(key))
        after[key] = ServiceState(service, tuple(merged.values()))
    return before, after


def _key_of(server: RealServer) -> ServerKey:
    return server.key


def content(states: States) -> dict[ServiceKey, tuple[VirtualService, dict[ServerKey, RealServer]]]:
    """States for comparison: the order of servers carries no meaning."""
    return {key: (state.service, state.by_key()) for key, state in states.items()}
