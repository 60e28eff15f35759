"""The third opinion: complaints without progress eject, progress forgives."""

from __future__ import annotations

from kernlb.health.passive import EJECTION, FEWEST, LONGEST, WINDOW, Seen, Suspect

QUIET = Seen(100, 3, 0)


def test_first_packets_sent_again_without_progress_eject() -> None:
    suspect = Suspect(QUIET)
    why = suspect.look(10, QUIET._replace(syn_again=3 + FEWEST))
    assert why == f"{FEWEST} first packets sent again, and no connection begun"
    assert suspect.ejected(10 + EJECTION - 0.1)
    assert not suspect.ejected(10 + EJECTION)


def test_unreachable_ejects_too() -> None:
    suspect = Suspect(QUIET)
    assert "unreachable" in suspect.look(10, QUIET._replace(unreachable=FEWEST))


def test_a_few_complaints_are_the_network() -> None:
    suspect = Suspect(QUIET)
    assert suspect.look(10, QUIET._replace(syn_again=3 + FEWEST - 1)) == ""
    assert suspect.look(12, QUIET._replace(syn_again=3 + 2 * (FEWEST - 1))) == ""


def test_many_complaints_beside_progress_are_the_network() -> None:
    suspect = Suspect(QUIET)
    assert suspect.look(10, Seen(101, 1000, 1000)) == ""


def test_an_ejection_doubles_until_something_got_through() -> None:
    suspect, now, again = Suspect(QUIET), 0.0, 3
    lasted = []
    for _ in range(8):
        again += FEWEST
        now += WINDOW
        assert suspect.look(now, QUIET._replace(syn_again=again))
        lasted.append(suspect.until - now)
        now = suspect.until
    assert lasted == [10, 20, 40, 80, 160, LONGEST, LONGEST, LONGEST]
    assert suspect.look(now + 2, Seen(101, again, 0)) == ""
    assert suspect.look(now + 4, Seen(101, again + FEWEST, 0))
    assert suspect.until == now + 4 + EJECTION


def test_what_comes_while_it_is_out_is_of_old_connections() -> None:
    suspect = Suspect(QUIET)
    assert suspect.look(10, QUIET._replace(syn_again=10))
    assert suspect.look(12, QUIET._replace(syn_again=100)) == ""
    assert suspect.until == 10 + EJECTION
    assert suspect.look(10 + EJECTION, QUIET._replace(syn_again=100)) == ""


def test_a_successor_begins_with_a_clean_slate() -> None:
    suspect = Suspect(QUIET)
    assert suspect.look(10, Seen(0, 50, 0)) == ""
