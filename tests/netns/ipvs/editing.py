"""A world of service documents and a seeded author who edits it, one valid step at a time.

Each step is an :class:`Edit`: what to ask of kernlb, and what it means for the documents. The
author knows the rules of documents (which keys go together), never how kernlb carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.netns.ipvs.ipvsadm import Service
from tests.netns.ipvs.views import asked, key, server_endpoint

Json = dict[str, Any]

MOST_SERVICES = 6
MOST_SERVERS = 4
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "fo", "ovf", "lblc", "lblcr")
TUNNELS: tuple[Json, ...] = (
    {},
    {"type": "ipip"},
    {"type": "gre"},
    {"type": "gre", "checksum": True},
    {"type": "gue", "port": 6080},
    {"type": "gue", "port": 65535, "checksum": True},
)


@dataclass(frozen=True)
class Edit:
    """One step. ``target`` is the server's endpoint, "" for a step on a service."""

    verb: str  # "service add", "server drain" ...
    service: str
    target: str = ""
    body: Json = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verb} {self.service} {self.target} {self.body or ''}".rstrip()


class World:
    """The documents as they should be, and the holds on servers, after every edit so far."""

    def __init__(self) -> None:
        self.documents: dict[str, Json] = {}
        self.holds: dict[str, dict[str, str]] = {}

    def expected(self) -> dict[str, Service]:
        services = [asked(doc, self.holds.get(name)) for name, doc in self.documents.items()]
        return {service.key: service for service in services}

    def apply(self, edit: Edit) -> None:
        match edit.verb:
            case "service add":
                self.documents[edit.service] = deepcopy(edit.body)
            case "service rm":
                del self.documents[edit.service]
            case "service edit":
                merge(self.documents[edit.service], edit.body)
            case "server add":
                self.documents[edit.service].setdefault("servers", []).append(deepcopy(edit.body))
            case "server rm":
                self.documents[edit.service]["servers"].remove(self._server(edit))
            case "server edit":
                merge(self._server(edit), edit.body)
            case "server drain":
                self.holds.setdefault(edit.service, {})[edit.target] = "draining"
            case "server disable":
                self.holds.setdefault(edit.service, {})[edit.target] = "disabled"
            case "server enable":
                self.holds.get(edit.service, {}).pop(edit.target, None)
            case _:
                raise AssertionError(edit)
        self._drop_holds(edit.service)

    def _server(self, edit: Edit) -> Json:
        document = self.documents[edit.service]
        servers: list[Json] = document["servers"]
        return next(s for s in servers if server_endpoint(document, s) == edit.target)

    def _drop_holds(self, name: str) -> None:
        """A hold is on a server of a service: it goes with either."""
        document = self.documents.get(name, {})
        there = {server_endpoint(document, server) for server in document.get("servers", [])}
        holds = self.holds.get(name, {})
        self.holds[name] = {target: hold for target, hold in holds.items() if target in there}


def merge(document: Json, patch: Json) -> None:
    """RFC 7386."""
    for name, value in patch.items():
        if value is None:
            document.pop(name, None)
        elif isinstance(value, dict):
            if not isinstance(document.get(name), dict):
                document[name] = {}
            merge(document[name], value)
        else:
            document[name] = deepcopy(value)


