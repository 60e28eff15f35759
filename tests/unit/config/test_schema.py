"""The schemas say no where the parser says no, as far as a schema can tell, and never else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from kernlb.config import parse_service, service_schema, settings_schema
from kernlb.config.syntax import read_values
from tests.unit.config.documents import services

SERVICE = Draft202012Validator(service_schema())
SETTINGS = Draft202012Validator(settings_schema())
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
GOOD: dict[str, Any] = {"address": "192.0.2.10", "port": 80}


def test_the_schemas_are_schemas_and_can_be_written_as_json() -> None:
    for schema in (service_schema(), settings_schema()):
        Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_is_described() -> None:
    for schema in (service_schema(), settings_schema()):
        for name, definition in schema["$defs"].items():
            for key, said in definition.get("properties", {}).items():
                assert said.get("description"), f"{name}.{key}"


@given(services())
def test_what_parses_is_accepted(document: dict[str, Any]) -> None:
    parse_service(json.dumps(document).encode(), name="web", source="web.json")
    SERVICE.validate(document)


@pytest.mark.parametrize(
    "wrong",
    [
        {"wieght": 1},
        {"port": 70000},
        {"port": "80"},
        {"port": True},
        {"scheduler": "foo"},
        {"scheduler": None},
        {"scheduler_flags": ["xx"]},
        {"protocol": "icmp"},
        {"forwarding": "masq"},
        {"fwmark": 7},
        {"family": "ipv4"},
        {"weight": -1},
        {"weight": 65536},
        {"vip": True},
        {"vip": {}},
        {"vip": {"interface": "a/b"}},
        {"persistence": "5 minutes"},
        {"persistence": {"prefix": 0}},
        {"persistence": {"engine": "http"}},
        {"drain_timeout": -1},
        {"labels": {"a b": "x"}},
        {"labels": {"a": 1}},
        {"labels": {"a": "x\n"}},
        {"tunnel": {"type": "gue"}},
        {"tunnel": {"type": "gre", "port": 1}},
        {"tunnel": {"port": 1}},
        {"servers": {}},
        {"servers": [{}]},
        {"servers": [{"address": "10.0.0.1", "weight": 70000}]},
        {"sorry_server": {"address": "10.0.0.9", "weight": 0}},
        {"sorry_server": [{"address": "10.0.0.9", "weight": 0}]},
        {"check": "tcpp"},
        {"check": True},
        {"check": {}},
        {"check": {"interval": 5}},
        {"check": {"type": "none"}},
        {"check": {"type": "tcp", "path": "/"}},
        {"check": {"type": "http", "ca": "/ca.pem"}},
        {"check": {"type": "http", "path": "x"}},
        {"check": {"type": "http", "headers": {"a": "b\n"}}},
        {"check": {"type": "http", "status": []}},
        {"check": {"type": "exec"}},
        {"check": {"type": "agent"}},
        {"check": {"type": "tcp", "fall": 2, "retry": 1}},
        {"check": {"type": "tcp", "any": ["icmp"]}},
        {"check": {"any": []}},
        {"check": {"any": ["none"]}},
        {"check": {"any": ["tcp"], "port": 1}},
        {"check": {"any": [{"port": 1}]}},
        {"check": {"any": [{"type": "tcp", "rise": 1}]}},
        {"check": {"any": [{"any": ["tcp"]}]}},
        {"check": {"of": ["tcp"]}},
        {"check": {"all": ["tcp"], "need": 1}},
        {"servers": [{"address": "10.0.0.1", "check": "tcpp"}]},
        {"health": {"quorum": 0}},
        {"health": {"keep": 2}},
        {"health": {"keep": "101%"}},
        {"health": {"keep": 1, "depool_threshold": 1}},
        {"health": {"damping": True}},
        {"health": {"damping": {"changes": 0}}},
    ],
    ids=json.dumps,
)
def test_what_is_wrong_is_refused(wrong: dict[str, Any]) -> None:
    SERVICE.validate(GOOD)
    assert not SERVICE.is_valid(GOOD | wrong)


def test_a_service_needs_an_address_or_a_mark() -> None:
    assert not SERVICE.is_valid({})
    assert not SERVICE.is_valid({"address": "192.0.2.10"})
    assert SERVICE.is_valid({"fwmark": 7, "family": "ipv6"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"audit_intervall": 1},
        {"audit_interval": -1},
        {"defaults": {"check": {"type": "agent"}}},
        {"health": {"partition_share": 2}},
        {"health": {"quorum": 1}},
        {"metrics_listen": True},
        {"ipvs": {"timeouts": {"tcp": "x"}}},
        {"ipvs": {"sync": [{"role": "both", "interface": "eth0"}]}},
        {"ipvs": {"sysctls": {"conntrack": 2}}},
        {"control_group": "a b"},
        {"defaults": {"scheduler": "foo"}},
    ],
    ids=json.dumps,
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    assert not SETTINGS.is_valid(wrong)


def test_the_examples_are_accepted() -> None:
    files = sorted((EXAMPLES / "services.d").iterdir())
    assert len(files) >= 5
    for file in files:
        SERVICE.validate(read_values(file.read_bytes(), str(file)))
    file = EXAMPLES / "kernlb.yaml"
    SETTINGS.validate(read_values(file.read_bytes(), str(file)))
