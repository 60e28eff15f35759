"""real_server blocks: a server with its checkers, as a value. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kernlb.migrate.keepalived.checkers import READERS, Asked, Checkers
from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.method import Method, read_method
from kernlb.migrate.keepalived.timing import Defaults, Timings
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import address, number, port, word
from kernlb.model import MAX_WEIGHT, IPAddress

MAX_THRESHOLD = 2**31 - 1

SCRIPT = "kernlb runs no scripts on changes: kernlb events tells them"
MAIL = "kernlb sends no mail: kernlb events and metrics tell what changed"


@dataclass(slots=True)
class Real:
    """One real server as its block says. ``port`` 0: none said. None: the virtual server's."""

    address: IPAddress
    port: int
    by: Directive
    weight: int | None = None
    method: Method | None = None
    upper: int = 0
    lower: int = 0
    defaults: Defaults = field(default_factory=Defaults)
    host: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    checkers: list[Directive] = field(default_factory=list)

    def checks(self, outer: Defaults, host: str | None, ledger: Ledger) -> list[Asked]:
        """What its checkers ask, with the defaults of its virtual server."""
        reader = Checkers(ledger, str(self.address), self.defaults.over(outer), self.host or host)
        for checker in self.checkers:
            reader.read(checker)
        return reader.asked


def read_real(directive: Directive, ledger: Ledger) -> Real | None:
    """None: keepalived ignores the whole block, and that is told."""
    try:
        real = Real(address(word(directive)), port(directive.args), directive)
    except ValueError as error:
        ledger.lost(directive, f"{error}: keepalived ignores it")
        return None
    ledger.use(directive, 2)
    reader = _Reader(real, ledger)
    ledger.dispatch(directive.block or (), reader.handlers(), frozenset(READERS))
    real.defaults = reader.timings.defaults()
    return real


class _Reader:
    def __init__(self, real: Real, ledger: Ledger) -> None:
        self._real = real
        self._ledger = ledger
        self.timings = Timings(ledger)

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        lost = self._ledger.lost
        return {
            "weight": self._weight,
            "lvs_method": self._method,
            "uthreshold": lambda d: self._threshold(d, "upper"),
            "lthreshold": lambda d: self._threshold(d, "lower"),
            "inhibit_on_failure": lambda d: self.timings.switch(d, "inhibit"),
            "alpha": lambda d: self.timings.switch(d, "alpha"),
            "notify_up": lambda d: lost(d, SCRIPT),
            "notify_down": lambda d: lost(d, SCRIPT),
            "smtp_alert": lambda d: lost(d, MAIL),
            "virtualhost": self._virtualhost,
            "snmp_name": lambda d: label(d, self._real.labels, self._ledger),
            **self.timings.handlers(),
            **dict.fromkeys(READERS, self._checker),
        }

    def _checker(self, directive: Directive) -> None:
        self._ledger.defer(directive)
        self._real.checkers.append(directive)

    def _weight(self, directive: Directive) -> None:
        try:
            self._real.weight = number(word(directive), 0, MAX_WEIGHT)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)

    def _threshold(self, directive: Directive, name: str) -> None:
        try:
            value = number(word(directive), 0, MAX_THRESHOLD)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        setattr(self._real, name, value)
        self._ledger.use(directive, 1)

    def _method(self, directive: Directive) -> None:
        self._real.method = read_method(directive, self._ledger) or self._real.method

    def _virtualhost(self, directive: Directive) -> None:
        try:
            self._real.host = word(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)


def label(directive: Directive, labels: dict[str, str], ledger: Ledger) -> None:
    """A name for SNMP is kept as a label."""
    if len(directive.args) != 1 or len(directive.args[0]) > 255:
        ledger.lost(directive, "must be one name")
        return
    if not directive.args[0].isprintable():
        ledger.lost(directive, "has characters that do not print")
        return
    labels["snmp-name"] = directive.args[0]
    ledger.use(directive)
