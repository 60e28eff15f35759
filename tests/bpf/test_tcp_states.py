"""A connection's states are IPVS's: every packet in every state, from every side.

The table is read off net/netfilter/ipvs/ip_vs_proto_tcp.c (tcp_states). dsr and tunnel hear the
client alone (INPUT-ONLY there); in nat and fullnat the server's answers come by as well.
"""

from __future__ import annotations

import pytest

from tests.bpf.connections import TIMEOUTS
from tests.bpf.frames import CLIENT, OURS, SERVER, SERVER_PORT, SPORT, answer, frame, request
from tests.bpf.world import World

SHORT = {
    "NO": "none",
    "ES": "established",
    "SS": "syn_sent",
    "SR": "syn_recv",
    "FW": "fin_wait",
    "TW": "time_wait",
    "CL": "close",
    "CW": "close_wait",
    "LA": "last_ack",
    "LI": "listen",
    "SA": "synack",
}
TABLE = {
    "client, both sides heard": {
        "S": "SR ES ES SR SR SR SR SR SR SR SR",
        "F": "CL CW SS TW TW TW CL CW LA LI TW",
        "A": "ES ES SS ES FW TW CL CW CL LI ES",
        "R": "CL CL CL SR CL CL CL CL LA LI SR",
    },
    "server": {
        "S": "SS ES SS SR SS SS SS SS SS LI SR",
        "F": "TW FW SS TW FW TW CL TW LA LI TW",
        "A": "ES ES SS ES FW TW CL CW LA ES ES",
        "R": "CL CL SS CL CL TW CL CL CL CL CL",
    },
    "client alone": {
        "S": "SR ES ES SR SR SR SR SR SR SR SR",
        "F": "CL FW SS TW FW TW CL CW LA LI TW",
        "A": "ES ES SS ES FW TW CL CW CL LI ES",
        "R": "CL CL CL SR CL CL CL CL LA LI CL",
    },
}
WHO = {
    ("dsr", "client"): "client alone",
    ("tunnel", "client"): "client alone",
    ("nat", "client"): "client, both sides heard",
    ("nat", "server"): "server",
    ("fullnat", "client"): "client, both sides heard",
    ("fullnat", "server"): "server",
}
ACTIVE = {"established", "syn_sent", "syn_recv"}  # ip_vs_proto_tcp.c, tcp_state_active_table
ENDED = {"time_wait", "close"}  # a SYN begins a new connection: is_new_conn_expected()


def transitions():
    for (method, who), rows in WHO.items():
        for flag, row in TABLE[rows].items():
            for state, following in zip(SHORT, row.split(), strict=True):
                yield pytest.param(
                    method,
                    who,
                    flag,
                    SHORT[state],
                    SHORT[following],
                    id=f"{method}: {who} says {flag} in {SHORT[state]}",
                )


class Talk:
    """One connection of a client, through one method."""

    def __init__(self, world: World, method: str, family: int = 4) -> None:
        self.world, self.method, self.family = world, method, family
        how = {"port": SERVER_PORT} if method in ("nat", "fullnat") else {}
        self.server = world.service("tcp", family).add(SERVER[family], forwarding=method, **how)
        self.client("S")

    def client(self, flags: str) -> None:
        sent = self.world.send(frame(request("tcp", self.family, flags=flags)))
        assert sent.reasons == {"forwarded": 1}

    def serve(self, flags: str) -> None:
        dst, dport = CLIENT[self.family], SPORT
        if self.method == "fullnat":
            dst, dport = OURS[self.family], self.world.connection(self.family).source_port
        packet = frame(answer("tcp", self.family, dst, dport, flags=flags))
        assert self.world.send(packet, ingress="back").reasons == {"reply": 1}

    @property
    def state(self) -> str:
        return self.world.connection(self.family).state


@pytest.mark.parametrize(("method", "who", "flag", "state", "following"), list(transitions()))
def test_a_packet_moves_the_state_on_as_in_ipvs(
    world: World, method: str, who: str, flag: str, state: str, following: str
) -> None:
    talk = Talk(world, method)
    world.put_in_state(state)
    if who == "client":
        talk.client(flag)
    else:
        talk.serve(flag)
    assert talk.state == following


