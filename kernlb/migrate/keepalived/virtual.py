"""virtual_server blocks as values: what is said of the service, its servers beside it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.method import Method, read_method
from kernlb.migrate.keepalived.real import MAIL, Real, label, read_real
from kernlb.migrate.keepalived.timing import Defaults, Timings
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import address, netmask_prefix, number, port, word
from kernlb.model import MAX_WEIGHT, IPAddress, Scheduler

MAX_PERSISTENCE = 31 * 24 * 60 * 60
PERSISTENCE = 360  # seconds, keepalived's default
MAX_QUORUM = 2**31 - 1

_FLAGS = {
    # IP_VS_SVC_F_SCHED1 and 2 by the scheduler that reads them (include/uapi/linux/ip_vs.h)
    "sh": {"flag-1": "sh-fallback", "flag-2": "sh-port"},
    "mh": {"flag-1": "mh-fallback", "flag-2": "mh-port"},
}

QUORUM_SCRIPT = "kernlb runs no scripts: health.withdraw_vip takes the address away by itself"
SUSPEND = "servers are asked whether or not the address is on this host"
OMEGA = "kernlb runs no scripts when it stops"
LATE = "must stand after lvs_sched {}: keepalived ignores it"


@dataclass(slots=True)
class Sorry:
    address: IPAddress
    port: int
    by: Directive
    method: Method | None


@dataclass(slots=True)
class Virtual:
    """One virtual_server block. ``family`` 4 or 6, 0: not said."""

    by: Directive
    scheduler: str | None = None
    flags: list[str] = field(default_factory=list)
    one_packet: Directive | None = None
    method: Method | None = None
    persistence: int | None = None
    engine: Directive | None = None
    granularity: Directive | None = None
    protocol: str | None = None
    protocol_by: Directive | None = None
    family: int = 0
    weight: int = 1
    quorum: tuple[int, Directive] | None = None
    hysteresis: tuple[int, Directive] | None = None
    host: str | None = None
    defaults: Defaults = field(default_factory=Defaults)
    labels: dict[str, str] = field(default_factory=dict)
    sorry: Sorry | None = None
    servers: list[Real] = field(default_factory=list)


def read_virtual(directive: Directive, ledger: Ledger, family: int) -> Virtual:
    """The block of a virtual server; its arguments are somebody else's."""
    reader = _Reader(Virtual(directive, family=family), ledger)
    ledger.dispatch(directive.block or (), reader.handlers(), _REPEATED)
    reader.virtual.defaults = reader.timings.defaults()
    return reader.virtual


_MANY = frozenset(
    {"flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback"}
)
# A method counts for the servers below it.
_REPEATED = _MANY | {"real_server", "lvs_method", "lb_kind"}


