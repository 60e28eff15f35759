"""What may be written under ``check``, key by key, and which keys go with which type."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.config.check_words import CheckType, Rcode, Record
from kernlb.config.health_document import Share
from kernlb.config.values import Duration, doc
from kernlb.health.check import Via

MAX_ITEMS = 16
MAX_BYTES = 16 * 1024 * 1024
MAX_TEXT = 4096


def _text(longest: int, pattern: str, title: str) -> Meta:
    return Meta(max_length=longest, pattern=pattern, extra_json_schema={"title": title})


_END = r"$(?!\n)"
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Text = Annotated[str, _text(MAX_TEXT, "^[\\s\\S]", f"text, 1 to {MAX_TEXT} characters")]
_Argument = Annotated[str, _text(MAX_TEXT, r"^[^\x00]*" + _END, "text")]
_File = Annotated[str, _text(1024, r"^/[^\x00-\x1f\x7f]+" + _END, "an absolute path")]
_User = Annotated[str, _text(32, r"^[a-z_][a-z0-9_-]*" + _END, "the name of a user")]
_Method = Annotated[str, _text(16, r"^[A-Z]+" + _END, "a method in capitals, as GET")]
_Path = Annotated[
    str, _text(2048, r"^/[!-~]*" + _END, "a path that begins with / (others than ASCII as %XX)")
]
_Host = Annotated[str, _text(255, r"^[A-Za-z0-9_.:\[\]-]+" + _END, "the name of a host")]
_Name = Annotated[str, _text(253, r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?" + _END, "a name")]
_Query = Annotated[str, _text(254, r"^(\.|[A-Za-z0-9_*][A-Za-z0-9_.*/-]*)" + _END, "a domain name")]
_Header = Annotated[str, _text(64, r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+" + _END, "the name of a header")]
_HeaderValue = Annotated[
    str, _text(MAX_TEXT, r"^[ -~\t]*" + _END, "text of one line, ASCII (numbers in quotes)")
]
# No pattern on text that stands beside a list: msgspec 0.22 takes the pattern for the type of the
# list when it frees both (TypeNode_get_traverse_ranges), and the interpreter dies at its end.
_Status = Annotated[
    Annotated[int, Meta(ge=100, le=599)] | Annotated[str, Meta(max_length=7)],
    Meta(
        extra_json_schema={
            "title": 'a status as 204, or several as "200-299" or "2xx"',
            "examples": [204, "200-299", "2xx"],
        }
    ),
]
_Word = Annotated[str, Meta(max_length=MAX_TEXT, extra_json_schema={"title": "text"})]


class HexDocument(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """Bytes by their hexadecimal digits."""

    hex: Annotated[
        Annotated[
            str, _text(2 * MAX_TEXT, r"^([0-9A-Fa-f]{2} ?)+" + _END, "pairs of hexadecimal digits")
        ],
        doc("The digits, in pairs; a space between pairs is fine."),
    ]


class ItemDocument(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What is asked of a server, and what is a good answer."""

    type: Annotated[CheckType | UnsetType, doc("What is asked.")] = UNSET
    port: Annotated[
        _Port | UnsetType, doc("Port that is asked. Default: the server's; agent needs one.")
    ] = UNSET
    size: Annotated[
        Annotated[int, Meta(ge=16, le=1400)] | UnsetType,
        doc("icmp: bytes of payload.", default=32),
    ] = UNSET
    method: Annotated[_Method | UnsetType, doc("http, https: the method.", default="GET")] = UNSET
    path: Annotated[_Path | UnsetType, doc("http, https: path and query.", default="/")] = UNSET
    host: Annotated[
        _Host | UnsetType, doc("http, https: the Host header. Default: the server's address.")
    ] = UNSET
    headers: Annotated[
        Annotated[dict[_Header, _HeaderValue], Meta(max_length=32)] | UnsetType,
        doc("http, https: more headers."),
    ] = UNSET
    status: Annotated[
        _Status | Annotated[list[_Status], Meta(min_length=1, max_length=32)] | UnsetType,
        doc("http, https: which statuses are good.", default="200-399"),
    ] = UNSET
    body: Annotated[_Text | UnsetType, doc("http, https: must be in the body.")] = UNSET
    body_regex: Annotated[
        _Text | UnsetType,
        doc("http, https: a regular expression (Python's) that must match in the body."),
    ] = UNSET
    max_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_BYTES)] | UnsetType,
        doc("http, https: of the body, so much is looked at.", default=65536),
    ] = UNSET
    tls: Annotated[bool | UnsetType, doc("grpc: over TLS.", default=False)] = UNSET
    verify: Annotated[
        bool | UnsetType, doc("https, tls, grpc: hold the certificate to account.", default=True)
    ] = UNSET
    ca: Annotated[
        _File | UnsetType,
        doc("https, tls, grpc: file of the certificates to trust. Default: the system's."),
    ] = UNSET
    server_name: Annotated[
        _Name | UnsetType,
        doc(
            "https, tls, grpc: the name to ask for (SNI), which the certificate must have. "
            "Default: that of host."
        ),
    ] = UNSET
    expiry_warning: Annotated[
        Duration | UnsetType,
        doc(
            "https, tls, grpc: say so when the certificate has less time left; 0: never.",
            default="14d",
        ),
    ] = UNSET
    payload: Annotated[
        _Argument | HexDocument | UnsetType, doc("udp: what is sent. Default: an empty datagram.")
    ] = UNSET
    reply: Annotated[
        _Text | HexDocument | UnsetType, doc("udp: an answer must come and contain this.")
    ] = UNSET
    reply_regex: Annotated[
        _Text | UnsetType,
        doc("udp: an answer must come, and this regular expression match in it."),
    ] = UNSET
    require_reply: Annotated[
        bool | UnsetType, doc("udp: an answer must come, whatever it says.", default=False)
    ] = UNSET
    query: Annotated[_Query | UnsetType, doc("dns: the name asked for.", default=".")] = UNSET
    record: Annotated[
        Record | UnsetType, doc("dns: the type of record asked for.", default="NS")
    ] = UNSET
    rcodes: Annotated[
        Rcode | Annotated[list[Rcode], Meta(min_length=1, max_length=6)] | UnsetType,
        doc("dns: which response codes are good.", default="NOERROR"),
    ] = UNSET
    answer: Annotated[
        _Text | UnsetType, doc("dns: one record of the answer must have this value.")
    ] = UNSET
    tcp: Annotated[bool | UnsetType, doc("dns: ask over TCP.", default=False)] = UNSET
    service: Annotated[
        _Argument | UnsetType,
        doc("grpc: name of the service asked for. Default: the server as a whole."),
    ] = UNSET
    command: Annotated[
        _Word | Annotated[list[_Word], Meta(min_length=1, max_length=64)] | UnsetType,
        doc(
            "exec: the program by its absolute path, and its arguments; text is split into words "
            "as a shell does, and no shell runs it."
        ),
    ] = UNSET
    user: Annotated[
        _User | UnsetType, doc("exec: the user it runs as, never root.", default="nobody")
    ] = UNSET
    warning_fails: Annotated[
        bool | UnsetType, doc("exec: exit status 1 (a warning) is bad.", default=False)
    ] = UNSET
    send: Annotated[_Argument | UnsetType, doc("agent: text sent first.")] = UNSET


