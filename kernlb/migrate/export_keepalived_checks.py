"""Checks to keepalived's checkers; what they cannot ask is told. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from kernlb.health.check import (
    AgentCheck,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Several,
    SimpleCheck,
    TcpCheck,
    Timing,
    TlsCheck,
    UdpCheck,
    Via,
    Watch,
)
from kernlb.migrate.export_text import Text, quoted, regex_quoted, shell_quoted

Tell = Callable[[str, str], None]

SEARCHED = 1 << 20  # bytes of a body, as the importer asks for
_RECORDS = ("A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA")


def checkers(watch: Watch, text: Text, lost: Tell, changed: Tell) -> None:
    """Writes the checkers of one server."""
    writer = _Writer(watch.timing, text, lost, changed)
    if watch.via is Via.VIP:
        lost("check.via", "keepalived asks servers at their own addresses")
    if watch.timing.rise != 1:
        lost("check.rise", "keepalived brings a server back at its first good answer")
    check = watch.check
    if not isinstance(check, Several):
        writer.write(check)
        return
    if check.need != len(check.checks):
        changed("check", "all of the checks must pass in keepalived")
    for each in check.checks:
        writer.write(each)


class _Writer:
    def __init__(self, timing: Timing, text: Text, lost: Tell, changed: Tell) -> None:
        self._timing = timing
        self._text = text
        self._lost = lost
        self._changed = changed

    def write(self, check: SimpleCheck) -> None:
        match check:
            case HttpCheck():
                self._http(check)
            case IcmpCheck():
                if check.size != IcmpCheck().size:
                    self._lost("check.size", "keepalived's pings have one size")
                self._block("PING_CHECK", None)
            case TcpCheck():
                self._block("TCP_CHECK", check.port)
            case UdpCheck():
                self._udp(check)
            case DnsCheck():
                self._dns(check)
            case ExecCheck():
                self._exec(check)
            case TlsCheck():
                self._changed("check tls", "keepalived has no such checker: TCP_CHECK")
                self._block("TCP_CHECK", check.port)
            case GrpcCheck():
                self._changed("check grpc", "keepalived has no such checker: TCP_CHECK")
                self._block("TCP_CHECK", check.port)
            case AgentCheck():
                self._changed("check agent", "keepalived has no such checker: TCP_CHECK")
                self._block("TCP_CHECK", check.port)

    def _block(self, kind: str, port: int | None, *lines: str) -> None:
        with self._text.block(kind):
            if port is not None:
                self._text.line(f"connect_port {port}")
            self._times()
            self._text.line(f"connect_timeout {_seconds(self._timing.timeout)}")
            for line in lines:
                self._text.line(line)

    def _times(self) -> None:
        timing = self._timing
        self._text.line(f"delay_loop {_seconds(timing.interval)}")
        self._text.line(f"retry {timing.fall - 1}")
        self._text.line(f"delay_before_retry {_seconds(timing.fast_interval)}")

    def _http(self, check: HttpCheck) -> None:
        if check.method != "GET":
            self._lost("check.method", "keepalived asks by GET")
        if check.headers:
            self._lost("check.headers", "keepalived sends no headers of one's own")
        kind = "HTTP_GET"
        own: list[str] = ["http_protocol 1.1"]
        if check.tls is not None:
            kind = "SSL_GET"
            if check.tls.verify:
                self._changed("check.verify", "keepalived takes any certificate")
            name = check.tls.name
            if name is not None and name == check.host:
                own.append("enable_sni")
            elif name is not None:
                self._lost("check.server_name", "keepalived names the virtualhost, or none")
        with self._text.block(kind):
            if check.port is not None:
                self._text.line(f"connect_port {check.port}")
            self._times()
            self._text.line(f"connect_timeout {_seconds(self._timing.timeout)}")
            for line in own:
                self._text.line(line)
            with self._text.block("url"):
                self._url(check)

    def _url(self, check: HttpCheck) -> None:
        path = quoted(check.path)
        if path is None:
            self._changed("check.path", "keepalived cannot read this one: / stands in")
            path = "/"
        self._text.line(f"path {path}")
        if check.host is not None:
            self._text.line(f"virtualhost {check.host}")
        words = [str(a) if a == b else f"{a}-{b}" for a, b in check.status]
        self._text.line(f"status_code {' '.join(words)}")
        pattern = check.body_regex
        if check.body is not None:
            if pattern is not None:
                self._lost("check.body", "keepalived holds one pattern against a body")
            else:
                pattern = re.escape(check.body)
                self._changed("check.body", "is a pattern in keepalived")
        if pattern is None:
            return
        if (said := regex_quoted(pattern)) is None:
            self._lost("check.body_regex", "keepalived cannot read this one")
        else:
            if check.max_bytes != SEARCHED:
                self._changed("check.max_bytes", "keepalived looks at the whole body")
            self._text.line(f"regex {said}")

    def _udp(self, check: UdpCheck) -> None:
        lines: list[str] = []
        if check.payload:
            if len(check.payload) <= 400:
                lines.append(f"payload {check.payload.hex()}")
            else:
                self._lost("check.payload", "is too long for a line of keepalived's")
        if check.reply is not None or check.reply_regex is not None:
            self._changed("check.reply", "any reply will do in keepalived")
        if check.require_reply or check.reply is not None or check.reply_regex is not None:
            lines.append("require_reply")
        self._block("UDP_CHECK", check.port, *lines)

    def _dns(self, check: DnsCheck) -> None:
        record = check.type
        if record not in _RECORDS:
            self._changed("check.record", f"keepalived does not ask for {record}: SOA")
            record = "SOA"
        for name, odd in (
            ("rcodes", check.rcodes != DnsCheck().rcodes),
            ("answer", check.answer is not None),
            ("tcp", check.tcp),
        ):
            if odd:
                self._lost(f"check.{name}", "keepalived asks over UDP for any good answer")
        self._block("DNS_CHECK", check.port, f"type {record}", f"name {check.query}")

    def _exec(self, check: ExecCheck) -> None:
        command = shell_quoted(check.command)
        if command is None:
            self._lost("check.command", "keepalived cannot read these words: servers are not asked")
            return
        if not check.warning_fails:
            self._changed("check.warning_fails", "exit status 1 is bad in keepalived")
        self._changed("check.command", "is not told the server in its environment")
        limit = math.ceil(self._timing.timeout)
        if limit != self._timing.timeout:
            self._changed("check.timeout", f"is {limit} s in keepalived, which takes whole seconds")
        with self._text.block("MISC_CHECK"):
            self._text.line(f"misc_path {command}")
            self._text.line(f"misc_timeout {limit}")
            self._times()
            self._text.line(f"user {check.user}")


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
