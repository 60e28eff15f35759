"""Plans: the changes from observed to desired, each a value that can be printed.

An op says what it does to one service or one server, nothing about how a datapath does it.
Every op is idempotent: adding what is there makes it so, removing the absent succeeds.

Stages order a plan. Within a stage ops may be sent in any order that keeps a service before its
servers, and many may be in flight at once; a BREAK op of a service may only be sent when every
MAKE op of that service has succeeded, or if :func:`kernlb.reconcile.still_due` says that it takes
no capacity away. That is what makes a change make-before-break.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import ClassVar

from kernlb.model import (
    Persistence,
    RealServer,
    ServerKey,
    ServiceKey,
    Tunnel,
    VirtualService,
)


class Stage(IntEnum):
    """MAKE adds and edits; BREAK takes capacity away."""

    MAKE = 0
    BREAK = 1


@dataclass(frozen=True, slots=True)
class AddService:
    service: VirtualService
    stage: ClassVar[Stage] = Stage.MAKE

    @property
    def key(self) -> ServiceKey:
        return self.service.key

    def __str__(self) -> str:
        return f"+ service {self.key} {_words(self.service)}"


@dataclass(frozen=True, slots=True)
class EditService:
    old: VirtualService
    new: VirtualService
    stage: ClassVar[Stage] = Stage.MAKE

    @property
    def key(self) -> ServiceKey:
        return self.new.key

    def __str__(self) -> str:
        return f"~ service {self.key} {_changes(self.old, self.new)}"


@dataclass(frozen=True, slots=True)
class RemoveService:
    service: VirtualService
    stage: ClassVar[Stage] = Stage.BREAK

    @property
    def key(self) -> ServiceKey:
        return self.service.key

    def __str__(self) -> str:
        return f"- service {self.key}"


@dataclass(frozen=True, slots=True)
class AddServer:
    key: ServiceKey
    server: RealServer
    stage: ClassVar[Stage] = Stage.MAKE

    def __str__(self) -> str:
        return f"+ server  {self.key} {self.server.key} {_words(self.server)}"


@dataclass(frozen=True, slots=True)
class EditServer:
    key: ServiceKey
    old: RealServer
    new: RealServer

    @property
    def stage(self) -> Stage:
        """Taking the last weight away is a removal as far as new connections go."""
        return Stage.BREAK if self.new.weight == 0 < self.old.weight else Stage.MAKE

    def __str__(self) -> str:
        return f"~ server  {self.key} {self.new.key} {_changes(self.old, self.new)}"


@dataclass(frozen=True, slots=True)
class RemoveServer:
    key: ServiceKey
    server: RealServer
    stage: ClassVar[Stage] = Stage.BREAK

    def __str__(self) -> str:
        return f"- server  {self.key} {self.server.key}"


ServiceOp = AddService | EditService | RemoveService
ServerOp = AddServer | EditServer | RemoveServer
Op = ServiceOp | ServerOp


def server_of(op: Op) -> ServerKey | None:
    """The server that an op is about, None if it is about the service."""
    match op:
        case AddServer(server=server) | RemoveServer(server=server) | EditServer(new=server):
            return server.key
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """Ops in an order that may be applied front to back."""

    ops: tuple[Op, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ops)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __len__(self) -> int:
        return len(self.ops)

    def __str__(self) -> str:
        return "\n".join(map(str, self.ops)) or "no changes"

    def stage(self, stage: Stage) -> tuple[Op, ...]:
        return tuple(op for op in self.ops if op.stage is stage)


_UNNAMED = ("key", "address", "port")  # printed in front, as the identity


def _words(value: VirtualService | RealServer) -> str:
    """The settings of a value in field order, defaults left out."""
    words = []
    for field in fields(value):
        if field.name in _UNNAMED:
            continue
        content = getattr(value, field.name)
        if not content and field.name != "weight":
            continue
        words.append(_setting(field.name, content))
    return " ".join(words)


def _changes(old: VirtualService | RealServer, new: VirtualService | RealServer) -> str:
    """``weight 1 -> 0, forwarding nat -> dsr``."""
    changed = []
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            changed.append(f"{field.name} {_text(before)} -> {_text(after)}")
    return ", ".join(changed)


def _setting(name: str, content: object) -> str:
    if name in ("scheduler", "forwarding", "tunnel"):
        return _text(content)
    if content is True:
        return name
    return f"{name} {_text(content)}"


def _text(content: object) -> str:
    match content:
        case None:
            return "none"
        case bool():
            return "on" if content else "off"
        case frozenset():
            return ",".join(sorted(map(str, content))) or "none"
        case Persistence():
            engine = f" {content.engine}" if content.engine else ""
            return f"{content.timeout}s/{content.prefix}{engine}"
        case Tunnel():
            port = f":{content.port}" if content.port else ""
            return f"{content.type}{port}{'+csum' if content.checksum else ''}"
        case _:
            return str(content)
