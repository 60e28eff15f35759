"""Plain values to typed documents, and every way in which they do not fit.

msgspec converts a good document in one call and stops at the first misfit of a bad one. This
module asks again in that case: it walks the value beside the type and reports everything, in an
operator's words, with the nearest known key or value where one was misspelt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kernlb.config.errors import MAX_FAULTS, ConfigError, Path, Report, shown
from kernlb.config.syntax import lines_of, read_values

if TYPE_CHECKING:
    from msgspec import inspect

T = TypeVar("T")

# What people who know other balancers write, and what it is called here.
SYNONYMS = {
    "masq": "nat",
    "masquerade": "nat",
    "masquerading": "nat",
    "dr": "dsr",
    "direct": "dsr",
    "route": "dsr",
    "droute": "dsr",
    "gatewaying": "dsr",
    "tun": "tunnel",
    "tunneling": "tunnel",
    "maglev": "mh",
    "roundrobin": "rr",
    "leastconn": "lc",
    "vip_interface": "vip",
    "real_servers": "servers",
    "backends": "servers",
    "host": "address",
    "ip": "address",
    "tcp_check": "tcp",
    "http_get": "http",
    "ssl_get": "https",
    "misc_check": "exec",
    "dns_check": "dns",
    "udp_check": "udp",
    "ping_check": "icmp",
    "ping": "icmp",
    "ssl": "tls",
    "connect_port": "port",
    "status_code": "status",
    "regex": "body_regex",
    "virtualhost": "host",
    "url": "path",
    "misc_path": "command",
    "misc_timeout": "timeout",
    "inhibit_on_failure": "on_down",
    "sorry_servers": "sorry_server",
    "health_check": "check",
    "checks": "check",
    "inet4": "ipv4",
    "inet6": "ipv6",
}


def read_document(text: bytes, type_: type[T], source: str) -> T:
    """A typed document. Raises ConfigError with every fault found."""
    values = read_values(text, source)
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        raise misfits(values, type_, text, source, str(error)) from None


def misfits(values: Any, type_: Any, text: bytes, source: str, said: str) -> ConfigError:
    """Every way in which ``values`` is no ``type_``; ``said`` is what msgspec told of it."""
    from msgspec import inspect

    report = Report(source)
    _walk(inspect.type_info(type_), values, (), report)
    if not report:
        report.add((), said)
    return report.error(lambda: lines_of(text, source))


def nearest(word: str, known: Iterable[str]) -> str:
    """``: did you mean "port"?`` or nothing."""
    import difflib

    names = list(known)
    meant = SYNONYMS.get(word.lower(), "")
    if meant not in names:
        close = difflib.get_close_matches(word.lower()[:80], names, n=1)
        meant = close[0] if close else ""
    return f': did you mean "{meant}"?' if meant else ""


def _walk(node: inspect.Type, value: Any, path: Path, report: Report) -> None:
    from msgspec import inspect

    match node:
        case inspect.Metadata():
            if not _titled(node):
                _walk(node.type, value, path, report)
            elif not _fits(node, value):
                report.add(path, f"must be {_asked(node)}, not {shown(value)}")
        case inspect.UnionType():
            _walk_union(node, value, path, report)
        case inspect.StructType():
            _walk_struct(node, value, path, report)
        case inspect.ListType() if isinstance(value, list):
            for index, item in enumerate(value):
                _walk(node.item_type, item, (*path, index), report)
            if node.max_length is not None and len(value) > node.max_length:
                report.add(path, f"has {len(value)} items: at most {node.max_length}")
            if node.min_length is not None and len(value) < node.min_length:
                report.add(path, f"has {len(value)} items: at least {node.min_length}")
        case inspect.DictType() if isinstance(value, dict):
            for key, item in value.items():
                _walk(node.key_type, key, (*path, key), report)
                _walk(node.value_type, item, (*path, key), report)
            if node.max_length is not None and len(value) > node.max_length:
                report.add(path, f"has {len(value)} keys: at most {node.max_length}")
        case inspect.EnumType() if isinstance(value, str):
            known = [str(member.value) for member in node.cls]
            if value not in known:
                guess = nearest(value, known)
                report.add(path, f"{shown(value)} is unknown{guess} (known: {', '.join(known)})")
        case _:
            if not _fits(node, value):
                report.add(path, f"must be {_asked(node)}, not {shown(value)}")


def _walk_struct(node: inspect.StructType, value: Any, path: Path, report: Report) -> None:
    if not isinstance(value, dict):
        report.add(path, f"must be a mapping, not {shown(value)}")
        return
    fields = {field.encode_name: field for field in node.fields}
    for key, item in value.items():
        if key not in fields:
            guess = nearest(key, fields) if len(report) < MAX_FAULTS else ""
            report.add((*path, key), f"is an unknown key{guess}")
        elif item is None and not _fits(fields[key].type, None):
            report.add((*path, key), "has no value: give one, or leave the key out")
        else:
            _walk(fields[key].type, item, (*path, key), report)
    for name, field in fields.items():
        if field.required and name not in value:
            report.add(path, f'has no "{name}", which it needs')


def _walk_union(node: inspect.UnionType, value: Any, path: Path, report: Report) -> None:
    """Reports from the one member that is of the value's kind, if there is one."""
    if _fits(node, value):
        return
    like = [member for member in node.types if _kind(member) is type(value)]
    if len(like) == 1:
        _walk(like[0], value, path, report)
    else:
        report.add(path, f"must be {_asked(node)}, not {shown(value)}")


