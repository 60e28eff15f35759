"""JSON Schema of the documents, so that editors complete and check them while one types.

Generated from the document types. A schema cannot say everything that ``service`` checks
(duplicate servers, ports that a forwarding method keeps); what it refuses is always refused.
"""

from __future__ import annotations

from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def service_schema() -> Schema:
    """Of a document in services.d."""
    from kernlb.config.document import ServiceDocument

    schema = _schema_of(ServiceDocument, "kernlb service", "A virtual service of kernlb.")
    service = schema["$defs"]["ServiceDocument"]
    service["oneOf"] = [
        {"required": ["address", "port"], "not": _any_of("fwmark", "family")},
        {"required": ["fwmark"], "not": _any_of("address", "port", "protocol")},
    ]
    service["properties"]["vip"]["anyOf"] = _only_false(service["properties"]["vip"]["anyOf"])
    tunnel = schema["$defs"]["TunnelDocument"]
    tunnel["if"] = {"properties": {"type": {"const": "gue"}}, "required": ["type"]}
    tunnel["then"] = {"required": ["port"], "properties": {"port": {"minimum": 1}}}
    tunnel["else"] = {"not": {"required": ["port"]}}
    return schema


def settings_schema() -> Schema:
    """Of kernlb.yaml."""
    from kernlb.config.settings_document import SettingsDocument

    schema = _schema_of(SettingsDocument, "kernlb settings", "Settings of a kernlb host.")
    listen = schema["$defs"]["SettingsDocument"]["properties"]["metrics_listen"]
    listen["anyOf"] = _only_false(listen["anyOf"])
    return schema


def _schema_of(document: type, title: str, description: str) -> Schema:
    import msgspec

    schema = msgspec.json.schema(document)
    definitions = schema["$defs"]
    return {
        "$schema": DIALECT,
        "title": title,
        "description": description,
        **{key: value for key, value in schema.items() if key != "$defs"},
        "$defs": definitions,
    }


def _any_of(*keys: str) -> Schema:
    return {"anyOf": [{"required": [key]} for key in keys]}


def _only_false(members: list[Schema]) -> list[Schema]:
    return [{"const": False} if each.get("type") == "boolean" else each for each in members]
