"""``kernlb top`` without a terminal: keys to states, states and overviews to screens."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kernlb.cli.columns import plain_text
from kernlb.cli.sparkline import ASCII, BARS, UNICODE
from kernlb.cli.top_model import HELP, KEPT, SORTS, Row, State, Trails, pressed, rows
from kernlb.cli.top_view import Surroundings, frame
from kernlb.control.protocol_overview import Moment, Overview, Rates
from tests.unit.cli import boards
from tests.unit.cli.views import NOW

ALL = "GET /v1/overview?history=60"
BUSY = boards.service(
    "busy", rates=Rates(900.0, bytes_in=5.0, bytes_out=1.0), active=5, labels={"team": "shop"}
)
CALM = boards.service("calm", rates=Rates(1.0, bytes_in=9.0, bytes_out=2.0), active=90)
SICK = boards.service("sick", boards.server(1), boards.DOWN, boards.server(3), active=1)
BOARD = boards.overview(BUSY, CALM, SICK)


class Top:
    """A screen that keys are pressed at, as the terminal does it."""

    def __init__(self, overview=BOARD, width=80, height=24, **options):
        self.overview, self.trails = overview, Trails()
        self.width, self.height = width, height
        self.away = ""
        self.state = State(**options)
        self.draw()

    def draw(self):
        around = Surroundings(
            NOW, self.width, self.height, ASCII, self.trails, self.away, selected=True
        )
        self.drawn = frame(self.state, self.overview, around)
        self.state = self.drawn.state

    def press(self, *keys):
        for key in keys:
            self.state = pressed(self.state, key, self.drawn.shown, self.drawn.height)
            self.draw()
        return self

    @property
    def text(self):
        return "\n".join(plain_text(line) for line in self.drawn.lines)

    @property
    def names(self):
        return [row.server.server if row.server else row.service.name for row in self.drawn.shown]

    @property
    def selected(self):
        (line,) = [line for line in self.drawn.lines if line and line[0][1] == "selected"]
        return plain_text(line).split()[0 if plain_text(line).startswith(" ") else 1]


def test_what_needs_somebody_is_on_top():
    assert Top().names == ["sick", "busy", "calm"]


def test_s_sorts_by_the_next_column_and_r_turns_it_round():
    top = Top()
    found = {}
    for _ in SORTS:
        found[top.state.sort] = top.names
        top.press("s")
    assert found == {
        "trouble": ["sick", "busy", "calm"],
        "name": ["busy", "calm", "sick"],
        "active": ["calm", "busy", "sick"],
        "conns": ["busy", "sick", "calm"],
        "in": ["sick", "calm", "busy"],
        "out": ["sick", "calm", "busy"],
    }
    assert top.press("S").state.sort == "out"
    assert top.press("r").names == ["busy", "calm", "sick"]
    assert Top(sort="name").press("r").names == ["sick", "calm", "busy"]


def test_the_sorted_column_is_marked():
    assert "CONN/s*" in Top(sort="conns").text
    assert "CONN/s^" in Top(sort="conns", reverse=True).text


def test_enter_shows_the_servers_of_the_selected_service_and_hides_them():
    top = Top().press("enter")
    assert top.names == ["sick", "10.1.0.12:80", "10.1.0.11:80", "10.1.0.13:80", "busy", "calm"]
    assert top.press("down", "enter").names == ["sick", "busy", "calm"]
    assert top.selected == "sick"
    assert len(top.press("e").names) == 12
    assert len(top.press("left").names) == 9
    assert len(top.press("right", "right").names) == 12


def test_the_cursor_stays_on_its_line_when_the_order_changes():
    top = Top().press("down")
    assert top.selected == "busy"
    top.press("s", "s")
    assert (top.state.sort, top.selected) == ("active", "busy")
    top.overview = boards.overview(CALM, SICK)  # it is gone
    top.draw()
    assert top.selected == "calm"


def test_a_filter_is_typed_and_shows_at_once():
    top = Top().press("/", *"team=SHOP")
    assert top.names == ["busy"]
    assert "filter: team=SHOP_" in top.text
    assert top.press("escape").names == ["sick", "busy", "calm"]
    assert top.press("/", "s", "i", "x", "backspace", "enter").names == ["sick"]
    assert "filter: si" in top.text
    assert top.press("q").state.quit  # a key again, not a letter
    assert Top(words="si").press("escape").names == ["sick", "busy", "calm"]


def test_a_filter_finds_servers_by_state_and_address():
    assert Top(words="down", every=True).names == ["sick", "10.1.0.12:80"]
    assert Top(words="calm 10.1.0.13", every=True).names == ["calm", "10.1.0.13:80"]
    assert Top(words="nothing").names == []
    assert "nothing has nothing" in Top(words="nothing").text


def test_only_trouble():
    assert Top().press("!").names == ["sick"]
    assert Top().press("!", "!").names == ["sick", "busy", "calm"]


def test_keys_that_mean_nothing_change_nothing():
    top = Top()
    before = top.state
    assert top.press("tab", "x", "redraw", "€").state == before


def test_help_tells_every_key_and_any_key_leaves_it():
    top = Top().press("?")
    for keys, _ in HELP:
        assert keys in top.text
    assert "sick" in top.press("x").text
    assert top.press("h", "q").state.quit


def test_the_interval_has_steps_and_ends():
    top = Top(interval=2.0)
    assert top.press("+").state.interval == 5.0
    assert top.press(*"-" * 20).state.interval == 0.5
    assert top.press(*"+" * 20).state.interval == 60.0
    assert Top(interval=3.0).press("-").state.interval == 2.0


@pytest.mark.parametrize(("width", "height"), [(20, 8), (80, 24), (200, 50)])
def test_a_screen_fits_and_shows_the_selected_row(width, height):
    top = Top(boards.many(200), width, height, every=True)
    for keys in (["end"], ["home"], ["pagedown"] * 3, ["pageup"], ["down"] * 5, ["up"] * 2):
        top.press(*keys)
        assert len(top.drawn.lines) <= height
        assert top.selected in top.text


def test_eighty_columns_take_promised_received_and_a_trend():
    top = Top(boards.overview(), every=True)
    heading = next(line for line in top.text.splitlines() if line.startswith("NAME"))
    start = top.text.splitlines().index(heading)
    assert all(len(line) <= 80 for line in top.text.splitlines()[: start + 5])
    assert heading.split() == ["NAME", "STATE*", "WEIGHT", "PROMISED", "RECEIVED", "ACTIVE",
                               "CONN/s", "TREND"]  # fmt: skip
    wide = Top(boards.overview(), 160, every=True)
    assert {"SINCE", "IN/s", "OUT/s", "CHECKS"} <= set(wide.text.split())


def test_the_selected_server_says_why():
    top = Top().press("enter", "down")
    assert top.selected == "10.1.0.12:80"
    assert "http down, took 1.2 ms  wrong status: 503" in top.text


def test_bars_are_the_history_of_a_service():
    history = [Moment(NOW - 10 + at, rate, 0, 0, 0) for at, rate in enumerate((0.0, 4.0, 8.0))]
    board = boards.overview(boards.service(history=history))
    around = Surroundings(NOW, 100, 24, UNICODE, Trails())
    text = "\n".join(plain_text(line) for line in frame(State(), board, around).lines)
    assert text.count("▁▅█") == 2  # of the service, and of all


def test_totals_add_up_by_reading_and_not_by_place():
    old = [Moment(NOW - 5 * back, 1.0, 0, 0, 0) for back in (3, 2, 1, 0)]
    board = boards.overview(boards.service("a", history=old), boards.service("b", history=old[-1:]))
    assert f"{BARS[4] * 3}{BARS[7]}" in "\n".join(
        plain_text(line)
        for line in frame(State(), board, Surroundings(NOW, 100, 24, UNICODE, Trails())).lines
    )


def test_rates_of_servers_are_remembered_by_reading_and_forgotten_with_the_server():
    trails = Trails()
    moments = [Moment(NOW + at, 1.0, 0, 0, 0) for at in range(2 * KEPT)]
    for at in range(KEPT + 20):
        service = boards.service(history=moments[: at // 2 + 1])  # asked twice a reading
        trails.remember(boards.overview(service))
    row = Row(service, service.servers[1])
    assert trails.of(row) == [4.0] * ((KEPT + 20) // 2)
    trails.remember(boards.overview(boards.service("other")))
    assert trails.of(row) == []


def test_a_daemon_that_is_away_is_said_and_the_last_screen_stays():
    top = Top()
    top.away, top.overview = (
        "cannot reach kernlbd at /s: no such socket",
        replace(BOARD, time=NOW - 12),
    )
    top.draw()
    assert "trying again, this is 12s old: cannot reach kernlbd" in top.text
    assert "sick" in top.text


def test_warnings_show_the_worst_and_count_the_rest():
    top = Top(boards.many())
    assert "WARNING  service s0000: 1 of 3 servers down (and 2 more)" in top.text
    assert "3 need a look" in top.text


def test_text_from_elsewhere_cannot_steer_the_terminal():
    evil = "\x1b[2J\n"
    server = boards.server(1, why=evil, server=evil, labels={evil: evil})
    one = boards.service(evil, server, error=evil, key=evil, labels={evil: evil})
    status = replace(boards.STATUS, version=evil, services={evil: 1})
    top = Top(boards.overview(one, warnings=[evil], status=status), 200, 60, every=True)
    for words in ("", evil):
        top.state = State(every=True, words=words)
        top.draw()
        for line in top.drawn.lines:
            assert plain_text(line).isprintable()
    assert plain_text(top.press("down").drawn.lines[-1]).isprintable()


KEYS = ["up", "down", "left", "right", "enter", "home", "end", "pageup", "pagedown", "escape",
        "backspace", *"esSr/!p+-?hkjx1", " "]  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(KEYS), max_size=30), st.integers(8, 40), st.integers(20, 150))
def test_no_keys_break_the_screen(keys, height, width):
    top = Top(boards.many(20), width, height)
    for key in keys:
        top.press(key)
        assert len(top.drawn.lines) <= height
        assert not top.state.quit


def test_once_prints_all_of_it_plainly(daemon, kernlb):
    daemon.says(ALL, boards.many(100))
    found = kernlb("top", "--once", "--expand", "--sort", "name")
    assert found.code == 0
    assert found.out.count("10.1.0.13:80") == 100
    assert found.out.isascii()
    assert all(line == line.rstrip() for line in found.out.splitlines())
    names = [line.split()[1] for line in found.out.splitlines() if line.startswith("- s")]
    assert all(one < other for one, other in pairwise(names))


def test_once_as_json_has_what_was_chosen_in_its_order(daemon, kernlb):
    daemon.says(ALL, BOARD)
    view = json.loads(kernlb("top", "--once", "-o", "json", "--sort", "conns").out)
    found = msgspec.convert(view, Overview)
    assert [each.name for each in found.services] == ["busy", "sick", "calm"]
    view = json.loads(kernlb("top", "--once", "-o", "json", "--filter", "shop").out)
    assert [each["name"] for each in view["services"]] == ["busy"]


def test_a_picture_shows_what_the_screen_shows_and_asks_no_other_host(daemon, kernlb, tmp_path):
    daemon.says(ALL, BOARD)
    path = tmp_path / "top.svg"
    assert kernlb("top", "--once", "--expand", "--svg", str(path)).code == 0
    picture = path.read_text()
    assert "10.1.0.12:80" in picture.replace("&#160;", " ")
    assert picture.count("http") == picture.count("http://www.w3.org/") + picture.count("Rich")
    outcome = kernlb("top", "--once", "--svg", str(tmp_path / "no" / "top.svg"))
    assert outcome.code == 1
    assert "cannot write" in outcome.err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "this is no terminal: --once prints the screen, -o json the data"),
        (["--interval", "10ms"], "--interval 10ms is shorter than 0.2 s"),
        (["--svg", "x.svg"], "--svg goes with --once"),
        (["--sort", "beauty"], "invalid value for '--sort'"),
    ],
)
def test_what_cannot_be_shown_is_a_usage_error(daemon, kernlb, options, why):
    daemon.says(ALL, BOARD)
    outcome = kernlb("top", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert why in outcome.err


def test_rows_of_equal_rank_are_in_the_order_of_names():
    services = [boards.service(name) for name in ("c", "a", "b")]
    for sort in SORTS:
        assert [row.service.name for row in rows(State(sort), services)] == ["a", "b", "c"]
