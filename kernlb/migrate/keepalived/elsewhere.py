"""What is not of virtual servers: told with the reason, and what takes its place. Pure.

VRRP stays with keepalived: it may go on to move addresses while kernlb balances what arrives there.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernlb.migrate.keepalived.ledger import UNKNOWN, Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import address
from kernlb.migrate.report import Place, Report
from kernlb.model import IPAddress

VRRP = "kernlb moves no addresses between hosts: keepalived can go on to, without its checkers"
_NETWORK = "addresses, routes and rules of a host are its network configuration's"
_WATCHED = "a part of VRRP, which keepalived can go on with"
_PROCESS = "about keepalived's own processes"

TOP = {
    "vrrp_instance": VRRP,
    "vrrp_sync_group": VRRP,
    "vrrp_script": _WATCHED,
    "vrrp_track_process": _WATCHED,
    "vrrp_track_file": _WATCHED,
    "track_file": "kernlb follows no file: an agent check or an exec check can take its place",
    "track_group": _WATCHED,
    "garp_group": _WATCHED,
    "interface_up_down_delays": _WATCHED,
    "linkbeat_interfaces": _WATCHED,
    "linkbeat_use_polling": _WATCHED,
    "static_ipaddress": _NETWORK,
    "static_routes": _NETWORK,
    "static_rules": _NETWORK,
    "bfd_instance": "kernlb speaks no BFD",
    "net_namespace": "kernlbd runs in the namespace that it is started in",
    "net_namespace_ipvs": "kernlbd programs the namespace that it is started in",
    "namespace_with_ipsets": _PROCESS,
    "instance": _PROCESS,
    "use_pid_dir": _PROCESS,
    "child_wait_time": _PROCESS,
}
_SSL = {
    "ca": "the certificates of servers are not held to account in keepalived: see check.verify",
    "certificate": "probes present no certificate of their own",
    "key": "probes present no certificate of their own",
    "password": "probes present no certificate of their own",
}
_MAIL = "kernlb sends no mail: kernlb events and metrics tell what changed"
_GLOBAL = {
    "lvs_sync_daemon": "goes into kernlb.yaml: ipvs.sync",
    "lvs_timeouts": "goes into kernlb.yaml: ipvs.timeouts",
    "lvs_flush": "kernlb changes only what it made; foreign services stay",
    "lvs_flush_on_stop": "kernlbd --flush-on-stop does so, for what kernlb made",
    "script_user": "goes into each exec check: user",
    "enable_script_security": "exec checks run without privileges, always",
    "checker_log_all_failures": "kernlb health shows every result",
    "rs_init_notifies": "kernlb runs no scripts on changes: kernlb events tells them",
    "startup_script": "what runs before and after a service is systemd's to say",
    "shutdown_script": "what runs before and after a service is systemd's to say",
    "router_id": "names the host in mails and VRRP; kernlb needs no name",
    "default_interface": _NETWORK,
}
_GLOBAL_PREFIXES = {
    "notification_email": _MAIL,
    "smtp_": _MAIL,
    "no_": _MAIL,
    "vrrp_": VRRP,
    "bfd_": "kernlb speaks no BFD",
    "nftables_ipvs": "each address of a group is a service of its own in kernlb",
    "snmp": "kernlb has metrics for Prometheus",
    "enable_snmp": "kernlb has metrics for Prometheus",
    "enable_traps": "kernlb has metrics for Prometheus",
    "dbus": "kernlb has an API on a unix socket",
    "enable_dbus": "kernlb has an API on a unix socket",
    "notify_fifo": "kernlb events --follow tells what changes",
    "lvs_notify_fifo": "kernlb events --follow tells what changes",
}
_ELSE = "a setting of keepalived's own"


class Elsewhere:
    """Collects what the rest of a configuration says of addresses."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.vips: dict[IPAddress, tuple[Directive, str]] = {}  # and the interface

    def read(self, directive: Directive) -> None:
        match directive.name:
            case "global_defs":
                self._globals(directive)
            case "SSL":
                self._ssl(directive)
            case "vrrp_instance":
                self._vrrp(directive)
            case name:
                self._ledger.lost(directive, TOP.get(name, UNKNOWN))

    def _globals(self, directive: Directive) -> None:
        self._ledger.use(directive, 0)
        for each in directive.block or ():
            why = _GLOBAL.get(each.name) or next(
                (why for start, why in _GLOBAL_PREFIXES.items() if each.name.startswith(start)),
                _ELSE,
            )
            self._ledger.lost(each, why)

    def _ssl(self, directive: Directive) -> None:
        self._ledger.use(directive, 0)
        for each in directive.block or ():
            why = _SSL.get(each.name, UNKNOWN)
            if each.name == "password":
                each.text = "password ..."  # not to be repeated
            self._ledger.lost(each, why)

    def _vrrp(self, directive: Directive) -> None:
        self._ledger.lost(directive, VRRP)
        interface = ""
        for each in directive.block or ():
            if each.name == "interface" and each.args:
                interface = each.args[0]
            elif each.name.startswith("lvs_sync_daemon"):
                self._ledger.report.lost(
                    each.text, "goes into kernlb.yaml: ipvs.sync, of one role", each.place
                )
        for each in directive.block or ():
            if each.name in ("virtual_ipaddress", "virtual_ipaddress_excluded"):
                self._addresses(each, interface)

    def _addresses(self, block: Directive, interface: str) -> None:
        for entry in block.block or ():
            words = (entry.name, *entry.args)
            device = interface
            if "dev" in words[:-1]:
                device = words[words.index("dev") + 1]
            try:
                self.vips[address(entry.name.partition("/")[0])] = (entry, device)
            except ValueError:
                continue  # told with its instance


def point_out(report: Report, vips: dict[IPAddress, tuple[Directive, str]]) -> None:
    """The addresses that VRRP puts on a host and services are reached at."""
    names: dict[str, list[str]] = {}
    for service in report.services:
        names.setdefault(str(service.document.get("address", "")), []).append(service.name)
    for vip, (directive, interface) in vips.items():
        if served := names.get(str(vip)):
            what = f"vip: {{interface: {interface or 'INTERFACE'}}}"
            why = (
                f"is the address of {_listed(served)}; where VRRP does not put it, {what} in the "
                "document has kernlb do so"
            )
            report.note(directive.text, why, Place(directive.place.file, directive.place.line))


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
