"""Watches and health policies back to documents: the shortest that say the same."""

from __future__ import annotations

from typing import Any

from kernlb.config.check_timing import USUAL, usual_fast_interval, usual_timeout
from kernlb.health.check import (
    AgentCheck,
    Damping,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HealthPolicy,
    HttpCheck,
    IcmpCheck,
    Several,
    SimpleCheck,
    StatusRange,
    Timing,
    Tls,
    TlsCheck,
    UdpCheck,
    Via,
    Watch,
)

Document = dict[str, Any]


def plain_watch(watch: Watch | None) -> str | Document:
    """Values that read as an equal watch; None is ``none``."""
    if watch is None:
        return "none"
    document = _check(watch.check) | _timing(watch.timing)
    if watch.via is not Via.SERVER:
        document["via"] = watch.via.value
    return str(document["type"]) if set(document) == {"type"} else document


def plain_policy(policy: HealthPolicy, usual: HealthPolicy) -> Document:
    """What a policy says that ``usual`` does not."""
    document: Document = {}
    for name in ("on_down", "initial", "when_all_down"):
        if getattr(policy, name) is not getattr(usual, name):
            document[name] = getattr(policy, name).value
    for name in ("quorum", "hysteresis", "withdraw_vip", "keep", "passive"):
        if getattr(policy, name) != getattr(usual, name):
            document[name] = getattr(policy, name)
    if policy.damping != usual.damping:
        document["damping"] = _damping(policy.damping)
    return document


def _damping(damping: Damping) -> Document | bool:
    if not damping.changes:
        return False
    return {
        "changes": damping.changes,
        "period": number(damping.period),
        "hold": number(damping.hold),
    }


def _timing(timing: Timing) -> Document:
    usual = {
        "interval": USUAL.interval,
        "fast_interval": usual_fast_interval(timing.timeout),
        "timeout": usual_timeout(timing.interval),
        "rise": USUAL.rise,
        "fall": USUAL.fall,
        "jitter": USUAL.jitter,
    }
    return {
        name: number(getattr(timing, name))
        for name, value in usual.items()
        if getattr(timing, name) != value
    }


def _check(check: SimpleCheck | Several) -> Document:
    if not isinstance(check, Several):
        return _simple(check)
    items: list[str | Document] = []
    for each in check.checks:
        item = _simple(each)
        items.append(item["type"] if set(item) == {"type"} else item)
    if check.need == len(items):
        return {"all": items}
    return {"any": items} if check.need == 1 else {"of": items, "need": check.need}


def _simple(check: SimpleCheck) -> Document:
    """The keys of each type are those of its value, where they are not another's."""
    document: Document = {"type": _type(check)}
    match check:
        case HttpCheck():
            document |= _changed(check, HttpCheck(), "method", "path", "host", "max_bytes")
            document |= _changed(check, HttpCheck(), "body", "body_regex")
            if check.headers:
                document["headers"] = dict(check.headers)
            if check.status != HttpCheck().status:
                document["status"] = [_status(each) for each in check.status]
        case UdpCheck():
            for name in ("payload", "reply"):
                if value := getattr(check, name):
                    document[name] = _bytes(value)
            if check.reply_regex is not None:
                document["reply_regex"] = check.reply_regex.decode()
            document |= _changed(check, UdpCheck(), "require_reply")
        case DnsCheck():
            document |= _changed(check, DnsCheck(), "query", "answer", "tcp")
            if check.query != "." or check.type != DnsCheck().type:
                document["record"] = check.type
            if check.rcodes != DnsCheck().rcodes:
                document["rcodes"] = list(check.rcodes)
        case GrpcCheck():
            document |= _changed(check, GrpcCheck(), "service")
            if check.tls is not None:
                document["tls"] = True
        case ExecCheck():
            document["command"] = list(check.command)
            document |= _changed(check, ExecCheck(()), "user", "warning_fails")
        case AgentCheck():
            document |= _changed(check, AgentCheck(0), "send")
        case IcmpCheck():
            document |= _changed(check, IcmpCheck(), "size")
    port = getattr(check, "port", None)
    if port is not None:
        document["port"] = port
    if isinstance(check, (HttpCheck, TlsCheck, GrpcCheck)) and check.tls is not None:
        document |= _tls(check.tls)
    return document


def _type(check: SimpleCheck) -> str:
    if isinstance(check, HttpCheck) and check.tls is not None:
        return "https"
    return type(check).__name__.removesuffix("Check").lower()


def _changed(value: object, usual: object, *names: str) -> Document:
    return {
        name: getattr(value, name) for name in names if getattr(value, name) != getattr(usual, name)
    }


def _tls(tls: Tls) -> Document:
    document = _changed(tls, Tls(), "verify", "ca")
    if tls.name is not None:
        document["server_name"] = tls.name
    if tls.expiry_warning != Tls().expiry_warning:
        document["expiry_warning"] = number(tls.expiry_warning)
    return document


def _status(each: StatusRange) -> int | str:
    first, last = each
    return first if first == last else f"{first}-{last}"


def _bytes(value: bytes) -> str | Document:
    """As text where it is plain text."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}
    return text if text.isprintable() else {"hex": value.hex()}


def number(value: float) -> int | float:
    return int(value) if value == int(value) else value
