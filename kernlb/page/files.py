"""The files of the page, as the package brings them: read once, kept whole, named one by one.

Only what lies in ``static/`` has a name, so no path in a request ever reaches the file system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
INDEX = "index.html"
_HOST = b"{host}"


class File(NamedTuple):
    """``etag`` changes with the content."""

    body: bytes
    kind: str
    etag: str


@cache
def files() -> Mapping[str, File]:
    """Every file by its name."""
    found = {}
    for each in resources.files("kernlb.page").joinpath("static").iterdir():
        kind = KINDS.get(each.name.rpartition(".")[2])
        if kind is not None:
            found[each.name] = _file(each.read_bytes(), kind)
    return MappingProxyType(found)


def index(host: str) -> File:
    """The page itself, with the name of this host in its title."""
    page = files()[INDEX]
    return _file(page.body.replace(_HOST, escape(host).encode()), page.kind)


def _file(body: bytes, kind: str) -> File:
    return File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