def _kind(node: inspect.Type) -> type | None:
    from msgspec import inspect

    while isinstance(node, inspect.Metadata):
        node = node.type
    kinds: list[tuple[type, type]] = [
        (inspect.StructType, dict),
        (inspect.DictType, dict),
        (inspect.ListType, list),
        (inspect.StrType, str),
        (inspect.EnumType, str),
        (inspect.IntType, int),
        (inspect.FloatType, float),
        (inspect.BoolType, bool),
    ]
    return next((kind for info, kind in kinds if isinstance(node, info)), None)


def _fits(node: inspect.Type, value: Any) -> bool:
    scratch = Report("")
    from msgspec import inspect

    match node:
        case inspect.Metadata():
            return _fits(node.type, value)
        case inspect.UnionType():
            return any(_fits(member, value) for member in node.types)
        case inspect.StructType() | inspect.ListType() | inspect.DictType():
            if type(value) is not _kind(node):
                return False
            _walk(node, value, (), scratch)
            return not scratch
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.LiteralType():
            return any(value is known or _same_text(value, known) for known in node.values)
        case inspect.EnumType():
            return value in [member.value for member in node.cls]
        case inspect.IntType():
            return type(value) is int and _within(node, value)
        case inspect.FloatType():
            return type(value) in (int, float) and _within(node, value)
        case inspect.StrType():
            return isinstance(value, str) and _matches(node, value)
        case _:
            return True


def _same_text(value: object, known: object) -> bool:
    return isinstance(value, str) and value == known


def _within(node: inspect.IntType | inspect.FloatType, value: float) -> bool:
    return (node.ge is None or value >= node.ge) and (node.le is None or value <= node.le)


def _matches(node: inspect.StrType, value: str) -> bool:
    import re

    if node.min_length is not None and len(value) < node.min_length:
        return False
    if node.max_length is not None and len(value) > node.max_length:
        return False
    return node.pattern is None or re.search(node.pattern, value) is not None


def _titled(node: inspect.Metadata) -> str:
    """Types that stand for one thing (an address, a duration) say so in their title."""
    return str((node.extra_json_schema or {}).get("title", ""))


def _asked(node: inspect.Type) -> str:
    """What a type takes, in words."""
    from msgspec import inspect

    match node:
        case inspect.Metadata():
            return _titled(node) or _asked(node.type)
        case inspect.UnionType():
            return " or ".join(dict.fromkeys(map(_asked, node.types)))
        case inspect.StructType() | inspect.DictType():
            return "a mapping"
        case inspect.ListType():
            return "a list"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.LiteralType():
            return " or ".join("false" if v is False else str(v) for v in node.values)
        case inspect.EnumType():
            return "one of " + ", ".join(str(member.value) for member in node.cls)
        case inspect.IntType():
            return "a whole number" + _range(node)
        case inspect.FloatType():
            return "a number" + _range(node)
        case inspect.StrType():
            return "text" + (f" of {node.max_length} characters at most" if node.max_length else "")
        case _:
            return "something else"


def _range(node: inspect.IntType | inspect.FloatType) -> str:
    if node.ge is not None and node.le is not None:
        return f" within {node.ge}..{node.le}"
    return f" of at least {node.ge}" if node.ge is not None else ""
