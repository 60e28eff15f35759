"""The filter: marks of addresses, shared cells, and what is found after a restart."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from kernlb.datapath.xdp.filter import Filter, cell, population
from kernlb.datapath.xdp.layout import FILTER_SIZE, Mark
from kernlb.model import IPAddress

VIP, SERVER = ip_address("192.0.2.10"), ip_address("10.0.0.1")


def made() -> tuple[Filter, memoryview]:
    cells = memoryview(bytearray(FILTER_SIZE))
    return Filter(cells), cells


def by_words(address: IPAddress) -> int:
    """marks_of() of bpf/parse.h, word by word."""
    packed, word = address.packed, 0
    for at in range(0, len(packed), 4):
        word ^= int.from_bytes(packed[at : at + 4], "big")
    return (word * 0x9E3779B1 & 0xFFFFFFFF) >> 16


@pytest.mark.parametrize(
    "text", ["0.0.0.1", "192.0.2.10", "255.255.255.255", "2001:db8::1", "fe80:1:2:3:4:5:6:7", "::"]
)
def test_the_cell_of_an_address_is_the_programs(text: str) -> None:
    assert cell(ip_address(text)) == by_words(ip_address(text))


def neighbour_in_cell(address: IPAddress) -> IPAddress:
    numbers = range(int(address) + 1, 2**32)
    return next(IPv4Address(n) for n in numbers if cell(IPv4Address(n)) == cell(address))


def test_a_mark_stays_until_its_last_user_goes() -> None:
    marks, cells = made()
    other = neighbour_in_cell(VIP)
    marks.add(VIP, Mark.VIP | Mark.ANY_PORT)
    marks.add(VIP, Mark.VIP)
    marks.add(other, Mark.SERVER)
    marks.remove(VIP, Mark.VIP | Mark.ANY_PORT)
    assert cells[cell(VIP)] == Mark.VIP | Mark.SERVER
    marks.remove(VIP, Mark.VIP)
    assert cells[cell(VIP)] == Mark.SERVER
    marks.remove(other, Mark.SERVER)
    assert not any(cells)


def test_marks_that_nobody_uses_go_and_missing_ones_come() -> None:
    marks, cells = made()
    cells[cell(SERVER)] = Mark.SERVER
    cells[7] = Mark.VIP
    marks.adopt([(SERVER, Mark.SERVER), (VIP, Mark.VIP), (VIP, Mark.VIP)])
    assert {at: cells[at] for at in range(FILTER_SIZE) if cells[at]} == {
        cell(SERVER): Mark.SERVER,
        cell(VIP): Mark.VIP,
    }
    assert population(cells) == {Mark.VIP: 1, Mark.ANY_PORT: 0, Mark.SERVER: 1}
    marks.remove(VIP, Mark.VIP)
    assert cells[cell(VIP)] == Mark.VIP
