"""How ldirectord asks servers, as checks; what kernlb does not ask is told. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from kernlb.migrate.keepalived.values import number
from kernlb.migrate.report import Document, Kind, Loss, shown
from kernlb.model import IPAddress

if TYPE_CHECKING:
    from kernlb.migrate.ldirectord import Setting

SERVICE_OF_PORT = {
    21: "ftp",
    25: "smtp",
    53: "dns",
    80: "http",
    110: "pop",
    119: "nntp",
    143: "imap",
    389: "ldap",
    443: "https",
    587: "submission",
    636: "ldaps",
    993: "imaps",
    995: "pops",
    1521: "oracle",
    1812: "radius",
    3128: "http_proxy",
    3306: "mysql",
    5060: "sip",
    5432: "pgsql",
}
PORT_OF_SERVICE = {service: port for port, service in SERVICE_OF_PORT.items()}
CONNECTED = (
    *("ftp", "imap", "ldap", "mysql", "nntp", "oracle", "pgsql", "pop", "http_proxy"),
    *("simpletcp", "smtp", "submission"),
)
SECURED = ("imaps", "ldaps", "pops")
DATAGRAMS = ("radius", "sip")

INTERVAL, NEGOTIATE, CONNECT = 10, 30, 5  # seconds
_TALK = ("request", "receive", "login", "passwd", "database", "secret", "virtualhost", "httpmethod")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a service says of its checks; ``vip`` is its address, or its mark."""

    said: dict[str, Setting]
    usual: dict[str, Setting]
    protocol: str
    port: int
    vip: str

    def get(self, name: str) -> Setting | None:
        return self.said.get(name) or self.usual.get(name)


@dataclass(slots=True)
class Check:
    document: Document | str
    losses: list[Loss]
    off: bool = False


def check_of(
    asking: Asking, request: str | None, receive: str | None, server: IPAddress, port: int
) -> Check:
    """The check of one server, whose own request and receive go first. ``port`` 0: none said."""
    return _Maker(asking, request, receive, server, port).check()


