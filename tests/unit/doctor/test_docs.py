"""docs/doctor.md says what the checks say."""

from __future__ import annotations

from tests.unit.doctor.tables import PAGE, filled


def test_the_tables_of_the_page_are_those_of_the_checks() -> None:
    page = PAGE.read_text()
    assert page == filled(page), "run: python -m tests.unit.doctor.tables"
