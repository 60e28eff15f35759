"""Timeouts and limits, from an operator's words to the memory that the program reads."""

from __future__ import annotations

from kernlb.config.xdp_settings import XdpSettings
from kernlb.datapath.xdp import tuning
from kernlb.datapath.xdp.layout import SETTINGS, TICKS_PER_SECOND, TIMEOUTS, State


def ticks(**changed: float) -> dict[State, int]:
    memory = memoryview(bytearray(SETTINGS.size))
    tuning.write(memory, {**XdpSettings().timeouts, **changed}, 5)
    found = SETTINGS.unpack(memory)
    assert found.icmp_per_second == 5
    return dict(zip(State, TIMEOUTS.unpack(found.timeouts), strict=True))


def test_every_timeout_of_the_settings_has_its_state_and_every_state_a_timeout() -> None:
    assert list(tuning.NAMES) == list(XdpSettings().timeouts)
    assert [state for state, value in ticks().items() if not value] == [State.TEMPLATE]


def test_seconds_become_ticks() -> None:
    assert ticks()[State.ESTABLISHED] == round(900 * TICKS_PER_SECOND)
    assert ticks(udp=1.0)[State.UDP] == 15
    assert ticks(tcp=2147483.0)[State.ESTABLISHED] == round(2147483 * TICKS_PER_SECOND)


def test_a_changed_timeout_changes_no_other() -> None:
    before, after = ticks(), ticks(tcpfin=7.0)
    assert [state for state in State if before[state] != after[state]] == [State.FIN_WAIT]
