"""Whether the kernel's own devices take the balancer's tunnels in, and whether packets fit."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import Network
from kernlb.doctor.ops import AddAddress, LoadModule, SetSysctl, SetUp, written
from kernlb.doctor.server import guards
from kernlb.doctor.server.role import Kernel, Role
from kernlb.doctor.sysctls import Sysctls, conf_name
from kernlb.realserver.tunnels import (
    FALLBACK_DEVICES,
    devices,
    fou_modules,
    segment,
    takes_ipv4,
)

_DEFAULT_SEGMENT = {4: 40, 6: 60}  # below the MTU, without a limit


def _absent(facts: Facts) -> Iterator[Finding]:
    role, network, kernel = facts[Role], facts[Network], facts[Kernel]
    for module, device in devices(role.wish) if role.by_device else ():
        if network.link(device) is not None:
            continue
        evidence = f"there is no {device}, and module {module} is "
        if FALLBACK_DEVICES.get(module) == device and module in kernel.loadable:
            fix = (LoadModule(module), SetUp(device))
            yield Finding(device, evidence + "not loaded", fix=fix)
        else:
            state = "there" if module in kernel.modules else "not known to this kernel"
            yield Finding(device, evidence + state, (_setup(role),))


def _down(facts: Facts) -> Iterator[Finding]:
    role, network = facts[Role], facts[Network]
    for _, device in devices(role.wish) if role.by_device else ():
        link = network.link(device)
        if link is not None and not link.up:
            yield Finding(device, "it is down", fix=(SetUp(device),))


def _no_port(facts: Facts) -> Iterator[Finding]:
    role, kernel = facts[Role], facts[Kernel]
    for version in fou_modules(role.wish) if role.by_device else ():
        if (version, role.wish.port, "gue") not in kernel.fou:
            known = [f"{port} ({kind})" for family, port, kind in kernel.fou if family == version]
            evidence = f"fou has {', '.join(known) or 'no port'} for IPv{version}"
            command = f"ip -{version} fou add port {role.wish.port} gue"
            yield Finding(f"port {role.wish.port}", evidence, (command,))


def _strict(facts: Facts) -> Iterator[Finding]:
    role, network, sysctls = facts[Role], facts[Network], facts[Sysctls]
    for device in takes_ipv4(role.wish) if role.by_device else ():
        value, name = sysctls.larger(device, "rp_filter")
        addressed = any(h.interface == device and h.ip.version == 4 for h in network.addresses)
        if network.link(device) is None or not value or (value == 2 and addressed):
            continue
        lenient = (SetSysctl(conf_name(4, device, "rp_filter"), "2"),) if value == 1 else ()
        vip = ip_interface(f"{role.of(4)[0]}/32")
        address = () if addressed else (AddAddress(vip, device),)
        without = "" if addressed else f", and {device} has no IPv4 address"
        yield Finding(device, f"{written(name)} is {value}{without}", fix=(*lenient, *address))


def _forwards(facts: Facts) -> Iterator[Finding]:
    role, sysctls = facts[Role], facts[Sysctls]
    switches = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
    for version in role.wish.versions if role.by_device else ():
        if sysctls.number(switches[version]):
            evidence = f"{sysctls.seen(switches[version])}, and tunnels are taken in from anybody"
            remedy = f"sysctl -w {written(switches[version])}=0, if this server is no router"
            yield Finding(f"IPv{version}", evidence, (remedy,))


def _large_segments(facts: Facts) -> Iterator[Finding]:
    role, network = facts[Role], facts[Network]
    link = network.link(role.interface)
    if not role.wish.tunnelled or link is None:
        return
    for version in role.wish.versions:
        fits = segment(role.wish, link.mtu, version)
        routed = [
            route.advmss
            for route in network.routes
            if route.to is None and route.family == version and route.advmss
        ]
        asked = min(
            [link.mtu - _DEFAULT_SEGMENT[version], *routed, *guards.segments(facts, version)]
        )
        # 1500 is what clients have: where more fits, nothing is cut off
        if asked > fits and fits < 1500 - _DEFAULT_SEGMENT[version]:
            evidence = (
                f"answers ask IPv{version} clients for segments of {asked} bytes; "
                f"{role.wish.tunnel} leaves {fits} of {link.name}'s mtu {link.mtu}"
            )
            yield Finding(link.name, evidence, (_setup(role),))


def _setup(role: Role) -> str:
    vips = " ".join(f"--vip {vip}" for vip in role.wish.vips)
    tunnel = role.wish.tunnel.value
    if tunnel == "gue":
        tunnel += f":{role.wish.port}"
    return f"kernlb realserver setup --method {role.wish.method} {vips} --tunnel {tunnel}"


CHECKS = (
    Check(
        id="tunnel-device-missing",
        severity=Severity.ERROR,
        means="No device takes the balancer's tunnels in.",
        why='The server answers each tunnelled packet with "protocol unreachable", and clients '
        "see their connections refused.",
        remedy="modprobe ipip; ip link set tunl0 up",
        find=_absent,
    ),
    Check(
        id="tunnel-device-down",
        severity=Severity.ERROR,
        means="The device that takes tunnels in is down.",
        why="Packets that it unpacks are dropped in silence: clients time out.",
        remedy="ip link set tunl0 up",
        find=_down,
    ),
    Check(
        id="fou-port-missing",
        severity=Severity.ERROR,
        means="No port of fou takes the balancer's GUE in.",
        why="To the kernel it is UDP for a port where nobody listens.",
        remedy="ip fou add port 6080 gue",
        find=_no_port,
    ),
    Check(
        id="rp-filter-on-tunnel",
        severity=Severity.ERROR,
        means="Reverse path filtering on the device that takes tunnels in.",
        why="Answers do not leave by the tunnel's device, so the kernel drops what it unpacked, in "
        "silence. The larger of the device's and conf.all's rp_filter counts; 2 is lenient, but "
        "drops as well where the device has no IPv4 address.",
        remedy="sysctl -w net.ipv4.conf.tunl0.rp_filter=2; ip addr add VIP/32 dev tunl0",
        find=_strict,
    ),
    Check(
        id="tunnel-relays",
        severity=Severity.WARNING,
        means="This server takes tunnels in and forwards what is inside.",
        why="Whoever reaches it can have it send packets on, with any source, past filters.",
        remedy="sysctl -w net.ipv4.ip_forward=0",
        find=_forwards,
    ),
    Check(
        id="segments-too-large-for-tunnel",
        severity=Severity.WARNING,
        means="Full-size packets of clients do not fit through the tunnel to this server.",
        why="The balancer then asks clients for smaller ones by ICMP. Where that is filtered, "
        "small requests work and uploads hang.",
        remedy="kernlb realserver setup --method tunnel --vip VIP --mss auto",
        find=_large_segments,
    ),
)
