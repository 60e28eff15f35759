"""``kernlb top`` on a terminal, with a real daemon: keys pressed, the screen seen, all restored."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager

import pytest

from tests.unit.cli.daemon_process import DaemonProcess
from tests.unit.cli.terminal import Terminal

ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    daemon = DaemonProcess(tmp_path_factory.mktemp("d"))
    daemon.start()
    daemon.declare("web")
    daemon.declare("dns", 2, protocol="udp", port=53)
    yield daemon
    daemon.stop()


@contextmanager
def top(daemon, *options, columns=80, lines=24, environment=None):
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(daemon.socket), "top"]
    with Terminal(
        [*argv, "--interval", "500ms", *options], columns, lines, environment
    ) as terminal:
        terminal.sees("q quit")
        yield terminal
        if terminal.code is None:
            terminal.press("q")
            assert terminal.ends() == 0


def test_keys_do_what_the_help_says(running):
    with top(running) as terminal:
        assert "10.1.0.11" not in terminal.sees("web")
        terminal.press("down", "enter")
        terminal.sees(lambda text: "10.1.0.13:80" in text and "10.1.0.11:53" not in text)
        terminal.press("/", *"udp")
        terminal.sees(lambda text: "filter: udp_" in text and "web" not in text)
        terminal.press("enter", "e")
        terminal.sees(lambda text: "10.1.0.11:53" in text and "10.1.0.11:80" not in text)
        terminal.press("escape")
        terminal.sees("10.1.0.11:80")
        terminal.press("?")
        terminal.sees("stand still")
        terminal.press("x", "s", "s")
        terminal.sees("ACTIVE*")


def test_eighty_by_twenty_four_is_enough(running):
    with top(running, "--expand") as terminal:
        screen = terminal.sees("10.1.0.13:80")
        heading = next(line for line in screen.splitlines() if line.startswith("NAME"))
        assert {"STATE*", "WEIGHT", "PROMISED", "RECEIVED", "CONN/s"} <= set(heading.split())
        assert len([line for line in screen.splitlines() if "50.0 %" in line]) == 1


def test_it_follows_the_size_of_the_window(running):
    with top(running) as terminal:
        assert "service web" not in terminal.text  # no room for events
        terminal.resize(150, 40)
        terminal.sees(lambda text: "OUT/s" in text and "(api" in text)
        assert terminal.lines[39].startswith("q quit")
        terminal.resize(60, 10)
        terminal.sees(lambda text: "OUT/s" not in text and "web" in text)
        assert terminal.lines[9].startswith("q quit")


def test_what_changes_is_seen(running):
    with top(running, "--expand", "web") as terminal:
        terminal.sees("10.1.0.13:80")
        running.client.disable_server("web", "10.1.0.13")
        terminal.sees("disabled")
        terminal.press("p")
        terminal.sees("stands still")
        running.client.enable_server("web", "10.1.0.13")
        terminal.press("p")
        terminal.sees(lambda text: "disabled" not in text and "stands still" not in text)


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"TERM": "linux"}], ids=str)
def test_a_terminal_of_few_characters_gets_those(running, environment):
    running.declare("ftp", 1, port=21, labels={"city": "köln"})
    with top(running, environment=environment) as terminal:
        terminal.press("home", "?")
        terminal.sees("stand still")
        terminal.press("x", "/", *"ftp", "enter")
        screen = terminal.sees(lambda text: "+ ftp" in text and "+ web" not in text)
        assert "▁" not in screen
        terminal.press("home")
        terminal.sees(lambda text: "city=k?ln" in text or "city=köln" in text)
        terminal.press("escape")
    running.client.remove_service("ftp")


@pytest.mark.parametrize(
    ("how", "code"),
    [("q", 0), ("ctrl-c", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=str,
)
def test_the_terminal_is_as_before_however_it_ends(running, how, code):
    with top(running) as terminal:
        assert terminal.settings != terminal.before
        assert terminal.output.count(ALTERNATE) == terminal.output.count(HIDDEN) == 1
        if isinstance(how, str):
            terminal.press(how)
        else:
            terminal.kill(how)
        assert terminal.ends() == code
        assert terminal.output.count(BACK) == terminal.output.count(SHOWN) == 1
        assert terminal.settings == terminal.before
        assert b"Traceback" not in terminal.output


def test_it_can_be_put_aside_and_taken_up_again(running):
    command = f"{sys.executable} -m kernlb.cli --socket {running.socket} top"
    with Terminal(["bash", "--norc", "--noediting"], 80, 24, {"PS1": "prompt$ "}) as terminal:
        terminal.sees("prompt$")
        terminal.press(f"{command}\n")
        terminal.sees("q quit")
        terminal.press("ctrl-z")
        terminal.sees("Stopped")
        assert terminal.output.count(BACK) == 1
        terminal.press("fg\n")
        terminal.sees(lambda text: "q quit" in text and "Stopped" not in text)
        assert terminal.output.count(ALTERNATE) == 2
        terminal.press("q")
        terminal.sees(lambda _: terminal.output.count(BACK) == 2)
        terminal.press("exit\n")
        assert terminal.ends() == 0


def test_a_daemon_that_goes_is_told_and_waited_for(tmp_path):
    daemon = DaemonProcess(tmp_path)
    daemon.start()
    try:
        daemon.declare("web")
        with top(daemon, columns=160) as terminal:
            terminal.sees("web")
            daemon.stop()
            screen = terminal.sees("trying again")
            assert "cannot reach kernlbd" in screen
            assert "web" in screen
            terminal.press("enter")
            terminal.sees("10.1.0.13:80")  # keys work all the same
            daemon.start()
            terminal.sees(lambda text: "trying again" not in text)
    finally:
        daemon.stop()


def test_without_a_daemon_it_does_not_begin(tmp_path):
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(tmp_path / "none"), "top"]
    with Terminal(argv) as terminal:
        assert terminal.ends() == 4
        assert ALTERNATE not in terminal.output
        assert "no such socket" in terminal.text.replace("\n", "")