Items = Annotated[list[CheckType | ItemDocument], Meta(min_length=1, max_length=MAX_ITEMS)]


class CheckDocument(ItemDocument, frozen=True):
    """A check, and when it is made. Which keys go with which type stands in their meaning."""

    all: Annotated[Items | UnsetType, doc("Instead of type: all of these must pass.")] = UNSET
    any: Annotated[Items | UnsetType, doc("Instead of type: one of these must pass.")] = UNSET
    of: Annotated[
        Items | UnsetType, doc("Instead of type: so many of these must pass as need says.")
    ] = UNSET
    need: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_ITEMS)] | UnsetType, doc("How many, with of.")
    ] = UNSET
    interval: Annotated[
        Duration | UnsetType, doc("From one probe to the next; 100ms to 1d.", default="5s")
    ] = UNSET
    fast_interval: Annotated[
        Duration | UnsetType,
        doc(
            "The same while answers differ from what the server counts as. Default: 1s, or the "
            "timeout if that is less."
        ),
    ] = UNSET
    timeout: Annotated[
        Duration | UnsetType,
        doc(
            "A probe that has no answer by then is bad; the interval at most. Default: 2s, or the "
            "interval if that is less."
        ),
    ] = UNSET
    rise: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | UnsetType,
        doc("Good answers in a row that bring a server back.", default=2),
    ] = UNSET
    fall: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | UnsetType,
        doc("Bad answers in a row that take a server out.", default=3),
    ] = UNSET
    jitter: Annotated[
        Share | UnsetType,
        doc("Share of the interval by which a probe may come early; 0.5 at most.", default=0.1),
    ] = UNSET
    via: Annotated[
        Via | UnsetType,
        doc(
            "server: asked at its own address. vip: at the virtual address, by the path that "
            "clients' packets take (dsr and tunnel).",
            default="server",
        ),
    ] = UNSET
    delay_loop: Annotated[Duration | UnsetType, doc("keepalived's word for interval.")] = UNSET
    delay_before_retry: Annotated[
        Duration | UnsetType, doc("keepalived's word for fast_interval.")
    ] = UNSET
    connect_timeout: Annotated[Duration | UnsetType, doc("keepalived's word for timeout.")] = UNSET
    retry: Annotated[
        Annotated[int, Meta(ge=0, le=999)] | UnsetType,
        doc("keepalived's word: bad answers that are borne; fall less 1."),
    ] = UNSET
