"""The maps as text, one entry a line, always in the same order.

For people who look closely, and for tests that compare: the same maps make the same text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from kernlb.datapath.xdp import reading, records
from kernlb.datapath.xdp.filter import population
from kernlb.datapath.xdp.layout import (
    CONN,
    CONN_SIZES,
    FRAGMENT,
    FRAGMENT_ID,
    LOAD,
    NONE,
    SERVER,
    SETTINGS,
    TEMPLATE_PROTOCOL,
    TICKS_PER_SECOND,
    TIMEOUTS,
    U32,
    AddressFamily,
    Conn,
    ConnFlag,
    Encapsulation,
    Forward,
    Schedule,
    ServerFlag,
    ServiceFlag,
    State,
    address_of,
    server_of_ref,
)
from kernlb.datapath.xdp.maps import Maps, Table
from kernlb.datapath.xdp.stats import counted
from kernlb.model import AddressKey, endpoint

Lines = Iterator[str]
_CONNECTIONS = ("conns4", "conns6")


def dump(maps: Maps, names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Name and text of each map that is named; of all but connections, where none is.

    Raises ValueError for unknown ones."""
    unknown = [name for name in names if name not in _DUMPS]
    if unknown:
        known = ", ".join(_DUMPS)
        raise ValueError(f'there is no map "{unknown[0]}" to dump (known: {known})')
    wanted = names or [name for name in _DUMPS if name not in _CONNECTIONS]
    return [(name, "".join(f"{line}\n" for line in _DUMPS[name](maps))) for name in wanted]


def _services(maps: Maps) -> Lines:
    for key, number in _numbers(maps):
        service = maps.service(number)
        words = [f"{number} {key} {_name(Schedule, service.scheduler)}"]
        words.append(_flags(ServiceFlag(service.flags)))
        words.append(f"members {service.members_first}+{service.members_count}")
        words.append(f"table {service.table_first}+{service.table_count}")
        if service.scheduler in (Schedule.RR, Schedule.WRR):
            words.append(f"cursor {service.cursor >> 32}:{service.cursor & NONE}")
        if service.scheduler == Schedule.WRR:
            words.append(f"max_weight {service.max_weight} step {service.step}")
        if service.flags & ServiceFlag.PERSISTENT:
            words.append(f"persistence {service.persistence_seconds}s/{service.prefix}")
        yield " ".join(words)


def _servers(maps: Maps) -> Lines:
    flags = bytes(maps.servers[SERVER.offset["flags"] :: SERVER.size])
    for number in range(maps.sizes.servers):
        if not flags[number]:
            continue
        server, load = maps.server(number), LOAD.unpack(maps.loads, number)
        words = [f"{number} {records.server_key(maps.servers, number)}"]
        words.append(f"service {server.service} generation {server.generation}")
        words.append(_flags(ServerFlag(server.flags)))
        words.append(f"{_name(Forward, server.forwarding)} weight {server.weight}")
        if server.forwarding == Forward.TUNNEL:
            tunnel_port = int.from_bytes(server.tunnel_port, "big")
            words.append(f"{_name(Encapsulation, server.tunnel)}:{tunnel_port}")
        if server.upper:
            words.append(f"thresholds {server.lower}..{server.upper}")
        words.append(f"active {load.active} inactive {load.inactive}")
        words += [f"persistent {load.persistent}"] * bool(load.persistent)
        words += ["overloaded"] * bool(load.overloaded)
        if any(server.source):
            words.append(f"source {address_of(server.source, server.family)}")
        if server.flags & ServerFlag.HOP_KNOWN:
            hop = f"hop {server.hop_ifindex} {server.hop_dst.hex(':')} {server.hop_src.hex(':')}"
            words.append(f"{hop} vlan {int.from_bytes(server.vlan, 'big')}")
        words.append(f"mtu {server.mtu}")
        yield " ".join(words)


def _members(maps: Maps) -> Lines:
    for key, number in _numbers(maps):
        yield f"{key}: {' '.join(map(str, maps.ids(maps.service(number).members)))}"


def _tables(maps: Maps) -> Lines:
    """How many slots each server has."""
    for key, number in _numbers(maps):
        slots = Counter(maps.ids(maps.service(number).table))
        if slots:
            yield f"{key}: {' '.join(f'{server}x{slots[server]}' for server in sorted(slots))}"


