"""The reference pages say what the document types say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from kernlb.config import parse_service, service_schema, settings_schema

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


def test_the_examples_parse() -> None:
    files = sorted((REFERENCE.parent / "examples" / "services.d").iterdir())
    for file in files:
        parse_service(file.read_bytes(), name=file.stem, source=str(file))
