"""The settings file that the package installs: it names everything, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from kernlb.config.schema import settings_schema
from kernlb.config.settings import Settings, load_settings, parse_settings
from tests.packaging.artefacts import ROOT

FILE = ROOT / "debian/conf/kernlb.yaml"
TEXT = FILE.read_text()
ALIASES = {"depool_threshold"}  # of keep: both at once are a fault


def uncommented(marks: str) -> bytes:
    """The text with the marks taken from settings; prose has one space behind its mark."""
    return re.sub(rf"(?m)^{marks}(?=[a-z]|  )", "", TEXT).encode()


def test_as_installed_it_sets_nothing() -> None:
    assert load_settings(FILE) == Settings()


def test_what_stands_behind_one_mark_is_the_default() -> None:
    text = uncommented("#")
    assert len(yaml.safe_load(text)) == 8, "most sections have defaults"
    assert parse_settings(text, source="kernlb.yaml") == Settings()


def test_with_every_setting_in_force_it_loads() -> None:
    settings = parse_settings(uncommented("##?"), source="kernlb.yaml")
    assert settings.ipvs.sync and settings.defaults.vip_interface == "eth0"


def test_every_setting_that_there_is_stands_in_it() -> None:
    written = set(_paths(yaml.safe_load(uncommented("##?"))))
    known = set(_properties(settings_schema()))
    missing = {each for each in known - written if each[-1] not in ALIASES}
    assert len(known) > 70
    assert not {each for each in missing if each[:2] != ("defaults", "check")}


def _paths(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            yield from _paths(inner, (*at, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, at)


def _properties(
    schema: dict[str, Any], within: dict[str, Any] | None = None, at: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    whole = within or schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from _properties(whole["$defs"][name], whole, at)
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _properties(each, whole, at)
    if isinstance(schema.get("items"), dict):
        yield from _properties(schema["items"], whole, at)
    for key, inner in schema.get("properties", {}).items():
        yield (*at, key)
        yield from _properties(inner, whole, (*at, key))
