"""What is looked at on a balancer."""

from __future__ import annotations

from kernlb.doctor.balancer import forwarding
from kernlb.doctor.finding import Check

CHECKS: tuple[Check, ...] = (*forwarding.CHECKS,)
