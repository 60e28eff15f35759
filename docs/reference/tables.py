#!/usr/bin/env python3
"""Writes the tables of keys in service.md and settings.md from the JSON Schemas.

Each table stands between ``<!-- keys: NAME -->`` and ``<!-- end -->``, NAME being a definition of
the schema. Run it after changing a document type; a test compares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kernlb.config import service_schema, settings_schema

HERE = Path(__file__).parent
PAGES = {"service.md": service_schema, "settings.md": settings_schema}
EXTENDS = {"CheckDocument": "ItemDocument"}  # what the one has of the other is told there
TABLE = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str, schema: dict[str, Any]) -> str:
    """The page with its tables as the schema has them."""
    return TABLE.sub(lambda m: f"{m[1]}{table(m[2], schema['$defs'])}{m[3]}", text)


def table(name: str, definitions: dict[str, Any]) -> str:
    definition = definitions[name]
    rows = ["| key | value | meaning |\n|---|---|---|\n"]
    elsewhere = definitions[EXTENDS[name]]["properties"] if name in EXTENDS else {}
    for key, said in definition["properties"].items():
        if key in elsewhere:
            continue
        must = " **Required.**" if key in definition.get("required", ()) else ""
        default = said.get("default")
        usual = "" if default in (None, []) or isinstance(default, dict) else _shown(default)
        rows.append(
            f"| `{key}` | {kind(said, definitions)} | {said['description']}{usual}{must} |\n"
        )
    return "".join(rows)


def _shown(default: Any) -> str:
    text = default if isinstance(default, str) else json.dumps(default).removesuffix(".0")
    return f" Default: `{text}`."


def kind(said: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key takes, in a few words."""
    if "$ref" in said:
        return kind(definitions[said["$ref"].rpartition("/")[2]], definitions)
    if title := said.get("title", ""):
        known = {
            "an IP address": "address",
            "the name of an interface (1 to 15 characters)": "interface",
            "the name of a group": "group",
            'a share: a number within 0..1, or text as "50%"': 'share: `0.5`, `"50%"`',
            'a status as 204, or several as "200-299" or "2xx"': "`204`, `200-299`, `2xx`",
            "text, 1 to 4096 characters": "text",
        }
        if title.startswith("a duration"):
            return "duration"
        if not title.endswith("Document") and "enum" not in said:
            return known.get(title, title)
    if "enum" in said:
        return ", ".join(f"`{value}`" for value in said["enum"])
    if "const" in said:
        return f"`{json.dumps(said['const'])}`"
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(kind(each, definitions) for each in said["anyOf"]))
    match said.get("type"):
        case "integer":
            return f"{said['minimum']}..{said['maximum']}"
        case "boolean":
            return "`true`, `false`"
        case "array":
            items = kind(said["items"], definitions)
            return f"list of {items.replace('a mapping', 'mappings')}"
        case "object" if "properties" in said:
            return "a mapping"
        case "object" if "header" in str(said.get("propertyNames", "")):
            return "headers by name"
        case "object":
            return "labels"
        case _:
            return "text"


if __name__ == "__main__":
    for file, schema in PAGES.items():
        path = HERE / file
        path.write_text(page(path.read_text(), schema()))