class Author:
    """Draws edits that are valid in the world as it is."""

    def __init__(self, random: Random, world: World) -> None:
        self._random = random
        self._world = world
        self._made = 0

    def edits(self, count: int) -> Iterator[Edit]:
        """``count`` edits; each is applied to the world once the caller comes back."""
        for _ in range(count):
            edit = self._draw()
            yield edit
            self._world.apply(edit)

    def _draw(self) -> Edit:
        names = sorted(self._world.documents)
        if len(names) < 3 or (len(names) < MOST_SERVICES and self._chance(0.12)):
            self._made += 1
            return Edit("service add", f"service{self._made}", body=self._document())
        name = self._random.choice(names)
        if len(names) == MOST_SERVICES and self._chance(0.15):
            return Edit("service rm", name)
        if self._chance(0.3):
            return Edit("service edit", name, body=self._service_patch(name))
        return self._server_step(name)

    def _server_step(self, name: str) -> Edit:
        document = self._world.documents[name]
        servers = document.get("servers", [])
        if not servers or (len(servers) < MOST_SERVERS and self._chance(0.25)):
            return Edit("server add", name, body=self._server(document))
        server = self._random.choice(servers)
        target = server_endpoint(document, server)
        verbs = ["rm", "edit", "edit", "drain", "disable", "enable", "enable"]
        verb = self._random.choice(verbs)
        body = self._server_patch(document, server) if verb == "edit" else {}
        return Edit(f"server {verb}", name, target, body)

    # -- documents

    def _document(self) -> Json:
        draw = self._random
        document: Json = {}
        if self._chance(0.2):
            taken = {key(each) for each in self._world.documents.values()}
            document = {"fwmark": 1, "family": draw.choice(["ipv4", "ipv6"])}
            while key(document) in taken:
                document["fwmark"] = draw.choice([draw.randint(1, 99), 2**32 - draw.randint(1, 9)])
        else:
            net = draw.choice(["192.0.2.", "2001:db8::"])
            document = {
                "address": f"{net}{self._made % 90 + 10}",
                "port": draw.choice([53, 80, 443, 5060, 65535]),
                "protocol": draw.choice(["tcp", "udp", "sctp"]),
            }
        self._schedule(document)
        document |= self._forwarding()
        if self._chance(0.3):
            document["weight"] = draw.randint(0, 9)
        if self._chance(0.3):
            document |= self._thresholds()
        if self._chance(0.3):
            document["persistence"] = self._persistence(document)
        if _carries_udp(document) and self._chance(0.3):
            document["one_packet"] = True
        document["servers"] = []
        for _ in range(draw.randint(0, MOST_SERVERS)):
            document["servers"].append(self._server(document))
        if self._chance(0.3):
            sorry = self._server(document, plain=True)
            document["sorry_server"] = {"address": sorry["address"]}
        return document

    def _schedule(self, document: Json) -> None:
        scheduler = self._random.choice(SCHEDULERS)
        document["scheduler"] = scheduler
        if scheduler in ("sh", "mh") and self._chance(0.7):
            flags = [f"{scheduler}-fallback", f"{scheduler}-port"]
            document["scheduler_flags"] = self._random.sample(flags, self._random.randint(0, 2))

    def _forwarding(self) -> Json:
        method = self._random.choice(["nat", "dsr", "tunnel"])
        tunnel = self._random.choice(TUNNELS)
        if method == "tunnel" and tunnel:
            return {"forwarding": method, "tunnel": dict(tunnel)}
        return {"forwarding": method}

    def _thresholds(self) -> Json:
        upper = self._random.choice([0, 1, 100, 2**31 - 1])
        lower = self._random.choice([0, min(upper, 50), upper])
        return {"upper_threshold": upper, "lower_threshold": lower}

    def _persistence(self, document: Json) -> Any:
        timeout = self._random.choice([1, 60, 300, 31 * 86400])
        if self._chance(0.3):
            return timeout
        settings: Json = {"timeout": timeout}
        if self._chance(0.6):
            settings["prefix"] = self._random.randint(1, 32 if _version(document) == 4 else 128)
        if document.get("protocol") == "udp" and self._chance(0.4):
            settings["engine"] = "sip"
        return settings

    def _server(self, document: Json, plain: bool = False) -> Json:
        draw = self._random
        used = {server["address"] for server in document.get("servers", [])}
        used.add(document.get("sorry_server", {}).get("address", ""))
        version = _version(document)
        across = not plain and self._chance(0.1)
        net = "10.0.0." if (version == 4) != across else "2001:db8:1::"
        free = [f"{net}{n}" for n in range(1, 30) if f"{net}{n}" not in used]
        server: Json = {"address": draw.choice(free)}
        if plain:
            return server
        if self._chance(0.7):
            server["weight"] = draw.choice([0, 1, 2, 100, 65535])
        if across:
            server["forwarding"] = "tunnel"
        elif "address" in document and self._chance(0.2):
            server |= {"forwarding": "nat", "port": draw.choice([8080, 1, 65535])}
        elif self._chance(0.2):
            server |= self._forwarding()
        if self._chance(0.3):
            server |= self._thresholds()
        return server

    # -- patches

    def _service_patch(self, name: str) -> Json:
        document = self._world.documents[name]
        choices: list[Callable[[], Json]] = [
            lambda: {"weight": self._random.randint(0, 9)},
            lambda: self._scheduler_patch(),
            lambda: self._forwarding_patch(document),
            lambda: self._thresholds(),
            lambda: {"upper_threshold": None, "lower_threshold": None},
            lambda: {"persistence": self._persistence_patch(document)},
        ]
        if "address" in document:
            choices.append(lambda: self._address_patch(document))
        if _carries_udp(document):
            choices.append(lambda: {"one_packet": not document.get("one_packet", False)})
        return self._random.choice(choices)()

    def _scheduler_patch(self) -> Json:
        patch: Json = {"scheduler_flags": None}
        self._schedule(patch)
        return patch

    def _forwarding_patch(self, document: Json) -> Json:
        fresh = self._forwarding()
        if "tunnel" not in fresh:
            return {**fresh, "tunnel": None}
        return {**fresh, "tunnel": {"port": None, "checksum": None, **fresh["tunnel"]}}

    def _persistence_patch(self, document: Json) -> Any:
        if "persistence" in document and self._chance(0.5):
            return None
        fresh = self._persistence(document)
        return fresh if isinstance(fresh, dict) else {"timeout": fresh}

    def _address_patch(self, document: Json) -> Json:
        """A new port: another service to the kernel, and other servers where they inherit it."""
        taken = {key(each) for each in self._world.documents.values()}
        port = next(p for p in range(1000, 2000) if key({**document, "port": p}) not in taken)
        return {"address": document["address"], "port": port}

    def _server_patch(self, document: Json, server: Json) -> Json:
        draw = self._random
        version = 6 if ":" in server["address"] else 4
        choices: list[Callable[[], Json]] = [
            lambda: {"weight": draw.choice([0, 1, 7, 65535])},
            lambda: {"weight": None},
            lambda: self._thresholds(),
            lambda: {"upper_threshold": None, "lower_threshold": None},
        ]
        if version == _version(document) and "port" not in server:
            choices.append(lambda: self._forwarding_patch(document))
        return draw.choice(choices)()

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def _carries_udp(document: Json) -> bool:
    return "fwmark" in document or document.get("protocol") == "udp"


def _version(document: Json) -> int:
    if "fwmark" in document:
        return 6 if document.get("family") == "ipv6" else 4
    return 6 if ":" in document["address"] else 4
