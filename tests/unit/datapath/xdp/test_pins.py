"""What is kept under which name."""

from __future__ import annotations

import pytest

from kernlb.datapath.xdp.pins import link_pin, map_pin


@pytest.mark.parametrize(
    ("name", "pin"),
    [
        ("services", "services"),
        (".data.filter", "filter"),
        (".data.settings", "settings"),
        ("kernlb.rodata", None),
        ("kernlb.data", None),
        ("kernlb.bss", None),
        (".rodata.str1.1", None),
    ],
)
def test_maps_are_kept_and_what_belongs_to_one_load_is_not(name: str, pin: str | None) -> None:
    assert map_pin(name) == pin


@pytest.mark.parametrize(("interface", "pin"), [("eth0", "eth0"), ("bond0.100", "bond0:100")])
def test_a_pin_has_no_dots(interface: str, pin: str) -> None:
    assert link_pin(interface) == pin
