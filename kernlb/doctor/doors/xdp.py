"""The door to kernlb's own XDP program: on which interfaces of this namespace it runs."""

from __future__ import annotations

from pathlib import Path

from kernlb.doctor.facts import UnreadError
from kernlb.doctor.xdp import Programs


def read(pins: Path) -> Programs:
    """Raises OSError, UnreadError."""
    if not (pins / "links").exists():
        return Programs()
    try:
        from kernlb.datapath.xdp.attaching import attached
    except ImportError as error:
        raise UnreadError(f"libbpf cannot be loaded: {error}") from error
    return Programs({each.interface: each.program_id for each in attached(pins)})
