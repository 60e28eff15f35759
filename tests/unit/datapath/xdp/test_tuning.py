"""Timeouts and limits, from an operator's words to the memory that the program reads."""

from __future__ import annotations

from kernlb.config.xdp_settings import XdpSettings
from kernlb.datapath.xdp import tuning
from kernlb.datapath.xdp.layout import SETTINGS, TICKS_PER_SECOND, TIMEOUTS, State


def ticks(**changed: float) -> tuple[int, ...]:
    memory = memoryview(bytearray(SETTINGS.size))
    tuning.write(memory, {**XdpSettings().timeouts, **changed}, 5)
    found = SETTINGS.unpack(memory)
    assert found.icmp_per_second == 5
    values: tuple[int, ...] = TIMEOUTS.unpack(found.timeouts)
    return values


def test_every_timeout_of_the_settings_has_its_state_and_every_state_a_timeout() -> None:
    assert list(tuning.NAMES) == list(XdpSettings().timeouts)
    assert len(ticks()) == len(State)
    assert all(ticks())


def test_seconds_become_ticks() -> None:
    assert ticks()[State.ESTABLISHED] == round(900 * TICKS_PER_SECOND)
    assert ticks(udp=1.0)[State.UDP] == round(TICKS_PER_SECOND) == 15
    assert ticks(tcp=2147483.0)[State.ESTABLISHED] < 2**31  # ages are compared as signed


def test_a_changed_timeout_changes_no_other() -> None:
    before, after = ticks(), ticks(tcpfin=7.0)
    assert [State(n) for n in range(len(State)) if before[n] != after[n]] == [State.FIN_WAIT]
