"""Hypothesis strategies for what IPVS can hold."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from kernlb.datapath.ipvs.abi import FORWARDINGS
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
    ServiceKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

ports = st.integers(1, 65535)
addresses = st.one_of(
    st.integers(0x0B000000, 0x7E000000).map(IPv4Address),
    st.integers(0x20010DB8 << 96, 0x20010DB9 << 96).map(IPv6Address),
)
keys = st.one_of(
    st.builds(AddressKey, st.sampled_from(L4Protocol), addresses, ports),
    st.builds(FwmarkKey, st.sampled_from(Family), st.integers(1, 2**32 - 1)),
)
tunnels = st.one_of(
    st.builds(Tunnel, st.just(TunnelType.GUE), ports, st.booleans()),
    st.builds(Tunnel, st.sampled_from((TunnelType.IPIP, TunnelType.GRE)), checksum=st.booleans()),
)
thresholds = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)).map(sorted)


@st.composite
def services(draw: st.DrawFn, key: st.SearchStrategy[ServiceKey] = keys) -> VirtualService:
    named = draw(key)
    scheduler = draw(st.sampled_from(Scheduler))
    flags = [flag for flag in SchedulerFlag if flag.scheduler is scheduler]
    persistence = st.builds(
        Persistence,
        st.integers(1, 2678400),
        st.integers(1, named.family.max_prefix),
        st.sampled_from((None, "sip")),
    )
    return VirtualService(
        key=named,
        scheduler=scheduler,
        flags=draw(st.sets(st.sampled_from(flags)).map(frozenset)) if flags else frozenset(),
        persistence=draw(st.none() | persistence),
        one_packet=draw(st.booleans()),
    )


@st.composite
def servers(draw: st.DrawFn) -> RealServer:
    forwarding = draw(st.sampled_from(list(FORWARDINGS)))
    lower, upper = draw(thresholds)
    return RealServer(
        address=draw(addresses),
        port=draw(st.integers(0, 65535)),
        weight=draw(st.integers(0, 65535)),
        forwarding=forwarding,
        tunnel=draw(tunnels) if forwarding is Forwarding.TUNNEL else None,
        upper_threshold=upper,
        lower_threshold=lower,
    )
