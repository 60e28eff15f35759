"""What a wish means on a host: slots and their values, in the order in which they are set. Pure.

The order is that of safety: what takes packets in and what keeps quiet about VIPs comes before the
VIPs, and what makes it again after a boot comes last. Taking back goes the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from kernlb.doctor.network import LOOPBACK, Held
from kernlb.doctor.sysctls import conf_name
from kernlb.model import IPAddress
from kernlb.realserver import rules, unit
from kernlb.realserver.host import Host
from kernlb.realserver.plan import Want
from kernlb.realserver.slots import Kind, Slot
from kernlb.realserver.tunnels import MADE, devices, fou_modules, segment, takes_ipv4
from kernlb.realserver.wish import AUTO, Decap, Guard, Tunnel, Wish

LOOSE = "2"  # rp_filter: the larger of the device's and of conf.all counts, and 2 is the largest
_LEAST_MTU = 1280


class WishError(Exception):
    """What was asked for cannot be on this host; nothing was changed."""


def wanted(wish: Wish, host: Host) -> tuple[Want, ...]:
    """Raises WishError."""
    wish = made_whole(wish, host)
    parts = [
        _way_in(wish, host),
        _strictness(wish, host),
        _mtu(wish),
        _guard(wish, host),
        _mss(wish, host),
        _addresses(wish, host),
        unit.files(host.program) if wish.persist else (),
    ]
    return tuple(chain.from_iterable(parts))


def made_whole(wish: Wish, host: Host) -> Wish:
    """The same with the interface and the decap that it leaves open. Raises WishError."""
    interface = wish.interface or host.outside
    if not interface:
        raise WishError("cannot tell where packets come in: name it with --interface")
    if host.link(interface) is None:
        raise WishError(f"cannot prepare {interface}: there is no such interface")
    decap = wish.decap
    if wish.sources and wish.tunnelled:
        if decap is Decap.DEVICE:
            raise WishError("cannot tell who sends tunnels by a device: --source needs --decap xdp")
        decap = Decap.XDP
    if wish.tunnelled and decap is None:
        needed = {module for module, _ in devices(wish)} | set(fou_modules(wish).values())
        decap = Decap.DEVICE if needed <= host.modules | host.loadable else Decap.XDP
    return replace(wish, interface=interface, decap=decap if wish.tunnelled else None)


def ends(wish: Wish, host: Host) -> tuple[IPAddress, ...]:
    """Where tunnels end: what was named, else every address of the interface."""
    if wish.ends:
        return wish.ends
    return tuple(each for version in (4, 6) for each in host.own(wish.interface, version))


def _way_in(wish: Wish, host: Host) -> Iterator[Want]:
    if wish.decap is Decap.XDP:
        yield Want(Slot(Kind.DECAP, wish.interface), _attached(wish, host))
    if wish.decap is not Decap.DEVICE:
        return
    modules = dict.fromkeys([*fou_modules(wish).values(), *(module for module, _ in devices(wish))])
    for module in modules:
        yield Want(Slot(Kind.MODULE, module), "loaded")
    for _, device in devices(wish):
        if device == MADE:
            local = next((end for end in ends(wish, host) if end.version == 6), None)
            if local is None:
                raise WishError(f"cannot make {MADE}: {wish.interface} has no IPv6 address")
            value = f"type ip6tnl mode any local {local} remote ::"
            yield Want(Slot(Kind.LINK, device), value)
        if device in takes_ipv4(wish):
            yield Want(Slot(Kind.SYSCTL, conf_name(4, device, "rp_filter")), LOOSE, _lenient(host))
        yield Want(Slot(Kind.UP, device), "up")
    for version in fou_modules(wish):
        yield Want(Slot(Kind.FOU, str(wish.port), str(version)), "gue")


def _attached(wish: Wish, host: Host) -> str:
    named = ends(wish, host)
    if not named:
        raise WishError(f"cannot end tunnels on {wish.interface}: it has no address")
    words = [f"--address {each}" for each in named] + [f"--source {s}" for s in wish.sources]
    words.append(f"--gue-port {wish.port if wish.tunnel is Tunnel.GUE else 0}")
    return " ".join(words + ["--generic"] * wish.generic)


def _strictness(wish: Wish, host: Host) -> Iterator[Want]:
    """The kernel checks that answers would leave where a packet came in; if they would not, it
    has to be told that this is meant."""
    if 4 in wish.versions and host.way_out(4) not in ("", wish.interface):
        key = conf_name(4, wish.interface, "rp_filter")
        yield Want(Slot(Kind.SYSCTL, key), LOOSE, _lenient(host))


def _lenient(host: Host) -> frozenset[str | None]:
    """Values of a device's rp_filter that let packets of clients in as they are."""
    of_all = host.sysctls.conf(4, "all", "rp_filter") or 0
    return frozenset({0: ("0", "2"), 1: ("2",)}.get(of_all, ("0", "1", "2")))


