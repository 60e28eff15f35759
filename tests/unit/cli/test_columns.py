"""Columns for a width, bars for numbers, keys for bytes: the small parts of a screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.cli.columns import Column, layout, plain_text
from kernlb.cli.keys import decode
from kernlb.cli.sparkline import BARS, PLAIN_BARS, sparkline

COLUMNS = (Column("NAME"), Column("N", right=True, rank=1), Column("MUCH", rank=2))
ROWS = [["web", "1", "abcdefgh"], ["longer", "200", ""], ["x", "", "z"]]


def lines(width=None, columns=COLUMNS, rows=ROWS):
    return [plain_text(line) for line in layout(columns, rows, width)]


def test_columns_are_two_spaces_apart_and_end_in_none():
    assert lines() == [
        "NAME      N  MUCH",
        "web       1  abcdefgh",
        "longer  200",
        "x            z",
    ]


def test_what_matters_least_goes_first_when_it_is_narrow():
    assert lines(12) == ["NAME      N", "web       1", "longer  200", "x"]
    assert lines(8) == ["NAME", "web", "longer", "x"]
    assert lines(1) == lines(8)  # rank 0 stays


def test_empty_columns_go_on_a_terminal_and_stay_in_a_pipe():
    rows = [["web", "", ""]]
    assert lines(80, rows=rows) == ["NAME", "web"]
    assert lines(None, rows=rows)[0] == "NAME  N  MUCH"


cells = st.text(st.characters(codec="ascii", exclude_characters=" \n"), max_size=9)


@given(st.lists(st.tuples(cells, cells, cells), max_size=6), st.integers(1, 40))
def test_no_line_is_wider_than_asked_unless_one_column_is(rows, width):
    found = lines(width, rows=[list(row) for row in rows])
    widest = max([len("NAME"), *(len(repr(row[0])) for row in rows)])
    assert all(len(line) <= max(width, widest) for line in found)
    assert all(line == line.rstrip() for line in found)
    assert len(found) == len(rows) + 1


def test_bars_grow_with_their_values():
    assert sparkline([0, 1, 4, 8], 4) == "▁▂▅█"
    assert sparkline([0, 1, 4, 8], 4, PLAIN_BARS) == "_.+#"


def test_bars_are_the_latest_and_stand_right():
    assert sparkline([8, 1, 8], 2) == "▂█"
    assert sparkline([8], 4) == "   █"
    assert sparkline([], 3) == "   "
    assert sparkline([1.0], 0) == ""


def test_what_is_more_than_nothing_is_seen():
    assert sparkline([0, 1, 10**9], 3) == "▁▂█"


@given(st.lists(st.floats(0, 1e12), max_size=50), st.integers(0, 60))
def test_bars_are_as_wide_as_asked(values, width):
    bars = sparkline(values, width)
    assert len(bars) == width
    assert set(bars) <= {" ", *BARS}


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"jj", ["j", "j"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA", ["up"]),
        (b"\x1b[5~\x1b[6~\x1b[1~\x1b[F", ["pageup", "pagedown", "home", "end"]),
        (b"\r\n\t\x7f\x15", ["enter", "enter", "tab", "backspace", "clear"]),
        ("ü€".encode(), ["ü", "€"]),
        (b"\x1b[<0;12;5Mq", ["q"]),  # a mouse's report
        (b"\x1b[200~paste\x1b[201~", [*"paste"]),
        (b"\x1bq", ["escape", "q"]),
        (b"\x01\xff\xc3(", ["("]),
    ],
)
def test_keys_are_known_by_what_the_terminal_sends(data, keys):
    assert decode(data, ended=False) == (keys, b"")


def test_a_key_that_comes_in_parts_is_one_key():
    assert decode(b"\x1b", ended=False) == ([], b"\x1b")
    assert decode(b"\x1b[", ended=False) == ([], b"\x1b[")
    assert decode(b"\x1b[A", ended=False) == (["up"], b"")
    assert decode("€".encode()[:2], ended=False) == ([], "€".encode()[:2])


def test_an_escape_alone_is_the_key_of_that_name():
    assert decode(b"\x1b", ended=True) == (["escape"], b"")


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder_or_stay_for_ever(data):
    keys, rest = decode(data, ended=True)
    assert rest == b""
    assert all(key.isprintable() for key in keys)
    _, rest = decode(data, ended=False)
    assert len(rest) <= 16