class _Maker:
    def __init__(
        self,
        asking: Asking,
        request: str | None,
        receive: str | None,
        server: IPAddress,
        port: int,
    ) -> None:
        self._asking = asking
        self._own = (request, receive)
        self._server = server
        self._port = port
        self._losses: list[Loss] = []
        self._used: set[str] = set()

    def check(self) -> Check:
        kind = self._word("checktype", "negotiate")
        service = self._word("service", "")
        if not service:
            service = SERVICE_OF_PORT.get(self._asking.port, "none")
        item = self._item(kind, service)
        self._tell_unused(kind, service)
        timing = self._timing(kind)
        if item is None:
            return Check("none", self._losses, off=kind == "off")
        return Check({**item, **timing}, self._losses)

    def _item(self, kind: str, service: str) -> Document | None:
        if kind in ("on", "off"):
            if kind == "off":
                self._lose(Kind.CHANGED, "checktype", "servers are there with weight 0")
            return None
        if kind in ("external", "external-perl"):
            return self._external(kind)
        if kind == "ping" or (kind == "connect" and self._asking.protocol == "udp"):
            return {"type": "icmp"}
        if kind == "connect":
            return self._at("tcp", service)
        if kind.isdigit():
            self._lose(Kind.CHANGED, "checktype", "every probe asks the service")
        elif kind != "negotiate":
            self._lose(Kind.LOST, "checktype", "is unknown: the service is asked")
        return self._negotiate(service)

    def _negotiate(self, service: str) -> Document | None:
        if service == "none":
            return None
        if service in ("http", "https"):
            return self._http(service)
        if service == "dns":
            return self._dns()
        if service in CONNECTED:
            self._lose(Kind.CHANGED, "service", f"kernlb speaks no {service}: tcp stands in")
            return self._at("tcp", service)
        if service in SECURED:
            self._lose(Kind.CHANGED, "service", f"kernlb speaks no {service}: tls stands in")
            return {**self._at("tls", service), "verify": False}
        if service in DATAGRAMS:
            self._lose(Kind.CHANGED, "service", f"kernlb speaks no {service}: udp stands in")
            return self._at("udp", service)
        self._lose(Kind.LOST, "service", "is unknown: servers are not asked")
        return None

    def _http(self, service: str) -> Document:
        request, receive = self._talk("request"), self._talk("receive")
        item = self._at(service, service)
        method = self._word("httpmethod", "GET").upper()
        if method == "HEAD":
            item["method"] = method
        elif method != "GET":
            self._lose(Kind.LOST, "httpmethod", "must be GET or HEAD")
        path = request or "/"
        if match := re.match(r"/?https?://[^/]+(.*)", path):
            self._lose(Kind.CHANGED, "request", "kernlb asks the server itself for its path")
            path = match[1]
        item["path"] = path if path.startswith("/") else f"/{path}"
        if host := self._word("virtualhost", "").strip('"'):
            item["host"] = host
        item["status"] = "200-299"
        if receive and method != "HEAD":
            try:
                re.compile(receive)
                item["body_regex"] = receive
            except (re.error, RecursionError, OverflowError) as error:
                self._lose(Kind.LOST, "receive", f"is no pattern of Python's: {error}")
        if service == "https":
            item["verify"] = False
        return item

    def _dns(self) -> Document:
        request, receive = self._talk("request").lstrip("/"), self._talk("receive")
        item = self._at("dns", "dns")
        item["query"] = request or "."
        item["record"] = "A" if request else "NS"
        try:
            ip_address(request)
            item["query"], item["record"] = ip_address(request).reverse_pointer, "PTR"
        except ValueError:
            pass
        if receive:
            try:
                item["answer"] = str(ip_address(receive))
            except ValueError:
                self._lose(Kind.LOST, "receive", "an answer is asked for by its address only")
        return item

    def _external(self, kind: str) -> Document | None:
        command = self._word("checkcommand", "/bin/true").strip('"')
        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        if not words or not words[0].startswith("/"):
            self._lose(Kind.LOST, "checkcommand", "must be a program by its absolute path")
            return None
        if kind == "external-perl":
            self._lose(Kind.CHANGED, "checktype", "runs as a program of its own")
        self._lose(Kind.NOTE, "checkcommand", "kernlb runs programs as nobody, not root: see user")
        ends = [self._asking.vip, str(self._asking.port), str(self._server), str(self._port)]
        return {"type": "exec", "command": [*words, *ends], "warning_fails": True}

    def _at(self, kind: str, service: str) -> Document:
        """A check at the port that ldirectord asks."""
        setting = self._asking.get("checkport")
        try:
            said = 0 if setting is None else number(setting.value, 1, 65_535)
        except ValueError as error:
            said = 0
            self._lose(Kind.LOST, "checkport", str(error))
        at = said or self._port or PORT_OF_SERVICE.get(service, 0)
        if at and (said or at != self._asking.port):
            return {"type": kind, "port": at}
        return {"type": kind}

    def _timing(self, kind: str) -> dict[str, Any]:
        interval = self._number("checkinterval", INTERVAL)
        connect, negotiate = self._number("checktimeout", 0), self._number("negotiatetimeout", 0)
        talks = kind in ("negotiate",) or kind.isdigit()
        timeout = (
            (negotiate or connect or NEGOTIATE) if talks else (connect or negotiate or CONNECT)
        )
        if timeout > interval:
            name = "negotiatetimeout" if talks and negotiate else "checktimeout"
            self._lose(Kind.CHANGED, name, f"is {interval} s here: no longer than the interval")
            timeout = interval
        fall = min(self._number("failurecount", 1), 1_000)
        return {"interval": interval, "timeout": timeout, "rise": 1, "fall": fall}

    def _number(self, name: str, usual: int) -> int:
        setting = self._asking.get(name)
        if setting is None:
            return usual
        try:
            return number(setting.value, 1, 86_400)
        except ValueError as error:
            self._lose(Kind.LOST, name, str(error))
            return usual

    def _talk(self, name: str) -> str:
        """A request or what is to come back: the server's own, or the service's."""
        self._used.add(name)
        own = self._own[0] if name == "request" else self._own[1]
        return own if own is not None else self._word(name, "").strip('"')

    def _word(self, name: str, usual: str) -> str:
        self._used.add(name)
        setting = self._asking.get(name)
        return usual if setting is None else setting.value

    def _tell_unused(self, kind: str, service: str) -> None:
        """What is said to the service and has no place in the check that stands here."""
        for name in (*_TALK, "checkcommand"):
            if name not in self._used and name in self._asking.said:
                what = service if kind == "negotiate" else f"checktype {kind}"
                self._lose(Kind.LOST, name, f"is not part of the check for {what}")
        if any(each is not None for each in self._own) and "request" not in self._used:
            setting = self._asking.said.get("service") or self._asking.said.get("checktype")
            if setting is not None:
                self._add(Kind.LOST, "request and receive of a server", "are not asked", setting)

    def _lose(self, kind: Kind, name: str, why: str) -> None:
        setting = self._asking.get(name)
        if setting is not None:
            self._add(kind, setting.text, why, setting)
        elif kind is not Kind.NOTE:
            head = next(iter(self._asking.said.values()), None)
            if head is not None:
                self._add(kind, "", f"{name}: {why}", head)

    def _add(self, kind: Kind, what: str, why: str, at: Setting) -> None:
        self._losses.append(Loss(kind, shown(what), why, at.place.file, at.place.line))
