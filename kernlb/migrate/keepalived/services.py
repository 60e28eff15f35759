"""Virtual servers to service documents: one for each key that clients connect to. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from kernlb.migrate.keepalived.checkers import ALPHA
from kernlb.migrate.keepalived.combining import asked_at, combined, most_common
from kernlb.migrate.keepalived.keys import Key
from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.method import NAT, Method
from kernlb.migrate.keepalived.policy import health
from kernlb.migrate.keepalived.real import Real
from kernlb.migrate.keepalived.values import netmask_prefix
from kernlb.migrate.keepalived.virtual import PERSISTENCE, Virtual
from kernlb.migrate.report import Document, Place, Report, Translated, default_name

FAMILIES = {4: "ipv4", 6: "ipv6"}
_HASHED = ("sh", "mh")
_UNUSED = "IPVS takes no notice of this port: a service on every port keeps the client's"


@dataclass(slots=True)
class _Server:
    real: Real
    method: Method
    weight: int
    check: Document | str


def documents(virtual: Virtual, keys: tuple[Key, ...], group: str, ledger: Ledger) -> None:
    """Adds the services of one virtual server to the report. ``group`` "": it is no group's."""
    report = ledger.report
    _Service(virtual, group, ledger).translate(keys, report)


class _Service:
    def __init__(self, virtual: Virtual, group: str, ledger: Ledger) -> None:
        self._virtual = virtual
        self._group = group
        self._ledger = ledger
        self._report = ledger.report
        self._servers: list[_Server] = []
        self._method = virtual.method or NAT
        self._told: set[tuple[str, int]] = set()

    def translate(self, keys: tuple[Key, ...], report: Report) -> None:
        virtual = self._virtual
        self._servers = self._read_servers()
        if not self._servers:
            self._ledger.lost(virtual.by, "has no real servers: keepalived ignores it")
            return
        common = self._common(keys)
        for key in keys:
            document, places = self._document(key, common)
            if not document:
                continue
            prefix = f"{self._group}-" if self._group else ""
            name = report.name(prefix + default_name(document))
            report.add(Translated(name, document, key.place, places))

    def _read_servers(self) -> list[_Server]:
        virtual = self._virtual
        found: list[_Server] = []
        seen: set[tuple[Any, int]] = set()
        alphas: dict[bool, Real] = {}
        inhibits: dict[bool, Real] = {}
        for real in virtual.servers:
            asked = real.checks(virtual.defaults, virtual.host, self._ledger)
            if (real.address, real.port) in seen:
                self._ledger.lost(real.by, "is there already: keepalived ignores the second")
                continue
            seen.add((real.address, real.port))
            defaults = real.defaults.over(virtual.defaults)
            inhibits.setdefault(bool(defaults.inhibit), real)
            if asked:
                alphas.setdefault(any(each.alpha for each in asked), real)
            weight = virtual.weight if real.weight is None else real.weight
            method = real.method or self._method
            found.append(_Server(real, method, weight, combined(asked, self._report)))
        alone = not alphas and bool(virtual.defaults.alpha)
        self._alpha, self._inhibit = True in alphas or alone, True in inhibits
        if len(alphas) > 1:
            self._report.changed(
                "alpha", f"{ALPHA}, and all its servers wait", alphas[True].by.place
            )
        if len(inhibits) > 1:
            why = "goes for the service as a whole (health.on_down): all its servers stay"
            self._report.changed("inhibit_on_failure", why, inhibits[True].by.place)
        return found

    def _common(self, keys: tuple[Key, ...]) -> Document:
        """What the documents of all keys say alike, without their keys."""
        virtual = self._virtual
        scheduler = virtual.scheduler or "wlc"
        common: Document = {"datapath": "ipvs", "scheduler": scheduler}
        flags = [flag for flag in dict.fromkeys(virtual.flags) if flag.startswith(scheduler)]
        if scheduler in _HASHED and flags != [f"{scheduler}-fallback"]:
            common["scheduler_flags"] = flags
        for flag in virtual.flags:
            if flag not in flags:
                why = f"{flag} does not go with scheduler {scheduler}"
                self._report.lost(flag, why, virtual.by.place)
        total = sum(server.weight for server in self._servers)
        common["health"] = health(virtual, total, self._alpha, self._inhibit, self._report)
        if virtual.labels:
            common["labels"] = dict(virtual.labels)
        return common

    def _document(self, key: Key, common: Document) -> tuple[Document, dict[Any, Place]]:
        virtual = self._virtual
        family = key.family or virtual.family or self._family_of_tunnels()
        document: Document = self._key(key, family)
        document["datapath"] = common["datapath"]
        document |= {name: value for name, value in common.items() if name != "health"}
        if persistence := self._persistence(key, family):
            document["persistence"] = persistence
        if virtual.one_packet is not None:
            if key.fwmark or document.get("protocol") == "udp":
                document["one_packet"] = True
            else:
                self._once(virtual.one_packet.text, "goes with UDP only", virtual.one_packet.place)
        servers = [
            s for s in self._servers if self._fits(s.method, s.real.address.version, family, s)
        ]
        method = Counter(server.method for server in servers).most_common(1)
        usual = method[0][0] if method else self._method
        document["forwarding"] = usual.forwarding
        if usual.tunnel:
            document["tunnel"] = usual.tunnel
        checks = {id(server): self._check_at(server, key) for server in servers}
        document["check"] = most_common(list(checks.values()))
        document["health"] = common["health"]
        places: dict[Any, Place] = {}
        self._add_sorry(document, places, key, family, usual)
        document["servers"] = []
        for index, server in enumerate(servers):
            places[("servers", index)] = server.real.by.place
            said = self._server(server, key, usual)
            if checks[id(server)] != document["check"]:
                said["check"] = checks[id(server)]
            document["servers"].append(said)
        return document, places

    def _key(self, key: Key, family: int) -> Document:
        virtual = self._virtual
        if key.fwmark:
            document: Document = {"fwmark": key.fwmark}
            if family == 6:
                document["family"] = "ipv6"
            if virtual.protocol_by is not None and not self._group:
                by = virtual.protocol_by
                self._once(by.text, "does not go with fwmark: keepalived ignores it", by.place)
            return document
        protocol = virtual.protocol
        if protocol is None:
            self._once("", "no protocol is said: keepalived takes UDP", virtual.by.place)
            protocol = "udp"
        return {"address": str(key.address), "port": key.port, "protocol": protocol}

    def _persistence(self, key: Key, family: int) -> Document | int | None:
        virtual = self._virtual
        timeout = virtual.persistence
        if timeout is None and virtual.granularity is not None:
            timeout = PERSISTENCE
        if timeout is None and not key.port and not key.fwmark:
            why = f"a service on every port is persistent: {PERSISTENCE} s, as keepalived makes it"
            self._once("", why, key.place)
            timeout = PERSISTENCE
        if timeout is None:
            if virtual.engine is not None:
                self._once(virtual.engine.text, "goes with persistence only", virtual.engine.place)
            return None
        said: Document = {"timeout": timeout}
        if virtual.granularity is not None:
            text = virtual.granularity.args[0]
            if (family == 4) != ("." in text):
                self._once(virtual.granularity.text, "is of another family", key.place)
            else:
                said["prefix"] = netmask_prefix(text) if family == 4 else int(text)
        if virtual.engine is not None:
            engine = virtual.engine.args[0] if virtual.engine.args else ""
            if engine == "sip" and (key.fwmark or (virtual.protocol or "udp") == "udp"):
                said["engine"] = engine
            else:
                self._once(virtual.engine.text, "is sip, for UDP, or nothing", virtual.engine.place)
        return timeout if set(said) == {"timeout"} else said

    def _check_at(self, server: _Server, key: Key) -> Document | str:
        """Its check, at the port it has in keepalived where it has another or none here."""
        real = server.real
        here = key.port if server.method.forwarding != "nat" or not real.port else real.port
        kept = here == real.port and (key.port or key.fwmark)
        if not real.port or kept or not isinstance(server.check, dict):
            return server.check
        items = server.check.get("all")
        if items is None:
            return asked_at(server.check, real.port)
        return {**server.check, "all": [asked_at(item, real.port) for item in items]}

    def _server(self, server: _Server, key: Key, usual: Method) -> Document:
        real = server.real
        said: Document = {"address": str(real.address)}
        if port := self._port(server.method, real.port, key, real.by.text, real.by.place):
            said["port"] = port
        if server.weight != 1:
            said["weight"] = server.weight
        self._add_method(said, server.method, usual)
        if real.upper:
            said["upper_threshold"] = real.upper
        if real.lower:
            said["lower_threshold"] = real.lower
        if real.labels:
            said["labels"] = dict(real.labels)
        return said

    def _add_method(self, said: Document, method: Method, usual: Method) -> None:
        if method.forwarding != usual.forwarding:
            said["forwarding"] = method.forwarding
        if method.forwarding == "tunnel" and method.tunnel != usual.tunnel:
            said["tunnel"] = method.tunnel or {"type": "ipip"}

    def _port(self, method: Method, port: int, key: Key, text: str, place: Place) -> int:
        """0: left out, the service's."""
        if method.forwarding != "nat":
            if port and port != key.port:
                why = f"forwarding {method.forwarding} does not change ports: it is the service's"
                self._once(text, why, place)
            return 0
        if port and not key.port and not key.fwmark:
            self._change(text, _UNUSED, place)
            return 0
        if not port and key.port and self._group:
            self._change(text, "has no port: it is that of the service", place)
        return 0 if port == key.port else port

    def _add_sorry(
        self, document: Document, places: dict[Any, Place], key: Key, family: int, usual: Method
    ) -> None:
        sorry = self._virtual.sorry
        if sorry is None:
            return
        method = sorry.method or self._method
        if not self._fits(method, sorry.address.version, family, None):
            return
        said: Document = {"address": str(sorry.address)}
        if port := self._port(method, sorry.port, key, sorry.by.text, sorry.by.place):
            said["port"] = port
        self._add_method(said, method, usual)
        document["sorry_server"] = said
        places[("sorry_server",)] = sorry.by.place

    def _fits(self, method: Method, version: int, family: int, server: _Server | None) -> bool:
        if method.forwarding == "tunnel" or version == family:
            return True
        sorry = self._virtual.sorry
        by = server.real.by if server is not None else (sorry.by if sorry else self._virtual.by)
        why = f"is not of the family of the service, {FAMILIES[family]}: keepalived ignores it"
        self._lose_once(by.text, why, by.place)
        return False

    def _family_of_tunnels(self) -> int:
        """Of a mark whose servers are all behind tunnels: theirs if they agree, or IPv4."""
        versions = {server.real.address.version for server in self._servers}
        if self._virtual.sorry is not None:
            versions.add(self._virtual.sorry.address.version)
        return versions.pop() if len(versions) == 1 and not self._group else 4

    def _once(self, text: str, why: str, place: Place) -> None:
        if (why, place.line) not in self._told:
            self._told.add((why, place.line))
            self._report.note(text, why, place)

    def _change(self, text: str, why: str, place: Place) -> None:
        if (why, place.line) not in self._told:
            self._told.add((why, place.line))
            self._report.changed(text, why, place)

    def _lose_once(self, text: str, why: str, place: Place) -> None:
        if (why, place.line) not in self._told:
            self._told.add((why, place.line))
            self._report.lost(text, why, place)
