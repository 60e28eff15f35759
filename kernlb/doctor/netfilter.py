"""Rules of the packet filter as values, and what becomes of a packet among them. Pure.

Three-valued: a rule that tests what a :class:`Packet` does not say may match or not. A packet is
only called dropped where no such rule could have saved it, so that findings are never guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from kernlb.model import IPAddress

Network = IPv4Network | IPv6Network
Value = str | int | Network | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Match:
    """``field`` is one of Packet's, or "" for what is not understood. ``values`` None: a set whose
    content is not known."""

    field: str
    values: tuple[Value, ...] | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """``verdict``: accept, drop, reject, jump, goto, return, notrack, masquerade, snat, dnat, mark,
    or "" for one that lets packets go on. ``target``: chain of a jump, or the mark that is set."""

    text: str
    tests: tuple[Match, ...] = ()
    verdict: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Chain:
    """``hook`` "" for one that is jumped to. ``family``: ip, ip6 or inet."""

    family: str
    table: str
    name: str
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@dataclass(frozen=True, slots=True)
class Packet:
    """What is known of a packet. None: not known, so any test of it may match."""

    daddr: IPAddress
    saddr: IPAddress | None = None
    l4: str | None = None  # tcp, udp, sctp, ipip, gre, ipv6
    dport: int | None = None
    sport: int | None = None
    state: str | None = None  # of conntrack: new, established, invalid
    iif: str | None = None
    oif: str | None = None

    @property
    def family(self) -> str:
        return "ip" if self.daddr.version == 4 else "ip6"


@dataclass(frozen=True, slots=True)
class Fate:
    """What dropped a packet, or matched it: for evidence."""

    chain: Chain
    text: str

    def __str__(self) -> str:
        return f"{self.text} (chain {self.chain})"


@dataclass(frozen=True, slots=True)
class Ruleset:
    chains: tuple[Chain, ...] = ()
    unread: str = ""  # why rules of another program (iptables) could not be read
    _by_name: Mapping[tuple[str, str, str], Chain] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {(each.family, each.table, each.name): each for each in self.chains}
        object.__setattr__(self, "_by_name", index)

    def base(self, hooks: Iterable[str], packet: Packet) -> list[Chain]:
        """Chains that see the packet at these hooks, in the order in which they do."""
        order = list(hooks)
        found = [
            chain
            for chain in self.chains
            if chain.hook in order and chain.family in (packet.family, "inet")
        ]
        return sorted(found, key=lambda chain: (order.index(chain.hook), chain.priority))

    def drops(self, hooks: Iterable[str], packet: Packet, before: int = 1 << 31) -> Fate | None:
        """What certainly drops the packet at base chains with a priority below ``before``."""
        for chain in self.base(hooks, packet):
            if chain.priority < before and (fate := self._walk(chain, packet)) is not None:
                return fate
        return None

    def translating(self, packet: Packet) -> Fate | None:
        """The rule that certainly would change the packet's source at postrouting."""
        for chain in self.base(("postrouting",), packet):
            for rule, where in self._flat(chain, packet):
                if rule.verdict in ("masquerade", "snat") and _matches(rule, packet):
                    return Fate(where, rule.text)
        return None

    def sets_mark(self, mark: int) -> bool:
        """True if some rule may set it; also where what a rule sets is not understood."""
        rules = [rule for chain in self.chains for rule in chain.rules]
        return any(rule.verdict == "mark" and rule.target in (str(mark), "") for rule in rules)

    def _flat(self, chain: Chain, packet: Packet, depth: int = 0) -> Iterable[tuple[Rule, Chain]]:
        for rule in chain.rules:
            yield rule, chain
            if rule.verdict in ("jump", "goto") and depth < 16 and _matches(rule, packet):
                inner = self._by_name.get((chain.family, chain.table, rule.target))
                if inner is not None:
                    yield from self._flat(inner, packet, depth + 1)

    def _walk(self, chain: Chain, packet: Packet) -> Fate | None:
        end, fate = self._run(chain, packet, 0)
        if end == "drop":
            return fate
        if end == "" and chain.policy == "drop":
            return Fate(chain, "policy drop")
        return None

    def _run(self, chain: Chain, packet: Packet, depth: int) -> tuple[str, Fate | None]:
        """drop, accept, "" (fell through) or "?" (not certain any more)."""
        for rule in chain.rules:
            matched = _matches(rule, packet)
            if matched is False or rule.verdict in _GOING_ON:
                continue
            if matched is None:
                return "?", None  # whatever it does, it might do it
            if rule.verdict in ("drop", "reject"):
                return "drop", Fate(chain, rule.text)
            if rule.verdict == "accept":
                return "accept", None
            if rule.verdict == "return":
                return "", None
            if rule.verdict in ("jump", "goto"):
                inner = self._by_name.get((chain.family, chain.table, rule.target))
                if inner is None or depth > 16:
                    return "?", None
                end, fate = self._run(inner, packet, depth + 1)
                if end or rule.verdict == "goto":
                    return end, fate
        return "", None


_GOING_ON = ("", "masquerade", "snat", "dnat", "notrack", "mark")


def _matches(rule: Rule, packet: Packet) -> bool | None:
    """None: it depends on what is not known."""
    certain = True
    for test in rule.tests:
        found = _test(test, packet)
        if found is False:
            return False
        certain = certain and found is True
    return True if certain else None


def _test(test: Match, packet: Packet) -> bool | None:
    if test.field == "family":
        known: object = packet.family
    else:
        known = getattr(packet, test.field, None) if test.field else None
    if known is None or test.values is None:
        return None
    return any(_equal(value, known) for value in test.values) != test.negated


def _equal(value: Value, known: object) -> bool:
    if isinstance(value, IPv4Network | IPv6Network):
        return known in value
    if isinstance(value, tuple):
        return isinstance(known, int) and value[0] <= known <= value[1]
    return value == known


_IPTABLES = {"saddr": "-s", "daddr": "-d"}
_NUMBERS = {"ipip": "4", "ipv6": "41", "gre": "47"}  # names differ among programs


def letting(fate: Fate, packet: Packet) -> str:
    """The command that lets such packets pass where one was dropped, before all other rules."""
    chain = fate.chain
    ports = {name: number for name in ("sport", "dport") if (number := getattr(packet, name))}
    ends = {"saddr": packet.saddr, "daddr": None if packet.saddr else packet.daddr}
    known = {name: address for name, address in ends.items() if address is not None}
    l4 = _NUMBERS.get(packet.l4 or "", packet.l4)
    if chain.name.isupper():  # iptables' own chains, be it by nft or not
        words = [f"{_IPTABLES[name]} {address}" for name, address in known.items()]
        words += [f"-p {l4}"] if l4 else []
        words += [f"--{name} {number}" for name, number in ports.items()]
        program = "iptables" if packet.family == "ip" else "ip6tables"
        return f"{program} -t {chain.table} -I {chain.name} {' '.join(words)} -j ACCEPT"
    words = [f"{packet.family} {name} {address}" for name, address in known.items()]
    words += [f"{l4} {name} {number}" for name, number in ports.items()]
    if l4 and not ports:
        words.append(f"meta l4proto {l4}")
    return f"nft insert rule {chain} {' '.join(words)} accept"
