"""Durations: a number of seconds, or text with a unit."""

from __future__ import annotations

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(duration: str | float) -> float:
    """Seconds of what ``document.Duration`` lets through."""
    if not isinstance(duration, str):
        return float(duration)
    unit = duration.lstrip("0123456789.")
    return round(float(duration.removesuffix(unit)) * UNITS[unit], 3)
