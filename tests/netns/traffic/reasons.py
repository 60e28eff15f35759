"""Every way in which a real server can fail its probe: it leaves the kernel for the reason that
is shown, and comes back, in any datapath.

One table (reason_rows). A row is a service with a check, on two servers: server1's backend goes bad
and is good again, server2's stays good. Rows run side by side and are switched at one time; then
each test looks at its own.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from kernlb.config.check_words import CheckType
from kernlb.control.protocol import Documents, ServerState
from kernlb.health.outcome import Opinion, Outcome
from kernlb.health.probes.making import PROBES
from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer, Json
from tests.netns.traffic.reason_backends import Backends, Datagrams, Places
from tests.netns.traffic.reason_rows import EXCUSED, FOLDER, ROWS, Row
from tests.netns.traffic.wait import wait_for
from tests.unit.health.probes.certificates import Certificates

# An emulated machine bears a few rows at a time, and asks more slowly.
SLOW, AT_ONCE = (3, 12) if "KERNLB_IN_GUEST" in os.environ else (1, 64)
TIMING = {
    "interval": 2.0 * SLOW,
    "fast_interval": 0.5 * SLOW,
    "timeout": 1.0 * SLOW,
    "rise": 1,
    "fall": 2,
}
TRIES = 2  # of a batch of rows: a balancer that does not answer is not asked for each row
LIMIT = 60.0 * SLOW  # seconds from a switch until every row has followed
LATENESS = 0.25 * SLOW  # of the prober, in seconds, from which on it does not believe itself
PORT = 10000  # the first row's; none of those that the kernel gives to connections


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", ROWS)
    if "served" in metafunc.fixturenames:
        metafunc.parametrize("served", [name for name, row in ROWS.items() if row.serves])


def test_every_probe_type_and_every_bad_outcome_is_in_the_table() -> None:
    types = {row.check.get("type", "several") for row in ROWS.values()}
    assert types == {*CheckType, "several"}
    assert {kind.__name__.removesuffix("Check").lower() for kind in PROBES} < types
    met = {Outcome(row.why.partition(": ")[0]) for row in ROWS.values()}
    assert not met & set(EXCUSED)
    assert met | set(EXCUSED) == {each for each in Outcome if each.opinion is Opinion.BAD}


class Seen(NamedTuple):
    """A server of a row, as the daemon tells it. ``since`` is of its condition."""

    state: ServerState
    in_kernel: bool
    why: str
    since: float


Servers = dict[str, Seen]  # by role
UP_AND_IN, DOWN_AND_OUT = (ServerState.UP, True), (ServerState.DOWN, False)


def is_up(servers: Servers, _: Row) -> bool:
    return {each[:2] for each in servers.values()} == {UP_AND_IN}


def is_down(servers: Servers, row: Row) -> bool:
    one = servers["server1"]
    return one[:2] == DOWN_AND_OUT and one.why.startswith(row.why)


class Looks(NamedTuple):
    """Of one row, while its server1 was good, bad, and good again: what the daemon told, the first
    time it was as it should be, else the last; and who answered clients. ``went_bad``: when."""

    good: Servers
    bad: Servers
    again: Servers
    went_bad: float
    answered: dict[str, int]
    answered_again: dict[str, int]


class Table:
    """Rows side by side on a balancer, on ports of their own."""

    def __init__(
        self, balancer: Balancer, vip: IPAddress, folder: Path, rows: dict[str, Row]
    ) -> None:
        self._balancer, self._vip, self._folder = balancer, vip, folder
        self._rows = rows
        self._ports = {name: PORT + number for number, name in enumerate(rows)}

    def run(self, made: Certificates) -> dict[str, Looks]:
        """Nothing of it stays."""
        with (
            closing(self._backends("server1", made)) as server1,
            closing(self._backends("server2", made)),
        ):
            self._declare()
            good = self._follow(is_up)
            went_bad = time.time()
            server1.be("bad")
            bad, answered = self._follow(is_down), self._answered()
            server1.be("good")
            again, answered_again = self._follow(is_up), self._answered()
            for name in self._rows:
                self._balancer.daemon.client.remove_service(name)
        return {
            name: Looks(
                *(good[name], bad[name], again[name], went_bad),
                *(answered.get(name, {}), answered_again.get(name, {})),
            )
            for name in self._rows
        }

    def _declare(self) -> None:
        documents = {name: json.dumps(self._document(name)) for name in self._rows}
        change = self._balancer.daemon.client.apply(Documents(documents))
        assert change.applied
        assert not change.faults

    def _document(self, name: str) -> Json:
        row, port = self._rows[name], self._ports[name]
        check = json.loads(json.dumps(row.check).replace(FOLDER, str(self._folder)))
        if check.get("type") == "agent":
            check["port"] = port
        weights = {"server1": 1, "server2": 1}
        return {
            "address": str(self._vip),
            "port": port,
            "protocol": "udp" if isinstance(row.good, Datagrams) else "tcp",
            "scheduler": "rr",
            "forwarding": "nat",
            "check": {**check, **TIMING},
            "servers": self._balancer.servers(4, weights, port=80 if row.serves else port),
        }

    def _backends(self, role: str, made: Certificates) -> Backends:
        """Those of server2 are the good ones, whatever they are told."""
        rows = {}
        for name, row in self._rows.items():
            kind = "udp" if isinstance(row.good, Datagrams) else "tcp"
            match = f"{kind} dport {self._ports[name]}"
            if row.check.get("type") == "icmp":
                match = f"icmp type echo-request ip length {row.check['size'] + 28}"
            script = self._folder / str(self._ports[name])
            rows[name] = Places(self._ports[name], match, script, row.good, row.bad)
        namespace = self._balancer.topology.namespace(role)
        return Backends(namespace, self._balancer.address(role, 4), rows, made)

    def _follow(self, as_wanted: Callable[[Servers, Row], bool]) -> dict[str, Servers]:
        """Each row's first look that is as wanted, or its last within the limit."""
        found: dict[str, Servers] = {}
        missing = set(self._rows)
        deadline = time.monotonic() + LIMIT

        def all_did() -> bool:
            seen = self._look()
            for name in list(missing):
                found[name] = seen[name]
                if as_wanted(found[name], self._rows[name]):
                    missing.remove(name)
            return not missing or time.monotonic() > deadline

        wait_for(all_did, 2 * LIMIT, "all rows have followed, or had their time")
        return found

    def _look(self) -> dict[str, Servers]:
        client, name_of = self._balancer.daemon.client, self._balancer.name_of
        told = {
            (service.name, each.server): each
            for service in client.health().services
            for each in service.servers
        }
        found: dict[str, Servers] = {}
        for view in client.services_in_full():
            servers = found[view.name] = {}
            for each in view.servers:
                health = told[view.name, f"{each.address}:{each.port}"]
                seen = Seen(each.state, each.in_kernel, health.why, health.since)
                servers[name_of(each.address)] = seen
        return found

    def _answered(self) -> dict[str, dict[str, int]]:
        """Who answers four clients of each row that has nginx behind it."""
        load = self._balancer.load
        return {
            name: share_by_server(load.http(self._vip, port=self._ports[name], count=4))
            for name, row in self._rows.items()
            if row.serves
        }


