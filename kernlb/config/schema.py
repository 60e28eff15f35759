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
    _tell_checks(schema["$defs"])
    return schema


def settings_schema() -> Schema:
    """Of kernlb.yaml."""
    from kernlb.config.settings_document import SettingsDocument

    schema = _schema_of(SettingsDocument, "kernlb settings", "Settings of a kernlb host.")
    listen = schema["$defs"]["SettingsDocument"]["properties"]["metrics_listen"]
    listen["anyOf"] = _only_false(listen["anyOf"])
    _tell_checks(schema["$defs"])
    return schema


def _tell_checks(definitions: Schema) -> None:
    """Which keys of a check go with which type, and which not with each other."""
    from kernlb.config.check_words import ALIASES, KEYS, SEVERAL, TIMING

    item, check = definitions["ItemDocument"], definitions["CheckDocument"]
    item["required"] = ["type"]
    for definition, more in ((item, ()), (check, (*TIMING, *SEVERAL, "need"))):
        definition["allOf"] = [
            {
                "if": {"properties": {"type": {"const": kind.value}}, "required": ["type"]},
                "then": {"propertyNames": {"enum": sorted({"type", *keys, *more})}},
            }
            for kind, keys in KEYS.items()
        ]
    check["allOf"].append(
        {
            "if": {"not": {"required": ["type"]}},
            "then": {"propertyNames": {"enum": sorted((*TIMING, *SEVERAL, "need"))}},
        }
    )
    check["allOf"] += [{"not": {"required": [word, alias]}} for alias, word in ALIASES.items()]
    check["oneOf"] = [{"required": [word]} for word in ("type", *SEVERAL)]
    check["dependentRequired"] = {"need": ["of"], "of": ["need"]}
    for definition in (item, check):
        for name, kinds in _NEEDED.items():
            definition["allOf"].append(
                {
                    "if": {"properties": {"type": {"enum": kinds}}, "required": ["type"]},
                    "then": {"required": [name]},
                }
            )
    health = definitions["HealthDocument"]
    health["not"] = {"required": ["keep", "depool_threshold"]}
    damping = health["properties"]["damping"]
    damping["anyOf"] = _only_false(damping["anyOf"])


_NEEDED = {"command": ["exec"], "port": ["agent"]}


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
