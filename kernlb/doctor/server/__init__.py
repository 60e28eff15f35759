"""What is looked at on a real server."""

from __future__ import annotations

from kernlb.doctor.finding import Check

CHECKS: tuple[Check, ...] = ()
