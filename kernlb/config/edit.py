"""Changes to the text of a document that leave the rest of it as it was written.

An edit is worked out twice: on the plain values, which says what must come out, and on the text,
where only the lines of what changed are touched: comments, order, quoting and blank lines stay.
Where a change falls into a flow collection (``{a: 1}``) ruamel.yaml rewrites the text instead,
which keeps comments too. The result is read back and compared; a text that would say anything
else than was asked never leaves this module.

A JSON text stays JSON and is laid out anew. Nothing here validates: parse the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kernlb.config.address import parse_address
from kernlb.config.errors import ConfigError, Fault, Path
from kernlb.config.splice import Splice
from kernlb.config.syntax import read_values
from kernlb.model import AddressKey, ServerKey, ServiceKey

Document = dict[str, Any]
Change = Callable[[Any], None]  # carried out on anything that acts as a dict of dicts and lists


def merge(text: str, patch: Document) -> str:
    """An RFC 7386 merge patch carried out on a document: null removes a key, a mapping goes into
    a mapping, anything else replaces. Raises ConfigError if the text is no document."""
    document = _read(text)
    steps = _steps(document, patch)
    return _rewrite(text, _merged(document, patch), lambda t: _merge_into(t, patch), steps)


def render(document: Document) -> str:
    """A new document as YAML, keys in the order given."""
    from kernlb.config.splice import dump

    return dump(document)


def add_server(text: str, server: Document) -> str:
    """The document with one more real server, at the end."""
    document = _read(text)
    servers = document.get("servers") or []
    if not servers:
        return merge(text, {"servers": [server]})
    wanted = {**document, "servers": [*servers, server]}
    step = Step(("servers", len(servers)), server)
    return _rewrite(text, wanted, lambda target: target["servers"].append(server), [step])


def edit_server(text: str, service: ServiceKey, server: ServerKey, patch: Document) -> str:
    """The document with a merge patch carried out on one of its real servers.

    Raises LookupError if it has no such server."""
    document = _read(text)
    index = _index(document, service, server)
    servers = list(document["servers"])
    steps = _steps(servers[index], patch, ("servers", index))
    servers[index] = _merged(servers[index], patch)
    wanted = {**document, "servers": servers}
    return _rewrite(text, wanted, lambda t: _merge_into(t["servers"][index], patch), steps)


def remove_server(text: str, service: ServiceKey, server: ServerKey) -> str:
    """The document without a real server. Removing the absent changes nothing."""
    document = _read(text)
    try:
        index = _index(document, service, server)
    except LookupError:
        return text
    servers = [each for position, each in enumerate(document["servers"]) if position != index]
    if not servers:
        return merge(text, {"servers": []})
    wanted = {**document, "servers": servers}
    step = Step(("servers", index), None)
    return _rewrite(text, wanted, lambda target: target["servers"].pop(index), [step])


class Step:
    """One place of a text that changes. ``value`` None: what is there goes."""

    def __init__(self, path: Path, value: Any) -> None:
        self.path = path
        self.value = value


def _read(text: str) -> Document:
    source = "document.json" if _is_json(text) else "document"
    document = read_values(text.encode(), source)
    if not isinstance(document, dict):
        raise ConfigError(Fault("must be a mapping", source))
    return document


def _is_json(text: str) -> bool:
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _index(document: Document, service: ServiceKey, server: ServerKey) -> int:
    """Where a server stands in the list, addresses compared as such."""
    own = service.port if isinstance(service, AddressKey) else 0
    for index, each in enumerate(document.get("servers") or []):
        if isinstance(each, dict) and each.get("port", own) == server.port:
            try:
                address = parse_address(str(each.get("address")))
            except ValueError:
                continue
            if address == server.address:
                return index
    raise LookupError(f"no real server {server}")


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _merge_into(target: Any, patch: Document) -> None:
    """The same, in place, for what keeps its comments beside its values."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge_into(target[key], value)
        else:
            target[key] = _merged(None, value)


def _steps(document: Document, patch: Document, path: Path = ()) -> list[Step]:
    """The places that a patch changes; those that say so already stay untouched."""
    steps = []
    for key, value in patch.items():
        old, here = document.get(key), (*path, key)
        if value is None:
            if key in document:
                steps.append(Step(here, None))
        elif isinstance(value, dict) and isinstance(old, dict):
            steps += _steps(old, value, here)
        elif (new := _merged(old, value)) != old or type(new) is not type(old):
            steps.append(Step(here, new))
    return steps


def _rewrite(text: str, wanted: Document, change: Change, steps: list[Step]) -> str:
    if _is_json(text):
        return json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
    if not steps:
        return text
    spliced = _spliced(text, steps)
    if spliced is not None and _says(spliced, wanted):
        return spliced
    retold = _retold(text, change)
    if retold is not None and _says(retold, wanted):
        return retold
    return render(wanted)  # its comments are lost, what it says is not


def _spliced(text: str, steps: list[Step]) -> str | None:
    for step in steps:
        spliced = Splice(text).put(step.path, step.value)
        if spliced is None:
            return None
        text = spliced
    return text


def _retold(text: str, change: Change) -> str | None:
    """By ruamel.yaml, which is slow to load and lays the text out anew, but knows flow style."""
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml: Any = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = StringIO()
    try:
        document = yaml.load(text)
        change(document)
        yaml.dump(document, out)
    except (YAMLError, ValueError, TypeError):
        return None
    return out.getvalue()


def _says(text: str, wanted: Document) -> bool:
    try:
        return bool(read_values(text.encode(), "document") == wanted)
    except ConfigError:
        return False
