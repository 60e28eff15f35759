"""What several types of checks have in common: TLS, statuses, headers, bytes, patterns."""

from __future__ import annotations

import re
from typing import TypeVar

from msgspec import UNSET, UnsetType

from kernlb.config.check_document import HexDocument, ItemDocument
from kernlb.config.duration import seconds
from kernlb.config.errors import Path, Report, shown
from kernlb.health.check import StatusRange, Tls

T = TypeVar("T")

# Headers that HTTP itself or another key has a say in.
_RESERVED = {
    "host": "has a key of its own: host",
    "connection": "is the check's own to send",
    "content-length": "is the check's own to send",
    "transfer-encoding": "is the check's own to send",
    "user-agent": "is the check's own to send",
}
_STATUS = re.compile(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)


def said(value: T | UnsetType, usual: T) -> T:
    return usual if value is UNSET else value


def said_or_none(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value


def read_tls(document: ItemDocument, path: Path, report: Report) -> Tls:
    usual = Tls()
    verify = said(document.verify, usual.verify)
    if not verify and document.ca is not UNSET:
        report.add((*path, "ca"), "does not go with verify: false, which trusts anybody")
    warning = document.expiry_warning
    return Tls(
        verify=verify,
        ca=said_or_none(document.ca),
        name=said_or_none(document.server_name),
        expiry_warning=usual.expiry_warning if warning is UNSET else seconds(warning),
    )


def read_statuses(document: ItemDocument, path: Path, report: Report) -> tuple[StatusRange, ...]:
    """Empty: nothing is said of them."""
    if document.status is UNSET:
        return ()
    many = isinstance(document.status, list)
    listed = document.status if isinstance(document.status, list) else [document.status]
    ranges: list[StatusRange] = []
    for index, each in enumerate(listed):
        here = (*path, "status", index) if many else (*path, "status")
        if isinstance(each, int):
            ranges.append((each, each))
        elif match := _STATUS.fullmatch(each):
            ranges.append(_status_range(match))
            if ranges[-1][0] > ranges[-1][1]:
                report.add(here, f"{shown(each)} ends before it begins")
        else:
            report.add(here, f'must be a status as 204, "200-299" or "2xx", not {shown(each)}')
    return tuple(dict.fromkeys(ranges))


def _status_range(match: re.Match[str]) -> StatusRange:
    if match[1]:
        return int(match[1]) * 100, int(match[1]) * 100 + 99
    return int(match[2]), int(match[3] or match[2])


def read_headers(document: ItemDocument, path: Path, report: Report) -> tuple[tuple[str, str], ...]:
    if document.headers is UNSET:
        return ()
    seen: set[str] = set()
    for name in document.headers:
        here = (*path, "headers", name)
        if why := _RESERVED.get(name.lower()):
            report.add(here, why)
        elif name.lower() in seen:
            report.add(here, "is there already, in other letters")
        seen.add(name.lower())
    return tuple(document.headers.items())


def read_regex(
    text: str | UnsetType, path: Path, report: Report, *, on_bytes: bool = False
) -> str | None:
    if text is UNSET:
        return None
    try:
        re.compile(text.encode() if on_bytes else text)
    except (re.error, RecursionError, OverflowError) as error:
        report.add(path, f"is not a regular expression: {error}")
        return None
    return text


def read_bytes(value: str | HexDocument | UnsetType) -> bytes | None:
    if value is UNSET:
        return None
    return bytes.fromhex(value.hex) if isinstance(value, HexDocument) else value.encode()