def _mtu(wish: Wish) -> Iterator[Want]:
    if wish.mtu is not None:
        yield Want(Slot(Kind.MTU, wish.interface), str(wish.mtu))


def _guard(wish: Wish, host: Host) -> Iterator[Want]:
    """IPv6 needs none: an address on lo is not advertised by other interfaces."""
    vips = [vip for vip in wish.vips if vip.version == 4]
    if not vips:
        return
    if wish.guard is Guard.SYSCTL:
        yield Want(Slot(Kind.SYSCTL, conf_name(4, "all", "arp_ignore")), "1", frozenset({"2"}))
        # the larger of the two counts, and from 3 on it is another rule
        own_key = conf_name(4, wish.interface, "arp_ignore")
        yield Want(Slot(Kind.SYSCTL, own_key), "1", frozenset({None, "0", "2"}))
        yield Want(Slot(Kind.SYSCTL, conf_name(4, "all", "arp_announce")), "2")
        return
    own = [each for each in host.own(wish.interface, 4) if each not in wish.vips]
    if not own:
        raise WishError(f"cannot guard {wish.interface}: it has no IPv4 address to ask from")
    yield Want(Slot(Kind.RULES, "arp"), rules.arp_guard(vips, wish.interface, own[0]))


def _mss(wish: Wish, host: Host) -> Iterator[Want]:
    if wish.mss is None or (wish.mss == AUTO and not wish.tunnelled):
        return
    limits = []
    for version in wish.versions:
        vips = [vip for vip in wish.vips if vip.version == version]
        limits.append(
            (vips, wish.mss if isinstance(wish.mss, int) else fitting(wish, host, version))
        )
    yield Want(Slot(Kind.RULES, "inet"), rules.mss_limit(limits))


def fitting(wish: Wish, host: Host, version: int) -> int:
    """The largest segment that comes whole through the tunnel, of packets of a family."""
    link = host.link(wish.interface)
    return segment(wish, wish.mtu or (link.mtu if link else _LEAST_MTU), version)


def _addresses(wish: Wish, host: Host) -> Iterator[Want]:
    unpacking = takes_ipv4(wish) if wish.decap is Decap.DEVICE else ()
    for vip in wish.vips:
        for held in host.network.holding(vip):
            if _tells(held.interface, host):
                _check_movable(held, host)
                yield Want(Slot(Kind.ADDRESS, str(vip), held.interface), None)
    for vip in wish.vips:
        yield Want(Slot(Kind.ADDRESS, str(vip), LOOPBACK), str(vip.max_prefixlen))
    # Even a lenient rp_filter drops what comes in by a device that has no IPv4 address at all:
    # net/ipv4/fib_frontend.c, __fib_validate_source, no_addr.
    first = next((vip for vip in wish.vips if vip.version == 4), None)
    for device in unpacking:
        yield Want(Slot(Kind.ADDRESS, str(first), device), "32")


def _tells(interface: str, host: Host) -> bool:
    """Would it answer ARP for an address on it?"""
    link = host.link(interface)
    return link is not None and link.ethernet and link.kind != "dummy" and interface != LOOPBACK


def _check_movable(held: Held, host: Host) -> None:
    """Removing an address must not take others with it. Raises WishError."""
    about = f"cannot move {held.ip} from {held.interface} to lo"
    others = [each for each in host.own(held.interface, held.ip.version) if each != held.ip]
    if not others:
        raise WishError(f"{about}: it is the only address there; is it this server's own?")
    if held.address.network.prefixlen != held.ip.max_prefixlen:
        raise WishError(
            f"{about}: the route to {held.address.network} would go with it, and perhaps other "
            f"addresses; remove it by hand: ip address del {held.address} dev {held.interface}"
        )