class _Reader:
    def __init__(self, virtual: Virtual, ledger: Ledger) -> None:
        self.virtual = virtual
        self._ledger = ledger
        self.timings = Timings(ledger)

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        lost = self._ledger.lost
        return {
            "lvs_sched": self._scheduler,
            "lb_algo": self._scheduler,
            "lvs_method": self._method,
            "lb_kind": self._method,
            **dict.fromkeys(_MANY, self._flag),
            "ops": lambda d: self._keep(d, "one_packet", d, 0),
            "hashed": lambda d: lost(d, "means nothing: the kernel hashes its services always"),
            "persistence_timeout": self._persistence,
            "persistence_engine": lambda d: self._keep(d, "engine", d, 1),
            "persistence_granularity": self._granularity,
            "protocol": self._protocol,
            "ip_family": self._family,
            "ha_suspend": lambda d: lost(d, SUSPEND),
            "smtp_alert": lambda d: lost(d, MAIL),
            "virtualhost": lambda d: self._word(d, "host"),
            "snmp_name": lambda d: label(d, self.virtual.labels, self._ledger),
            "alpha": lambda d: self.timings.switch(d, "alpha"),
            "omega": lambda d: lost(d, OMEGA),
            "inhibit_on_failure": lambda d: self.timings.switch(d, "inhibit"),
            "quorum": lambda d: self._count(d, "quorum", 1),
            "hysteresis": lambda d: self._count(d, "hysteresis", 0),
            "quorum_up": lambda d: lost(d, QUORUM_SCRIPT),
            "quorum_down": lambda d: lost(d, QUORUM_SCRIPT),
            "weight": self._weight,
            "sorry_server": self._sorry,
            "sorry_server_inhibit": lambda d: lost(
                d, "a sorry server that is not in use is not in the kernel"
            ),
            "sorry_server_lvs_method": self._sorry_method,
            "real_server": self._real,
            **self.timings.handlers(),
        }

    def _keep(self, directive: Directive, name: str, value: Any, words: int) -> None:
        setattr(self.virtual, name, value)
        self._ledger.use(directive, words)

    def _word(self, directive: Directive, name: str) -> None:
        try:
            value = word(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, name, value, 1)

    def _scheduler(self, directive: Directive) -> None:
        known = [each.value for each in Scheduler]
        if not directive.args or directive.args[0] not in known:
            self._ledger.lost(directive, f"must be one of {', '.join(known)}")
            return
        self._keep(directive, "scheduler", directive.args[0], 1)

    def _flag(self, directive: Directive) -> None:
        flag = directive.name
        scheduler = self.virtual.scheduler or ""
        if flag.startswith("flag-"):
            meant = _FLAGS.get(scheduler, {}).get(flag)
            if meant is None:
                self._ledger.lost(directive, f"means nothing to scheduler {scheduler or 'wlc'}")
                return
            flag = meant
        elif flag[:2] != scheduler:
            self._ledger.lost(directive, LATE.format(flag[:2]))
            return
        self.virtual.flags.append(flag)
        self._ledger.use(directive, 0)

    def _method(self, directive: Directive) -> None:
        self.virtual.method = read_method(directive, self._ledger) or self.virtual.method

    def _persistence(self, directive: Directive) -> None:
        try:
            said = number(word(directive), 1, MAX_PERSISTENCE) if directive.args else PERSISTENCE
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, "persistence", said, 1)

    def _granularity(self, directive: Directive) -> None:
        try:
            text = word(directive)
            if not self.virtual.family:
                self.virtual.family = 4 if "." in text else 6
            if self.virtual.family == 4:
                netmask_prefix(text)
            else:
                number(text, 1, 128)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, "granularity", directive, 1)

    def _protocol(self, directive: Directive) -> None:
        said = directive.args[0].lower() if directive.args else ""
        if said not in ("tcp", "udp", "sctp"):
            self._ledger.lost(directive, "must be TCP, UDP or SCTP")
            return
        self.virtual.protocol_by = directive
        self._keep(directive, "protocol", said, 1)

    def _family(self, directive: Directive) -> None:
        said = {"inet": 4, "inet6": 6}.get(directive.args[0] if directive.args else "", 0)
        if not said or self.virtual.family not in (0, said):
            self._ledger.lost(directive, "must be inet or inet6, as the servers are")
            return
        self._keep(directive, "family", said, 1)

    def _count(self, directive: Directive, name: str, least: int) -> None:
        try:
            value = number(word(directive), least, MAX_QUORUM)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, name, (value, directive), 1)

    def _weight(self, directive: Directive) -> None:
        try:
            value = number(word(directive), 1, MAX_WEIGHT)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, "weight", value, 1)

    def _sorry(self, directive: Directive) -> None:
        try:
            where, at = address(word(directive)), port(directive.args)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._keep(directive, "sorry", Sorry(where, at, directive, self.virtual.method), 2)

    def _sorry_method(self, directive: Directive) -> None:
        if self.virtual.sorry is None:
            self._ledger.lost(directive, "must stand after sorry_server: keepalived ignores it")
            return
        method = read_method(directive, self._ledger)
        self.virtual.sorry.method = method or self.virtual.sorry.method

    def _real(self, directive: Directive) -> None:
        real = read_real(directive, self._ledger)
        if real is None:
            return
        real.method = real.method or self.virtual.method  # as it stands here, not at the end
        if (real.method is None or real.method.forwarding != "tunnel") and not self.virtual.family:
            self.virtual.family = real.address.version
        self.virtual.servers.append(real)
