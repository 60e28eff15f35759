"""The door to interfaces, addresses, routes and neighbours of this network namespace."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from kernlb.doctor.network import Held, Link, Neighbour, Network, Route, Way
from kernlb.doctor.ops import AddAddress, RemoveAddress
from kernlb.model import IPAddress

_IFF_UP, _IFF_NOARP = 0x1, 0x80
_ARPHRD_ETHER = 1
_RTM_F_FIB_MATCH = 0x2000  # tell the route that matched, not the one made of it
_NTF_USE = 0x01
_NO_NUMBER = 0xFFFFFFFF  # NETNSA_NSID_NOT_ASSIGNED, as an unsigned number
_IFA_F_NODAD, _IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x02, 0x08, 0x40
_XDP = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "native"}
_STATES = {
    *(("incomplete", 0x01), ("reachable", 0x02), ("stale", 0x04), ("delay", 0x08)),
    *(("probe", 0x10), ("failed", 0x20), ("noarp", 0x40), ("permanent", 0x80)),
}
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole"}
_KINDS |= {7: "unreachable", 8: "prohibit"}
_NO_WAY = {
    errno.ENETUNREACH: "none",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.EINVAL: "blackhole",
}
_FAMILY_OF = {2: 4, 10: 6}
_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
_LOOK = 0.1  # seconds between two looks at neighbours that are being resolved


def read() -> Network:
    """All of it. Raises OSError."""
    try:
        with IPRoute() as netlink:
            links = tuple(_link(each) for each in netlink.get_links())
            names = {link.index: link.name for link in links}
            return Network(
                links,
                tuple(_held(each, names) for each in netlink.get_addr() if each["index"] in names),
                tuple(_neighbours(netlink, names)),
                tuple(_routes(netlink, names)),
            )
    except NetlinkError as error:
        raise OSError(error.code, f"cannot read the network: {error}") from error


def ways(destinations: Iterable[IPAddress]) -> dict[IPAddress, Way]:
    """How packets to each would leave. Raises OSError."""
    with IPRoute() as netlink:
        names = {each["index"]: each.get("ifname") for each in netlink.get_links()}
        return {to: _way(netlink, to, names) for to in dict.fromkeys(destinations)}


def namespace_number(descriptor: int) -> int:
    """The number that another namespace, open as ``descriptor``, has here; -1: none. Raises
    OSError."""
    try:
        with IPRoute() as netlink:
            number = (netlink.get_netnsid(fd=descriptor) or {}).get("nsid")
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from error
    return -1 if number is None or number == _NO_NUMBER else int(number)


def resolve(wanted: Iterable[tuple[str, IPAddress]], patience: float) -> None:
    """Have the kernel look for neighbours (interface, address) that it does not know, and wait
    until each is found or given up, ``patience`` seconds at most. Raises OSError."""
    open_ = set(wanted)
    if not open_:
        return
    with IPRoute() as netlink:
        names = {each["index"]: each.get("ifname") for each in netlink.get_links()}
        indices = {name: index for index, name in names.items()}
        for interface, address in list(open_):
            try:
                netlink.neigh(
                    "replace",
                    dst=str(address),
                    ifindex=indices[interface],
                    flags=_NTF_USE,
                    state=0,
                    family=2 if address.version == 4 else 10,
                )
            except (NetlinkError, KeyError):
                open_.discard((interface, address))  # its state will tell
        deadline = time.monotonic() + patience
        while open_ and time.monotonic() < deadline:
            time.sleep(_LOOK)
            for each in _neighbours(netlink, names):
                if each.state not in ("incomplete", "none"):
                    open_.discard((each.interface, each.address))


def change_address(op: AddAddress | RemoveAddress) -> None:
    """Twice equals once. Raises OSError."""
    extra = {"flags": _IFA_F_NODAD} if op.address.version == 6 else {}
    with IPRoute() as netlink:
        indices = netlink.link_lookup(ifname=op.interface)
        if not indices:
            raise OSError(errno.ENODEV, f"there is no interface {op.interface}")
        try:
            netlink.addr(
                "add" if isinstance(op, AddAddress) else "del",
                index=indices[0],
                address=str(op.address.ip),
                prefixlen=op.address.network.prefixlen,
                **extra,
            )
        except NetlinkError as error:
            if error.code not in (errno.EEXIST, errno.EADDRNOTAVAIL):
                raise OSError(error.code, str(error)) from error


def change_link(interface: str, **settings: object) -> None:
    """``state="up"`` or ``mtu=1500``. Raises OSError."""
    with IPRoute() as netlink:
        indices = netlink.link_lookup(ifname=interface)
        if not indices:
            raise OSError(errno.ENODEV, f"there is no interface {interface}")
        try:
            netlink.link("set", index=indices[0], **settings)
        except NetlinkError as error:
            raise OSError(error.code, str(error)) from error


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message["attrs"]) if message else {}


def _link(message: Any) -> Link:
    has = _attributes(message)
    info, xdp = _attributes(has.get("IFLA_LINKINFO")), _attributes(has.get("IFLA_XDP"))
    return Link(
        index=message["index"],
        name=has.get("IFLA_IFNAME", ""),
        kind=info.get("IFLA_INFO_KIND") or "",
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(has.get("IFLA_CARRIER", 1)),
        mtu=has.get("IFLA_MTU", 0),
        mac=has.get("IFLA_ADDRESS", ""),
        ethernet=message["ifi_type"] == _ARPHRD_ETHER,
        answers_arp=not message["flags"] & _IFF_NOARP,
        lower=has.get("IFLA_LINK") or 0,
        lower_namespace=has.get("IFLA_LINK_NETNSID", -1),
        master=has.get("IFLA_MASTER") or 0,
        rx_queues=has.get("IFLA_NUM_RX_QUEUES", 1),
        tx_queues=has.get("IFLA_NUM_TX_QUEUES", 1),
        xdp=_XDP.get(xdp.get("IFLA_XDP_ATTACHED") or "", ""),
        xdp_program=xdp.get("IFLA_XDP_PROG_ID") or 0,
        rx_dropped=(has.get("IFLA_STATS64") or {}).get("rx_dropped", 0),
        data=_data(info.get("IFLA_INFO_DATA")),
    )


def _data(message: Any) -> Mapping[str, str]:
    """Plain settings of a kind: IFLA_BOND_MODE as bond_mode, IFLA_VLAN_ID as vlan_id."""
    found = {}
    for name, value in _attributes(message).items() if isinstance(message, dict) else ():
        if isinstance(value, int | str):
            found[name.removeprefix("IFLA_").lower()] = str(value)
    return found


def _held(message: Any, names: Mapping[int, str]) -> Held:
    has = _attributes(message)
    # IFA_LOCAL where there is one: on a point-to-point link IFA_ADDRESS is the peer
    address = has.get("IFA_LOCAL") or has["IFA_ADDRESS"]
    flags = has.get("IFA_FLAGS", message["flags"])
    interface = ip_interface(f"{address}/{message['prefixlen']}")
    assert isinstance(interface, IPv4Interface | IPv6Interface)
    return Held(
        interface,
        names[message["index"]],
        duplicate=bool(flags & _IFA_F_DADFAILED),
        tentative=bool(flags & _IFA_F_TENTATIVE),
        scope=message["scope"],
    )


def _neighbours(netlink: Any, names: Mapping[int, str]) -> Iterable[Neighbour]:
    by_number = {number: name for name, number in _STATES}
    for message in netlink.get_neighbours():
        has = _attributes(message)
        if "NDA_DST" in has and message["ifindex"] in names:
            yield Neighbour(
                ip_address(has["NDA_DST"]),
                names[message["ifindex"]],
                has.get("NDA_LLADDR", ""),
                by_number.get(message["state"], "none"),
            )


def _routes(netlink: Any, names: Mapping[int, str]) -> Iterable[Route]:
    for message in netlink.get_routes():
        has = _attributes(message)
        version = _FAMILY_OF.get(message["family"])
        if version is None:
            continue
        metrics = _attributes(has.get("RTA_METRICS"))
        to = None
        if message["dst_len"] or "RTA_DST" in has:
            destination = has.get("RTA_DST") or _DEFAULTS[version].partition("/")[0]
            to = ip_interface(f"{destination}/{message['dst_len']}")
        yield Route(
            version,
            to,
            names.get(has.get("RTA_OIF", 0), ""),
            _gateway(has),
            has.get("RTA_TABLE", message["table"]),
            _KINDS.get(message["type"], "other"),
            metrics.get("RTAX_ADVMSS", 0),
            metrics.get("RTAX_MTU", 0),
        )


def _gateway(has: Mapping[str, Any]) -> IPAddress | None:
    via = has.get("RTA_GATEWAY") or (has.get("RTA_VIA") or {}).get("addr")
    return ip_address(via) if via else None


def _way(netlink: Any, to: IPAddress, names: Mapping[int, str]) -> Way:
    try:
        (message,) = netlink.route("get", dst=str(to))
        (match,) = netlink.route("get", dst=str(to), flags=_RTM_F_FIB_MATCH)
    except NetlinkError as error:
        if error.code in _NO_WAY:
            return Way(to, _NO_WAY[error.code])
        raise OSError(error.code, f"cannot ask for the route to {to}: {error}") from error
    has = _attributes(message)
    metrics = _attributes(has.get("RTA_METRICS"))
    source = has.get("RTA_PREFSRC")
    return Way(
        to,
        _KINDS.get(message["type"], "other"),
        names.get(has.get("RTA_OIF", 0), ""),
        _gateway(has),
        ip_address(source) if source else None,
        metrics.get("RTAX_MTU", 0),
        by_default=match["dst_len"] == 0 and message["type"] == 1,
    )
