"""The reference pages say what the document types say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from kernlb.config import (
    Defaults,
    load_settings,
    parse_service,
    service_schema,
    settings_schema,
)
from kernlb.config.check_words import KEYS
from tests.unit.pages import Block, blocks

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(
    ("name", "schema"), [("service.md", service_schema()), ("settings.md", settings_schema())]
)
def test_the_tables_are_those_of_the_schema(name: str, schema: dict[str, Any]) -> None:
    page = runpy.run_path(str(REFERENCE / "tables.py"))["page"]
    text = (REFERENCE / name).read_text()
    assert page(text, schema) == text, "run docs/reference/tables.py"
    pages = "".join(path.read_text() for path in REFERENCE.glob("*.md"))
    for definition, said in schema["$defs"].items():
        assert "properties" not in said or f"<!-- keys: {definition} -->" in pages


def test_the_document_on_the_page_is_good() -> None:
    text = (REFERENCE / "service.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert len(parse_service(text.encode(), name="web", source="service.md").servers) == 2


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"line {block.line}")
        for block in blocks(REFERENCE.parent / "health-checks.md")
        if block.language == "yaml"
    ],
)
def test_the_documents_about_checks_are_good_and_check(block: Block) -> None:
    web = parse_service(block.text.encode(), name="web", source="health-checks.md")
    assert web.watches


def test_every_check_and_its_every_key_but_the_common_ones_have_an_example() -> None:
    text = (REFERENCE.parent / "health-checks.md").read_text()
    for kind, keys in KEYS.items():
        assert re.search(rf"^#+ .*\b{kind}\b", text, re.MULTILINE), kind
        assert re.search(rf"\b(type: {kind}|check: {kind})\b", text), kind
        for key in keys - {"size", "send", "max_bytes"}:
            assert key in text, (kind, key)


def test_the_examples_parse_beside_each_other() -> None:
    examples = REFERENCE.parent / "examples"
    for defaults in (Defaults(), load_settings(examples / "kernlb.yaml").defaults):
        for file in sorted((examples / "services.d").iterdir()):
            parse_service(file.read_bytes(), name=file.stem, source=str(file), defaults=defaults)
