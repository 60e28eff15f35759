"""UDP_CHECK: payload and reply in keepalived's free form of hexadecimal digits. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import number, word

MAX_LENGTH = 65_535
USUAL_LONGEST = 255
MAX_DIGITS = 2_000
_DIGITS = "0123456789abcdefABCDEF"
_NIBBLES = "0123456789abcdef"

EMPTY = "no payload is said: an empty datagram is sent, where keepalived's is random"


class Udp:
    """Reads what is particular to one UDP_CHECK."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._payload: str | None = None
        self._reply: list[str] | None = None  # pairs of digits, x for any
        self._require = False
        self._lengths: dict[str, tuple[int, Directive]] = {}

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        return {
            "payload": self._read_payload,
            "require_reply": self._read_reply,
            "min_reply_length": self._length,
            "max_reply_length": self._length,
        }

    def item(self, base: dict[str, Any], by: Directive) -> dict[str, Any]:
        item = dict(base)
        if self._payload is None:
            self._ledger.report.note(by.text, EMPTY, by.place)
        else:
            item["payload"] = {"hex": self._payload}
        if not self._require:
            for _, directive in self._lengths.values():
                self._ledger.report.lost(
                    directive.text, "counts with require_reply only", directive.place
                )
            return item
        pattern = self._pattern()
        return {**item, "reply_regex": pattern} if pattern else {**item, "require_reply": True}

    def _pattern(self) -> str:
        """What the reply must be like from its first byte to its last; "" for anything."""
        least, _ = self._lengths.get("min_reply_length", (0, None))
        most, said = self._lengths.get("max_reply_length", (USUAL_LONGEST, None))
        if self._reply is None and not least and said is None:
            return ""
        pattern = r"\A"
        if least or said is not None:
            pattern += rf"(?=[\s\S]{{{least},{most}}}\Z)"
        return pattern + "".join(_byte(pair) for pair in self._reply or [])

    def _read_payload(self, directive: Directive) -> None:
        try:
            pairs = _pairs("".join(f"{each} " for each in directive.args), wild=False)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._payload = "".join(pairs)
        self._ledger.use(directive)

    def _read_reply(self, directive: Directive) -> None:
        self._require = True
        try:
            self._reply = _pairs(" ".join(directive.args), wild=True) if directive.args else None
        except ValueError as error:
            self._ledger.changed(directive, f"any reply will do: {error}")
            return
        if self._reply is None:
            self._ledger.use(directive)
        else:
            self._ledger.changed(directive, "a reply that ends within these bytes is bad here")

    def _length(self, directive: Directive) -> None:
        try:
            value = number(word(directive), 0, MAX_LENGTH)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._lengths[directive.name] = (value, directive)
        self._ledger.use(directive, 1)


def _pairs(text: str, *, wild: bool) -> list[str]:
    """``Ab12f 3 456`` is ab 12 0f 03 45 06: a digit that is left alone is the lower half."""
    allowed = _DIGITS + ("xX" if wild else "")
    pairs: list[str] = []
    for group in text.split():
        if any(char not in allowed for char in group):
            raise ValueError("must be hexadecimal digits")
        for at in range(0, len(group), 2):
            pairs.append(group[at : at + 2].lower().rjust(2, "0"))
    if not pairs or len(pairs) > MAX_DIGITS:
        raise ValueError(f"must be 1 to {MAX_DIGITS} bytes in hexadecimal digits")
    return pairs


def _byte(pair: str) -> str:
    """A pattern for one byte of a reply."""
    high, low = pair[0], pair[1]
    if high != "x" and low != "x":
        return rf"\x{pair}"
    if high == low == "x":
        return r"[\s\S]"
    if low == "x":
        return rf"[\x{high}0-\x{high}f]"
    return "[" + "".join(rf"\x{each}{low}" for each in _NIBBLES) + "]"
