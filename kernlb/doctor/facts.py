"""Everything that was read, by its type; what could not be read says why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

Part = TypeVar("Part")


class UnreadError(Exception):
    """A fact that is not known; the message is why, as in "not checked: WHY"."""


@dataclass(frozen=True, slots=True)
class Unread:
    """In place of a part that could not be read."""

    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Parts by their type: ``facts[Sysctls]``."""

    parts: Mapping[type[Any], Any] = field(default_factory=dict)

    def __getitem__(self, kind: type[Part]) -> Part:
        """Raises UnreadError where this part could not be read, or nobody tried."""
        part = self.parts.get(kind, Unread(f"{kind.__name__.lower()} was not read"))
        if isinstance(part, Unread):
            raise UnreadError(part.why)
        assert isinstance(part, kind)
        return part

    def having(self, part: object) -> Facts:
        """These, and one part more (or another in its place)."""
        return Facts(MappingProxyType({**self.parts, type(part): part}))

    def lacking(self, kind: type[Any], why: str) -> Facts:
        return Facts(MappingProxyType({**self.parts, kind: Unread(why)}))


Reader = Callable[[Facts], object]
"""From what was read before to a part. Raises OSError or UnreadError with why it cannot."""


def gather(readers: Iterable[tuple[type[Any], Reader]], known: Facts | None = None) -> Facts:
    """Read every part in the order given; a later one may lean on an earlier one."""
    facts = known or Facts()
    for kind, read in readers:
        try:
            part = read(facts)
        except (OSError, UnreadError) as error:
            facts = facts.lacking(kind, _why(error))
        else:
            facts = facts.having(part)
    return facts


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
