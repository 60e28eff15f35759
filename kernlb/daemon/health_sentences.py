"""What is said of servers whose condition is another now. Pure.

A check may speak for servers of several services, and they may see the same change differently:
each sentence is for those to whom it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kernlb.daemon.watching import Service
from kernlb.health import fsm
from kernlb.health.check import Damping
from kernlb.health.fsm import Condition
from kernlb.model import ServerKey, ServiceRef


class Sentence(NamedTuple):
    """``service`` is "" where it is about several."""

    text: str
    service: str
    server: str


def of_transition(
    transition: fsm.Transition,
    services: Mapping[ServiceRef, Service],
    watchers: Sequence[tuple[ServiceRef, ServerKey]],
) -> Iterator[Sentence]:
    """``watchers`` are the servers of ``services`` that the check speaks for."""
    alike: dict[tuple[Condition, bool], list[tuple[ServiceRef, ServerKey]]] = {}
    for ref, server in watchers:
        watched = services[ref].watched[server]
        old = fsm.seen_by(watched.begins, transition.old)
        alike.setdefault((old, watched.flapping.held), []).append((ref, server))
    for (old, held), those in alike.items():
        seen = transition._replace(old=old)
        if seen.confirms:
            continue
        names = sorted({services[ref].declaration.name for ref, _ in those})
        server, only = those[0][1], len(names) == 1
        where = f"{names[0]}/{server}" if only else f"{server}{_several(names)}"
        text = f"real server {where} {seen}" + ("; it flaps, and stays held down" if held else "")
        yield Sentence(text, names[0] if only else "", str(server))


def _several(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 3 else ""
    return f" of {len(names)} services ({', '.join(names[:3])}{more})"


def held_down(service: str, server: ServerKey, damping: Damping) -> Sentence:
    text = f"flaps: held down until it has not changed for {damping.hold:g} s"
    return Sentence(f"real server {service}/{server} {text}", service, str(server))


def let_go(service: str, server: ServerKey, damping: Damping, now: Condition) -> Sentence:
    why = f"no change for {damping.hold:g} s" if damping.changes else "damping is off"
    text = f"real server {service}/{server} held -> {now}: {why}"
    return Sentence(text, service, str(server))
