"""Families with a sample for every service or server, written as text: prometheus_client's own
objects cost seconds for 10 000 servers. What is written is what it would write. Pure.

The text format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_PLAIN = 1_000_000  # from here on numbers have an exponent


def head(name: str, kind: str, meaning: str) -> str:
    """The lines before the samples. ``name`` is that of the samples, ``_total`` included."""
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"


def labels(values: Mapping[str, str]) -> str:
    """``{server="10.0.0.1:80",service="web"}``: by name."""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in sorted(values.items()))
    return f"{{{','.join(pairs)}}}"


def samples(name: str, marks: Iterable[str], values: Iterable[int]) -> str:
    """A line for each of ``marks`` (as of :func:`labels`) and whole ``values``, 0 or more."""
    return "".join(
        [
            f"{name}{mark} {value}.0\n" if value < _PLAIN else f"{name}{mark} {_large(value)}\n"
            for mark, value in zip(marks, values, strict=True)
        ]
    )


def _large(value: int) -> str:
    """As Go prints a float64: 1.2345e+06."""
    digits = repr(float(value))
    if "e" in digits:  # from 10**16 on
        return digits
    places = len(digits) - 2  # of the whole part: ".0" follows
    fraction = digits[1:places].rstrip("0")
    return f"{digits[0]}.{fraction or ''}e+{places - 1:02d}".replace(".e", "e")


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
