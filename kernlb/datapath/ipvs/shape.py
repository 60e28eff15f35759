"""Reading many messages of one layout at the speed of ``struct``. Pure.

A kernel puts the attributes of every real server in the same order with the same sizes. The
first message of a length is walked attribute by attribute and its places are remembered; the
others of that length are unpacked in one go. A layout that is not as expected is walked, always.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from kernlb.datapath.ipvs.attributes import MESSAGE_HEADER, MalformedReplyError, Run, nested, walk

Row = tuple[Any, ...]
Path = tuple[int, ...]


class Shape:
    """Rows of chosen attributes out of messages.

    ``wanted`` lists (path below ``nest``, struct format, value where the attribute is absent;
    None where it must be present), in the order in which the kernel sends them."""

    def __init__(self, nest: int, wanted: tuple[tuple[Path, str, Any], ...]) -> None:
        self._nest = nest
        self._wanted = tuple((path, struct.Struct("=" + form), d) for path, form, d in wanted)
        self._layouts: dict[int, struct.Struct | None] = {}

    def rows(self, run: Run) -> Iterator[Row]:
        if run.length not in self._layouts:
            if len(self._layouts) > 64:  # lengths are the kernel's; a handful exists
                self._layouts.clear()
            self._layouts[run.length] = self._learn(run)
        layout = self._layouts[run.length]
        if layout is None:
            return self._walked(run)
        view = memoryview(run.data)[run.start : run.start + run.length * run.messages]
        return layout.iter_unpack(view)

    def _learn(self, run: Run) -> struct.Struct | None:
        places = self._places(run.data, run.start, run.start + run.length)
        at, form = run.start, "="
        for (_path, packing, _default), place in zip(self._wanted, places, strict=True):
            if place is None or place[1] - place[0] != packing.size or place[0] < at:
                return None
            form += f"{place[0] - at}x{packing.format[1:]}"
            at = place[0] + packing.size
        return struct.Struct(f"{form}{run.start + run.length - at}x")

    def _walked(self, run: Run) -> Iterator[Row]:
        for start in range(run.start, run.start + run.length * run.messages, run.length):
            row = []
            places = self._places(run.data, start, start + run.length)
            for (path, packing, default), place in zip(self._wanted, places, strict=True):
                if place is not None and place[1] - place[0] >= packing.size:
                    row.append(packing.unpack_from(run.data, place[0])[0])
                elif place is None and default is not None:
                    row.append(default)
                else:
                    raise MalformedReplyError(f"attribute {path} is missing or short")
            yield tuple(row)

    def _places(self, data: bytes, start: int, end: int) -> list[tuple[int, int] | None]:
        if end - start < MESSAGE_HEADER:
            raise MalformedReplyError(f"message of {end - start} bytes")
        found: dict[Path, dict[int, tuple[int, int]]] = {(): nested(data, start, end, self._nest)}
        places: list[tuple[int, int] | None] = []
        for path, _packing, _default in self._wanted:
            parent = path[:-1]
            if parent not in found:
                place = found[()].get(parent[0])
                found[parent] = walk(data, *place) if place else {}
            places.append(found[parent].get(path[-1]))
        return places
