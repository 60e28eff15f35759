"""What an operator sees and does on the page."""

from __future__ import annotations

import json
import time

import pytest
from msgspec import structs

from kernlb.cli import render
from kernlb.control.protocol import ServerState
from kernlb.control.protocol_overview import Overview
from tests.netns.traffic.wait import wait_for
from tests.page import sample
from tests.page.browser import BrowserError, Chromium, Page
from tests.page.site import Site

NAMES = "#services-table button.toggle"


def names(page: Page) -> list[str]:
    return page.texts(NAMES)


def row(server: str) -> str:
    """The row of a server, as an expression."""
    rows = "[...document.querySelectorAll('.servers tr')]"
    return f"{rows}.find((row) => row.innerText.includes('{server}'))"


def cell(page: Page, server: str, label: str) -> str:
    """What the row of a server says under a heading."""
    found: str = page.run(f"{row(server)}.querySelector('[data-label=\"{label}\"]').innerText")
    return found


def says(selector: str, text: str) -> str:
    """An expression: whether it is to be read there."""
    return f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})"


def refreshed(page: Page, site: Site, times: int = 2) -> None:
    """The page has asked again."""
    asked = site.asked
    wait_for(lambda: site.asked >= asked + times, 10, "the page asks again")
    page.pass_time(0.1)  # to draw what came


def test_services_stand_in_the_order_of_their_trouble(page: Page) -> None:
    assert names(page) == ["service2", "service3", "service0", "service4", "service1"]
    states = page.texts("#services-table > table > tbody > tr:not(.below) .word")
    assert states == ["all down", "failed", "degraded", "no servers", "serving"]
    assert page.text("#services-count") == "3 of 5 serving"
    assert "no memory" in page.text("#services-table")


def test_a_server_is_told_with_all_that_is_known(page: Page) -> None:
    page.run("document.querySelectorAll('.toggle')[0].click()")  # one that has the same servers
    page.run("document.querySelectorAll('.toggle')[1].click()")
    state = cell(page, "10.1.0.6:80", "State")
    assert "down" in state and "since" in state and "connection refused" in state
    assert "http" in cell(page, "10.1.0.6:80", "Latest checks")
    strip = page.run(f"{row('10.1.0.6:80')}.querySelector('.strip').getAttribute('aria-label')")
    assert strip == "latest 20 checks: 17 good, 3 bad; the last bad"
    assert cell(page, "10.1.0.6:80", "Weight") == "0 of 1"
    assert cell(page, "10.1.0.1:80", "Share, %") == "10.0 of 10.0"
    assert cell(page, "10.1.0.6:80", "Share, %") == "\u2013 of 0.0"
    ends = f"{row('10.1.0.1:80')}.querySelector(each).getBoundingClientRect().right"
    bar, mark = page.run(f"['.bar', '.mark'].map((each) => {ends})")
    assert abs(bar - mark) < 3
    assert cell(page, "10.1.0.1:80", "Active") == "17"
    assert cell(page, "10.1.0.1:80", "Conn/s") == "3.5"
    assert cell(page, "10.1.0.1:80", "Out, bit/s") == "728k"


def test_warnings_stand_above_everything(page: Page) -> None:
    assert page.texts("#warnings-list li") == [
        "service2: all down",
        "interface back: XDP in generic mode",
    ]
    above = page.run(
        "document.querySelector('#warnings').getBoundingClientRect().bottom"
        " <= document.querySelector('#services').getBoundingClientRect().top"
    )
    assert above


def test_the_host_is_told(page: Page) -> None:
    host = page.text("#host")
    for said in (
        "the kernel has no IPVS: modprobe ip_vs",
        "generic: slow",
        "90\u202f000 of 100\u202f000",
        "90 %",
        "missing",
        "no neighbour",
        "/etc/kernlb/services.d/web.yaml:12",
        "no service",
        "tcp/192.0.2.99:25",
        "a1b2c3d4e5f60718, ABI 1, 84 MiB of tables",
    ):
        assert said in host


def test_rates_have_their_course(page: Page) -> None:
    assert page.run("document.querySelector('#figures .stroke').getAttribute('d').length") > 200
    assert page.texts("#figures .figure")[0] == "103"
    words = page.run("document.querySelector('#services-table .plot').getAttribute('aria-label')")
    assert words.startswith("connections a second over the last ")


