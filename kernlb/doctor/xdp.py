"""kernlb's XDP program on interfaces. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Programs:
    """Interfaces that it runs on, and its number there."""

    by_interface: Mapping[str, int] = field(default_factory=dict)
