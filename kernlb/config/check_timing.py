"""When a server is asked, and how many answers turn a verdict; keepalived's words too."""

from __future__ import annotations

from msgspec import UNSET

from kernlb.config.check_document import CheckDocument
from kernlb.config.check_words import ALIASES
from kernlb.config.duration import seconds
from kernlb.config.errors import Path, Report
from kernlb.config.share import share
from kernlb.health.check import Timing

USUAL = Timing()
SHORTEST, LONGEST = 0.1, 86_400.0  # interval, seconds
QUICKEST = 0.01  # timeout and fast_interval, seconds
MAX_JITTER = 0.5


def usual_timeout(interval: float) -> float:
    return min(USUAL.timeout, interval)


def usual_fast_interval(timeout: float) -> float:
    return min(USUAL.fast_interval, timeout)


def read_timing(document: CheckDocument, path: Path, report: Report) -> Timing:
    before = len(report)
    for alias, word in ALIASES.items():
        if getattr(document, alias) is not UNSET and getattr(document, word) is not UNSET:
            report.add((*path, alias), f"does not go with {word}: they are two words for one thing")
    interval, interval_key = _duration(document, "interval", USUAL.interval)
    timeout, timeout_key = _duration(document, "timeout", usual_timeout(interval))
    fast, fast_key = _duration(document, "fast_interval", usual_fast_interval(timeout))
    jitter = USUAL.jitter if document.jitter is UNSET else share(document.jitter)
    if not SHORTEST <= interval <= LONGEST:
        report.add((*path, interval_key), "must be within 100ms..1d")
    for value, key in ((timeout, timeout_key), (fast, fast_key)):
        if value < QUICKEST and getattr(document, key) is not UNSET:
            report.add((*path, key), "must be 10ms at least")
    if len(report) == before:
        if timeout > interval:
            report.add(
                (*path, timeout_key if _says(document, "timeout") else interval_key),
                f"must not be above {interval_key}: {timeout:g} s > {interval:g} s, and probes of "
                "one server do not overlap",
            )
        if fast > interval:
            report.add(
                (*path, fast_key), f"must not be above {interval_key}: {fast:g} s > {interval:g} s"
            )
    if jitter > MAX_JITTER:
        report.add((*path, "jitter"), "must be 0.5 at most")
    fall = USUAL.fall if document.fall is UNSET else document.fall
    return Timing(
        interval=interval,
        fast_interval=fast,
        timeout=timeout,
        rise=USUAL.rise if document.rise is UNSET else document.rise,
        fall=fall if document.retry is UNSET else document.retry + 1,
        jitter=jitter,
    )


def _duration(document: CheckDocument, word: str, usual: float) -> tuple[float, str]:
    """What is said of a time, and the word that says it."""
    for key in (word, *(alias for alias, of in ALIASES.items() if of == word)):
        value = getattr(document, key)
        if value is not UNSET:
            return seconds(value), key
    return usual, word


def _says(document: CheckDocument, word: str) -> bool:
    return any(
        getattr(document, key) is not UNSET
        for key in (word, *(alias for alias, of in ALIASES.items() if of == word))
    )
