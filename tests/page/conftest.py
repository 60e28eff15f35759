"""One browser for all tests of the page; a page of its own for each, which has no complaints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.page.browser import PROGRAM, Chromium, Page, available
from tests.page.site import Site

Open = Callable[..., Page]


def need_browser() -> None:
    if not available():
        reason = f"{PROGRAM} is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must run this test", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    need_browser()
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def page(browser: Chromium, site: Site) -> Iterator[Page]:
    """The page of the site, filled; nothing may be wrong with it to the end."""
    page = browser.open(site.url)
    page.wait_for("document.querySelector('#services-table tbody tr')")
    yield page
    assert page.complaints() == []
    assert {url for url in page.requested() if not url.startswith(site.url)} <= {"about:blank"}
    page.close()
