"""Keeps the program on the interfaces that settings name, and off those that they do not.

An interface may come and go, and another program may hold it: what could not be done is told once,
shown, and tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kernlb.control.protocol_xdp import XdpInterface
from kernlb.daemon.events import Events, sentence
from kernlb.datapath.xdp.attaching import Attached, attach, attached, detach
from kernlb.datapath.xdp.libbpf import Mode


class XdpInterfaces:
    """Those of this network namespace."""

    def __init__(self, root: Path, events: Events) -> None:
        self._root = root
        self._events = events
        self._wanted: tuple[str, ...] = ()
        self._mode = Mode.NATIVE
        self._there: dict[str, Attached] = {}
        self._errors: dict[str, str] = {}

    def want(self, names: Sequence[str], mode: str) -> None:
        self._wanted, self._mode = tuple(names), Mode(mode)
        self.keep()

    def keep(self) -> None:
        """Look, and put right what differs."""
        before = self._look()
        for name in self._wanted:
            if name in before and before[name].mode is self._mode:
                self._errors.pop(name, None)
                continue
            self._attach(name)
        for name in before.keys() - set(self._wanted):
            if detach(self._root, name):
                self._events.add(f"xdp: detached from {name}", "settings")
        self._errors = {name: why for name, why in self._errors.items() if name in self._wanted}
        self._there = self._look()

    def views(self) -> list[XdpInterface]:
        """As of the last look; those that are wanted, in their order."""
        modes = {name: str(each.mode) for name, each in self._there.items()}
        return [
            XdpInterface(name, modes.get(name, ""), self._errors.get(name, ""))
            for name in self._wanted
        ]

    def ifindexes(self) -> list[int]:
        return [each.ifindex for each in self._there.values()]

    def ifindex(self, name: str) -> int:
        """Of an interface that has the program, the first one for "". Raises OSError."""
        if not name:
            name = next((each for each in self._wanted if each in self._there), "")
        if name not in self._there:
            raise OSError(
                f"interface {name} has no XDP program" if name else "no interface has one"
            )
        return self._there[name].ifindex

    def name(self, ifindex: int) -> str:
        """ "" for one that is not attached."""
        return next((n for n, each in self._there.items() if each.ifindex == ifindex), "")

    def _look(self) -> dict[str, Attached]:
        return {each.interface: each for each in attached(self._root)}

    def _attach(self, name: str) -> None:
        try:
            made = attach(self._root, name, self._mode)
        except OSError as error:
            if self._errors.get(name) != sentence(error):
                self._events.add(f"xdp: {error}", "xdp")
            self._errors[name] = sentence(error)
            return
        self._errors.pop(name, None)
        loud = " (GENERIC: several times slower)" if made.mode is Mode.GENERIC else ""
        self._events.add(f"xdp: attached to {name} in {made.mode} mode{loud}", "xdp")
