"""Who may read the page, and what a browser may do with it. Pure.

A listener on loopback is out of reach of other hosts, but not of a browser on this one: a page from
anywhere may have its own name resolve to 127.0.0.1 and then read what is served here (DNS
rebinding). Such a request still carries that name as its Host, so on loopback a Host has to be
loopback's own. The port is left open: tunnels move it.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

NAMES = ("localhost",)

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_welcome(host: str | None, local: str) -> bool:
    """Whether a request with this Host header may be answered where it arrived.

    ``local`` is the address that the connection came to; "" where it is not known."""
    try:
        arrived = ip_address(local.partition("%")[0])
    except ValueError:
        return False
    if isinstance(arrived, IPv6Address) and arrived.ipv4_mapped is not None:
        arrived = arrived.ipv4_mapped
    if not arrived.is_loopback:
        return True
    name = host_name(host or "")
    if name in NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """The name or address of a Host header, without port, brackets and a last dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()
