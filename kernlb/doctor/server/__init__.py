"""What is looked at on a real server."""

from __future__ import annotations

from kernlb.doctor.finding import Check
from kernlb.doctor.server import arp, decap, filters, listening, tunnel, vip, ways

CHECKS: tuple[Check, ...] = (
    *vip.CHECKS,
    *arp.CHECKS,
    *tunnel.CHECKS,
    *decap.CHECKS,
    *ways.CHECKS,
    *listening.CHECKS,
    *filters.CHECKS,
)
