"""The checkers of a real server to checks: what is asked of it. Pure.

What kernlb does not ask is told, and the nearest that it does ask stands in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from kernlb.migrate.keepalived.http import Http
from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.misc import misc_check
from kernlb.migrate.keepalived.timing import Defaults, Timing, Timings, Usual, timing
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.udp import Udp
from kernlb.migrate.keepalived.values import address, number, word
from kernlb.model import IPAddress

Item = dict[str, Any]

BIND = "probes leave by the address and port that the kernel chooses"
MARK = "probes have no firewall mark of their own"
LOG = "kernlb health shows every result"
ALPHA = "goes for the service as a whole: health.initial"
ELSEWHERE = "kernlb asks the server itself, at {}"
RECORDS = ("A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA")

Handlers = dict[str, Callable[[Directive], None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one checker asks, when, and whether a server must pass it first."""

    items: tuple[Item, ...]
    timing: Timing
    alpha: bool
    by: Directive


class Connection:
    """Where a checker connects to: ``port`` None is the server's."""

    def __init__(self, ledger: Ledger, server: IPAddress, timings: Timings) -> None:
        self._ledger = ledger
        self._server = server
        self._timings = timings
        self.port: int | None = None

    def handlers(self) -> Handlers:
        return {
            "connect_ip": self._ip,
            "connect_port": self._port,
            "bindto": lambda d: self._ledger.lost(d, BIND),
            "bind_if": lambda d: self._ledger.lost(d, BIND),
            "bind_port": lambda d: self._ledger.lost(d, BIND),
            "fwmark": lambda d: self._ledger.lost(d, MARK),
            "alpha": lambda d: self._timings.switch(d, "alpha"),
            "log_all_failures": lambda d: self._ledger.lost(d, LOG),
            **self._timings.handlers(),
        }

    def item(self, kind: str) -> Item:
        return {"type": kind} if self.port is None else {"type": kind, "port": self.port}

    def _ip(self, directive: Directive) -> None:
        try:
            here = address(word(directive)) == self._server
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        if here:
            self._ledger.use(directive, 1)
        else:
            self._ledger.lost(directive, ELSEWHERE.format(self._server))

    def _port(self, directive: Directive) -> None:
        try:
            self.port = number(word(directive), 1, 65_535)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)


