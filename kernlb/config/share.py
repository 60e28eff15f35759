"""Shares: a number within 0..1, or text with a percent sign."""

from __future__ import annotations


def share(value: str | float) -> float:
    """0..1 of what ``health_document.Share`` lets through."""
    if not isinstance(value, str):
        return float(value)
    return round(float(value.removesuffix("%")) / 100, 6)
