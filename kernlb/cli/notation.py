"""The notations of the command line, from text to pieces of documents. Pure.

Refuses what is malformed, with the form that was expected (ValueError). What is well formed but
makes no sense is for the daemon to refuse: it knows the rest of the document.
"""

from __future__ import annotations

import re
from typing import Any

# Spelled out, as everything here: importing the model takes longer than the rest of a command.
SCHEDULERS = tuple("rr wrr lc wlc sh mh dh sed nq fo ovf lblc lblcr twos".split())  # noqa: SIM905
SCHEDULER_FLAGS = ("sh-fallback", "sh-port", "mh-fallback", "mh-port")
FORWARDING = ("nat", "tunnel", "dsr", "fullnat")
TUNNELS = ("ipip", "gue", "gre")
PROTOCOLS = ("tcp", "udp", "sctp")
FAMILIES = ("ipv4", "ipv6")
DATAPATHS = ("ipvs", "xdp")

MAX_PORT = 65535
MAX_WEIGHT = 65535
MAX_THRESHOLD = 2**31 - 1
MAX_FWMARK = 2**32 - 1

Document = dict[str, Any]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_DURATION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)?", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)
_LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", re.ASCII)


def parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        rule = "1 to 63 of a-z, 0-9, dot, _ and -, a letter or digit in front"
        raise ValueError(f'"{text}" is not the name of a service: {rule}')
    return text


def parse_server(text: str) -> Document:
    """``ADDRESS[:PORT][,weight=N][,forwarding=F][,tunnel=T][,upper=N][,lower=N]``."""
    where, *settings = text.split(",")
    server = parse_endpoint(where, bare=True)
    for setting in settings:
        key, content = _server_setting(setting)
        if key in server:
            raise ValueError(f'"{setting.partition("=")[0]}" is there twice in {text}')
        server[key] = content
    return server


def parse_persistence(text: str) -> Document:
    """``DURATION[/PREFIX]`` to {timeout, prefix}."""
    duration, slash, prefix = text.partition("/")
    persistence: Document = {"timeout": parse_duration(duration)}
    if slash:
        persistence["prefix"] = _number(prefix, "prefix", 1, 128)
    return persistence


def parse_label(text: str) -> tuple[str, str]:
    key, equals, content = text.partition("=")
    if not equals or not _LABEL_KEY.fullmatch(key):
        raise ValueError(f'"{text}" is not key=value')
    if not content.isprintable():
        raise ValueError(f"the value of label {key} has characters that do not print")
    return key, content


def parse_endpoint(text: str, *, bare: bool) -> Document:
    """{address, port} of ``192.0.2.1:80`` or ``[2001:db8::1]:80``.

    With ``bare``, {address} of an address alone, in brackets or not. Raises ValueError."""
    from ipaddress import IPv6Address, ip_address  # 3 ms that ``ls`` need not wait for

    form = "address[:port]" if bare else "address:port"
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon or (":" in host and not host.endswith("]")):
        host, port = text, ""  # an IPv6 address needs brackets before its port
        if not bare:
            raise ValueError(f'"{text}" is not {form} ([address]:port for IPv6)')
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError(f'"{text}" is not {form} ([address]:port for IPv6)') from None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError(f'"{text}" has a scope: give an address without %')
    if bracketed and address.version == 4:
        raise ValueError(f'"{text}" has brackets, which are for IPv6')
    if host is text:
        return {"address": str(address)}
    return {"address": str(address), "port": _number(port, "port", 0, MAX_PORT)}


def endpoint(where: Document) -> str:
    """The reverse of parse_endpoint."""
    address: str = where["address"]
    if "port" not in where:
        return address
    return f"[{address}]:{where['port']}" if ":" in address else f"{address}:{where['port']}"


def parse_tunnel(text: str) -> Document:
    """``ipip``, ``gre[+csum]`` or ``gue:PORT[+csum]`` to {type, port, checksum}."""
    rest, plus, option = text.partition("+")
    kind, colon, port = rest.partition(":")
    if kind not in TUNNELS or (plus and option != "csum") or (colon and kind != "gue"):
        raise ValueError(f'"{text}" is not ipip, gre[+csum] or gue:PORT[+csum]')
    tunnel: Document = {"type": kind}
    if kind == "gue":
        if not colon:
            raise ValueError(f'"{text}" lacks its UDP port: gue:PORT[+csum]')
        tunnel["port"] = _number(port, "port", 1, MAX_PORT)
    if plus:
        tunnel["checksum"] = True
    return tunnel


def parse_duration(text: str) -> int | float | str:
    """Text with a unit as it is; a plain number as a number."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not a duration: seconds, or as 500ms, 90s, 5m, 1h, 1d')
    if match[2]:
        return text
    return float(text) if match[1] else int(text)


def seconds(duration: float | str) -> float:
    """Seconds of what parse_duration lets through."""
    if not isinstance(duration, str):
        return float(duration)
    unit = duration.lstrip("0123456789.")
    return round(float(duration.removesuffix(unit)) * _UNITS[unit], 3)


def _server_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f'"{text}" is not key=value')
    match key:
        case "weight":
            return key, _number(value, "weight", 0, MAX_WEIGHT)
        case "forwarding":
            if value not in FORWARDING:
                raise ValueError(f'forwarding "{value}" is none of {", ".join(FORWARDING)}')
            return key, value
        case "tunnel":
            return key, parse_tunnel(value)
        case "upper" | "lower":
            return f"{key}_threshold", _number(value, f"{key} threshold", 0, MAX_THRESHOLD)
    raise ValueError(f'"{key}" is none of weight, forwarding, tunnel, upper, lower')


def _number(text: str, what: str, least: int, most: int) -> int:
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError(f'{what} "{text}" is not within {least}..{most}')
    return int(text)