STORIES = {
    "opened and closed by the client": ("dsr", "cS cA cA cFA cA", "SR ES ES FW FW"),
    "reset by the client": ("dsr", "cS cA cR", "SR ES CL"),
    "opened in nat": ("nat", "cS sSA cA", "SR SR ES"),
    "closed by the client in nat": ("nat", "cS sSA cA cFA sA sFA cA", "SR SR ES CW CW TW TW"),
    "closed by the server in nat": ("nat", "cS sSA cA sFA cA cFA sA", "SR SR ES FW FW TW TW"),
    "refused by the server in nat": ("nat", "cS sRA", "SR CL"),
    "opened in fullnat": ("fullnat", "cS sSA cA sA", "SR SR ES ES"),
    "begun again after a reset": ("dsr", "cS cA cR cS", "SR ES CL SR"),
    "begun again in TIME_WAIT": ("nat", "cS sSA cA cFA sFA cS", "SR SR ES CW TW SR"),
}


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("name", STORIES)
def test_a_connection_from_its_beginning(world: World, name: str, family: int) -> None:
    method, packets, states = STORIES[name]
    first, *packets = packets.split()
    assert first == "cS"
    talk = Talk(world, method, family)
    seen = [talk.state]
    for packet in packets:
        (talk.client if packet[0] == "c" else talk.serve)(packet[1:])
        seen.append(talk.state)
    assert seen == [SHORT[state] for state in states.split()]


@pytest.mark.parametrize("state", SHORT.values())
@pytest.mark.parametrize("method", ("dsr", "tunnel", "nat", "fullnat"))
def test_a_port_that_is_used_again_is_a_new_connection_once_the_old_one_has_ended(
    world: World, method: str, state: str
) -> None:
    """As with conn_reuse_mode 3: FIN_WAIT is an end where the server is not heard."""
    talk = Talk(world, method)
    world.put_in_state(state)
    service = world.services.made[0]
    service.weigh(talk.server, 0)
    how = {"port": SERVER_PORT} if method in ("nat", "fullnat") else {}
    other = service.add(SERVER[4][:-1] + "9", forwarding=method, **how)
    talk.client("S")
    ended = ENDED | ({"fin_wait"} if method in ("dsr", "tunnel") else set())
    assert world.connection(4).server == (other.id if state in ended else talk.server.id)


@pytest.mark.parametrize("state", SHORT.values())
def test_a_segment_without_flags_closes(world: World, state: str) -> None:
    talk = Talk(world, "dsr")
    world.put_in_state(state)
    talk.client("")
    assert talk.state == "close"


def test_active_and_inactive_are_counted_as_in_ipvs(world: World) -> None:
    talk = Talk(world, "nat")
    counted = []
    for flags, who in (("SA", "s"), ("A", "c"), ("FA", "c"), ("FA", "s"), ("S", "c")):
        (talk.client if who == "c" else talk.serve)(flags)
        counted.append((talk.state, *world.load(talk.server.id)[:2]))
    assert counted == [
        ("syn_recv", 1, 0),
        ("established", 1, 0),
        ("close_wait", 0, 1),
        ("time_wait", 0, 1),
        ("syn_recv", 1, 0),
    ]


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("state", list(SHORT.values()))
def test_an_entry_lives_as_long_as_its_state(world: World, state: str, family: int) -> None:
    """A packet just before its time finds the entry; just after it, begins anew elsewhere."""
    talk = Talk(world, "dsr", family)
    service = world.services.made[0]
    talk.client("A")
    service.weigh(talk.server, 0)
    other = service.add(SERVER[family][:-1] + "9")
    timeout = TIMEOUTS[state]

    world.put_in_state(state, family)
    world.age(timeout - 0.5, family)
    talk.client("F")
    assert world.connection(family).server == talk.server.id

    world.put_in_state(state, family)
    world.age(timeout + 0.5, family)
    talk.client("S")
    assert world.connection(family).server == other.id
