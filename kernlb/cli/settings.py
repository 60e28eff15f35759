"""Options that are keys of a document, and the documents and merge patches made of them.

The same options serve ``add`` and ``edit``: what is not given is not in the result. A merge patch
(RFC 7386) names what goes away with null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from kernlb.cli.arguments import (
    FWMARK,
    THRESHOLD,
    WEIGHT,
    Duration,
    Label,
    Persistence,
    Server,
    TunnelSpec,
    options,
)
from kernlb.cli.checking import CHECK_KEYS, check_document, check_options
from kernlb.cli.notation import (
    DATAPATHS,
    FAMILIES,
    FORWARDING,
    PROTOCOLS,
    SCHEDULER_FLAGS,
    SCHEDULERS,
    Document,
)

UNSETTABLE = (
    "check",
    "datapath",
    "drain_timeout",
    "forwarding",
    "health",
    "labels",
    "lower_threshold",
    "one_packet",
    "persistence",
    "protocol",
    "scheduler",
    "scheduler_flags",
    "sorry_server",
    "tunnel",
    "upper_threshold",
    "vip",
    "weight",
)
SERVER_UNSETTABLE = (
    "port",
    "weight",
    "forwarding",
    "tunnel",
    "upper_threshold",
    "lower_threshold",
    "check",
    "labels",
)


_tunnel = click.option(
    "--tunnel",
    type=TunnelSpec(),
    metavar="TYPE",
    help="Encapsulation: ipip, gre[+csum] or gue:PORT[+csum].",
)
_forwarding = click.option(
    "--forwarding", type=click.Choice(FORWARDING), help="How packets reach the servers."
)
_thresholds = options(
    click.option(
        "--upper-threshold",
        type=THRESHOLD,
        metavar="N",
        help="No new connections to a server above this many; 0: no limit.",
    ),
    click.option(
        "--lower-threshold",
        type=THRESHOLD,
        metavar="N",
        help="New connections again below this many; 0: at 3/4 of the upper.",
    ),
)
_labels = click.option(
    "--label",
    "labels",
    type=Label(),
    multiple=True,
    metavar="KEY=VALUE",
    help="A label; may be repeated.",
)
_remove_label = click.option(
    "--remove-label", "removed_labels", multiple=True, metavar="KEY", help="Take a label away."
)

key_options = options(
    click.option("--protocol", type=click.Choice(PROTOCOLS), help="tcp if not given."),
    click.option(
        "--fwmark",
        type=FWMARK,
        metavar="N",
        help="A firewall mark instead of address and port.",
    ),
    click.option(
        "--family", type=click.Choice(FAMILIES), help="Of a fwmark service; ipv4 if not given."
    ),
)

service_options = options(
    click.option("--datapath", type=click.Choice(DATAPATHS), help="Which kernel datapath."),
    click.option("--scheduler", type=click.Choice(SCHEDULERS), help="How connections spread."),
    click.option(
        "--flag",
        "flags",
        type=click.Choice(SCHEDULER_FLAGS),
        multiple=True,
        help="Of scheduler sh or mh, in place of the default (fallback); may be repeated.",
    ),
    click.option("--no-flags", is_flag=True, help="No scheduler flags, not even the default."),
    _forwarding,
    _tunnel,
    click.option("--weight", type=WEIGHT, metavar="N", help="Of servers that name none; 0..65535."),
    _thresholds,
    click.option(
        "--persistence",
        type=Persistence(),
        metavar="DURATION[/PREFIX]",
        help="Keep the clients of a network on one server; seconds or as 5m.",
    ),
    click.option(
        "--persistence-engine", type=click.Choice(["sip"]), help="sip: by Call-ID. UDP only."
    ),
    click.option(
        "--one-packet/--no-one-packet", default=None, help="Schedule every datagram anew."
    ),
    click.option(
        "--sorry-server",
        type=Server(),
        metavar="SERVER",
        help="Used when no server can serve; ADDR[:PORT][,weight=N]...",
    ),
    click.option(
        "--vip-interface", metavar="IFACE", help="Put the address on this interface of the host."
    ),
    click.option(
        "--announce",
        metavar="IFACE",
        help="Announce it there by gratuitous ARP or NA (if not given: as --vip-interface).",
    ),
    click.option("--no-announce", is_flag=True, help="Announce it nowhere."),
    click.option("--no-vip", is_flag=True, help="The address is somebody else's to put."),
    click.option(
        "--drain-timeout",
        type=Duration(),
        metavar="DURATION",
        help="When a drained server's connections are dropped; seconds or as 5m, 0: never.",
    ),
    check_options,
    _labels,
)
edit_options = options(
    click.option("--no-persistence", is_flag=True, help="Spread every connection anew."),
    click.option("--no-sorry-server", is_flag=True, help="Have no sorry server."),
    _remove_label,
    click.option(
        "--unset",
        type=click.Choice(UNSETTABLE),
        multiple=True,
        metavar="KEY",
        help=f"Back to its default: {', '.join(UNSETTABLE)}; may be repeated.",
    ),
)

server_options = options(
    click.option("--weight", type=WEIGHT, metavar="N", help="Its share of 0..65535; 0: no new."),
    _forwarding,
    _tunnel,
    _thresholds,
    check_options,
    _labels,
)
server_edit_options = options(
    _remove_label,
    click.option(
        "--unset",
        type=click.Choice(SERVER_UNSETTABLE),
        multiple=True,
        metavar="KEY",
        help=f"Back to the service's: {', '.join(SERVER_UNSETTABLE)}; may be repeated.",
    ),
)


def server_document(given: Mapping[str, Any]) -> Document:
    """Keys of a server from ``server_options``."""
    keys = ("weight", "forwarding", "tunnel", "upper_threshold", "lower_threshold")
    document = {key: given[key] for key in keys if given[key] is not None}
    check = check_document(given)
    if check is not None:
        document["check"] = check
    if given["labels"]:
        document["labels"] = dict(given["labels"])
    return document


def service_document(given: Mapping[str, Any]) -> Document:
    """Keys of a service from ``key_options`` and ``service_options``."""
    keys = ("protocol", "fwmark", "family", "datapath", "scheduler", "one_packet", "drain_timeout")
    document: Document = {key: given[key] for key in keys if given[key] is not None}
    document |= server_document(given)
    if given["flags"] and given["no_flags"]:
        raise click.UsageError("--flag does not go with --no-flags")
    if given["flags"] or given["no_flags"]:
        document["scheduler_flags"] = list(given["flags"])
    persistence = dict(given["persistence"] or {})
    if given["persistence_engine"]:
        persistence["engine"] = given["persistence_engine"]
    if persistence:
        document["persistence"] = persistence
    if given["sorry_server"] is not None:
        document["sorry_server"] = given["sorry_server"]
    vip = _vip(given)
    if vip is not None:
        document["vip"] = vip
    return document


def _vip(given: Mapping[str, Any]) -> Document | bool | None:
    if given["announce"] and given["no_announce"]:
        raise click.UsageError("--announce does not go with --no-announce")
    vip: Document = {}
    if given["vip_interface"]:
        vip["interface"] = given["vip_interface"]
    if given["announce"] or given["no_announce"]:
        vip["announce"] = given["announce"] or False
    if given["no_vip"]:
        if vip:
            raise click.UsageError(
                "--no-vip does not go with --vip-interface, --announce, --no-announce"
            )
        return False
    return vip or None


def patch(document: Document, removed_labels: Iterable[str], unset: Iterable[str]) -> Document:
    """The merge patch that brings ``document`` about and takes the rest away.

    A tunnel is replaced whole, as one word says it whole, and so is a check with its type;
    persistence and a check without its type keep what is not said.
    """
    changed = dict(document)
    if "tunnel" in changed:
        changed["tunnel"] = {"port": None, "checksum": None, **changed["tunnel"]}
    check = changed.get("check")
    if isinstance(check, dict) and "type" in check:
        changed["check"] = dict.fromkeys(CHECK_KEYS) | check
    if "prefix" in (changed.get("persistence") or {}):
        changed["persistence"] = {"netmask": None, **changed["persistence"]}
    if sorry_server := changed.get("sorry_server"):
        blank = dict.fromkeys(SERVER_UNSETTABLE)
        changed["sorry_server"] = {**blank, **sorry_server}
    labels = dict(changed.get("labels", {}))
    for key in removed_labels:
        if key in labels:
            raise click.UsageError(f"label {key} is both set and removed")
        labels[key] = None
    if labels:
        changed["labels"] = labels
    for key in unset:
        if key in changed:
            raise click.UsageError(f"{key} is both set and unset")
        changed[key] = None
    if not changed:
        raise click.UsageError("nothing to change was given")
    return changed
