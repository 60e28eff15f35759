"""Machines that build are slow at times: examples count, their milliseconds do not."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("config", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("config")
