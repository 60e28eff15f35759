"""Carrying out a draft: stage after stage, and what to do where the kernel refuses.

A service that is refused stops nothing of the others. What may still be taken out of it, the pure
part says (``reconcile.still_due``); it is asked with what the kernel holds then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kernlb.daemon.draft import Draft
from kernlb.datapath import Datapath, Failure
from kernlb.intent import Intent
from kernlb.model import DatapathKind, ServiceKey, ServiceRef
from kernlb.plan import Op, Plan, Stage
from kernlb.reconcile import still_due

SLICE = 256  # ops given to a datapath between two turns of the event loop


@dataclass(slots=True)
class Executed:
    """``failures`` is the first refusal of each service that met one, in an operator's words;
    ``left`` are the ops that were refused, or not sent for it."""

    failures: dict[ServiceRef, str] = field(default_factory=dict)
    left: list[Op] = field(default_factory=list)


async def execute(
    datapaths: Mapping[DatapathKind, Datapath],
    made: Draft,
    intent: Callable[[ServiceRef], Intent | None],
) -> Executed:
    """Send what ``made`` says, make before break. Raises OSError."""
    done = Executed()
    for kind, plan in made.plans.items():
        refused = await send(datapaths[kind], plan.stage(Stage.MAKE))
        breaks: Sequence[Op] = plan.stage(Stage.BREAK)
        if refused:
            sent = _despite(datapaths[kind], breaks, refused, intent)
            known = set(map(id, sent))
            done.left += [op for op in breaks if id(op) not in known]
            breaks = sent
        refused += await send(datapaths[kind], breaks)
        for failure in refused:
            done.failures.setdefault(ServiceRef(kind, failure.op.key), str(failure))
            done.left.append(failure.op)
    return done


async def send(datapath: Datapath, ops: Sequence[Op]) -> list[Failure]:
    """Ops of one stage; those that were refused."""
    refused: list[Failure] = []
    for part in _slices(ops, SLICE):
        refused += datapath.apply(part)
        await asyncio.sleep(0)
    return refused


def _despite(
    datapath: Datapath,
    breaks: Sequence[Op],
    refused: Sequence[Failure],
    intent: Callable[[ServiceRef], Intent | None],
) -> list[Op]:
    """Those of ``breaks`` that may be sent although MAKE ops were ``refused``."""
    ops: dict[ServiceKey, list[Op]] = {}
    for failure in refused:
        ops.setdefault(failure.op.key, []).append(failure.op)
    concerned = {op.key for op in breaks if op.key in ops}
    held = datapath.read(concerned) if concerned else {}
    sent = [op for op in breaks if op.key not in concerned]
    for key in concerned:
        wanted = intent(ServiceRef(datapath.kind, key))
        own = Plan(tuple(op for op in breaks if op.key == key))
        sent += still_due(own, ops[key], wanted, held.get(key))
    return sent


def _slices(ops: Sequence[Op], size: int) -> Iterator[Sequence[Op]]:
    """Parts of at least ``size``, cut between services: a datapath that sees a new service
    with all of its servers can build its tables once."""
    start = 0
    for at in range(size, len(ops)):
        if at - start >= size and ops[at].key is not ops[at - 1].key:
            yield ops[start:at]
            start = at
    if start < len(ops):
        yield ops[start:]
