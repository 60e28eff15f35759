"""What is looked at on a balancer."""

from __future__ import annotations

from kernlb.doctor.balancer import (
    daemon,
    devices,
    filters,
    forwarding,
    host,
    ipvs,
    kernel,
    reach,
    vips,
    xdp,
)
from kernlb.doctor.finding import Check

CHECKS: tuple[Check, ...] = (
    *daemon.CHECKS,
    *forwarding.CHECKS,
    *vips.CHECKS,
    *reach.CHECKS,
    *filters.CHECKS,
    *ipvs.CHECKS,
    *xdp.CHECKS,
    *devices.CHECKS,
    *kernel.CHECKS,
    *host.CHECKS,
)
