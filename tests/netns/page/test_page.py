"""The page beside what the kernel does: real requests, real shares, a server that dies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from kernlb.lab.network import Lab
from tests.netns.page import ground
from tests.netns.traffic.breaking import killed
from tests.netns.traffic.daemon import Daemon
from tests.page.browser import Chromium, Page

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

ROWS = "[...document.querySelectorAll('.below:not([hidden]) .servers tbody tr')]"


@pytest.fixture(scope="module")
def page(lab: Lab, daemon: Daemon, browser: Chromium) -> Iterator[Page]:
    with ground.traffic(lab):
        page = browser.open(ground.URL)
        page.wait_for("document.querySelector('#services-table tbody tr')")
        yield page
        assert page.complaints() == []
        page.close()


def only(page: Page, service: str) -> None:
    """Show one service."""
    page.run(
        f"document.querySelector('#filter').value = {json.dumps(service)};"
        "document.querySelector('#filter').dispatchEvent(new Event('input'))"
    )
    assert page.texts("button.toggle") == [service]


def cells(page: Page, label: str) -> list[str]:
    """What all servers shown say under a heading."""
    found: list[str] = page.run(
        f"{ROWS}.map((row) => row.querySelector('[data-label=\"{label}\"]').innerText)"
    )
    return found


def shares(page: Page) -> list[tuple[float, float]]:
    """Received and promised, percent."""
    said = [re.fullmatch(r"(\S+) of (\S+)", each) for each in cells(page, "Share, %")]
    return [
        (float(each[1]), float(each[2]))
        for each in said
        if each is not None and each[1] != "\u2013"
    ]


def test_shares_received_stand_beside_those_promised(page: Page) -> None:
    only(page, "web")
    page.wait_for("document.querySelectorAll('.shares').length === 3", 5)
    close = (
        "[...document.querySelectorAll('.shares')].every((each) => { const [a, b] ="
        " each.innerText.split(' of ').map(Number); return Math.abs(a - b) < 1.5; })"
    )
    page.wait_for(close, 20)
    assert [promised for _, promised in shares(page)] == [16.7, 33.3, 50.0]
    assert cells(page, "Weight") == ["1", "2", "3"]


def test_rates_are_those_of_the_load(page: Page) -> None:
    page.run(
        "document.querySelector('#filter').value = '';"
        "document.querySelector('#filter').dispatchEvent(new Event('input'))"
    )
    total = "Number(document.querySelector('#figures .figure').innerText)"
    wanted = sum(ground.RATES.values())
    page.wait_for(f"Math.abs({total} - {wanted}) < {wanted} * 0.3", 20)
    assert page.texts("#services-table > table > tbody > tr:not(.below) .word") == ["serving"] * 3
    page.wait_for("document.querySelector('#figures .stroke').getAttribute('d').length > 60", 10)


def test_the_datapath_is_told(page: Page) -> None:
    host = page.text("#host")
    assert re.search(r"xdp\s+available", host)
    assert re.search(r"front\s+native", host) and re.search(r"back\s+native", host)
    assert re.search(r"services\s+4.7 %\s+3 of 64", host)
    assert re.search(r"forwarded\s+\d", host)
    assert "down" not in page.text("#warnings-list")


def test_a_killed_server_is_down_within_seconds_with_its_reason(
    lab: Lab, daemon: Daemon, page: Page
) -> None:
    only(page, "web")
    third = str(lab.topology.servers[2].v4)
    state = (
        f"{ROWS}.find((row) => row.innerText.includes('{third}:80'))"
        ".querySelector('[data-label=State]').innerText"
    )
    with killed(lab, "server3"):
        page.wait_for(f"{state}.startsWith('down') && {state}.includes('refused')", 8)
        warned = "service web: 1 of 3 servers down"
        page.wait_for(f"document.querySelector('#warnings').innerText.includes('{warned}')", 5)
        assert page.texts("#services-table > table > tbody > tr:not(.below) .word") == ["degraded"]
        assert page.texts(".tally") == ["2 of 3"]
        assert any("down" in each and third in each for each in page.texts("#events-table td"))
        page.wait_for(
            f"{ROWS}.find((row) => row.innerText.includes('{third}:80'))"
            ".querySelector('.strip').getAttribute('aria-label').endsWith('the last bad')"
        )
    page.wait_for(f"{state}.startsWith('up')", 15)
    page.wait_for(f"!document.querySelector('#warnings').innerText.includes('{warned}')", 5)


def test_a_daemon_that_was_killed_is_said_and_comes_back(daemon: Daemon, page: Page) -> None:
    daemon.kill()
    page.wait_for("document.querySelector('#lost').innerText.includes('does not answer')", 5)
    daemon.start(*daemon.options)
    page.wait_for("document.querySelector('#lost').innerText === ''", 15)
    expected = [each for each in page.complaints() if "ERR_CONNECTION_REFUSED" not in each]
    assert [each for each in expected if "ERR_" not in each] == []
    page.forget()
