"""What conditions mean to a service: each rule by example, then what holds for any service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.declaration import Declaration
from kernlb.health import fsm
from kernlb.health.check import HealthPolicy, Initial, OnDown, WhenAllDown
from kernlb.health.fsm import Condition
from kernlb.health.policy import Judgement, Seen, floor, judge
from kernlb.health.stance import Phase, Stance, resumed
from kernlb.intent import Standing, Verdict, intend
from kernlb.model import AddressKey, DatapathKind, L4Protocol, RealServer, ServerKey, VirtualService

KEYS = [ServerKey(ip_address(f"10.0.0.{n}"), 80) for n in range(1, 13)]
LETTERS = {
    "u": Condition.UP,
    "?": Condition.UNCONFIRMED,
    "d": Condition.DOWN,
    "h": Condition.HELD,
    "w": Condition.WAITING,
}
SERVING = Stance(Phase.SERVING, False)


def service(conditions: str, **each: Sequence[object]) -> list[Seen]:
    """A server of weight 10 a letter; those that were good were so in order, the last latest."""
    servers = []
    for n, letter in enumerate(conditions):
        condition = LETTERS[letter]
        heard = condition is not Condition.WAITING
        server = Seen(KEYS[n], 10, condition, last_good=float(n) if heard else None)
        servers.append(server._replace(**{name: values[n] for name, values in each.items()}))
    return servers


def verdicts(judgement: Judgement) -> str:
    short = {
        Verdict.UP: "u",
        Verdict.WAITING: "w",
        Verdict.DOWN: "d",
        Verdict.INHIBITED: "0",
        Verdict.KEPT: "K",
        Verdict.SPARED: "S",
        Verdict.LEAVING: "L",
    }
    return "".join(short[standing.verdict] for standing in judgement.standings.values())


REJECT, FAIL_OPEN, SORRY = WhenAllDown.REJECT, WhenAllDown.FAIL_OPEN, WhenAllDown.SORRY


def policy(when: WhenAllDown = SORRY, **each: object) -> HealthPolicy:
    return replace(HealthPolicy(when_all_down=when), **each)  # type: ignore[arg-type]


# what, policy, is there a sorry server, conditions, verdicts, phase; all from SERVING
CASES: list[tuple[str, HealthPolicy, bool, str, str, Phase]] = [
    ("the good serve", policy(), False, "uu?", "uuu", Phase.SERVING),
    ("the bad go out", policy(), False, "udh", "udd", Phase.SERVING),
    ("or to weight 0", policy(on_down=OnDown.INHIBIT), False, "udh", "u00", Phase.SERVING),
    ("the new wait", policy(), False, "uw", "uw", Phase.SERVING),
    ("nobody is good", policy(), False, "dd", "dd", Phase.DOWN),
    ("there is nobody", policy(), False, "", "", Phase.DOWN),
    ("all are new", policy(), False, "www", "www", Phase.WAITING),
    ("reject spares the rest", policy(REJECT, quorum=20), False, "udd", "Sdd", Phase.BELOW),
    ("sorry spares the rest", policy(quorum=20), True, "udd", "Sdd", Phase.BELOW),
    ("with no sorry server they serve", policy(quorum=20), False, "udd", "udd", Phase.BELOW),
    ("fail-open keeps all", policy(FAIL_OPEN), False, "ddh", "KKK", Phase.DOWN),
    ("but the new", policy(FAIL_OPEN), False, "ddw", "KKw", Phase.DOWN),
    ("fail-open below quorum", policy(FAIL_OPEN, quorum=20), False, "udd", "uKK", Phase.BELOW),
    ("a new one may make it up", policy(REJECT, quorum=20), False, "uwd", "uwd", Phase.SERVING),
    ("if one is good", policy(REJECT, quorum=20), False, "wwd", "wwd", Phase.DOWN),
    ("the floor keeps the last", policy(keep=0.5), False, "uddd", "uddK", Phase.SERVING),
    ("the floor counts the good", policy(keep=0.5), False, "uudd", "uudd", Phase.SERVING),
    ("the floor rounds up", policy(keep=0.34), False, "udd", "udK", Phase.SERVING),
    ("the floor outranks sorry", policy(keep=0.5), True, "dddd", "ddKK", Phase.DOWN),
    ("and reject", policy(REJECT, keep=0.3, quorum=30), False, "uudd", "uudd", Phase.BELOW),
    ("keep 1 takes nobody out", policy(keep=1.0), False, "dhd", "KKK", Phase.DOWN),
    ("the floor counts no new ones", policy(keep=0.5), False, "udww", "udww", Phase.SERVING),
]


@pytest.mark.parametrize(
    ("rule", "sorry", "conditions", "expected", "phase"),
    [row[1:] for row in CASES],
    ids=[row[0] for row in CASES],
)
def test_a_rule(
    rule: HealthPolicy, sorry: bool, conditions: str, expected: str, phase: Phase
) -> None:
    judged = judge(rule, service(conditions), SERVING, sorry=sorry)
    assert verdicts(judged) == expected
    assert judged.stance.phase is phase


def test_a_service_that_never_served_has_lost_nothing_until_its_servers_were_heard() -> None:
    rule = policy(REJECT, quorum=20)
    story = [("ww", Phase.WAITING), ("uw", Phase.WAITING), ("uu", Phase.SERVING)]
    for conditions, phase in story:
        assert judge(rule, service(conditions), Stance(), sorry=False).stance.phase is phase
    lost = judge(rule, service("ud"), Stance(), sorry=False)
    assert lost.stance.phase is Phase.BELOW
    assert [word.alarm for word in lost.words] == [True]


def test_before_its_first_quorum_a_good_server_is_spared() -> None:
    rule = policy(REJECT, quorum=20)
    assert verdicts(judge(rule, service("uw"), Stance(), sorry=False)) == "Sw"


def test_a_quorum_is_regained_higher_than_it_was_lost() -> None:
    rule, stance, phases = policy(quorum=20, hysteresis=10), SERVING, []
    for conditions in ("uuuu", "uudd", "uddd", "uudd", "uuud", "uudd"):
        stance = judge(rule, service(conditions), stance, sorry=False).stance
        phases.append(stance.phase)
    serving, below = Phase.SERVING, Phase.BELOW
    assert phases == [serving, serving, below, below, serving, serving]


def test_when_all_are_good_a_quorum_is_regained_however_high_the_hysteresis() -> None:
    rule = policy(quorum=20, hysteresis=1000)
    assert judge(rule, service("uuud"), Stance(Phase.BELOW), sorry=False).stance.phase is (
        Phase.BELOW
    )
    assert judge(rule, service("uuuu"), Stance(Phase.BELOW), sorry=False).stance.phase is (
        Phase.SERVING
    )


def test_a_quorum_counts_what_agents_leave_of_the_weight() -> None:
    rule = policy(quorum=20)
    for percents, phase in [((100, 100), Phase.SERVING), ((100, 90), Phase.BELOW)]:
        judged = judge(rule, service("uu", percent=percents), SERVING, sorry=False)
        assert judged.stance.phase is phase
        assert [each.percent for each in judged.standings.values()] == list(percents)


def test_the_vip_is_withdrawn_below_the_quorum_only_where_that_is_asked() -> None:
    for withdraw in (False, True):
        rule = policy(withdraw_vip=withdraw)
        for conditions, away in [("ud", False), ("dd", withdraw), ("ww", False)]:
            judged = judge(rule, service(conditions), SERVING, sorry=False)
            assert judged.stance.withdrawn is away
        assert judge(rule, service("ww"), Stance(), sorry=False).stance.withdrawn is withdraw


def test_a_restart_in_an_outage_does_not_bring_the_vip_back_before_good_results() -> None:
    rule, below = policy(FAIL_OPEN, withdraw_vip=True), Stance(Phase.BELOW)
    assert judge(rule, service("???"), below, sorry=False).stance.withdrawn
    assert not judge(rule, service("u??"), below, sorry=False).stance.withdrawn


def test_an_operators_hold_is_never_counted_and_never_kept() -> None:
    held = (True, True, False, False)
    for rule in (policy(FAIL_OPEN), policy(keep=1.0)):
        judged = judge(rule, service("uddd", held=held), SERVING, sorry=False)
        assert judged.stance == Stance(Phase.DOWN, False, (KEYS[2], KEYS[3]))


def test_a_server_that_asks_to_leave_is_let_go_and_counts_for_nothing() -> None:
    judged = judge(policy(quorum=20), service("uu", leaving=(False, True)), SERVING, sorry=False)
    assert verdicts(judged) == "uL"
    assert judged.stance.phase is Phase.BELOW


@pytest.mark.parametrize("wish", [{"leaving": (True, False)}, {"percent": (0, None)}])
@pytest.mark.parametrize("rule", [policy(FAIL_OPEN), policy(keep=0.5)])
def test_a_server_that_asks_to_leave_is_kept_before_a_bad_one(
    rule: HealthPolicy, wish: dict[str, Sequence[object]]
) -> None:
    judged = judge(rule, service("ud", **wish), SERVING, sorry=False)
    assert judged.standings[KEYS[0]] == Standing(Verdict.KEPT, 100)


def test_the_least_bad_are_kept_who_is_in_the_kernel_first_then_who_was_good_last() -> None:
    rule = policy(keep=0.5)
    servers = service("dddd", last_good=(9.0, 5.0, 7.0, None))
    assert verdicts(judge(rule, servers, SERVING, sorry=False)) == "KdKd"
    inside = [s._replace(in_kernel=s.key in KEYS[1:3]) for s in servers]
    assert verdicts(judge(rule, inside, SERVING, sorry=False)) == "dKKd"


def test_a_server_that_was_never_good_nor_there_is_not_kept() -> None:
    judged = judge(policy(keep=1.0), service("ud", last_good=(1.0, None)), SERVING, sorry=False)
    assert verdicts(judged) == "ud"


def test_a_server_that_was_in_the_kernel_when_the_daemon_began_is_kept() -> None:
    rule, in_kernel = policy(keep=0.5), (True, False, False, False)
    servers = service("uddd", last_good=(1.0,) + (None,) * 3, in_kernel=in_kernel)
    servers[2] = servers[2]._replace(was_in=True)
    assert verdicts(judge(rule, servers, SERVING, sorry=False)) == "udKd"


def test_who_is_kept_stays_until_those_that_wait_were_heard() -> None:
    rule, stance, told = policy(keep=0.5), Stance(Phase.SERVING, False, (KEYS[1],)), []
    in_kernel = (True, True, False, False)
    story = [("??ww", "uuww"), ("udww", "uKww"), ("uddw", "uKdw"), ("uduu", "uduu")]
    for conditions, expected in story:
        servers = service(conditions, last_good=(1.0, None, None, None), in_kernel=in_kernel)
        judged = judge(rule, servers, stance, sorry=False)
        assert verdicts(judged) == expected
        stance, told = judged.stance, [*told, *(word.text for word in judged.words)]
    assert told == ["no longer needs to keep 10.0.0.2:80"]


def test_a_server_without_weight_is_none_of_those_that_stay() -> None:
    rule = policy(keep=0.5)
    for conditions, weights, expected in [
        ("uudd", (0, 0, 10, 10), "uudK"),
        ("uddd", (10, 0, 0, 10), "uddd"),
        ("dddd", (0, 10, 0, 0), "dKdd"),
    ]:
        judged = judge(rule, service(conditions, weight=weights), SERVING, sorry=False)
        assert verdicts(judged) == expected


@pytest.mark.parametrize("phase", [Phase.BELOW, Phase.DOWN])
@pytest.mark.parametrize("conditions", ["www", "?ww", "???", "?dd", "ddw"])
def test_a_lost_quorum_is_told_anew_only_once_somebody_was_heard(
    phase: Phase, conditions: str
) -> None:
    for when in WhenAllDown:
        before = Stance(phase, False)
        judged = judge(policy(when, quorum=20), service(conditions), before, sorry=True)
        assert judged.stance.phase is phase
        assert not [word for word in judged.words if "quorum" in word.text]


LEFT = Stance(Phase.BELOW, True, (KEYS[0],))


@pytest.mark.parametrize(
    ("recorded", "serves", "begins"),
    [
        (None, False, Stance()),
        (None, True, SERVING),
        (LEFT, False, LEFT),
        (LEFT, True, LEFT),
        (Stance(), False, Stance()),
        (Stance(), True, Stance(Phase.BELOW)),  # its VIP was not there, and is not brought back
        (Stance(Phase.SERVING, False, (KEYS[1],)), True, Stance(Phase.SERVING, False, (KEYS[1],))),
        (Stance(Phase.SERVING, False, (KEYS[1],)), False, Stance()),
    ],
)
def test_how_a_service_goes_on_after_a_restart(
    recorded: Stance | None, serves: bool, begins: Stance
) -> None:
    assert resumed(recorded, serves=serves) == begins


def test_after_a_restart_what_stands_at_weight_0_stays_with_its_connections() -> None:
    judged = judge(policy(), service("?w", in_kernel=(True, True)), Stance(), sorry=False)
    assert verdicts(judged) == "u0"


def test_after_a_restart_what_serves_goes_on_while_others_may_make_up_the_quorum() -> None:
    rule = policy(REJECT, quorum=20)
    assert verdicts(judge(rule, service("?w"), Stance(), sorry=False)) == "uw"


def test_words_are_said_once() -> None:
    rule, stance, said = policy(REJECT, quorum=20), SERVING, []
    for conditions in ("uuu", "udd", "udd", "ddd", "uuu", "uuu"):
        judged = judge(rule, service(conditions), stance, sorry=False)
        stance, said = judged.stance, [*said, *judged.words]
    assert [(word.text, word.alarm) for word in said] == [
        (
            "serving -> below quorum: good weight 10 of 30, quorum 20; 1 good server spared "
            "(reject)",
            True,
        ),
        ("below quorum -> all down: good weight 0 of 30, quorum 20", True),
        ("all down -> serving: good weight 30 of 30, quorum 20", False),
    ]


def test_keeping_is_said_loudly_and_once() -> None:
    rule, stance, said = policy(keep=0.7), SERVING, []
    for conditions in ("uuu", "uud", "udd", "udd", "uuu"):
        judged = judge(rule, service(conditions), stance, sorry=False)
        stance, said = judged.stance, [*said, *judged.words]
    assert [(word.text, word.alarm) for word in said] == [
        ("keeps 10.0.0.3:80, bad or about to leave: at least 70% of the servers stay", True),
        ("keeps 10.0.0.2:80, bad or about to leave: at least 70% of the servers stay", True),
        ("no longer needs to keep 10.0.0.2:80, 10.0.0.3:80", False),
    ]


# -- for any service

policies = st.builds(
    HealthPolicy,
    on_down=st.sampled_from(OnDown),
    quorum=st.integers(1, 60),
    hysteresis=st.integers(0, 30),
    withdraw_vip=st.booleans(),
    keep=st.sampled_from([0.0, 0.0, 0.1, 0.34, 0.5, 0.7, 1.0]),
    when_all_down=st.sampled_from(WhenAllDown),
)
stances = st.builds(
    Stance,
    st.sampled_from(Phase),
    st.booleans(),
    st.sets(st.sampled_from(KEYS)).map(lambda kept: tuple(sorted(kept))),
)
weights = st.just(0) | st.integers(0, 20)


@st.composite
def services(draw: st.DrawFn) -> list[Seen]:
    return [
        Seen(
            key,
            draw(weights),
            draw(st.sampled_from(list(LETTERS.values()))),
            draw(st.sampled_from([None, None, 0, 50, 100])),
            leaving=draw(st.integers(0, 9)) == 0,
            held=draw(st.integers(0, 9)) == 0,
            in_kernel=draw(st.booleans()),
            was_in=draw(st.booleans()),
            last_good=draw(st.none() | st.floats(0, 99)),
            failures=draw(st.integers(0, 9)),
        )
        for key in KEYS[: draw(st.integers(0, 8))]
    ]


def counted(servers: Sequence[Seen]) -> list[Seen]:
    """Those of whom a share is to stay."""
    return [server for server in servers if server.weight and not server.held]


def serving(judged: Judgement) -> set[ServerKey]:
    return {
        key
        for key, standing in judged.standings.items()
        if standing.verdict in (Verdict.UP, Verdict.KEPT) and standing.percent
    }


@given(policies, services(), stances, st.booleans())
def test_it_is_total_and_deterministic_and_speaks_once(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool
) -> None:
    judged = judge(rule, servers, before, sorry=sorry)
    assert judged == judge(rule, servers, before, sorry=sorry)
    assert list(judged.standings) == [server.key for server in servers]
    again = judge(rule, servers, judged.stance, sorry=sorry)
    assert again.standings == judged.standings
    assert (again.stance, again.words) == (judged.stance, ())


@given(policies, services(), stances, st.booleans())
def test_the_floor_holds(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool
) -> None:
    judged = judge(rule, servers, before, sorry=sorry)
    heard = [s for s in counted(servers) if s.condition is not Condition.WAITING]
    could = [s for s in heard if s.condition.good or s.in_kernel or s.was_in or s.last_good]
    get = serving(judged) & {server.key for server in heard}
    if rule.keep:
        assert len(get) >= min(floor(rule, len(heard)), len(could))
    if not sorry and rule.when_all_down is not WhenAllDown.REJECT:
        wanting = {s.key for s in servers if s.wants}
        assert wanting <= serving(judged)  # a good server is never out


@given(policies, services(), stances, st.booleans())
def test_nobody_is_kept_without_need(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool
) -> None:
    judged = judge(rule, servers, before, sorry=sorry)
    lost = judged.stance.phase in (Phase.BELOW, Phase.DOWN)
    weighty = {server.key for server in servers if server.weight}
    kept = {key for key in weighty if judged.standings[key].verdict is Verdict.KEPT}
    unheard = {server.key for server in servers if server.condition is Condition.UNCONFIRMED}
    assert kept == {*judged.stance.kept} - (unheard & {*before.kept} - kept)
    if kept and not (lost and rule.when_all_down is FAIL_OPEN):
        may_stay = counted(servers)
        heard = [s for s in may_stay if s.condition is not Condition.WAITING]
        wanting = sum(server.wants for server in heard)
        assert wanting + len(kept) <= floor(rule, len(may_stay))
        assert wanting + len(kept - {*before.kept}) <= floor(rule, len(heard))


@given(policies, services(), stances, st.booleans(), st.data())
def test_one_more_good_server_takes_no_other_good_one_out(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool, data: st.DataObject
) -> None:
    bad = [n for n, server in enumerate(servers) if not server.condition.good]
    if not bad:
        return
    n = data.draw(st.sampled_from(bad))
    better = [*servers]
    better[n] = servers[n]._replace(condition=Condition.UP)
    worse_off = judge(rule, servers, before, sorry=sorry)
    better_off = judge(rule, better, before, sorry=sorry)
    good = {server.key for server in servers if server.wants}
    assert serving(worse_off) & good <= serving(better_off)
    if servers[n].condition is Condition.WAITING:
        return  # to be heard, good but without weight, may end the wait for a quorum
    order = [Phase.DOWN, Phase.BELOW, Phase.WAITING, Phase.SERVING]
    assert order.index(worse_off.stance.phase) <= order.index(better_off.stance.phase)


@given(policies, services(), stances, st.booleans())
def test_a_restart_moves_no_traffic(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool
) -> None:
    """What the kernel holds, read back by a daemon that knows nothing else, is judged the same."""
    judged = judge(rule, servers, before, sorry=sorry)
    settled = [s._replace(in_kernel=_weight(judged, s) is not None) for s in servers]
    judged = judge(rule, settled, judged.stance, sorry=sorry)
    restarted, begins = _restarted(judged, settled)
    after = judge(rule, restarted, begins, sorry=sorry)
    assert not after.words  # nothing has happened
    free = [server for server in servers if not server.held]
    assert [_weight(after, s) for s in free] == [_weight(judged, s) for s in free]
    if not judged.stance.withdrawn and any(_weight(judged, s) for s in free):
        assert not after.stance.withdrawn
    if judged.stance.withdrawn:
        assert after.stance.withdrawn


@settings(max_examples=500, deadline=None)
@given(policies, services(), stances, st.booleans(), st.data())
def test_who_is_heard_again_after_a_restart_finds_all_as_it_was(
    rule: HealthPolicy, servers: list[Seen], before: Stance, sorry: bool, data: st.DataObject
) -> None:
    """In whatever order: who got traffic gets it all the time, and nothing is told again."""
    heard = {Condition.WAITING: Condition.DOWN, Condition.UNCONFIRMED: Condition.UP}
    servers = [  # an agent's wish is not known before it is heard
        s._replace(condition=heard.get(s.condition, s.condition), percent=None, leaving=False)
        for s in servers
    ]
    for _ in range(2):  # the second time with all of the first in the kernel
        judged = judge(rule, servers, before, sorry=sorry)
        before = judged.stance
        servers = [_placed(judged, server) for server in servers]
    restarted, stance = _restarted(judged, servers)
    everybody = serving(judged)
    for n in data.draw(st.permutations(range(len(servers)))):
        good = servers[n].condition.good
        restarted[n] = restarted[n]._replace(
            condition=servers[n].condition,
            last_good=1.0 if good else None,
            failures=0 if good else 3,
        )
        again = judge(rule, restarted, stance, sorry=sorry)
        stance, restarted = again.stance, [_placed(again, server) for server in restarted]
        assert not again.words
        assert {s.key for s in counted(servers)} & everybody <= serving(again)
    assert stance == judged.stance


def _placed(judged: Judgement, server: Seen) -> Seen:
    """As the service sees it once the kernel is as it was judged."""
    there = _weight(judged, server) is not None
    return server._replace(in_kernel=there, was_in=server.was_in or there)


def _restarted(judged: Judgement, servers: Sequence[Seen]) -> tuple[list[Seen], Stance]:
    """What a daemon sees that knows the kernel, and what the one before wrote down."""
    found = []
    for server in servers:
        weight = _weight(judged, server)
        percent = judged.standings[server.key].percent if weight else None
        begins = fsm.first(bool(weight), Initial.WAIT)
        there = weight is not None
        found.append(
            Seen(
                *(server.key, server.weight, begins, percent),
                held=server.held,
                in_kernel=there,
                was_in=there,
            )
        )
    serves = any(server.condition.good for server in found)
    return found, resumed(judged.stance if judged.stance.lasting else None, serves=serves)


def _weight(judged: Judgement, server: Seen) -> int | None:
    """What intent makes of a standing."""
    real = RealServer(server.key.address, server.key.port, server.weight)
    key = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
    declared = Declaration("web", DatapathKind.IPVS, VirtualService(key), (real,))
    held = intend(declared, {server.key: judged.standings[server.key]}, {}, 0.0).state.servers
    return held[0].weight if held else None
