"""What people and scripts run most, without the wait for click and msgspec: most of its time.

Knows ``service ls`` with the options that it is usually given, and nothing else. Whatever it does
not know or cannot finish (other options, a daemon that declines, a terminal that is not UTF-8) is
left to the whole program, which then does it from the beginning: listing again harms nobody.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from types import SimpleNamespace

TYPE_CHECKING = False  # see kernlb.control.wire
if TYPE_CHECKING:
    from typing import Any

COMMAND = ("service", "ls")
TARGET = "/v1/services"
SOCKET = "/run/kernlb/control.sock"
TIMEOUT = 15.0  # seconds
OUTPUTS = ("table", "json")
_OPTIONS = {"--socket": "socket", "-o": "output", "--output": "output"}


def quick(args: Sequence[str]) -> int | None:
    """The exit code; None: the whole program is needed, and nothing was printed."""
    wish = understood(args)
    if wish is None or "_KERNLB_COMPLETE" in os.environ or not _utf8():
        return None
    text = _answer(wish)
    if text is None:
        return None
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the exit's flush would complain
        return 1
    return 0


def understood(args: Sequence[str]) -> dict[str, str] | None:
    """What ``args`` ask for: ``socket``, ``output``, ``colour``; None: not known here."""
    words: list[str] = []
    wish = {"output": "table"}
    rest = iter(args)
    for arg in rest:
        name, equals, value = arg.partition("=")
        if arg == "--no-color":
            wish["colour"] = "no"
        elif name in _OPTIONS and (name != "-o" or not equals):
            given = value if equals else next(rest, None)
            if not given:
                return None
            wish[_OPTIONS[name]] = given
        else:
            words.append(arg)
    return wish if tuple(words) == COMMAND and wish["output"] in OUTPUTS else None


def _answer(wish: dict[str, str]) -> str | None:
    from kernlb.control.wire import GarbledError, exchange, request

    path = wish.get("socket") or os.environ.get("KERNLB_SOCKET") or SOCKET
    try:
        status, _, body = exchange(path, request("GET", TARGET, b"", "*/*"), TIMEOUT)
        return _text(json.loads(body), wish) if status == 200 else None
    except (OSError, GarbledError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whatever it is: the whole program finds the words


def _text(services: list[dict[str, Any]], wish: dict[str, str]) -> str:
    if wish["output"] == "json":
        return json.dumps(services, indent=2, ensure_ascii=False) + "\n"
    from kernlb.cli.services_text import services_text
    from kernlb.cli.tables import colours, plain
    from kernlb.cli.terminal import coloured

    paint = colours if coloured(sys.stdout, no_color="colour" in wish) else plain
    rows: list[Any] = [_Summary(**each) for each in services]
    return services_text(rows, paint) + "\n"


class _Summary(SimpleNamespace):
    """As protocol.ServiceSummary, whose ``error`` is left out where there is none."""

    error = ""


def _utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
