"""The host's XDP in the daemon: loaded, attached, swept, its next hops kept, and told about.

It joins the parts; each says itself what it does. Rules:

* memory is told before it is taken;
* what is pinned when the daemon starts is taken up: connections, services, sizes;
* a stop leaves packets flowing; :meth:`XdpHost.remove` takes everything out;
* nothing here holds up the event loop: a sweep goes slice by slice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from kernlb.config.xdp_settings import XdpSettings
from kernlb.control.protocol_xdp import Explanation, MapDump, XdpStatus, XdpTable, XdpUnresolved
from kernlb.daemon.events import Events, sentence
from kernlb.daemon.guard import Work
from kernlb.daemon.hops import HopKeeper
from kernlb.daemon.xdp_following import FollowedDatapath
from kernlb.daemon.xdp_interfaces import XdpInterfaces
from kernlb.daemon.xdp_views import explanation_view
from kernlb.datapath.xdp import tuning, wanted
from kernlb.datapath.xdp.asking import ask
from kernlb.datapath.xdp.hop_door import HopDoor
from kernlb.datapath.xdp.layout import ABI_VERSION
from kernlb.datapath.xdp.loading import ATTACHED, Loaded, load, object_path, unload
from kernlb.datapath.xdp.memory import Sizes, memory
from kernlb.datapath.xdp.pins import Pins
from kernlb.datapath.xdp.sweeping import Sweeper
from kernlb.model import L4Protocol, ServerKey

NOTES_INTERVAL = 0.25  # seconds between two looks at what packets asked for
SWEEP_INTERVAL = 1.0  # between two slices of a sweep
KEEP_INTERVAL = 5.0  # between two looks at the interfaces

FOR_A_START = ("connections", "connections6", "services", "servers", "slots", "source_addresses")


class XdpHost:
    """One per daemon, from start to stop. ``datapath`` is for the reconciler."""

    def __init__(self, settings: XdpSettings, root: Path, events: Events) -> None:
        """Load the program, or take up what is loaded, and attach it.

        Raises DatapathUnavailableError and other OSErrors; what forwards then goes on."""
        self._root = root
        self._events = events
        self._settings = settings
        with ExitStack() as stack:
            self._loaded = _load(settings, root, events)
            stack.callback(self._loaded.close)
            self._memory = sum(each.footprint() for each in self._loaded.maps.values())
            self.datapath = FollowedDatapath(self._loaded)
            self._keeper = HopKeeper(
                HopDoor(), self.datapath, events, time.monotonic, settings.source_addresses
            )
            self.datapath.keeper = self._keeper
            self._sweeper = Sweeper(self._loaded, self.datapath)
            self._interfaces = XdpInterfaces(root, events)
            self._tune(settings)
            stack.pop_all()

    def _tune(self, settings: XdpSettings) -> None:
        memory = self.datapath.maps.settings
        tuning.write(memory, settings.timeouts, settings.icmp_per_second)
        self._interfaces.want(settings.interfaces, settings.mode)
        self._keeper.transmit_on(self._interfaces.ifindexes())

    def apply(self, settings: XdpSettings) -> None:
        """Settings as they are now. What waits for the next start is told."""
        before, self._settings = self._settings, settings
        for name in FOR_A_START:
            if getattr(before, name) != getattr(settings, name):
                self._events.add(f"xdp.{name} takes effect at the next start", "settings")
        if before != settings:
            self._tune(settings)

    def works(self) -> list[tuple[str, Work]]:
        """What is done in the background, each until cancelled."""
        return [
            ("next hops", self._keep_hops),
            ("notes of packets", partial(self._every, NOTES_INTERVAL, self._take_notes)),
            ("sweep", partial(self._every, SWEEP_INTERVAL, self._sweep)),
            ("interfaces", partial(self._every, KEEP_INTERVAL, self._keep)),
        ]

    async def _keep_hops(self) -> None:
        self._keeper.refresh()
        await self._keeper.run()

    async def _every(self, interval: float, work: Callable[[], None]) -> None:
        """What fails is told once, and tried again."""
        failing = ""
        while True:
            await asyncio.sleep(interval)
            try:
                work()
                failing = ""
            except OSError as error:
                if failing != sentence(error):
                    self._events.add(f"xdp: {sentence(error)}", "xdp")
                failing = sentence(error)

    def _take_notes(self) -> None:
        if notes := wanted.take(self._loaded.maps[wanted.MAP]):
            self._keeper.look_up(notes)

    def _sweep(self) -> None:
        self._sweeper.slice()
        self.datapath.follow()

    def _keep(self) -> None:
        self._interfaces.keep()
        self._keeper.transmit_on(self._interfaces.ifindexes())

    # -- what there is to tell

    def status(self) -> XdpStatus:
        return XdpStatus(
            program=self._loaded.programs[ATTACHED].tag,
            abi=ABI_VERSION,
            memory=self._memory,
            interfaces=self._interfaces.views(),
            tables=[XdpTable(*each) for each in self.datapath.tables()],
            half_open=self._sweeper.swept.half_open,
            unresolved=[
                XdpUnresolved(str(service), str(server), reason)
                for (service, server), reason in self._keeper.problems()
            ],
            warnings=[str(each) for each in self._loaded.warnings],
            packets={each.name.lower(): n for each, n in self.datapath.reasons().items()},
        )

    def explain(
        self, protocol: L4Protocol, client: ServerKey, to: ServerKey, within: bool, interface: str
    ) -> Explanation:
        """Raises ValueError and OSError for what cannot be asked."""
        ifindex = self._interfaces.ifindex(interface)
        answer = ask(self._loaded, protocol, client, to, within=within, ifindex=ifindex)
        name = self._interfaces.name(ifindex)
        return explanation_view(answer, protocol, client, to, name)

    def dump(self, maps: Sequence[str]) -> list[MapDump]:
        return [MapDump(*each) for each in self.datapath.dump(maps)]

    def remove(self) -> None:
        """Detach everywhere and remove what is pinned, connections and all."""
        unload(self._root)
        self._events.add("xdp: detached, and its maps removed", "stop")


def _load(settings: XdpSettings, root: Path, events: Events) -> Loaded:
    sizes = Sizes(
        settings.services,
        settings.servers,
        settings.slots,
        settings.connections,
        settings.connections6,
    )
    if not Pins(root).maps.exists():
        by_map = memory(sizes, object_path())
        largest = sorted(by_map, key=lambda name: -by_map[name])[:3]
        most = ", ".join(f"{name} {by_map[name] >> 20} MiB" for name in largest)
        total = sum(by_map.values()) >> 20
        events.add(f"xdp: making tables of {total} MiB ({most} ...)", "start")
    loaded = load(root, sizes)
    for warning in loaded.warnings:
        events.add(f"xdp: {warning}", "start")
    return loaded
