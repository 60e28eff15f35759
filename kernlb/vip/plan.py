"""Which VIPs to add, announce and remove. Pure.

Rules: an address that kernlb did not add is never removed, and never announced; one that was
already there when it became wanted is used as it is. Several services may want one address on
one interface: it goes when the last of them goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.model import IPAddress


class Holding(NamedTuple):
    """An address (as /32 or /128) on an interface."""

    address: IPAddress
    interface: str

    def __str__(self) -> str:
        return f"{self.address} on {self.interface}"


@dataclass(frozen=True, slots=True)
class AddVip:
    """``announce``: interface by which the address is made known, None for none."""

    vip: Holding
    announce: str | None

    def __str__(self) -> str:
        return f"+ vip     {self.vip}"


@dataclass(frozen=True, slots=True)
class RemoveVip:
    vip: Holding

    def __str__(self) -> str:
        return f"- vip     {self.vip}"


VipOp = AddVip | RemoveVip


def plan(
    wanted: Mapping[Holding, str | None], present: Set[Holding], owned: Set[Holding]
) -> list[VipOp]:
    """``wanted`` maps a holding to the interface that announces it. Adds come first."""
    adds: list[VipOp] = [
        AddVip(vip, announce) for vip, announce in wanted.items() if vip not in present
    ]
    return adds + [RemoveVip(vip) for vip in sorted(owned, key=str) if vip not in wanted]
