"""Declarations beside each other: what one file cannot know of another.

:class:`Index` holds what is in force and answers for one more declaration in time proportional to
that declaration; :func:`validate_set` asks it for a whole set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from kernlb.config.errors import Fault, key_of
from kernlb.declaration import Declaration
from kernlb.model import AddressKey, IPAddress, RealServer, ServiceRef


class Index:
    """Declarations by what they may quarrel about."""

    def __init__(self, declarations: Iterable[Declaration] = ()) -> None:
        self._declarations: dict[str, Declaration] = {}
        self._refs: dict[ServiceRef, str] = {}
        self._vips: Counter[IPAddress] = Counter()
        self._servers: Counter[IPAddress] = Counter()
        for declaration in declarations:
            self.put(declaration)

    @property
    def declarations(self) -> Mapping[str, Declaration]:
        """What is in it, by name."""
        return self._declarations

    def put(self, declaration: Declaration) -> None:
        """Add, or replace the one of that name."""
        self.discard(declaration.name)
        self._declarations[declaration.name] = declaration
        self._refs.setdefault(declaration.ref, declaration.name)
        if declaration.address is not None:
            self._vips[declaration.address] += 1
        self._servers.update(server.address for server in _away(declaration))

    def discard(self, name: str) -> None:
        """Forget the one of that name; none is fine."""
        old = self._declarations.pop(name, None)
        if old is None:
            return
        if self._refs.get(old.ref) == name:
            del self._refs[old.ref]
        if old.address is not None:
            _take(self._vips, old.address)
        for server in _away(old):
            _take(self._servers, server.address)

    def faults(self, declaration: Declaration) -> list[Fault]:
        """What is wrong with a declaration beside the others, its namesake aside."""
        found: list[Fault] = []

        def fault(message: str, *path: str | int) -> None:
            found.append(Fault(message, declaration.source, 0, key_of(path)))

        other = self._refs.get(declaration.ref, declaration.name)
        if other != declaration.name:
            key = declaration.service.key
            where = "address" if isinstance(key, AddressKey) else "fwmark"
            fault(f"{key} is declared already, by {self._place(other)}", where)
        old = self._declarations.get(declaration.name)
        mine = old.address if old is not None else None
        for index, server in enumerate(declaration.servers):
            if server.key in declaration.local:
                continue
            if self._vips[server.address] > (server.address == mine):
                fault(self._is_vip(server, declaration.name), "servers", index, "address")
        for index, sorry in enumerate(declaration.sorry_servers):
            if sorry.key in declaration.local:
                continue
            if self._vips[sorry.address] > (sorry.address == mine):
                at = (
                    ("sorry_server",)
                    if len(declaration.sorry_servers) == 1
                    else ("sorry_server", index)
                )
                fault(self._is_vip(sorry, declaration.name), *at, "address")
        if declaration.address in self._servers:
            owner = self._owner(declaration)
            if owner is not None:
                fault(
                    f"{declaration.address} is a real server's address in {self._place(owner)}: "
                    "the balancer itself would answer",
                    "address",
                )
        return found

    def _place(self, name: str) -> str:
        return self._declarations[name].source or name

    def _is_vip(self, server: RealServer, name: str) -> str:
        owner = next(
            other.name
            for other in self._declarations.values()
            if other.address == server.address and other.name != name
        )
        return (
            f"{server.address} is the address of the service in {self._place(owner)}: "
            "the balancer itself would answer"
        )

    def _owner(self, declaration: Declaration) -> str | None:
        """Another declaration with a real server at this one's address."""
        return next(
            (
                other.name
                for other in self._declarations.values()
                if other.name != declaration.name
                and any(s.address == declaration.address for s in _away(other))
            ),
            None,
        )


def validate_set(declarations: Iterable[Declaration]) -> list[Fault]:
    """What is wrong with declarations beside each other. Those in front have precedence: a
    fault is the later one's, so put first what is in force."""
    index = Index()
    found: list[Fault] = []
    for declaration in declarations:
        if faults := index.faults(declaration):
            found.extend(faults)
        else:
            index.put(declaration)
    return found


def _away(declaration: Declaration) -> tuple[RealServer, ...]:
    """The servers that are not on the balancer itself."""
    servers = (*declaration.servers, *declaration.sorry_servers)
    if not declaration.local:
        return servers
    return tuple(server for server in servers if server.key not in declaration.local)


def _take(counter: Counter[IPAddress], address: IPAddress) -> None:
    counter[address] -= 1
    if counter[address] <= 0:
        del counter[address]
