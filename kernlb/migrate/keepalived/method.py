"""Forwarding methods (lvs_method): NAT, DR, TUN with its tunnel. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import number

_METHODS = {"NAT": "nat", "DR": "dsr", "TUN": "tunnel"}
_TUNNELS = ("ipip", "gue", "gre")


@dataclass(frozen=True, slots=True)
class Method:
    """``tunnel`` as a document has it; None: plain IPIP, or no tunnel."""

    forwarding: str
    type: str = "ipip"
    port: int = 0
    checksum: bool = False

    @property
    def tunnel(self) -> dict[str, Any] | None:
        if self.forwarding != "tunnel" or (self.type == "ipip" and not self.checksum):
            return None
        document: dict[str, Any] = {"type": self.type}
        if self.port:
            document["port"] = self.port
        if self.checksum:
            document["checksum"] = True
        return document


NAT = Method("nat")


def read_method(directive: Directive, ledger: Ledger) -> Method | None:
    """None: keepalived ignores it, and that is told."""
    try:
        method = _parse(directive.args)
    except ValueError as error:
        ledger.lost(directive, str(error))
        return None
    if "remcsum" in directive.args:
        ledger.changed(directive, "no remote checksum offload: plain without checksum")
    else:
        ledger.use(directive)
    return method


def _parse(args: tuple[str, ...]) -> Method:
    if not args or args[0] not in _METHODS:
        raise ValueError(f"must be one of {', '.join(_METHODS)}")
    kind, port, check = "ipip", 0, ""
    words = list(args[1:])
    while words:
        option = words.pop(0)
        if option in ("nocsum", "csum", "remcsum"):
            check = option
        elif option == "type" and words and words[0] in _TUNNELS:
            kind = words.pop(0)
        elif option == "port" and words:
            port = number(words.pop(0), 1, 65_535)
        else:
            raise ValueError(f"{option} is no option of a tunnel that keepalived takes")
    if (kind == "gue") != (port != 0):
        raise ValueError("a port goes with type gue, which needs one")
    if (kind == "ipip" and check not in ("", "nocsum")) or (kind == "gre" and check == "remcsum"):
        raise ValueError(f"{check} does not go with type {kind}")
    return Method(_METHODS[args[0]], kind, port, check == "csum")
