"""The composition root: the one place where the daemon's parts are made and joined.

One asyncio process, one TaskGroup. A clean stop leaves the kernel forwarding, unless it was
asked to flush; a crash does so of itself, and the next start adopts what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kernlb import __version__
from kernlb.config import Fault
from kernlb.config.settings import load_settings
from kernlb.control.problem import RequestRefusedError
from kernlb.control.server import ControlServer
from kernlb.control.watching import Watchers
from kernlb.daemon import notify
from kernlb.daemon.audit import Audit
from kernlb.daemon.board import Board
from kernlb.daemon.carrying import Carrying
from kernlb.daemon.changes import Changes
from kernlb.daemon.deadlines import Deadlines
from kernlb.daemon.desired import Desired
from kernlb.daemon.documents import Documents
from kernlb.daemon.event_log import EventLog
from kernlb.daemon.events import Events
from kernlb.daemon.figures import Figures
from kernlb.daemon.guard import Guard, Work
from kernlb.daemon.health import HealthKeeper
from kernlb.daemon.health_views import HealthOverview
from kernlb.daemon.loop import Reconciler
from kernlb.daemon.monitoring import make_monitor, tune
from kernlb.daemon.opened import Opened
from kernlb.daemon.passive import PassiveWatch
from kernlb.daemon.probe_counts import ProbeCounts
from kernlb.daemon.replies import Replies
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.sampler import Sampler
from kernlb.daemon.scrape import MetricsServer
from kernlb.daemon.status import Overview
from kernlb.daemon.vips import AddressDoor, VipKeeper
from kernlb.datapath.own_addresses import address_on
from kernlb.datapath.xdp.hop_door import HopDoor
from kernlb.declaration import Declaration
from kernlb.page.routes import add_routes
from kernlb.store import Store
from kernlb.vip.asking import who_has

log = logging.getLogger("kernlb")


@dataclass(frozen=True, slots=True)
class Options:
    """Where things are, and what a stop does."""

    config_dir: Path
    state_dir: Path
    socket: Path
    flush_on_stop: bool = False
    fake: bool = False  # hold services in memory and forward nothing
    pins: Path = Path("/sys/fs/bpf/kernlb")


class App:
    """The daemon. ``run`` returns after a SIGTERM or SIGINT."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._settings = load_settings(options.config_dir / "kernlb.yaml")
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._events = Events(time.time)
        self._guard = Guard(self._events)
        self._runtime = RuntimeState.load(options.state_dir)

    async def run(self) -> None:
        """Serve until told to stop. Raises EndedError where that is no use."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._guard.hear)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        control = ControlServer(self._settings.control_group)
        try:
            control.claim(self._options.socket)  # before the kernel: another daemon may be at work
            self._assemble()
            await self._work(control)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await control.stop()

    def _assemble(self) -> None:
        options, clock = self._options, time.time
        self._event_log = EventLog(options.state_dir)
        self._events.keep(self._event_log)
        self._opened = opened = Opened(
            self._settings, self._events, options.pins, fake=options.fake
        )
        self._xdp = opened.xdp
        self._vips = VipKeeper(self._runtime, self._events, _address_door)
        replies = Replies(options.state_dir, self._events)
        self._carrying = Carrying(
            opened.carrier, HopDoor, address_on, who_has, replies, self._events
        )
        self._look_for_leftovers = opened.leftovers()
        self._health = HealthKeeper(
            opened.datapaths,
            self._runtime,
            self._events,
            self._carrying.carry,
            self._look,
        )
        counts = ProbeCounts()
        self._monitor = make_monitor(self._settings.health, self._health, counts)
        desired = Desired(self._runtime, clock, self._health)
        self._reconciler = Reconciler(
            opened.datapaths, self._runtime, desired, self._vips, self._events
        )
        self._deadlines = Deadlines(self._reconciler, clock)
        self._audit = Audit(self._reconciler, self._settings.audit_interval, clock)
        self._store = Store(options.config_dir / "services.d", self._settings.defaults)
        self._documents = Documents(self._store, opened.datapaths)
        self._changes = Changes(
            self._documents, self._reconciler, clock, self._deadlines.changed, self._read_settings
        )
        health = HealthOverview(self._health, counts, clock)
        self._sampler = Sampler(opened.datapaths, desired, clock, self._settings.overview_interval)
        self._overview = Overview(
            self._reconciler, self._audit, self._changes, opened.missing, clock, self._xdp, health
        )
        board = Board(self._overview, self._sampler, health, clock, self._troubles)
        self._watchers = Watchers(board, self._events)
        self._figures = Figures(
            self._overview,
            self._sampler,
            health,
            self._events,
            lambda: self._settings.metrics_servers,
        )

    async def _work(self, control: ControlServer) -> None:
        metrics = MetricsServer(
            self._figures, partial(add_routes, watchers=self._watchers, readers=self._overview)
        )
        try:
            self._opened.apply_host(self._settings)
            with _no_collection():
                await self._changes.start()
            _log_faults(self._changes.faults)
            # not before: a change beside nothing in force removes the rest
            await control.start(self._changes, self._overview, self._watchers)
            await self._start_metrics(metrics)
            log.info("kernlbd %s ready: %s", __version__, self._summary())
            notify.notify("READY=1", f"STATUS={self._summary()}")
            await self._serve()
        finally:
            notify.notify("STOPPING=1")
            with contextlib.suppress(asyncio.CancelledError):
                await control.stop()
                await metrics.stop()
            if self._options.flush_on_stop and self._stopping.is_set():
                await self._flush()  # a failed start is no stop
            self._monitor.stop()
            self._carrying.close()
            await self._vips.close()
            self._opened.close()
            self._event_log.close()

    async def _start_metrics(self, metrics: MetricsServer) -> None:
        listen = self._settings.metrics_listen
        if listen is None:
            return
        try:
            await metrics.start(listen)
        except OSError as error:  # balancing matters more than being watched
            self._events.add(f"cannot serve metrics on {listen}: {error}", "start")

    async def _serve(self) -> None:
        guard = self._guard
        essential, beside = self._works()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(guard.monitor(), name="monitor"),
                    *(tasks.create_task(guard.must(*each), name=each[0]) for each in essential),
                    *(tasks.create_task(guard.keep(*each), name=each[0]) for each in beside),
                ]
                await self._stopping.wait()
                for task in running:
                    task.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0]  # noqa: B904 - it has its cause

    def _works(self) -> tuple[list[tuple[str, Work]], list[tuple[str, Work]]]:
        """What the daemon is for, and what is done beside it."""
        reconciler = self._reconciler
        retries = partial(reconciler.retries.run, reconciler.wake, lambda: self._audit.interval)
        essential: list[tuple[str, Work]] = [
            ("audit", self._audit.run),
            ("deadlines", self._deadlines.run),
            ("retries", retries),
            ("health", partial(self._health.run, reconciler.wake)),
        ]
        beside: list[tuple[str, Work]] = [
            ("reload", self._reloads),
            ("probes at a VIP", self._carrying.run),
            ("sampler", self._sampler.run),
            ("watchdog", partial(notify.watchdog, self._summary)),
        ]
        if self._xdp is not None:
            desired = self._reconciler.desired
            passive = PassiveWatch(
                self._xdp.datapath,
                lambda: desired.declarations.values(),
                desired.serving,
                self._events,
                self._health.again,
                time.monotonic,
            )
            self._health.ejected = passive.ejected
            beside += [*self._xdp.works(), ("passive", passive.run)]
        return essential, beside

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            notify.reloading()
            try:
                await self._changes.reload()
                _log_faults(self._changes.faults)
            except RequestRefusedError as error:  # bad settings: the old ones stay in force
                _log_faults(Fault(f.message, f.file, f.line, f.key) for f in error.problem.faults)
            except OSError as error:
                self._events.add(f"cannot reload: {error}", "reload")
            notify.notify("READY=1", f"STATUS={self._summary()}")

    def _look(self, declared: Mapping[str, Declaration]) -> None:
        self._look_for_leftovers(declared)
        self._carrying.follow(declared)

    def _read_settings(self) -> None:
        """Settings as they are on disk now; raises ConfigError and keeps the old ones."""
        settings = load_settings(self._options.config_dir / "kernlb.yaml")
        if settings == self._settings:
            return
        self._settings = settings
        self._store.defaults = settings.defaults
        self._audit.interval = settings.audit_interval
        self._sampler.wanted = settings.overview_interval
        tune(self._monitor, settings.health)
        self._opened.apply_host(settings)
        if self._xdp is not None:
            self._xdp.apply(settings.xdp)
        elif settings.xdp.interfaces and not self._options.fake:
            self._events.add("xdp.interfaces takes effect at the next start of kernlbd", "settings")

    async def _flush(self) -> None:
        """Take out of the kernel what kernlb put there; what is foreign stays."""
        outcome = await self._reconciler.flush("stop")
        for error in outcome.errors:
            log.error("%s", error)
        if self._xdp is not None and not outcome.errors:
            self._xdp.remove()

    def _troubles(self) -> list[str]:
        """What is wrong with the daemon itself."""
        failing = self._event_log.failing
        unkept = [f"events are not kept on disk: {failing}"] if failing else []
        return [*unkept, *self._guard.troubles()]

    def _summary(self) -> str:
        declared = self._reconciler.desired.declarations.values()
        servers = sum(len(each.servers) for each in declared)
        return f"{len(declared)} services, {servers} servers"


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """What a start makes stays: looking for garbage among it costs a sixth of the time, then
    and at every full collection after."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def _log_faults(faults: Iterable[Fault]) -> None:
    for fault in faults:
        log.error("%s", fault)


def _address_door() -> AddressDoor:
    from kernlb.vip.netlink import Addresses  # pyroute2 is 0.3 s and 30 MB: only with VIPs

    return Addresses()
