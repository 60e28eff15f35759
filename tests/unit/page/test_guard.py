"""Which requests the listener answers, by where they arrive and what they call it."""

from __future__ import annotations

import pytest

from kernlb.page.guard import HEADERS, is_welcome


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9107",
        "LOCALHOST.:9107",
        "127.0.0.1",
        "127.0.0.1:9107",
        "127.0.0.2:1",  # a tunnel's other end
        "[::1]:9107",
        "[::1]",
    ],
)
@pytest.mark.parametrize("local", ["127.0.0.1", "::1", "127.9.9.9"])
def test_loopback_answers_to_its_own_names(host: str, local: str) -> None:
    assert is_welcome(host, local)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:9107",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "192.0.2.1:9107",
        "[2001:db8::1]:9107",
        "[",
        "0.0.0.0",
        "2130706433",  # browsers write it as 127.0.0.1 before they send it
        "localhost@evil.example",
    ],
)
def test_loopback_answers_to_no_name_that_somebody_may_point_at_it(host: str | None) -> None:
    assert not is_welcome(host, "127.0.0.1")
    assert not is_welcome(host, "::ffff:127.0.0.1")


@pytest.mark.parametrize("host", [None, "lb1.example:9107", "192.0.2.1", "localhost"])
def test_an_address_that_was_configured_answers_to_any_name(host: str | None) -> None:
    assert is_welcome(host, "192.0.2.1")
    assert is_welcome(host, "fe80::1%eth0")


def test_what_arrives_nobody_knows_where_is_refused() -> None:
    assert not is_welcome("localhost", "")


def test_nothing_is_allowed_but_the_daemons_own() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
