"""A balancer with 1 000 services and 10 000 servers on the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import structs

from tests.page import sample
from tests.page.browser import Chromium, Page
from tests.page.site import Site

# Bounds for a shared machine with two cores; alone it takes a third of them.
RENDER = 600.0  # milliseconds of one task
TYPE = 300.0
NODES = 12_000


@pytest.fixture(scope="module")
def page(browser: Chromium) -> Iterator[Page]:
    made = sample.large(1_700_000_000.0)
    with Site(lambda now: structs.replace(made, time=now, interval=2.0)) as site:
        page = browser.open("about:blank")
        page.call(
            "Page.addScriptToEvaluateOnNewDocument",
            source="window.tasks = []; new PerformanceObserver((list) => tasks.push("
            "...list.getEntries().map((each) => each.duration))).observe({type: 'longtask'});",
        )
        page.go(site.url)
        page.wait_for("document.querySelector('#services-table tbody tr')", 30)
        yield page
        assert page.complaints() == []
        page.close()


def nodes(page: Page) -> int:
    count: int = page.run("document.querySelectorAll('*').length")
    return count


def test_it_draws_what_fits_and_no_more(page: Page) -> None:
    assert page.text("#range") == "1\u201350 of 1\u202f000"
    assert nodes(page) < NODES
    page.run("document.querySelector('#open-all').click()")
    assert len(page.texts(".servers")) == 50
    assert nodes(page) < 3 * NODES
    page.run("document.querySelector('#close-all').click()")
    assert page.texts(".servers") == []


def test_pages_are_turned_by_a_button_that_keeps_the_focus(page: Page) -> None:
    page.run("document.querySelector('#after').focus()")
    page.press("Enter")
    assert page.text("#range") == "51\u2013100 of 1\u202f000"
    for _ in range(19):
        page.press("Enter")
    assert page.text("#range") == "951\u20131\u202f000 of 1\u202f000"
    assert page.run("document.activeElement.id") == "after"
    assert page.run("document.activeElement.getAttribute('aria-disabled')") == "true"


def test_a_filter_among_ten_thousand_servers_answers_a_keystroke(page: Page) -> None:
    took = page.run(
        "(() => { const field = document.querySelector('#filter'); field.value = 'service99 team';"
        " const began = performance.now(); field.dispatchEvent(new Event('input'));"
        " document.body.offsetHeight; return performance.now() - began; })()"
    )
    assert page.text("#filter-said") == "11 services found"
    print(f"a keystroke in the filter: {took:.0f} ms")
    assert took < TYPE


def test_a_refresh_does_not_hold_the_page_up(page: Page) -> None:
    page.run("tasks.length = 0")
    asked = len([url for url in page.requested() if "/v1/overview" in url])
    while len([url for url in page.requested() if "/v1/overview" in url]) < asked + 2:
        page.pass_time(0.1)
    longest = page.run("Math.max(0, ...tasks)")
    print(f"the longest task of a refresh: {longest:.0f} ms")
    assert longest < RENDER