def _conns(family: AddressFamily) -> Callable[[Maps], Lines]:
    def lines(maps: Maps) -> Lines:
        table = maps.conns4 if family is AddressFamily.IPV4 else maps.conns6
        size = CONN_SIZES[family]
        content = memoryview(table.read_array())
        for index in range(len(content) // size):
            conn = CONN.unpack(content[index * size :])
            if conn.word_flags & ConnFlag.USED:
                start = index * size + CONN.size
                yield _conn(index, conn, bytes(content[start : start + size - CONN.size]), family)

    return lines


def _conn(index: int, conn: Conn, addresses: bytes, family: AddressFamily) -> str:
    width = 4 if family is AddressFamily.IPV4 else 16
    source, destination = (address_of(addresses[at : at + width], family) for at in (0, width))
    ports = [int.from_bytes(port, "big") for port in (conn.sport, conn.dport, conn.source_port)]
    server, generation = server_of_ref(conn.word_server)
    words = [
        f"{index} {conn.protocol & ~TEMPLATE_PROTOCOL}",
        f"{endpoint(source, ports[0])} -> {endpoint(destination, ports[1])}",
        f"server {server} generation {generation} {_name(State, conn.word_state)}",
        _flags(ConnFlag(conn.word_flags)),
        f"seen {conn.seen}",
    ]
    words += [f"peer {conn.peer}"] * (conn.peer != NONE)
    words += [f"source_port {ports[2]}"] * bool(ports[2])
    return " ".join(words)


def _fragments(maps: Maps) -> Lines:
    for key, value in sorted(maps.fragments.items()):
        name, fragment = FRAGMENT_ID.unpack(key), FRAGMENT.unpack(value)
        width = 4 if name.family == AddressFamily.IPV4 else 16
        ends = [address_of(name.addr[at : at + width], name.family) for at in (0, width)]
        server, generation = server_of_ref(fragment.server)
        way = "to the client" if fragment.answers else "to the server"
        yield (
            f"{name.protocol} {ends[0]} -> {ends[1]} id {name.id.hex()}: server {server} "
            f"generation {generation} {way} seen {fragment.seen}"
        )


def _counters(table: Table, names: dict[int, str]) -> Lines:
    words = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
    for number, totals in sorted(counted(table, names).items()):
        pairs = (f"{word} {total}" for word, total in zip(words, totals, strict=True))
        yield f"{number} {names[number]} {' '.join(pairs)}"


def _service_counters(maps: Maps) -> Lines:
    return _counters(maps.service_counters, {number: str(key) for key, number in _numbers(maps)})


def _server_counters(maps: Maps) -> Lines:
    names = {
        server: f"{key} {records.server_key(maps.servers, server)}"
        for key, number in _numbers(maps)
        for server in reading.members(maps, maps.service(number))
    }
    return _counters(maps.server_counters, names)


def _reasons(maps: Maps) -> Lines:
    return (f"{each.name.lower()} {count}" for each, count in reading.reasons(maps).items())


def _filter(maps: Maps) -> Lines:
    return (f"{mark.name} {cells}" for mark, cells in population(maps.filter).items())


def _settings(maps: Maps) -> Lines:
    settings = SETTINGS.unpack(maps.settings)
    for state, ticks in zip(State, TIMEOUTS.unpack(settings.timeouts), strict=True):
        yield f"{state.name.lower()} {ticks / TICKS_PER_SECOND:.1f}s"
    yield f"icmp_per_second {settings.icmp_per_second}"


def _devices(maps: Maps) -> Lines:
    return (str(number) for number in sorted(U32.unpack(key)[0] for key, _ in maps.devices.items()))


_DUMPS: dict[str, Callable[[Maps], Lines]] = {
    "services": _services,
    "servers": _servers,
    "members": _members,
    "tables": _tables,
    "conns4": _conns(AddressFamily.IPV4),
    "conns6": _conns(AddressFamily.IPV6),
    "fragments": _fragments,
    "devices": _devices,
    "service_counters": _service_counters,
    "server_counters": _server_counters,
    "reasons": _reasons,
    "filter": _filter,
    "settings": _settings,
}


def _numbers(maps: Maps) -> list[tuple[AddressKey, int]]:
    return sorted(reading.numbers(maps).items(), key=lambda each: each[1])


def _flags(flags: ServiceFlag | ServerFlag | ConnFlag) -> str:
    return ",".join(each.name.lower() for each in flags if each.name) or "-"


def _name(kind: type[Schedule | Forward | Encapsulation | State], number: int) -> str:
    return kind(number).name.lower()
