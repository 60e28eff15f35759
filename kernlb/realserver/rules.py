"""Tables of nftables that a real server may need, as text for `nft -f`. Pure.

Each carries a digest of itself in its comment, by which it is known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from kernlb.model import IPAddress
from kernlb.realserver.slots import TABLE


def arp_guard(vips: Sequence[IPAddress], interface: str, own: IPAddress) -> str:
    """Nobody is told that a VIP (IPv4) is here, and this host asks as ``own`` instead."""
    held = _set(vips)
    return _table(
        "arp",
        _chain("input", "filter", f"arp operation request arp daddr ip {held} drop"),
        _chain(
            "output", "filter", f'oifname "{interface}" arp saddr ip {held} arp saddr ip set {own}'
        ),
    )


def mss_limit(limits: Sequence[tuple[Sequence[IPAddress], int]]) -> str:
    """Answers of VIPs ask for segments of at most so many bytes; each of ``limits`` is of one
    family."""
    lines = []
    for vips, most in limits:
        family = "ip" if vips[0].version == 4 else "ip6"
        option = "tcp option maxseg size"
        lines.append(
            f"{family} saddr {_set(vips)} tcp flags syn {option} > {most} {option} set {most}"
        )
    return _table("inet", _chain("output", "mangle", *lines))


def _set(addresses: Sequence[IPAddress]) -> str:
    return f"{{ {', '.join(map(str, sorted(addresses, key=int)))} }}"


def _chain(hook: str, priority: str, *lines: str) -> str:
    kind = f"type filter hook {hook} priority {priority}; policy accept;"
    body = "\n".join(f"        {line}" for line in (kind, *lines))
    return f"    chain {hook} {{\n{body}\n    }}\n"


def _table(family: str, *chains: str) -> str:
    body = "".join(chains)
    digest = sha256(f"{family}\n{body}".encode()).hexdigest()[:16]
    return f'table {family} {TABLE} {{\n    comment "kernlb {digest}"\n{body}}}\n'
