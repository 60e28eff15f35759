"""The list of services. Pure, and quick to import: nothing of the protocol is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.cli.tables import Cell, Paint, table

TYPE_CHECKING = False  # typing costs a tenth of the time of a listing
if TYPE_CHECKING:
    from kernlb.control.protocol import ServiceSummary

SYNC_COLOURS: dict[str, str] = {  # by SyncState
    "synced": "green",
    "pending": "yellow",
    "failed": "red",
    "conflict": "red",
    "invalid": "red",
    "foreign": "dim",
}


def services_text(services: Sequence[ServiceSummary], paint: Paint) -> str:
    """``service ls``."""
    rows: list[list[Cell]] = [
        [
            service.name or "-",
            service.key,
            service.datapath,
            service.scheduler,
            service.forwarding,
            (
                f"{service.serving}/{service.servers}",
                "red" if service.servers and not service.serving else "",
            ),
            (
                f"{service.state}: {service.error}" if service.error else f"{service.state}",
                SYNC_COLOURS[service.state],
            ),
        ]
        for service in services
    ]
    headings = ("NAME", "KEY", "DATAPATH", "SCHEDULER", "FORWARDING", "SERVING", "STATE")
    return table(headings, rows, paint)