class Checkers:
    """Reads the checkers of one real server."""

    def __init__(self, ledger: Ledger, server: str, defaults: Defaults, host: str | None) -> None:
        self._ledger = ledger
        self._server = ip_address(server)
        self._defaults = defaults
        self._host = host
        self.asked: list[Asked] = []

    def read(self, directive: Directive) -> None:
        READERS[directive.name](self, directive)

    def _start(self) -> tuple[Timings, Connection]:
        timings = Timings(self._ledger, least_retry=0)
        return timings, Connection(self._ledger, self._server, timings)

    def _finish(
        self, by: Directive, items: list[Item], timings: Timings, usual: Usual | None = None
    ) -> None:
        defaults = timings.defaults().over(self._defaults)
        when = timing(defaults, usual or Usual(), self._ledger)
        self.asked.append(Asked(tuple(items), when, bool(defaults.alpha), by))
        if not self._ledger.spoken(by):
            self._ledger.use(by, 0)

    def _tcp(self, directive: Directive) -> None:
        timings, connection = self._start()
        self._ledger.dispatch(directive.block or (), connection.handlers())
        self._finish(directive, [connection.item("tcp")], timings)

    def _ping(self, directive: Directive) -> None:
        timings, connection = self._start()
        self._ledger.dispatch(directive.block or (), connection.handlers())
        self._finish(directive, [{"type": "icmp"}], timings)
        if connection.port is not None:
            self._ledger.report.lost("connect_port", "icmp knows no port", directive.place)

    def _smtp(self, directive: Directive) -> None:
        timings, connection = self._start()
        ports: list[int | None] = []

        def host(block: Directive) -> None:
            inner = Connection(self._ledger, self._server, timings)
            self._ledger.dispatch(block.block or (), inner.handlers())
            self._ledger.use(block, 0)
            ports.append(inner.port)

        helo = "kernlb says nothing to the server: the connection is all that is asked"
        known = {
            **connection.handlers(),
            "helo_name": lambda d: self._ledger.lost(d, helo),
            "host": host,
        }
        self._ledger.dispatch(directive.block or (), known, frozenset({"host"}))
        self._ledger.changed(directive, "kernlb speaks no SMTP: a tcp check stands in")
        if not ports or connection.port is not None:
            ports.insert(0, connection.port)
        items = [
            {"type": "tcp"} if port is None else {"type": "tcp", "port": port}
            for port in dict.fromkeys(ports)
        ]
        self._finish(directive, items, timings)

    def _dns(self, directive: Directive) -> None:
        timings, connection = self._start()
        said = {"record": "SOA", "query": "."}

        def record(each: Directive) -> None:
            kind = each.args[0].upper() if each.args else ""
            if kind not in RECORDS:
                self._ledger.lost(each, f"must be one of {', '.join(RECORDS)}")
                return
            said["record"] = kind
            self._ledger.use(each, 1)

        def name(each: Directive) -> None:
            if not each.args:
                self._ledger.lost(each, "has no value")
                return
            said["query"] = each.args[0]
            self._ledger.use(each, 1)

        known = {**connection.handlers(), "type": record, "name": name}
        self._ledger.dispatch(directive.block or (), known)
        item = {**connection.item("dns"), **said}
        self._finish(directive, [item], timings, Usual(retry=3, before_retry=None))

    def _http(self, directive: Directive) -> None:
        timings, connection = self._start()
        reader = Http(self._ledger, directive, self._host)
        known = {**connection.handlers(), **reader.handlers()}
        known["nb_get_retry"] = known["retry"]
        self._ledger.dispatch(directive.block or (), known, frozenset({"url"}))
        items = reader.items(connection.item("https" if reader.tls else "http"))
        if not items:
            self._ledger.lost(directive, "has no url: keepalived ignores it")
            return
        self._finish(directive, items, timings, Usual(before_retry=3.0))

    def _misc(self, directive: Directive) -> None:
        timings = Timings(self._ledger, least_retry=0)
        known = dict(timings.handlers())
        known.pop("connect_timeout")
        known["alpha"] = lambda d: timings.switch(d, "alpha")
        known["log_all_failures"] = lambda d: self._ledger.lost(d, LOG)
        item, limit = misc_check(self._ledger, directive, known)
        if item is None:
            return
        wait = limit or timings.defaults().over(self._defaults).delay_loop
        self._finish(directive, [item], timings, Usual(retry=0, timeout=wait))

    def _udp(self, directive: Directive) -> None:
        timings, connection = self._start()
        reader = Udp(self._ledger)
        known = {**connection.handlers(), **reader.handlers()}
        self._ledger.dispatch(directive.block or (), known)
        item = reader.item(connection.item("udp"), directive)
        self._finish(directive, [item], timings)

    def _bfd(self, directive: Directive) -> None:
        known: Handlers = {
            "name": lambda d: self._ledger.lost(d, "no BFD session is watched"),
            "alpha": lambda d: timings.switch(d, "alpha"),
        }
        timings = Timings(self._ledger)
        self._ledger.dispatch(directive.block or (), known)
        self._ledger.changed(directive, "kernlb speaks no BFD: an icmp check stands in")
        self._finish(directive, [{"type": "icmp"}], timings)

    def _file(self, directive: Directive) -> None:
        why = "kernlb follows no file: an agent check or an exec check can take its place"
        self._ledger.lost(directive, why)


READERS: dict[str, Callable[[Checkers, Directive], None]] = {
    "TCP_CHECK": Checkers._tcp,
    "PING_CHECK": Checkers._ping,
    "SMTP_CHECK": Checkers._smtp,
    "DNS_CHECK": Checkers._dns,
    "HTTP_GET": Checkers._http,
    "SSL_GET": Checkers._http,
    "MISC_CHECK": Checkers._misc,
    "UDP_CHECK": Checkers._udp,
    "BFD_CHECK": Checkers._bfd,
    "FILE_CHECK": Checkers._file,
}
