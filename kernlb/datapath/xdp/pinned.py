"""What is pinned, read as it lies there: nothing is loaded, nothing is mended, any ABI will do.

:mod:`.adopting` takes maps over to work with them; this is for whoever only wants to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kernlb.datapath.xdp import reading
from kernlb.datapath.xdp.attaching import Attached, attached
from kernlb.datapath.xdp.layout import ABI, ABI_VERSION
from kernlb.datapath.xdp.libbpf import Map
from kernlb.datapath.xdp.loading import Loaded, sizes_of
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.pins import Pins
from kernlb.model import AddressKey


@dataclass(frozen=True, slots=True)
class Pinned:
    """``services``: how many servers each has; None where the maps are of another version.
    ``memory``: bytes of all maps."""

    interfaces: tuple[Attached, ...] = ()
    memory: int = 0
    services: Mapping[AddressKey, int] | None = field(default_factory=dict)


def look(root: Path) -> Pinned | None:
    """None where nothing is pinned. Raises OSError."""
    pins = Pins(root)
    if not any(each.exists() for each in (pins.maps, pins.programs, pins.links)):
        return None
    with ExitStack() as stack:
        paths = sorted(pins.maps.iterdir()) if pins.maps.exists() else ()
        maps = {path.name: stack.enter_context(Map.open_pinned(path)) for path in paths}
        memory = sum(each.footprint() for each in maps.values())
        return Pinned(attached(root), memory, _services(maps))


def _services(maps: Mapping[str, Map]) -> dict[AddressKey, int] | None:
    if not maps:
        return {}
    value = maps["abi"].lookup(bytes(4)) if "abi" in maps else None
    if value is None or len(value) < ABI.size:
        return None
    abi = ABI.unpack(value)
    if abi.version != ABI_VERSION:
        return None
    held = Maps.of(Loaded(maps, {}, sizes_of(abi), made=False))
    numbers = reading.numbers(held)
    return {key: len(reading.members(held, held.service(n))) for key, n in numbers.items()}
