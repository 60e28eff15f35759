"""The third opinion: complaints without progress eject, progress forgives."""

from __future__ import annotations

from kernlb.health.passive import EJECTION, FEWEST, LONGEST, NOTHING, WINDOW, Seen, Suspect

QUIET = Seen(100, 3, 0)


def judged(suspect: Suspect, now: float, seen: Seen) -> str:
    """One that nothing speaks for."""
    if why := suspect.look(now, seen):
        suspect.eject(now)
    return why


def test_first_packets_sent_again_without_progress_eject() -> None:
    suspect = Suspect(QUIET)
    why = judged(suspect, 10, QUIET._replace(syn_again=3 + FEWEST))
    assert why == f"{FEWEST} first packets sent again, and no connection begun"
    assert suspect.ejected(10 + EJECTION - 0.1)
    assert not suspect.ejected(10 + EJECTION)


def test_unreachable_ejects_too() -> None:
    suspect = Suspect(QUIET)
    assert "unreachable" in judged(suspect, 10, QUIET._replace(unreachable=FEWEST))


def test_a_few_complaints_are_the_network() -> None:
    suspect = Suspect(QUIET)
    assert judged(suspect, 10, QUIET._replace(syn_again=3 + FEWEST - 1)) == ""
    assert judged(suspect, 12, QUIET._replace(syn_again=3 + 2 * (FEWEST - 1))) == ""


def test_many_complaints_beside_progress_are_the_network() -> None:
    suspect = Suspect(QUIET)
    assert judged(suspect, 10, Seen(101, 1000, 1000)) == ""


def test_an_ejection_doubles_until_something_got_through() -> None:
    suspect, now, again = Suspect(QUIET), 0.0, 3
    lasted = []
    for _ in range(8):
        again += FEWEST
        now += WINDOW
        assert judged(suspect, now, QUIET._replace(syn_again=again))
        lasted.append(suspect.until - now)
        now = suspect.until
    assert lasted == [10, 20, 40, 80, 160, LONGEST, LONGEST, LONGEST]
    assert judged(suspect, now + 2, Seen(101, again, 0)) == ""
    assert judged(suspect, now + 4, Seen(101, again + FEWEST, 0))
    assert suspect.until == now + 4 + EJECTION


def test_what_comes_while_it_is_out_is_of_old_connections() -> None:
    suspect = Suspect(QUIET)
    assert judged(suspect, 10, QUIET._replace(syn_again=10))
    assert judged(suspect, 12, QUIET._replace(syn_again=100)) == ""
    assert suspect.until == 10 + EJECTION
    assert judged(suspect, 10 + EJECTION, QUIET._replace(syn_again=100)) == ""


def test_a_successor_begins_with_a_clean_slate() -> None:
    suspect = Suspect(QUIET)
    assert judged(suspect, 10, Seen(0, 50, 0)) == ""


def ejected_often(suspect: Suspect, times: int, now: float = 0.0) -> list[float]:
    """How long each time, in a row; the server comes back with counters that begin at 0."""
    lasted = []
    for _ in range(times):
        now += WINDOW
        suspect.before = NOTHING
        assert judged(suspect, now, Seen(0, FEWEST, 0))
        lasted.append(suspect.until - now)
        now = suspect.until
    return lasted


def test_the_longest_ejection_lasts_no_longer_however_often_it_comes() -> None:
    assert ejected_often(Suspect(QUIET), 2000)[-1] == LONGEST


def test_a_long_time_without_an_ejection_ends_the_row() -> None:
    suspect = Suspect(NOTHING)
    ejected_often(suspect, 3)
    now = suspect.until + LONGEST - 0.1
    assert suspect.in_row(now)
    assert not suspect.in_row(now + 0.1)
    assert ejected_often(suspect, 1, now + 0.1) == [EJECTION]


def test_what_is_not_done_leaves_the_server_in_and_the_next_look_counts_anew() -> None:
    suspect = Suspect(QUIET)
    assert suspect.look(10, QUIET._replace(syn_again=8))
    assert not suspect.ejected(10)
    assert suspect.look(12, QUIET._replace(syn_again=9)) == ""
