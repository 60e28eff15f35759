"""For everybody: names, headings, tables, contrast as computed, small screens, paper, motion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.page.browser import Page
from tests.page.site import Site

CONTRAST = Path(__file__).with_name("contrast.js").read_text()
NAMED = {"button", "searchbox", "combobox", "image", "table", "navigation", "heading", "search"}


def prepared(page: Page, site: Site) -> None:
    """Everything that there is to show is shown."""
    site.tell("service web added", "api by alice")
    page.wait_for("document.querySelector('#events-table tbody tr')")
    page.run("document.querySelector('#open-all').click()")


def faint(page: Page) -> list[str]:
    found: list[str] = page.run(CONTRAST)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(page: Page, site: Site, scheme: str) -> None:
    page.prefer(prefers_color_scheme=scheme)
    prepared(page, site)
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") is (scheme == "light")
    assert page.run("document.querySelectorAll('main *').length") > 500
    assert faint(page) == []
    page.run("document.body.classList.add('stale')")
    page.run("document.querySelector('#lost').textContent = 'gone'")
    assert faint(page) == []


def test_faint_text_would_be_found(page: Page) -> None:
    page.run("document.querySelector('#daemon').style.color = 'rgb(150, 150, 150)'")
    (found,) = faint(page)
    assert "kernlbd 0.1.0" in found


@pytest.mark.parametrize("width", [1280, 320])
def test_everything_has_a_name_and_every_cell_a_heading(page: Page, site: Site, width: int) -> None:
    """On small screens rows are laid out as cards, and are rows all the same."""
    page.resize(width)
    prepared(page, site)
    tree = [node for node in page.tree() if not node.get("ignored")]
    roles = [node["role"]["value"] for node in tree]
    nameless = [
        node["role"]["value"]
        for node in tree
        if node["role"]["value"] in NAMED and not node.get("name", {}).get("value")
    ]
    assert nameless == ["search"] * nameless.count("search")
    assert roles.count("table") > 8
    rows, headings = roles.count("row"), roles.count("rowheader")
    assert rows > 40
    # every row of a body has its heading, but those that hold the servers of a service
    heads, below = roles.count("table"), page.run("document.querySelectorAll('.below').length")
    assert headings == rows - heads - below
    assert roles.count("columnheader") == page.run(
        "[...document.querySelectorAll('thead th')].filter((each) => each.checkVisibility()).length"
    )
    assert all(page.run("[...document.querySelectorAll('th')].map((each) => each.scope)"))


def test_headings_go_down_by_one(page: Page) -> None:
    levels = page.run("[...document.querySelectorAll('h1,h2,h3')].map((each) => +each.tagName[1])")
    assert levels == [1, 2, 2, 2, 2, 2]
    assert page.run("document.documentElement.lang") == "en"


def test_ids_are_single_and_references_lead_somewhere(page: Page) -> None:
    ids = page.run("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    named = page.run(
        "[...document.querySelectorAll("
        "'[aria-controls],[aria-describedby],[aria-labelledby],[for]')].map("
        "(each) => each.getAttribute('aria-controls') ?? each.getAttribute('aria-describedby')"
        " ?? each.getAttribute('aria-labelledby') ?? each.htmlFor)"
    )
    assert set(named) <= set(ids)


def test_only_warnings_and_alarms_are_announced(page: Page) -> None:
    live = page.run(
        "[...document.querySelectorAll('[aria-live],[role=alert],[role=status]')]"
        ".map((each) => each.id)"
    )
    assert live == ["lost", "warnings-list", "filter-said"]


def test_what_is_clicked_is_large_enough(page: Page) -> None:
    small = page.run(
        "[...document.querySelectorAll('button,input,select')]"
        ".filter((each) => each.checkVisibility())"
        ".map((each) => each.getBoundingClientRect()).filter((box) => box.height < 24)"
    )
    assert small == []


def test_state_is_never_colour_alone(page: Page) -> None:
    """Marks of different kinds have different shapes, and a word stands beside each."""
    marks = page.run(
        "[...document.querySelectorAll('.status')].map((each) =>"
        " [each.querySelector('svg').getAttribute('class'),"
        " each.querySelector('path').getAttribute('d'), each.innerText.trim()])"
    )
    shapes = {kind: shape for kind, shape, _ in marks}
    assert len(shapes) == len(set(shapes.values())) == 5
    assert all(word for _, _, word in marks)


@pytest.mark.parametrize("width", [320, 375, 768, 1024])
def test_nothing_runs_out_of_a_small_screen(page: Page, site: Site, width: int) -> None:
    page.resize(width)
    prepared(page, site)
    assert page.run("document.documentElement.scrollWidth") == width
    cut = page.run(
        "[...document.querySelectorAll('.wide')]"
        ".filter((each) => each.scrollWidth > each.clientWidth + 1)"
        ".map((each) => each.innerText.slice(0, 40))"
    )
    assert cut == [], json.dumps(cut)


def test_paper_has_no_buttons_and_black_ink(page: Page) -> None:
    page.prefer("print", prefers_color_scheme="dark")
    assert page.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.run("document.querySelector('.tools').checkVisibility()") is False
    assert faint(page) == []


def test_nothing_moves_for_who_wants_no_motion(page: Page) -> None:
    moving = "getComputedStyle(document.querySelector('.toggle'), '::before').transitionDuration"
    page.prefer(prefers_reduced_motion="no-preference")
    assert page.run(moving) != "0s"
    page.prefer(prefers_reduced_motion="reduce")
    assert page.run(moving) == "0s"
