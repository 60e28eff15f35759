"""Services and servers that the contract is tried with, some named, some drawn at random."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

from kernlb import limits
from kernlb.datapath import Datapath, Features
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    FwmarkKey,
    IPAddress,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServiceKey,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
)
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)

WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
WEB6 = AddressKey(L4Protocol.TCP, ip_address("2001:db8::10"), 80)
A = RealServer(ip_address("10.0.0.2"), 80)
B = RealServer(ip_address("10.0.0.3"), 80)
A6 = RealServer(ip_address("2001:db8:1::2"), 80)


def adding(state: ServiceState) -> list[Op]:
    return [AddService(state.service), *(AddServer(state.key, s) for s in state.servers)]


def settle(datapath: Datapath, *ops: Op) -> None:
    """Apply ops that must all succeed."""
    failures = datapath.apply(ops)
    assert not failures, "\n".join(map(str, failures))


def held(datapath: Datapath, key: ServiceKey) -> ServiceState | None:
    return datapath.read([key]).get(key)


def same(one: ServiceState, other: ServiceState | None) -> bool:
    """Equal in a kernel: the order of servers carries no meaning."""
    return other is not None and (one.service, one.by_key()) == (other.service, other.by_key())


def changing(before: ServiceState, after: ServiceState) -> list[Op]:
    """Edits, additions and removals that turn one state of a service into another."""
    ops: list[Op] = []
    if before.service != after.service:
        ops.append(EditService(before.service, after.service))
    old, new = before.by_key(), after.by_key()
    ops += [AddServer(after.key, s) for key, s in new.items() if key not in old]
    ops += [
        EditServer(after.key, old[key], s) for key, s in new.items() if key in old and old[key] != s
    ]
    return ops + [RemoveServer(after.key, s) for key, s in old.items() if key not in new]


def removing(state: ServiceState) -> Op:
    return RemoveService(state.service)


def random_key(random: Random, features: Features) -> ServiceKey:
    if random.random() < 0.15 and features.kind is DatapathKind.IPVS:
        return FwmarkKey(random.choice(list(Family)), random.randint(1, 60000))
    protocol = random.choice(list(L4Protocol))
    return AddressKey(protocol, random_address(random), random.randint(1, 65535))


def random_address(random: Random) -> IPAddress:
    if random.random() < 0.6:
        return IPv4Address(f"10.{random.randint(0, 9)}.0.{random.randint(1, 250)}")
    return IPv6Address(f"2001:db8:{random.randint(0, 9)}::{random.randint(1, 250)}")


def random_service(random: Random, key: ServiceKey, features: Features) -> VirtualService:
    """One that this datapath can carry."""
    while True:
        service = _any_service(random, key, sorted(features.schedulers))
        if limits.of_service(features.kind, service) is None:
            return service


def _any_service(random: Random, key: ServiceKey, known: list[Scheduler]) -> VirtualService:
    scheduler = random.choice(known)
    persistence = None
    if random.random() < 0.4:
        persistence = Persistence(
            timeout=random.choice((1, 60, 300, 86400)),
            prefix=random.randint(1, key.family.max_prefix),
            engine="sip" if random.random() < 0.2 else None,
        )
    return VirtualService(
        key=key,
        scheduler=scheduler,
        flags=frozenset(
            flag for flag in SchedulerFlag if flag.scheduler is scheduler and random.random() < 0.5
        ),
        persistence=persistence,
        one_packet=random.random() < 0.2,
    )


def random_server(random: Random, key: ServiceKey, features: Features) -> RealServer:
    """One that this datapath can carry."""
    while True:
        server = _any_server(random, key.family, sorted(Forwarding))
        if limits.of_server(features.kind, key, server) is None:
            return server


def _any_server(random: Random, family: Family, known: list[Forwarding]) -> RealServer:
    address = random_address(random)
    forwarding = random.choice(known)
    if Family.of(address) is not family:
        forwarding = Forwarding.TUNNEL
    tunnel = None
    if forwarding is Forwarding.TUNNEL:
        kind = random.choice(list(TunnelType))
        port = random.randint(1, 65535) if kind is TunnelType.GUE else 0
        tunnel = Tunnel(kind, port, checksum=random.random() < 0.5)
    lower, upper = sorted((random.choice((0, 10, 999)), random.choice((0, 10, 2**31 - 1))))
    return RealServer(
        address=address,
        port=random.randint(1, 65535),
        weight=random.choice((0, 1, 7, 65535)),
        forwarding=forwarding,
        tunnel=tunnel,
        upper_threshold=upper,
        lower_threshold=lower,
    )


def random_state(random: Random, key: ServiceKey, features: Features) -> ServiceState:
    servers = [random_server(random, key, features) for _ in range(random.randint(0, 6))]
    unique = {server.key: server for server in servers}
    return ServiceState(random_service(random, key, features), tuple(unique.values()))


def random_states(random: Random, count: int, features: Features) -> dict[ServiceKey, ServiceState]:
    keys = {random_key(random, features) for _ in range(count)}
    return {key: random_state(random, key, features) for key in sorted(keys, key=str)}
