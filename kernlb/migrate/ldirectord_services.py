"""Virtual services of ldirectord to documents. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernlb.migrate.keepalived.values import netmask_prefix, number
from kernlb.migrate.ldirectord_checks import Asking, check_of
from kernlb.migrate.ldirectord_places import place_of, places_of
from kernlb.migrate.report import Document, Place, Report, Translated, default_name
from kernlb.model import MAX_FWMARK, MAX_WEIGHT, Scheduler, SchedulerFlag

if TYPE_CHECKING:
    from kernlb.migrate.ldirectord import Setting

FORWARDING = {"gate": "dsr", "masq": "nat", "ipip": "tunnel"}
MAX_PERSISTENCE = 31 * 24 * 60 * 60
MAX_THRESHOLD = 2**31 - 1

KNOWN = frozenset(
    {
        *("real", "real6", "fallback", "fallback6", "scheduler", "schedflags", "persistent"),
        *("netmask", "protocol", "ops", "quiescent", "servicename", "comment"),
        *("checktype", "service", "checkcommand", "checkport", "request", "receive"),
        *("httpmethod", "virtualhost", "login", "passwd", "database", "secret"),
        *("checktimeout", "negotiatetimeout", "checkinterval", "failurecount"),
    }
)

_REAL = re.compile(
    r"(?P<where>\S+)\s+(?P<method>gate|masq|ipip)(?:\s+(?P<weight>[0-9]{1,9}))?"
    r'(?:\s+"(?P<request>.*)"[, ]\s*"(?P<receive>.*)")?'
    r'(?:\s+"?l:(?P<lower>[0-9]{1,9})"?)?(?:\s+"?u:(?P<upper>[0-9]{1,9})"?)?\s*'
)


@dataclass(slots=True)
class _Server:
    document: Document
    check: Document | str
    place: Place


def translate(
    head: Setting,
    said: dict[str, Setting],
    reals: list[Setting],
    usual: dict[str, Setting],
    report: Report,
) -> None:
    """Adds the service to the report, with the settings of the file where its own say nothing."""
    service = _Service(said, usual, report)
    try:
        document = service.key(head)
    except ValueError as error:
        report.lost(head.text, str(error), head.place)
        for setting in (*said.values(), *reals):
            report.lost(setting.text, "goes with its virtual service", setting.place)
        return
    service.finish(head, document, reals)


class _Service:
    def __init__(self, said: dict[str, Setting], usual: dict[str, Setting], report: Report) -> None:
        self._said = said
        self._usual = usual
        self._report = report
        self._family = 4
        self._port = 0
        self._vip = ""

    def key(self, head: Setting) -> Document:
        """Raises ValueError."""
        self._family = 6 if head.name == "virtual6" else 4
        protocol = self._said.get("protocol")
        if head.value.isascii() and head.value.isdigit():
            mark = number(head.value, 1, MAX_FWMARK)
            if protocol is not None and protocol.value != "fwm":
                self._report.lost(protocol.text, "is fwm for a mark", protocol.place)
            self._vip = str(mark)
            return {"fwmark": mark, **({"family": "ipv6"} if self._family == 6 else {})}
        where, port = place_of(head.value)
        if where.version != self._family:
            raise ValueError(f"{where} goes into virtual{'6' if where.version == 6 else ''}")
        if not port:
            raise ValueError("has no port")
        self._port, self._vip = port, str(where)
        kind = "udp" if port == 53 else "tcp"
        if protocol is not None and protocol.value in ("tcp", "udp"):
            kind = protocol.value
        elif protocol is not None:
            self._report.lost(protocol.text, "must be tcp or udp", protocol.place)
        return {"address": str(where), "port": port, "protocol": kind}

    def finish(self, head: Setting, document: Document, reals: list[Setting]) -> None:
        document |= {"datapath": "ipvs", **self._scheduler()}
        if persistence := self._persistence():
            document["persistence"] = persistence
        self._once(document)
        asking = Asking(
            self._said, self._usual, document.get("protocol", "tcp"), self._port, self._vip
        )
        servers = self._servers(reals, asking)
        methods = Counter(server.document["forwarding"] for server in servers)
        usual = methods.most_common(1)[0][0] if methods else "dsr"
        document["forwarding"] = usual
        checks = Counter(json.dumps(server.check) for server in servers)
        document["check"] = json.loads(checks.most_common(1)[0][0]) if checks else "none"
        document["health"] = self._health()
        self._labels(document)
        places: dict[Any, Place] = {}
        self._fallback(document, places, usual)
        document["servers"] = []
        for index, server in enumerate(servers):
            places[("servers", index)] = server.place
            if server.document["forwarding"] == usual:
                del server.document["forwarding"]
            if server.check != document["check"]:
                server.document["check"] = server.check
            document["servers"].append(server.document)
        named = self._said.get("servicename")
        name = self._report.name(named.value if named else default_name(document))
        self._report.add(Translated(name, document, head.place, places))

    def _scheduler(self) -> Document:
        setting = self._said.get("scheduler")
        scheduler = setting.value if setting else "wrr"
        if setting is not None and scheduler not in [each.value for each in Scheduler]:
            self._report.changed(setting.text, "is unknown here: wlc stands in", setting.place)
            scheduler = "wlc"
        flags = self._said.get("schedflags")
        wanted = flags.value.split(",") if flags else []
        known = [flag.value for flag in SchedulerFlag if flag.scheduler == scheduler]
        for flag in wanted:
            if flag not in known and flags is not None:
                self._report.lost(flags.text, f"{flag} is no flag of {scheduler}", flags.place)
        kept = [flag for flag in dict.fromkeys(wanted) if flag in known]
        if not known or kept == [f"{scheduler}-fallback"]:
            return {"scheduler": scheduler}
        return {"scheduler": scheduler, "scheduler_flags": kept}

    def _persistence(self) -> Document | int | None:
        setting, mask = self._said.get("persistent"), self._said.get("netmask")
        if setting is None:
            if mask is not None:
                self._report.lost(mask.text, "goes with persistent only", mask.place)
            return None
        try:
            timeout = number(setting.value, 1, MAX_PERSISTENCE)
        except ValueError as error:
            self._report.lost(setting.text, str(error), setting.place)
            return None
        if mask is None:
            return timeout
        try:
            four = self._family == 4
            prefix = netmask_prefix(mask.value) if four else number(mask.value, 1, 128)
        except ValueError as error:
            self._report.lost(mask.text, str(error), mask.place)
            return timeout
        return {"timeout": timeout, "prefix": prefix}

    def _once(self, document: Document) -> None:
        ops = self._said.get("ops")
        if ops is None or ops.value == "no":
            return
        if ops.value == "yes" and document.get("protocol", "udp") == "udp":
            document["one_packet"] = True
        else:
            self._report.lost(ops.text, "is yes or no, and goes with udp only", ops.place)

    def _health(self) -> Document:
        quiescent = self._said.get("quiescent") or self._usual.get("quiescent")
        if quiescent is not None and quiescent.value not in ("yes", "no"):
            self._report.lost(quiescent.text, "must be yes or no", quiescent.place)
        stays = quiescent is None or quiescent.value != "no"
        on_down = "inhibit" if stays else "remove"
        return {"initial": "wait", "on_down": on_down, "damping": False}

    def _labels(self, document: Document) -> None:
        comment = self._said.get("comment")
        if comment is None or not comment.value:
            return
        if len(comment.value) > 255 or not comment.value.isprintable():
            self._report.lost(comment.text, "is too long for a label", comment.place)
        else:
            document["labels"] = {"comment": comment.value}

    def _servers(self, reals: list[Setting], asking: Asking) -> list[_Server]:
        found: list[_Server] = []
        told: set[tuple[str, str, int]] = set()
        for setting in reals:
            try:
                match = _REAL.fullmatch(setting.value)
                if match is None:
                    raise ValueError(
                        'must be ADDRESS[->ADDRESS][:PORT] gate|masq|ipip [WEIGHT] ["REQUEST", '
                        '"RECEIVE"] [l:N] [u:N]'
                    )
                if (setting.name == "real6") != (self._family == 6):
                    raise ValueError(f"is real{'6' if self._family == 6 else ''} here")
                every, port = places_of(match["where"])
                document = self._server(match, port, setting)
            except ValueError as error:
                self._report.lost(setting.text, str(error), setting.place)
                continue
            for each in every:
                check = check_of(asking, match["request"], match["receive"], each, port)
                for loss in check.losses:
                    if (loss.what, loss.why, loss.line) not in told:
                        told.add((loss.what, loss.why, loss.line))
                        self._report.keep(loss)
                if check.off:
                    document = {**document, "weight": 0}
                one = {"address": str(each), **document}
                found.append(_Server(one, check.document, setting.place))
        return found

    def _server(self, match: re.Match[str], port: int, setting: Setting) -> Document:
        method = FORWARDING[match["method"]]
        document: Document = {}
        if method != "nat" or not self._port:
            if port and port != self._port:
                why = "keeps the client's port: IPVS and ldirectord take no notice of another"
                self._report.note(setting.text, why, setting.place)
        elif port and port != self._port:
            document["port"] = port
        elif not port:
            self._report.changed(
                setting.text, "has no port: it is that of the service", setting.place
            )
        if match["weight"] and match["weight"] != "1":
            document["weight"] = number(match["weight"], 0, MAX_WEIGHT)
        document["forwarding"] = method
        if match["upper"]:
            document["upper_threshold"] = number(match["upper"], 0, MAX_THRESHOLD)
        if match["lower"]:
            document["lower_threshold"] = number(match["lower"], 0, MAX_THRESHOLD)
        return document

    def _fallback(self, document: Document, places: dict[Any, Place], usual: str) -> None:
        name = "fallback6" if self._family == 6 else "fallback"
        other = self._said.get("fallback" if self._family == 6 else "fallback6")
        if other is not None:
            self._report.lost(other.text, f"is {name} here", other.place)
        setting = self._said.get(name) or self._usual.get(name)
        if setting is None:
            return
        try:
            where, _, method = setting.value.partition(" ")
            method = method.strip() or "gate"
            if method not in FORWARDING:
                raise ValueError("must be gate, masq or ipip")
            at, port = place_of(where)
        except ValueError as error:
            self._report.lost(setting.text, str(error), setting.place)
            return
        sorry: Document = {"address": str(at)}
        if FORWARDING[method] == "nat" and self._port and port not in (0, self._port):
            sorry["port"] = port
        if FORWARDING[method] != usual:
            sorry["forwarding"] = FORWARDING[method]
        document["sorry_server"] = sorry
        places[("sorry_server",)] = setting.place
