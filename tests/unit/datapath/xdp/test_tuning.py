"""Timeouts in an operator's words are those of the states of connections."""

from __future__ import annotations

from kernlb.config.xdp_settings import XdpSettings
from kernlb.datapath.xdp import tuning
from kernlb.datapath.xdp.layout import State


def test_every_timeout_of_the_settings_has_its_state_and_every_state_a_timeout() -> None:
    timeouts = XdpSettings().timeouts
    assert list(tuning.NAMES) == list(timeouts)
    found = tuning.by_state(timeouts)
    assert found.keys() == set(State) - {State.TEMPLATE}  # which has its service's
    assert all(found.values())


def test_a_changed_timeout_changes_no_other() -> None:
    timeouts = XdpSettings().timeouts
    before, after = tuning.by_state(timeouts), tuning.by_state({**timeouts, "tcpfin": 7.0})
    assert {state: after[state] for state in State if before.get(state) != after.get(state)} == {
        State.FIN_WAIT: 7.0
    }
