"""Strategies for check and health documents that are good by construction."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]
Checks = st.SearchStrategy[Any]

PORTS = st.integers(1, 65535)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
WORDS = st.text("abcXYZ 0189-_.%/'\"", max_size=8)
BYTES = TEXT | st.binary(min_size=1, max_size=6).map(lambda raw: {"hex": raw.hex()})
STATUSES = st.one_of(
    st.integers(100, 599), st.sampled_from(["2xx", "200-299", "404", "3xx", "200-200"])
)
REGEXES = st.sampled_from(["ok", "^a|b$", r"\d{3}", "[äö]+"])
TLS: dict[str, Checks] = {
    "server_name": st.sampled_from(["www.example.com", "a"]),
    "expiry_warning": st.sampled_from([0, "7d", 1209600]),
}
HTTP: dict[str, Checks] = {
    "port": PORTS,
    "method": st.sampled_from(["GET", "POST", "OPTIONS"]),
    "path": st.sampled_from(["/", "/healthz", "/a?b=c&d=%20"]),
    "host": st.sampled_from(["www.example.com", "[2001:db8::1]:80"]),
    "headers": st.dictionaries(st.sampled_from(["X-A", "Accept"]), WORDS, max_size=2),
    "status": STATUSES | st.lists(STATUSES, min_size=1, max_size=3),
    "body": TEXT,
    "body_regex": REGEXES,
    "max_bytes": st.integers(1, 2**24),
}
TRUST: st.SearchStrategy[Document] = st.sampled_from(
    [{}, {"verify": False}, {"ca": "/etc/ssl/ca.pem"}, {"verify": True}]
)


def of_type(
    kind: str, optional: dict[str, Checks], **required: Checks
) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({"type": st.just(kind), **required}, optional=optional)


def with_trust(checks: st.SearchStrategy[Document]) -> st.SearchStrategy[Document]:
    return st.tuples(checks, TRUST).map(lambda pair: pair[0] | pair[1])


PORTLESS = st.one_of(
    of_type("icmp", {"size": st.integers(16, 1400)}),
    of_type(
        "exec",
        {"user": st.just("monitor"), "warning_fails": st.booleans()},
        command=st.sampled_from(["/bin/true", "/bin/a 'b c' d", ["/bin/a b", "", "-x"]]),
    ),
    of_type("agent", {"send": st.sampled_from(["", "hello\n"])}, port=PORTS),
)
WITH_PORT: list[st.SearchStrategy[Document]] = [
    of_type("tcp", {"port": PORTS}),
    of_type("http", HTTP),
    with_trust(of_type("https", HTTP | TLS)),
    with_trust(of_type("tls", {"port": PORTS} | TLS)),
    of_type(
        "udp",
        {
            "port": PORTS,
            "payload": BYTES | st.just(""),
            "reply": BYTES,
            "reply_regex": REGEXES,
            "require_reply": st.booleans(),
        },
    ),
    of_type(
        "dns",
        {
            "port": PORTS,
            "rcodes": st.sampled_from(["NXDOMAIN", ["NOERROR", "REFUSED"]]),
            "tcp": st.booleans(),
        },
        query=st.sampled_from(["www.example.com", "example.com.", "_a.b"]),
        record=st.sampled_from(["A", "TXT"]),
    ),
    with_trust(of_type("grpc", {"port": PORTS, "service": WORDS} | TLS, tls=st.just(True))),
    of_type("grpc", {"port": PORTS, "service": WORDS, "tls": st.just(False)}),
]


def _ported(document: Document) -> Document:
    return {"port": 8080, **document}


def _type(check: Any) -> str:
    return check if isinstance(check, str) else str(check["type"])


def items(any_port: bool) -> Checks:
    """One check; where the server has no usable port of its own, with one."""
    ported = st.one_of(WITH_PORT)
    names = st.sampled_from(["icmp"] if any_port else ["icmp", "tcp", "http", "udp", "tls"])
    return st.one_of(PORTLESS, ported.map(_ported) if any_port else ported, names)


def checks(any_port: bool) -> Checks:
    one = items(any_port)
    many = st.lists(one, min_size=1, max_size=3, unique_by=_type)
    several = st.one_of(
        st.fixed_dictionaries({"all": many}),
        st.fixed_dictionaries({"any": many}),
        many.flatmap(
            lambda listed: st.fixed_dictionaries(
                {"of": st.just(listed), "need": st.integers(1, len(listed))}
            )
        ),
    )
    whole = st.one_of(one.map(lambda c: {"type": c} if isinstance(c, str) else c), several)
    timed = st.tuples(whole, TIMINGS).map(lambda pair: pair[0] | pair[1])
    return st.one_of(timed, st.just("none"), one.filter(lambda c: isinstance(c, str)))


TIMINGS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "interval": st.sampled_from(["3s", 10, "1m", "2.5s"]),
            "fast_interval": st.sampled_from(["500ms", 1]),
            "timeout": st.sampled_from(["100ms", 2]),
            "rise": st.integers(1, 10),
            "fall": st.integers(1, 10),
            "jitter": st.sampled_from([0, "20%", 0.5]),
            "via": st.just("server"),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "delay_loop": st.sampled_from([0.1, 6]),
            "delay_before_retry": st.just("100ms"),
            "connect_timeout": st.just("100ms"),
            "retry": st.integers(0, 5),
        },
    ),
)
HEALTH = st.fixed_dictionaries(
    {},
    optional={
        "on_down": st.sampled_from(["remove", "inhibit"]),
        "initial": st.sampled_from(["wait", "up"]),
        "quorum": st.just(1),
        "hysteresis": st.just(0),
        "withdraw_vip": st.just(False),
        "keep": st.sampled_from([0, "50%", 0.25, 1]),
        "damping": st.just(False)
        | st.fixed_dictionaries(
            {},
            optional={
                "changes": st.integers(1, 20),
                "period": st.sampled_from(["10m", 30]),
                "hold": st.sampled_from(["90s", 5.5]),
            },
        ),
        "passive": st.just(False),
    },
)
