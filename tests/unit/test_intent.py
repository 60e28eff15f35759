"""intent(declaration, standings, admin): who plays which role, and what the kernel holds."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.declaration import Declaration
from kernlb.intent import Admin, AdminMode, Intent, Role, Standing, Verdict, intend
from kernlb.model import AddressKey, DatapathKind, L4Protocol, RealServer, VirtualService

KEY = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
ONE, TWO, NONE = (
    RealServer(ip_address(f"10.0.0.{n}"), 80, weight) for n, weight in enumerate((5, 7, 0), start=1)
)
SORRY = RealServer(ip_address("10.0.0.99"), 80, 40)
NOW = 1000.0
DRAIN = Admin(AdminMode.DRAINING, since=900.0)
DRAIN_UNTIL = Admin(AdminMode.DRAINING, since=900.0, deadline=1000.5)
DRAINED = Admin(AdminMode.DRAINING, since=900.0, deadline=1000.0)
DISABLE = Admin(AdminMode.DISABLED, since=900.0)


def declared(*servers: RealServer, sorry: RealServer | None = None) -> Declaration:
    sorries = () if sorry is None else (sorry,)
    return Declaration("web", DatapathKind.IPVS, VirtualService(KEY), servers, sorries)


def weights(intent: Intent) -> dict[str, int]:
    return {str(server.address): server.weight for server in intent.state.servers}


ROLES: list[tuple[str, Verdict | None, Admin | None, Role, int | None]] = [
    ("no word of anyone leaves it up", None, None, Role.UP, 5),
    ("a good verdict leaves it up", Verdict.UP, None, Role.UP, 5),
    ("a bad verdict takes it out", Verdict.DOWN, None, Role.DOWN, None),
    ("an inhibiting verdict keeps its connections", Verdict.INHIBITED, None, Role.INHIBITED, 0),
    ("a drain keeps its connections", None, DRAIN, Role.DRAINING, 0),
    ("a drain lasts up to its deadline", None, DRAIN_UNTIL, Role.DRAINING, 0),
    ("a drain is over at its deadline", None, DRAINED, Role.DRAINED, None),
    ("disabling takes it out", None, DISABLE, Role.DISABLED, None),
    ("a drain outranks a bad verdict", Verdict.DOWN, DRAIN, Role.DRAINING, 0),
    ("a drain outranks a good verdict", Verdict.UP, DRAIN, Role.DRAINING, 0),
    ("a drain that is over outranks a good verdict", Verdict.UP, DRAINED, Role.DRAINED, None),
    ("disabling outranks a good verdict", Verdict.UP, DISABLE, Role.DISABLED, None),
    ("disabling outranks an inhibiting one", Verdict.INHIBITED, DISABLE, Role.DISABLED, None),
]


@pytest.mark.parametrize(
    ("verdict", "admin", "role", "weight"),
    [row[1:] for row in ROLES],
    ids=[row[0] for row in ROLES],
)
def test_a_server_plays_its_role(
    verdict: Verdict | None, admin: Admin | None, role: Role, weight: int | None
) -> None:
    verdicts = {} if verdict is None else {ONE.key: Standing(verdict)}
    admins = {} if admin is None else {ONE.key: admin}
    intent = intend(declared(ONE, TWO), verdicts, admins, NOW)
    assert intent.roles == {ONE.key: role, TWO.key: Role.UP}
    assert weights(intent) == {
        **({} if weight is None else {"10.0.0.1": weight}),
        "10.0.0.2": 7,
    }


def test_a_server_of_weight_0_is_in_the_kernel_and_serves_nobody() -> None:
    intent = intend(declared(NONE), {}, {}, NOW)
    assert weights(intent) == {"10.0.0.3": 0}
    assert not intent.state.serves


def test_the_sorry_server_waits_while_any_server_serves() -> None:
    intent = intend(declared(ONE, TWO, sorry=SORRY), {ONE.key: Standing(Verdict.DOWN)}, {}, NOW)
    assert intent.roles[SORRY.key] is Role.STANDBY
    assert weights(intent) == {"10.0.0.2": 7}


@pytest.mark.parametrize(
    ("servers", "standings", "admins", "beside"),
    [
        ((ONE,), {ONE.key: Standing(Verdict.DOWN)}, {}, {}),
        ((ONE,), {ONE.key: Standing(Verdict.INHIBITED)}, {}, {"10.0.0.1": 0}),
        ((ONE,), {}, {ONE.key: DRAIN}, {"10.0.0.1": 0}),
        ((ONE,), {}, {ONE.key: DISABLE}, {}),
        ((NONE,), {}, {}, {"10.0.0.3": 0}),
        ((), {}, {}, {}),
    ],
    ids=["all down", "all inhibited", "all drained", "all disabled", "all of weight 0", "none"],
)
def test_the_sorry_server_joins_with_its_own_weight_when_nothing_serves(
    servers: tuple[RealServer, ...],
    standings: dict[object, Standing],
    admins: dict[object, Admin],
    beside: dict[str, int],
) -> None:
    intent = intend(declared(*servers, sorry=SORRY), standings, admins, NOW)  # type: ignore[arg-type]
    assert intent.roles[SORRY.key] is Role.SORRY
    assert weights(intent) == {**beside, "10.0.0.99": SORRY.weight}


def test_holds_and_verdicts_of_strangers_change_nothing() -> None:
    plain = intend(declared(ONE), {}, {}, NOW)
    others = {TWO.key: Standing(Verdict.DOWN)}
    assert intend(declared(ONE), others, {TWO.key: DISABLE}, NOW) == plain


@st.composite
def situations(
    draw: st.DrawFn,
) -> tuple[Declaration, dict[object, Standing], dict[object, Admin], float]:
    numbers = draw(st.lists(st.integers(1, 8), unique=True, max_size=6))
    servers = tuple(
        RealServer(ip_address(f"10.0.0.{n}"), 80, draw(st.sampled_from((0, 1, 9)))) for n in numbers
    )
    sorry = draw(st.none() | st.just(SORRY))
    deadline = st.none() | st.floats(0, 10)
    admin = st.builds(Admin, st.sampled_from(AdminMode), st.just(0.0), deadline)
    keys = [server.key for server in servers]
    some = st.dictionaries if keys else lambda *_: st.just({})
    standing = st.builds(Standing, st.sampled_from(Verdict), st.integers(0, 100))
    standings = draw(some(st.sampled_from(keys or [None]), standing))
    admins = draw(some(st.sampled_from(keys or [None]), admin))
    return declared(*servers, sorry=sorry), standings, admins, draw(st.floats(0, 10))


@given(situations())
@settings(max_examples=100, deadline=None)
def test_what_is_intended_is_always_something_a_kernel_can_hold(
    situation: tuple[Declaration, dict[object, Standing], dict[object, Admin], float],
) -> None:
    declaration, standings, admins, now = situation
    intent = intend(declaration, standings, admins, now)  # type: ignore[arg-type]
    servers = intent.state.servers
    assert len({server.key for server in servers}) == len(servers)
    for server in servers:
        as_declared = declaration.server(server.key)
        if as_declared is None:
            assert server.weight == SORRY.weight
        else:
            assert 0 <= server.weight <= as_declared.weight
    everyone = {*declaration.servers, *declaration.sorry_servers}
    assert intent.roles.keys() == {server.key for server in everyone}
    if declaration.sorry_servers:
        assert intent.state.serves
        sorry_is_in = any(server.key == SORRY.key for server in servers)
        others_serve = any(s.weight for s in servers if s.key != SORRY.key)
        assert sorry_is_in != others_serve
    assert intend(declaration, standings, admins, now) == intent  # type: ignore[arg-type]
