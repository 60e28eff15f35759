"""The kernel's own IPVS, of the network namespace that this runs in; read, never written.

For what the daemon does not tell: services that are not kernlb's, with their servers, and what
IPVS has one of. Needs CAP_NET_ADMIN. Everything raises OSError (DatapathUnavailableError too).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.names import Numbers
from kernlb.model import ServiceState

if TYPE_CHECKING:
    from kernlb.datapath.ipvs import IPVSDatapath


def saved() -> str:
    """All services as ``ipvsadm -Sn`` would print them, connection thresholds too."""
    names = Numbers()
    found = rules.services_in_order(states())
    return "".join(f"{line}\n" for s in found for line in rules.lines(s, names, restorable=True))


def states() -> list[ServiceState]:
    """All services, whoever made them."""
    with _kernel() as kernel:
        return list(kernel.read([service.key for service in kernel.services()]).values())


def timeouts() -> tuple[int, int, int]:
    """Seconds: tcp, tcp after a FIN, udp."""
    with _kernel() as kernel:
        found = kernel.timeouts()
        return found.tcp, found.tcp_fin, found.udp


def sync_daemons() -> list[str]:
    """The connection-sync daemons as ``ipvsadm -L --daemon`` prints them, the master first."""
    with _kernel() as kernel:
        found = sorted(kernel.sync_daemons(), key=lambda each: each.role, reverse=True)
    lines = []
    for each in found:
        parts = [f"mcast={each.interface}", f"syncid={each.sync_id}"]
        parts += [f"maxlen={each.max_length}"] if each.max_length else []
        parts += [f"group={each.group}"] if each.group is not None else []
        parts += [f"port={each.port}"] if each.port else []
        parts += [f"ttl={each.ttl}"] if each.ttl else []
        lines.append(f"{each.role} sync daemon ({', '.join(parts)})")
    return lines


@contextmanager
def _kernel() -> Iterator[IPVSDatapath]:
    from kernlb.datapath.ipvs import IPVSDatapath

    kernel = IPVSDatapath()
    try:
        yield kernel
    finally:
        kernel.close()
