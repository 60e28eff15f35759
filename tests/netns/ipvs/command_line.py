"""An edit as the words of the ``kernlb`` command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.netns.ipvs.editing import Edit, Json
from tests.netns.ipvs.views import endpoint

_OPTIONS = {
    "scheduler": "--scheduler",
    "forwarding": "--forwarding",
    "weight": "--weight",
    "upper_threshold": "--upper-threshold",
    "lower_threshold": "--lower-threshold",
    "protocol": "--protocol",
    "fwmark": "--fwmark",
    "family": "--family",
}


def words(edit: Edit) -> list[str]:
    """``service edit web --weight 3`` for the edit that says so."""
    command = [*edit.verb.split(), edit.service]
    if edit.verb == "server add":
        where = edit.body["address"]
        if "port" in edit.body:
            where = endpoint(where, edit.body["port"])
        return [*command, where, *_options(edit.body)]
    if edit.target:
        return [*command, edit.target, *_options(edit.body)]
    if "address" in edit.body:
        command += ["--address"] if edit.verb == "service edit" else []
        command.append(endpoint(edit.body["address"], edit.body["port"]))
    return [*command, *_options(edit.body)]


def _options(body: Json) -> Iterator[str]:
    for name, value in body.items():
        if name in ("address", "port"):
            continue
        if value is None:
            yield from ("--unset", name)
        elif name in _OPTIONS:
            yield from (_OPTIONS[name], str(value))
        else:
            yield from _special(name, value)


def _special(name: str, value: Any) -> Iterator[str]:
    match name:
        case "scheduler_flags":
            for flag in value:
                yield from ("--flag", flag)
            if not value:
                yield "--no-flags"
        case "tunnel":
            yield from ("--tunnel", _tunnel(value))
        case "persistence":
            yield from _persistence(value)
        case "one_packet":
            yield "--one-packet" if value else "--no-one-packet"
        case "sorry_server":
            yield from ("--sorry-server", value["address"])
        case "servers":
            for server in value:
                yield from ("--server", _server(server))
        case _:
            raise AssertionError(name)


def _tunnel(tunnel: Json) -> str:
    port = f":{tunnel['port']}" if tunnel.get("port") else ""
    return f"{tunnel['type']}{port}{'+csum' if tunnel.get('checksum') else ''}"


def _persistence(value: Any) -> Iterator[str]:
    settings = value if isinstance(value, dict) else {"timeout": value}
    prefix = f"/{settings['prefix']}" if settings.get("prefix") else ""
    yield from ("--persistence", f"{settings['timeout']}{prefix}")
    if settings.get("engine"):
        yield from ("--persistence-engine", settings["engine"])


def _server(server: Json) -> str:
    where = server["address"]
    if "port" in server:
        where = endpoint(where, server["port"])
    parts = [where]
    for name in ("weight", "forwarding"):
        if name in server:
            parts.append(f"{name}={server[name]}")
    if "tunnel" in server:
        parts.append(f"tunnel={_tunnel(server['tunnel'])}")
    for name in ("upper", "lower"):
        if f"{name}_threshold" in server:
            parts.append(f"{name}={server[f'{name}_threshold']}")
    return ",".join(parts)
