"""Check documents to checks: what is asked, what is a good answer, and when it is asked.

What a check may be of a certain service and server is ``watches``'.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from msgspec import UNSET

from kernlb.config.check_document import CheckDocument, ItemDocument
from kernlb.config.check_parts import (
    read_bytes,
    read_headers,
    read_regex,
    read_statuses,
    read_tls,
    said,
    said_or_none,
)
from kernlb.config.check_timing import read_timing
from kernlb.config.check_words import KEYS, SEVERAL, CheckName, CheckType
from kernlb.config.errors import Path, Report
from kernlb.health.check import (
    AgentCheck,
    Check,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Several,
    SimpleCheck,
    TcpCheck,
    TlsCheck,
    UdpCheck,
    Via,
    Watch,
)
from kernlb.health.probes import dns_message


def read_watch(document: CheckName | CheckDocument, path: Path, report: Report) -> Watch | None:
    """None: no check, or one that is reported as faulty."""
    if isinstance(document, CheckName):
        if document is CheckName.NONE:
            return None
        document = CheckDocument(type=CheckType(document.value))
    check = _read_check(document, path, report)
    timing = read_timing(document, path, report)
    if check is None:
        return None
    return Watch(check, timing, Via.SERVER if document.via is UNSET else document.via)


def _read_check(document: CheckDocument, path: Path, report: Report) -> Check | None:
    named = [key for key in ("type", *SEVERAL) if getattr(document, key) is not UNSET]
    if len(named) > 1:
        report.add((*path, named[1]), f"does not go with {named[0]}: give one of them")
        return None
    if not named:
        report.add(path, 'has no "type": a check has a type, or a list under all, any or of')
        return None
    if document.need is not UNSET and named != ["of"]:
        report.add((*path, "need"), "goes with of only")
    if named == ["type"]:
        return _read_item(document, path, report)
    for key in sorted(_said_of(document)):
        report.add((*path, key), f"goes into the checks under {named[0]}, each its own")
    return _read_several(document, named[0], path, report)


def _read_several(document: CheckDocument, word: str, path: Path, report: Report) -> Several | None:
    items = getattr(document, word)
    checks: list[SimpleCheck] = []
    for index, item in enumerate(items):
        asked = ItemDocument(type=item) if isinstance(item, CheckType) else item
        check = _read_item(asked, (*path, word, index), report)
        if check is not None:
            if check in checks:
                report.add((*path, word, index), "is there already")
            checks.append(check)
    need = {"all": len(items), "any": 1}.get(word, 0)
    if word == "of":
        if document.need is UNSET:
            report.add(path, f'has no "need": how many of the {len(items)} must pass')
        elif document.need > len(items):
            report.add((*path, "need"), f"must be within 1..{len(items)}, not {document.need}")
        need = 0 if document.need is UNSET else document.need
    return Several(tuple(checks), need) if len(checks) == len(items) else None


def _said_of(document: ItemDocument) -> set[str]:
    """The keys of a document that go with a type."""
    fields = ItemDocument.__struct_fields__
    return {name for name in fields if getattr(document, name) is not UNSET} - {"type"}


def _read_item(document: ItemDocument, path: Path, report: Report) -> SimpleCheck | None:
    kind = document.type
    if kind is UNSET:
        report.add(path, 'has no "type"')
        return None
    before = len(report)
    for key in sorted(_said_of(document) - KEYS[kind]):
        fitting = ", ".join(each for each in CheckType if key in KEYS[each])
        report.add((*path, key), f"goes with type {fitting} only, and this is {kind}")
    check = _READERS[kind](document, path, report)
    return check if len(report) == before else None


def _icmp(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    return IcmpCheck() if document.size is UNSET else IcmpCheck(document.size)


def _tcp(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    return TcpCheck(said_or_none(document.port))


def _http(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    usual = HttpCheck()
    method = said(document.method, usual.method)
    if method == "HEAD":
        for key in ("body", "body_regex"):
            if getattr(document, key) is not UNSET:
                report.add((*path, key), "does not go with method HEAD: its answer has no body")
    return HttpCheck(
        method=method,
        path=said(document.path, usual.path),
        host=said_or_none(document.host),
        headers=read_headers(document, path, report),
        status=read_statuses(document, path, report) or usual.status,
        body=said_or_none(document.body),
        body_regex=read_regex(document.body_regex, (*path, "body_regex"), report),
        max_bytes=said(document.max_bytes, usual.max_bytes),
        tls=read_tls(document, path, report) if document.type is CheckType.HTTPS else None,
        port=said_or_none(document.port),
    )


def _handshake(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    return TlsCheck(read_tls(document, path, report), said_or_none(document.port))


def _udp(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    regex = read_regex(document.reply_regex, (*path, "reply_regex"), report, on_bytes=True)
    return UdpCheck(
        payload=read_bytes(document.payload) or b"",
        reply=read_bytes(document.reply),
        reply_regex=None if regex is None else regex.encode(),
        require_reply=said(document.require_reply, False),
        port=said_or_none(document.port),
    )


def _dns(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    usual = DnsCheck()
    query = said(document.query, usual.query)
    record = usual.type if document.record is UNSET else document.record.value
    if document.record is UNSET and query != ".":
        report.add(path, 'has no "record": the type of record asked for, as A')
    for key, ask in (("query", dns_message.query), ("answer", dns_message.value)):
        text = getattr(document, key)
        if text is not UNSET:
            try:
                ask(text, record)
            except ValueError as error:
                report.add((*path, key), str(error))
    rcodes = usual.rcodes
    if document.rcodes is not UNSET:
        listed = document.rcodes if isinstance(document.rcodes, list) else [document.rcodes]
        rcodes = tuple(dict.fromkeys(rcode.value for rcode in listed))
    return DnsCheck(
        query=query,
        type=record,
        rcodes=rcodes,
        answer=said_or_none(document.answer),
        tcp=said(document.tcp, False),
        port=said_or_none(document.port),
    )


def _grpc(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    over_tls = said(document.tls, False)
    if not over_tls:
        for key in ("verify", "ca", "server_name", "expiry_warning"):
            if getattr(document, key) is not UNSET:
                report.add((*path, key), "goes with tls: true only")
    return GrpcCheck(
        service=said(document.service, ""),
        tls=read_tls(document, path, report) if over_tls else None,
        port=said_or_none(document.port),
    )


def _exec(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    user = said(document.user, "nobody")
    if user == "root":
        report.add((*path, "user"), "must not be root: name a user that may do little")
    return ExecCheck(_command(document, path, report), user, said(document.warning_fails, False))


def _command(document: ItemDocument, path: Path, report: Report) -> tuple[str, ...]:
    if document.command is UNSET:
        report.add(path, 'has no "command", which an exec check needs')
        return ()
    here = (*path, "command")
    command = document.command
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError:
            report.add(here, "has a quote that does not close")
            return ()
    if not command or not command[0].startswith("/"):
        report.add(here, "must begin with the absolute path of a program")
    if any("\0" in word for word in command):
        report.add(here, "has a NUL byte")
    return tuple(command)


def _agent(document: ItemDocument, path: Path, report: Report) -> SimpleCheck:
    if document.port is UNSET:
        report.add(path, 'has no "port", which an agent check needs')
    return AgentCheck(said(document.port, 0), said(document.send, ""))


_READERS: dict[CheckType, Callable[[ItemDocument, Path, Report], SimpleCheck]] = {
    CheckType.ICMP: _icmp,
    CheckType.TCP: _tcp,
    CheckType.HTTP: _http,
    CheckType.HTTPS: _http,
    CheckType.TLS: _handshake,
    CheckType.UDP: _udp,
    CheckType.DNS: _dns,
    CheckType.GRPC: _grpc,
    CheckType.EXEC: _exec,
    CheckType.AGENT: _agent,
}