def test_a_history_is_asked_for_once_and_then_goes_on(page: Page, site: Site) -> None:
    before = page.run("document.querySelector('#figures .stroke').getAttribute('d')")
    page.wait_for(
        f"document.querySelector('#figures .stroke').getAttribute('d') !== {before!r}", 15
    )
    asked = [url for url in page.requested() if "/v1/overview" in url]
    assert asked[0].endswith("history=60")
    assert len(asked) > 1
    assert all(url.endswith("history=4") for url in asked[1:])


def test_a_filter_finds_names_addresses_labels_and_states(page: Page) -> None:
    page.run("document.querySelector('#filter').focus()")
    for typed, found in (
        ("service4", ["service4"]),
        ("TEAM=TEAM3", ["service3"]),
        ("10.1.0.12", ["service0"]),
        ("refused team2", ["service2"]),
    ):
        page.run("document.querySelector('#filter').select()")
        page.write(typed)
        assert names(page) == found
        assert page.text("#filter-said") == "1 service found"
    page.write(" nowhere")
    assert names(page) == []
    assert page.text("#filter-said") == "no service has that"


def test_what_was_chosen_is_in_the_address(page: Page, site: Site) -> None:
    page.run("document.querySelector('#filter').focus()")
    page.write("team0")
    page.run("document.querySelectorAll('thead button')[2].click()")
    assert page.run("location.hash") == "#filter=team0&sort=active"
    page.go("about:blank")
    page.go(f"{site.url}#filter=team0&sort=active")
    page.wait_for("document.querySelector('#services-table tbody tr')")
    assert names(page) == ["service0"]
    sorted_by = page.run("document.querySelector('[aria-sort]').innerText.trim()")
    assert sorted_by.startswith("Active")


def test_it_is_worked_by_keyboard_alone(page: Page) -> None:
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter")
    page.wait_for("document.activeElement.id === 'services'")
    page.press("Tab")
    assert page.run("document.activeElement.id") == "filter"
    page.run("document.querySelector('.toggle').focus()")
    focused = "document.activeElement.innerText"
    assert page.run(focused) == "service2"
    page.press("Enter")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "false"
    assert "connection refused" in page.text("#services-table tbody tr")  # told all the same
    page.press(" ")
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    for key, name in (
        ("ArrowDown", "service3"),
        ("End", "service1"),
        ("ArrowUp", "service4"),
        ("Home", "service2"),
    ):
        page.press(key)
        assert page.run(focused) == name


def test_focus_and_writing_outlast_a_refresh(page: Page, site: Site) -> None:
    def other(now: float) -> Overview:
        made = sample.small(now)
        worst = structs.replace(made.services[1], state="failed", error="no space")
        return structs.replace(made, services=[made.services[0], worst, *made.services[2:]])

    page.run("[...document.querySelectorAll('.toggle')].at(-1).focus()")
    site.make = other
    page.wait_for(f"[...document.querySelectorAll('{NAMES}')][0].innerText === 'service1'")
    assert page.run("document.activeElement.innerText") == "service1"
    page.run("document.querySelector('#filter').focus()")
    page.write("serv")
    page.run("document.querySelector('#filter').setSelectionRange(1, 3)")
    refreshed(page, site)
    assert page.run("document.activeElement.id") == "filter"
    assert page.run("document.activeElement.selectionStart") == 1
    assert page.run("document.activeElement.value") == "serv"


def test_what_happens_is_shown_at_once(page: Page, site: Site) -> None:
    site.make = lambda now: structs.replace(sample.small(now), interval=25.0)
    refreshed(page, site, 1)  # the long interval is in force
    site.tell("real server web/10.0.0.2:80 up -> down: connection refused")
    page.wait_for(
        "document.querySelector('#events-table').innerText.includes('web/10.0.0.2:80 up -> down')",
        5,
    )
    site.tell("second", cause="api by alice")
    page.wait_for(
        "document.querySelector('#events-table tbody tr').innerText.includes('second')", 5
    )
    assert len(page.texts("#events-table tbody tr")) == 2


