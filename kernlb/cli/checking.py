"""Options that say how servers are checked, and the ``check`` of a document made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from kernlb.cli.arguments import Duration, options
from kernlb.cli.notation import MAX_PORT, Document

CHECKS = ("none", "icmp", "tcp", "http", "https", "tls", "udp", "dns", "grpc", "agent")
CHECK_KEYS = [
    "all",
    "answer",
    "any",
    "body",
    "body_regex",
    "ca",
    "command",
    "connect_timeout",
    "delay_before_retry",
    "delay_loop",
    "expiry_warning",
    "fall",
    "fast_interval",
    "headers",
    "host",
    "interval",
    "jitter",
    "max_bytes",
    "method",
    "need",
    "of",
    "path",
    "payload",
    "port",
    "query",
    "rcodes",
    "record",
    "reply",
    "reply_regex",
    "require_reply",
    "retry",
    "rise",
    "send",
    "server_name",
    "service",
    "size",
    "status",
    "tcp",
    "timeout",
    "tls",
    "type",
    "user",
    "verify",
    "via",
    "warning_fails",
]  # every key that a check may have
_OPTIONS = ("port", "path", "host", "status", "interval", "timeout", "rise", "fall", "via")
_PORT = click.IntRange(1, MAX_PORT)
_COUNT = click.IntRange(1, 1000)

check_options = options(
    click.option(
        "--check",
        type=click.Choice(CHECKS),
        help="How servers are checked; none: not. exec and lists of checks: in the file.",
    ),
    click.option(
        "--check-port", type=_PORT, metavar="PORT", help="Asked there, not at the server's."
    ),
    click.option("--check-path", metavar="PATH", help="Of http and https."),
    click.option("--check-host", metavar="NAME", help="The Host header of http and https."),
    click.option(
        "--check-status", metavar="STATUS", help="Good ones of http and https: 204, 2xx, 200-299."
    ),
    click.option(
        "--check-interval", type=Duration(), metavar="DURATION", help="From probe to probe."
    ),
    click.option(
        "--check-timeout", type=Duration(), metavar="DURATION", help="No answer by then is bad."
    ),
    click.option("--check-rise", type=_COUNT, metavar="N", help="Good answers that bring it back."),
    click.option("--check-fall", type=_COUNT, metavar="N", help="Bad answers that take it out."),
    click.option(
        "--check-via",
        type=click.Choice(["server", "vip"]),
        help="vip: asked at the virtual address, by the path of the clients (dsr, tunnel).",
    ),
)


def check_document(given: Mapping[str, Any]) -> Document | str | None:
    """A word where nothing but the type is given; without the type it is part of a mapping."""
    said = {key: given[f"check_{key}"] for key in _OPTIONS}
    check = {key: value for key, value in said.items() if value is not None}
    kind: str | None = given["check"]
    if kind is None:
        return check or None
    if not check:
        return kind
    if kind == "none":
        raise click.UsageError(f"--check none does not go with --check-{next(iter(check))}")
    return {"type": kind, **check}