class Told:
    """What became of each row. Rows are run when the first of their batch is asked for."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer, self._names, self._looks = balancer, list(ROWS), dict[str, Looks]()
        self._tries = Counter[int]()  # of each batch
        self._folder = balancer.lab.folder / "reasons"  # where programs of exec checks may read
        self._folder.mkdir()
        self._made = Certificates(self._folder)

    def __getitem__(self, name: str) -> Looks:
        if name not in self._looks:
            first = self._names.index(name) // AT_ONCE * AT_ONCE
            self._tries[first] += 1
            assert self._tries[first] <= TRIES, "its batch has failed as a whole"
            rows = {each: ROWS[each] for each in self._names[first : first + AT_ONCE]}
            vip = self._balancer.fresh_vip(4)
            self._looks |= Table(self._balancer, vip, self._folder, rows).run(self._made)
        return self._looks[name]


@pytest.fixture(scope="module")
def told(balancer: Balancer) -> Iterator[Told]:
    daemon = balancer.daemon
    daemon.settle({"health": {"lateness_limit": LATENESS}})
    daemon.client.reload()
    yield Told(balancer)
    daemon.settle({})
    daemon.client.reload()


def test_a_server_goes_down_for_this_reason_and_comes_back(name: str, told: Told) -> None:
    row, seen = ROWS[name], told[name]
    assert {role: each[:2] for role, each in seen.good.items()} == {
        "server1": UP_AND_IN,
        "server2": UP_AND_IN,
    }
    assert {role: each[:2] for role, each in seen.bad.items()} == {
        "server1": DOWN_AND_OUT,
        "server2": UP_AND_IN,
    }
    assert seen.bad["server1"].why.startswith(row.why)
    assert seen.bad["server2"].since < seen.went_bad, "server2 was not good all the time"
    assert {role: each[:2] for role, each in seen.again.items()} == {
        "server1": UP_AND_IN,
        "server2": UP_AND_IN,
    }


def test_clients_are_answered_by_the_server_that_is_good(served: str, told: Told) -> None:
    """The one that is down would answer them, if it were asked."""
    assert told[served].answered == {"server2": 4}
    assert told[served].answered_again == {"server1": 2, "server2": 2}
