"""ipvsadm's own options as tables: what they are called, what they take, which go together.

From ipvsadm(8) and the behaviour of ipvsadm 1.31, down to what comes in which order. :func:`scan`
reads words as popt does: short options in one word, an argument in the same word, in the next one
or after ``=``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum, StrEnum, auto
from typing import NamedTuple

USAGE = 2  # what ipvsadm exits with when it does not understand
FAILED = 255  # ... when the kernel declined, and for an option that there is not


class RefusedError(ValueError):
    """A command line that ipvsadm, or kernlb in its place, declines. ``code``: what to exit with.

    ``fatal`` False: a restore goes on with the next line."""

    def __init__(self, why: str, code: int = USAGE, *, fatal: bool = True) -> None:
        super().__init__(why)
        self.code = code
        self.fatal = fatal


class Verb(StrEnum):
    """What a command line asks for, by the long option."""

    ADD_SERVICE = "add-service"
    EDIT_SERVICE = "edit-service"
    DELETE_SERVICE = "delete-service"
    CLEAR = "clear"
    LIST = "list"
    ADD_SERVER = "add-server"
    EDIT_SERVER = "edit-server"
    DELETE_SERVER = "delete-server"
    SET = "set"
    START_DAEMON = "start-daemon"
    STOP_DAEMON = "stop-daemon"
    RESTORE = "restore"
    SAVE = "save"
    ZERO = "zero"
    HELP = "help"
    VERSION = "version"


class Takes(Enum):
    """Whether an option has an argument."""

    NOTHING = auto()
    TEXT = auto()
    MAYBE = auto()  # not a next word that begins with a dash


class Option(NamedTuple):
    """``name`` is the long option; ``part`` is what options that exclude each other share."""

    name: str
    short: str = ""
    takes: Takes = Takes.NOTHING
    part: str = ""


_SERVICE, _FORWARD = "service-address", "forwarding-method"

VERBS = (
    Option("add-service", "A"),
    Option("edit-service", "E"),
    Option("delete-service", "D"),
    Option("clear", "C"),
    Option("list", "Ll"),
    Option("zero", "Z"),
    Option("add-server", "a"),
    Option("edit-server", "e"),
    Option("delete-server", "d"),
    Option("set"),
    Option("help", "h"),
    Option("version", "v"),
    Option("restore", "R"),
    Option("save", "S"),
    Option("start-daemon", takes=Takes.TEXT),
    Option("stop-daemon", takes=Takes.TEXT),
)

# In the order in which ipvsadm looks at them for what is missing or too much.
PARTS = (
    Option("numeric", "n"),
    Option("connection", "c"),
    Option("tcp-service", "t", Takes.TEXT, _SERVICE),
    Option("udp-service", "u", Takes.TEXT, _SERVICE),
    Option("sctp-service", "", Takes.TEXT, _SERVICE),
    Option("fwmark-service", "f", Takes.TEXT, _SERVICE),
    Option("scheduler", "s", Takes.TEXT),
    Option("persistent", "p", Takes.MAYBE),
    Option("netmask", "M", Takes.TEXT),
    Option("real-server", "r", Takes.TEXT),
    Option("masquerading", "m", part=_FORWARD),
    Option("ipip", "i", part=_FORWARD),
    Option("gatewaying", "g", part=_FORWARD),
    Option("weight", "w", Takes.TEXT),
    Option("u-threshold", "x", Takes.TEXT),
    Option("l-threshold", "y", Takes.TEXT),
    Option("mcast-interface", "", Takes.TEXT),
    Option("timeout"),
    Option("daemon"),
    Option("stats"),
    Option("rate"),
    Option("thresholds"),
    Option("persistent-conn"),
    Option("nosort"),
    Option("syncid", "", Takes.TEXT),
    Option("exact", "X"),
    Option("ops", "o"),
    Option("pe", "", Takes.TEXT),
    Option("sched-flags", "b", Takes.TEXT),
    Option("mcast-group", "", Takes.TEXT),
    Option("mcast-port", "", Takes.TEXT),
    Option("mcast-ttl", "", Takes.TEXT),
    Option("sync-maxlen", "", Takes.TEXT),
    Option("tun-info"),
    Option("tun-type", "", Takes.TEXT),
    Option("tun-port", "", Takes.TEXT),
    Option("tun-nocsum"),
    Option("tun-csum"),
    Option("tun-remcsum"),
)
FREE = (Option("ipv6", "6"), Option("sort"))  # with any command, as often as one likes

_ALL = (*VERBS, *PARTS, *FREE)
_LONG = {option.name: option for option in _ALL}
_SHORT = {letter: option for option in _ALL for letter in option.short}
ORDER = tuple(dict.fromkeys(option.part or option.name for option in PARTS))

_OF_SERVICE = frozenset({"scheduler", "persistent", "netmask", "ops", "pe", "sched-flags"})
_TUNNEL = frozenset({"tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"})
_OF_SERVER = frozenset({_FORWARD, "weight", "u-threshold", "l-threshold"}) | _TUNNEL
_OF_DAEMON = frozenset(
    {"mcast-interface", "syncid", "mcast-group", "mcast-port", "mcast-ttl", "sync-maxlen"}
)
_OF_LIST = frozenset(
    {"numeric", "stats", "rate", "thresholds", "persistent-conn", "nosort", "syncid", "exact"}
) | {"tun-info"}
_NONE: frozenset[str] = frozenset()


class Rule(NamedTuple):
    """What goes with a command: parts it needs, may have, and of which it may have one."""

    needs: frozenset[str] = _NONE
    may: frozenset[str] = _NONE
    one_of: frozenset[str] = _NONE


_A_SERVICE = frozenset({_SERVICE})
_A_SERVER = frozenset({_SERVICE, "real-server"})
RULES: dict[Verb, Rule] = {
    Verb.ADD_SERVICE: Rule(_A_SERVICE, _OF_SERVICE),
    Verb.EDIT_SERVICE: Rule(_A_SERVICE, _OF_SERVICE),
    Verb.DELETE_SERVICE: Rule(_A_SERVICE),
    Verb.CLEAR: Rule(),
    Verb.LIST: Rule(may=_OF_LIST, one_of=frozenset({"connection", _SERVICE, "timeout", "daemon"})),
    Verb.ADD_SERVER: Rule(_A_SERVER, _OF_SERVER),
    Verb.EDIT_SERVER: Rule(_A_SERVER, _OF_SERVER),
    Verb.DELETE_SERVER: Rule(_A_SERVER),
    Verb.SET: Rule(),
    Verb.START_DAEMON: Rule(may=_OF_DAEMON),
    Verb.STOP_DAEMON: Rule(may=frozenset({"syncid"})),
    Verb.RESTORE: Rule(),
    Verb.SAVE: Rule(may=frozenset({"numeric"})),
    Verb.ZERO: Rule(may=_A_SERVICE),
}


class Given(NamedTuple):
    """An option as it stands on a line; ``text`` None: without an argument."""

    option: Option
    text: str | None


def scan(words: Sequence[str], rest: list[str]) -> Iterator[Given]:
    """The options of a line in order; what is none goes to ``rest``. Raises RefusedError."""
    waiting = list(reversed(words))
    only_rest = False
    while waiting:
        word = waiting.pop()
        if only_rest or not word.startswith("-") or word == "-":
            rest.append(word)
        elif word == "--":
            only_rest = True
        elif word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            option = _LONG.get(name)
            if option is None:
                raise RefusedError(f"there is no option --{name}", FAILED, fatal=False)
            yield _given(option, word, text if equals else None, waiting)
        else:
            yield from _short(word, waiting)


def _short(word: str, waiting: list[str]) -> Iterator[Given]:
    letters = word[1:]
    while letters:
        option = _SHORT.get(letters[0])
        if option is None:
            raise RefusedError(f"there is no option -{letters[0]}", FAILED, fatal=False)
        letters = letters[1:]
        if option.takes is Takes.NOTHING:
            yield _given(option, word, letters[1:] if letters[:1] == "=" else None, waiting)
        else:
            yield _given(option, word, letters.removeprefix("=") if letters else None, waiting)
            return


def _given(option: Option, word: str, text: str | None, waiting: list[str]) -> Given:
    if option.takes is Takes.NOTHING:
        if text is not None:
            raise RefusedError(f"{word}: --{option.name} takes no value", FAILED, fatal=False)
        return Given(option, None)
    if text is None and option.takes is Takes.MAYBE:
        has = bool(waiting) and not waiting[-1].startswith("-")
        return Given(option, waiting.pop() if has else None)
    if text is None:
        if not waiting:
            raise RefusedError(f"{word}: --{option.name} needs a value", FAILED, fatal=False)
        text = waiting.pop()
    return Given(option, text)


def hold(verb: Verb, given: set[str]) -> None:
    """Raises RefusedError where options do not go with the command."""
    rule = RULES[verb]
    chosen = ""
    for part in ORDER:
        if part not in given:
            if part in rule.needs:
                raise RefusedError(f"--{verb} needs a {part}")
        elif part in rule.one_of:
            if chosen:
                raise RefusedError(f"{part} does not go with {chosen} in --{verb}")
            chosen = part
        elif part not in rule.needs and part not in rule.may:
            raise RefusedError(f"{part} does not go with --{verb}")
