"""The listener of the page as any HTTP client meets it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from importlib import resources

import pytest

from kernlb.page import files
from kernlb.page.guard import HEADERS
from tests.page import sample
from tests.page.site import Site

PARTS = sorted(each.name for each in resources.files("kernlb.page").joinpath("static").iterdir())


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def ask(site: Site, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """``headers`` as host="evil.example"."""
    connection = HTTPConnection("127.0.0.1", site.port, timeout=10)
    try:
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/overview", "/v1/events", "/v1/health", "/v1/version", "/page/page.js", "/nothing"],
)
def test_every_answer_carries_every_header(site: Site, path: str) -> None:
    response, _ = ask(site, path)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    "path", ["/", "/v1/overview", "/v1/events", "/v1/health", "/page/page.css"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_takes_anything_but_get_and_head(site: Site, path: str, method: str) -> None:
    assert ask(site, path, method)[0].status == 405
    response, body = ask(site, path, "HEAD")
    assert (response.status, body) == (200, b"")


@pytest.mark.parametrize("path", ["/", "/v1/overview", "/v1/events", "/page/page.js", "/nothing"])
def test_a_page_of_another_host_reads_nothing(site: Site, path: str) -> None:
    response, body = ask(site, path, host="evil.example")
    assert response.status == 421
    assert body == b"this address is served to its own host: ask for localhost or 127.0.0.1\n"
    assert ask(site, "/v1/version", host=f"localhost:{site.port}")[0].status == 200


def test_the_page_names_its_host(site: Site) -> None:
    response, body = ask(site, "/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"{host}" not in body
    page = files.index('<lb"1>').body
    assert b"<title>&lt;lb&quot;1&gt;" in page


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_served_as_what_it_is(site: Site, name: str) -> None:
    path = "/" if name == "index.html" else f"/page/{name}"
    response, _ = ask(site, path)
    assert response.status == 200
    assert response.headers["Content-Type"] == files.KINDS[name.rpartition(".")[2]]
    again, nothing = ask(site, path, if_none_match=response.headers["ETag"])
    assert (again.status, nothing) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/page/../routes.py",
        "/page/..%2froutes.py",
        "/page/%2e%2e/routes.py",
        "/page/",
        "/page/index.html",
        "/page//etc/passwd",
        "/page/page.js%00.css",
    ],
)
def test_only_parts_have_names(site: Site, path: str) -> None:
    assert ask(site, path)[0].status == 404


def test_no_part_says_what_the_policy_forbids() -> None:
    """The browser would refuse it; nobody should have to find out there."""
    for name, file in files.files().items():
        text = file.body.decode()
        assert "innerHTML" not in text and "eval(" not in text, name
        if name.endswith(".html"):
            assert " style=" not in text and " on" + "click" not in text
        outside = text.replace("http://www.w3.org/", "")
        assert "http://" not in outside and "https://" not in outside, name


def test_a_refusal_is_a_problem_document(site: Site) -> None:
    response, body = ask(site, "/v1/overview?service=nobody")
    assert response.status == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["title"] == "there is no service nobody"
    assert ask(site, "/v1/events?limit=many")[0].status == 400


def test_what_is_large_is_compressed_for_who_asks(site: Site) -> None:
    site.make = lambda now: sample.large(now, 40)
    plain, body = ask(site, "/v1/overview")
    packed, small = ask(site, "/v1/overview", accept_encoding="gzip")
    assert plain.headers["Content-Encoding"] is None
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(small) < len(body) / 5
    services = json.loads(gzip.decompress(small))["services"]
    assert [each["name"] for each in services] == [f"service{n}" for n in range(40)]
    assert packed.headers["Cache-Control"] == "no-store"