def test_a_pause_holds_everything_still(page: Page, site: Site) -> None:
    page.run("document.querySelector('#pause').click()")
    assert page.text("#link-text").startswith("paused")
    page.pass_time(0.3)  # what was under way
    asked = site.asked
    page.pass_time(1.5)
    assert site.asked == asked
    page.run("document.querySelector('#pause').click()")
    page.wait_for("document.querySelector('#link-text').innerText.startsWith('live')")
    assert site.asked > asked


def test_hostile_words_are_words(browser: Chromium, site: Site) -> None:
    site.make = sample.hostile
    site.tell(sample.HOSTILE, sample.HOSTILE)
    page = browser.open(site.url)
    page.wait_for("document.querySelector('#events-table tbody tr')")
    assert page.text("body").count(sample.HOSTILE) >= 8
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.run("window.hacked") is None
    assert page.complaints() == []
    page.close()


def test_the_browser_refuses_what_the_page_would_never_do(browser: Chromium, site: Site) -> None:
    page = browser.open(site.url)
    with pytest.raises(BrowserError, match="TrustedHTML"):
        page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x>')")
    with pytest.raises(BrowserError, match="TrustedScript"):
        page.run("document.body.setAttribute('onclick', 'window.hacked = 1')")
    page.run("document.body.append(document.createElement('iframe'))")
    page.run("document.querySelector('iframe').src = 'data:text/html,hello'")
    assert page.run("window.hacked") is None
    assert page.run("fetch('http://127.0.0.1:1/').catch((error) => error.name)") == "TypeError"
    assert any("Content Security Policy" in each for each in page.complaints())
    page.close()


def test_a_daemon_that_is_gone_is_said_loudly(browser: Chromium, site: Site) -> None:
    page = browser.open(site.url)
    page.wait_for("document.querySelector('#services-table tbody tr')")
    site.stop()
    page.wait_for(
        "document.querySelector('#lost').innerText.includes('kernlbd does not answer')", 5
    )
    assert page.run("document.body.classList.contains('stale')")
    assert names(page)[0] == "service2"  # the last that is known stays to be read
    page.wait_for("/^not live: [1-9]/.test(document.querySelector('#link-text').innerText)", 15)
    site.start()
    page.wait_for("!document.body.classList.contains('stale')", 15)
    assert page.text("#lost") == ""
    assert page.text("#link-text").startswith("live")
    page.close()


def test_a_daemon_that_hangs_is_said_too(browser: Chromium, site: Site) -> None:
    page = browser.open(site.url)
    page.wait_for("document.querySelector('#services-table tbody tr')")

    def hangs(now: float) -> Overview:
        time.sleep(7)
        return sample.small(now)

    site.make = hangs
    page.wait_for(says("#lost", "the next reading is overdue"), 15)
    site.make = sample.small
    page.wait_for("document.querySelector('#lost').innerText === ''", 20)
    page.close()


def test_a_refusal_is_said_in_its_words(browser: Chromium, site: Site) -> None:
    page = browser.open(site.url)

    def fails(now: float) -> Overview:
        raise ValueError("no")

    site.make = fails
    page.wait_for(says("#lost", "HTTP 500"), 15)
    page.close()


def test_a_service_that_goes_takes_its_rows_along(page: Page, site: Site) -> None:
    site.make = lambda now: sample.overview(
        [sample.service(7, [sample.server(1, ServerState.DRAINING)], now)], now
    )
    page.wait_for(f"[...document.querySelectorAll('{NAMES}')].length === 1")
    assert names(page) == ["service7"]
    assert len(page.texts("#services-table tr.below")) == 1
    assert page.texts("#warnings-list li") == []
    assert page.text("#warnings-none") == "None."


def test_numbers_and_times_are_written_as_by_the_commands(page: Page) -> None:
    numbers = [0, 7, 999, 999.4, 999.6, 1000, 9994, 9996, 12_345, 999_499, 10**6, 4.56e9, 1e15]
    seconds = [0, 0.4, 1, 59.6, 60, 3599, 3600, 3661, 86_400, 93_784, 10**7]
    words = "import('/page/words.js').then((words) => {}.map(words.{}))"
    assert page.run(words.format(numbers, "count")) == [render.count(each) for each in numbers]
    assert page.run(words.format(seconds, "span")) == [render.span(each) for each in seconds]
