"""The audit: walks all services slowly, so that drift is found without any being polled hard.

Each service is looked at once per ``interval`` seconds, a few at a time; a look is one cheap
fingerprint unless something is wrong. Once per walk it also takes stock of services in the
kernel that are not kernlb's, and of the VIPs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil

from kernlb.daemon.loop import Reconciler
from kernlb.model import ServiceRef, VirtualService

STEPS = 20  # pauses per walk; more would cost wake-ups, fewer would bunch the work
LOOKS = 4  # services looked at between two turns of the event loop


class Audit:
    """One endless walk. ``foreign`` and ``finished`` (seconds since the epoch) are of the last."""

    def __init__(self, reconciler: Reconciler, interval: float, clock: Callable[[], float]) -> None:
        self.interval = interval
        self.foreign: dict[ServiceRef, VirtualService] = {}
        self.finished = 0.0
        self._reconciler = reconciler
        self._clock = clock

    async def run(self) -> None:
        """Walk until cancelled."""
        while True:
            pause = self.interval / STEPS
            try:
                await self.walk(pause)
            except OSError as error:  # whatever it is, the next walk looks again
                self._reconciler.events.add(f"cannot finish the audit: {error}", "audit")
                await asyncio.sleep(pause)

    async def walk(self, pause: float = 0.0) -> None:
        """Look at every service once, pausing ``pause`` seconds between the steps."""
        self.take_stock()
        reconciler = self._reconciler
        refs = reconciler.desired.refs()
        size = max(1, ceil(len(refs) / STEPS))
        for step in range(STEPS):
            part = refs[step * size : (step + 1) * size]
            if step == 0:
                await reconciler.audit([], vips=True)
            for at in range(0, len(part), LOOKS):
                await reconciler.audit(part[at : at + LOOKS])
                await asyncio.sleep(0)  # whoever asks for a change waits for a few looks only
            if pause:
                await asyncio.sleep(pause)
        self.finished = self._clock()

    def take_stock(self) -> None:
        """Find the services that are in the kernel and not kernlb's."""
        owned = self._reconciler.runtime.owned
        foreign: dict[ServiceRef, VirtualService] = {}
        for kind, datapath in self._reconciler.datapaths.items():
            try:
                services = datapath.services()
            except OSError:
                continue  # what is wrong with the datapath is in the status already
            for service in services:
                ref = ServiceRef(kind, service.key)
                if ref not in owned:
                    foreign[ref] = service
        for ref in foreign.keys() - self.foreign.keys():
            self._reconciler.events.add(
                f"foreign service {ref.key} seen; it is left alone", "audit"
            )
        self.foreign = foreign
