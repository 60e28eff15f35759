"""The words of a check: its types, which keys go with which, and what others call them."""

from __future__ import annotations

from enum import StrEnum


class CheckType(StrEnum):
    """What is asked."""

    ICMP = "icmp"
    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    TLS = "tls"
    UDP = "udp"
    DNS = "dns"
    GRPC = "grpc"
    EXEC = "exec"
    AGENT = "agent"


class CheckName(StrEnum):
    """A check in one word; none: not asked at all."""

    NONE = "none"
    ICMP = "icmp"
    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    TLS = "tls"
    UDP = "udp"
    DNS = "dns"
    GRPC = "grpc"
    EXEC = "exec"
    AGENT = "agent"


class Record(StrEnum):
    """Types of DNS records: those of ``dns_message``."""

    A = "A"
    NS = "NS"
    CNAME = "CNAME"
    SOA = "SOA"
    PTR = "PTR"
    HINFO = "HINFO"
    MX = "MX"
    TXT = "TXT"
    AAAA = "AAAA"
    SRV = "SRV"
    NAPTR = "NAPTR"
    DS = "DS"
    DNSKEY = "DNSKEY"
    TLSA = "TLSA"
    SVCB = "SVCB"
    HTTPS = "HTTPS"
    ANY = "ANY"
    CAA = "CAA"


class Rcode(StrEnum):
    """Response codes of DNS."""

    NOERROR = "NOERROR"
    FORMERR = "FORMERR"
    SERVFAIL = "SERVFAIL"
    NXDOMAIN = "NXDOMAIN"
    NOTIMP = "NOTIMP"
    REFUSED = "REFUSED"
    YXDOMAIN = "YXDOMAIN"
    YXRRSET = "YXRRSET"
    NXRRSET = "NXRRSET"
    NOTAUTH = "NOTAUTH"
    NOTZONE = "NOTZONE"


_TLS = frozenset({"verify", "ca", "server_name", "expiry_warning"})
_HTTP = frozenset(
    {"port", "method", "path", "host", "headers", "status", "body", "body_regex", "max_bytes"}
)

# What may be said of a check of each type, beside when it is asked.
KEYS: dict[CheckType, frozenset[str]] = {
    CheckType.ICMP: frozenset({"size"}),
    CheckType.TCP: frozenset({"port"}),
    CheckType.HTTP: _HTTP,
    CheckType.HTTPS: _HTTP | _TLS,
    CheckType.TLS: _TLS | {"port"},
    CheckType.UDP: frozenset({"port", "payload", "reply", "reply_regex", "require_reply"}),
    CheckType.DNS: frozenset({"port", "query", "record", "rcodes", "answer", "tcp"}),
    CheckType.GRPC: _TLS | {"port", "service", "tls"},
    CheckType.EXEC: frozenset({"command", "user", "warning_fails"}),
    CheckType.AGENT: frozenset({"port", "send"}),
}
# keepalived's words for the timing, and what they are here.
ALIASES = {
    "delay_loop": "interval",
    "delay_before_retry": "fast_interval",
    "connect_timeout": "timeout",
    "retry": "fall",
}
TIMING = ("interval", "fast_interval", "timeout", "rise", "fall", "jitter", *ALIASES, "via")
SEVERAL = ("all", "any", "of")
