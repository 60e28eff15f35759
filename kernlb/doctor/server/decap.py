"""Whether the program in XDP takes the balancer's tunnels in."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import Network
from kernlb.doctor.server.role import Attached, Role
from kernlb.realserver.wish import Tunnel

_LEFT = ("fragment", "unsupported", "malformed", "congested")


def _present(facts: Facts) -> tuple[Role, Attached] | None:
    role = facts[Role]
    if not role.by_xdp:
        return None
    found = facts[Attached]
    return None if found.addresses is None else (role, found)


def _absent(facts: Facts) -> Iterator[Finding]:
    role = facts[Role]
    if role.by_xdp and facts[Attached].addresses is None and not _other(facts):
        yield Finding(role.interface, "nothing is attached", (_attach(role),))


def _other(facts: Facts) -> str:
    """The mode of a program on the interface that is not ours."""
    link = facts[Network].link(facts[Role].interface)
    return link.xdp if link is not None and facts[Attached].addresses is None else ""


def _taken(facts: Facts) -> Iterator[Finding]:
    role = facts[Role]
    if role.by_xdp and (mode := _other(facts)):
        link = facts[Network].link(role.interface)
        number = link.xdp_program if link else 0
        evidence = f"program {number} is attached there in {mode} mode"
        remedy = f"ip link set {role.interface} {_WORDS[mode]} off; {_attach(role)}"
        yield Finding(role.interface, evidence, (remedy,))


_WORDS = {"native": "xdpdrv", "generic": "xdpgeneric", "offloaded": "xdpoffload"}


def _generic(facts: Facts) -> Iterator[Finding]:
    if (found := _present(facts)) and found[1].generic:
        role = found[0]
        remedy = f"kernlb realserver decap detach {role.interface}; {_attach(role)}"
        yield Finding(role.interface, "decap is attached in generic mode", (remedy,))


def _wrong_ends(facts: Facts) -> Iterator[Finding]:
    if found := _present(facts):
        role, attached = found
        wanted = role.wish.ends or tuple(
            held.ip
            for held in facts[Network].addresses
            if held.interface == role.interface and not held.ip.is_link_local
        )
        missing = [str(each) for each in wanted if each not in (attached.addresses or ())]
        missing = [each for each in missing if each not in map(str, role.holds)]
        if missing:
            evidence = f"tunnels end at {_list(attached.addresses)}, not at {', '.join(missing)}"
            yield Finding(role.interface, evidence, (_attach(role),))


def _wrong_port(facts: Facts) -> Iterator[Finding]:
    if (found := _present(facts)) and found[0].wish.tunnel is Tunnel.GUE:
        role, attached = found
        if attached.gue_port != role.wish.port:
            there = attached.gue_port or "no port"
            evidence = f"GUE is taken in at {there}, not at {role.wish.port}"
            yield Finding(role.interface, evidence, (_attach(role),))


def _refused(facts: Facts) -> Iterator[Finding]:
    if found := _present(facts):
        role, attached = found
        refused = [
            each for each in role.balancers if attached.sources and each not in attached.sources
        ]
        risen = {name: more for name, _, more in attached.risen}.get("foreign", 0)
        if refused:
            evidence = f"it takes tunnels of {_list(attached.sources)}, not of {_list(refused)}"
            yield Finding(role.interface, evidence, (_attach(role),))
        elif risen:
            evidence = f"{risen} packets of others than {_list(attached.sources)} while looking"
            yield Finding(role.interface, evidence, (_attach(role),))


def _left(facts: Facts) -> Iterator[Finding]:
    if found := _present(facts):
        role, attached = found
        risen = [f"{name} {more}" for name, _, more in attached.risen if name in _LEFT and more]
        if risen:
            remedy = f"kernlb realserver decap status {role.interface}"
            yield Finding(role.interface, f"while looking: {', '.join(risen)}", (remedy,))


def _list(addresses: object) -> str:
    shown = [str(each) for each in addresses] if isinstance(addresses, tuple | list) else []
    return ", ".join(shown) or "none"


def _attach(role: Role) -> str:
    words = [f"kernlb realserver decap attach {role.interface}"]
    words += [f"--address {each}" for each in role.wish.ends]
    words += [f"--source {each}" for each in role.balancers]
    if role.wish.tunnel is Tunnel.GUE:
        words.append(f"--gue-port {role.wish.port}")
    return " ".join(words)


CHECKS = (
    Check(
        id="decap-missing",
        severity=Severity.ERROR,
        means="Nothing takes the balancer's tunnels in: no device, and no decap in XDP.",
        why='The server answers each tunnelled packet with "protocol unreachable", and clients '
        "see their connections refused.",
        remedy="kernlb realserver decap attach INTERFACE",
        find=_absent,
    ),
    Check(
        id="decap-place-taken",
        severity=Severity.ERROR,
        means="Another XDP program is where decap should be.",
        why="One program fits on an interface; this one does not undo tunnels for kernlb.",
        remedy="ip link set INTERFACE xdpdrv off; kernlb realserver decap attach INTERFACE",
        find=_taken,
    ),
    Check(
        id="decap-generic",
        severity=Severity.WARNING,
        means="Decap runs in XDP's generic mode.",
        why="Each packet costs several times more there, behind an allocation and a copy.",
        remedy="kernlb realserver decap detach INTERFACE; kernlb realserver decap attach INTERFACE",
        find=_generic,
    ),
    Check(
        id="decap-other-address",
        severity=Severity.ERROR,
        means="Decap does not know an address that tunnels may come to.",
        why="It undoes tunnels to the addresses that it was given when it was attached; one that "
        "came later is not among them.",
        remedy="kernlb realserver decap attach INTERFACE",
        find=_wrong_ends,
    ),
    Check(
        id="decap-other-port",
        severity=Severity.ERROR,
        means="Decap takes GUE in at another UDP port than the balancer sends it to.",
        why="To the kernel it is UDP for a port where nobody listens.",
        remedy="kernlb realserver decap attach INTERFACE --gue-port PORT",
        find=_wrong_port,
    ),
    Check(
        id="decap-refuses-balancer",
        severity=Severity.ERROR,
        means="Decap refuses tunnels of a balancer.",
        why="It takes those of the sources that were named only, and the kernel has no use for "
        "the others.",
        remedy="kernlb realserver decap attach INTERFACE --source BALANCER",
        find=_refused,
    ),
    Check(
        id="decap-leaves-packets",
        severity=Severity.WARNING,
        means="Decap leaves tunnelled packets as they are.",
        why="Fragments, options and broken headers are not undone: something on the way makes "
        "them, often an MTU that is too small.",
        remedy="kernlb realserver decap status INTERFACE",
        find=_left,
    ),
)
