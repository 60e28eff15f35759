"""Run by a Python that has bcc: compiles a program that comes on stdin, tells what it sees.

A process of its own, for three reasons: bcc is a package of the distribution, which an
environment does not see; it brings a compiler of 180 MB that goes again with it; and whatever
becomes of it, nobody else is hurt. It knows nothing of kernlb and imports nothing of it. It ends
when its stdin does.

In: one line, {text, probes: [{function, runs, at_return}], tables, events, interval}.
Out: lines, {ready: {absent: [function, ...]}}, {cannot: reason}, and each interval
{tables: {name: [[key, value], ...]}, events: [...]}. Fields "location" are symbols.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import Any


def plain(value: Any) -> Any:
    """A value of ctypes as JSON has it: structs are objects, arrays lists or text."""
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if hasattr(value, "_fields_"):
        names = [each[0] for each in value._fields_]
        return {each: plain(getattr(value, each)) for each in names if "pad" not in each}
    if hasattr(value, "__len__"):
        return [plain(each) for each in value]
    return plain(value.value)


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    try:
        import bcc  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        say({"cannot": "import", "why": str(error)})
        return
    try:
        program = bcc.BPF(text=asked["text"])
    except Exception as error:
        say({"cannot": "compile", "why": str(error)})
        return
    absent = []
    for probe in asked["probes"]:
        attach = program.attach_kretprobe if probe["at_return"] else program.attach_kprobe
        try:
            attach(event=probe["function"], fn_name=probe["runs"])
        except Exception:
            absent.append(probe["function"])
    events: list[Any] = []
    if asked["events"]:
        table = program["events"]
        table.open_perf_buffer(
            lambda cpu, data, size: events.append(plain(table.event(data))), page_cnt=64
        )
    say({"ready": {"absent": absent}})
    begin = time.monotonic()
    turn = 0
    while True:
        turn += 1
        end = begin + turn * asked["interval"]
        while True:
            left = end - time.monotonic()
            if left <= 0:
                break
            if asked["events"]:
                program.perf_buffer_poll(timeout=int(min(left, 0.1) * 1000) + 1)
                left = 0
            if select.select([0], [], [], min(max(left, 0), 0.2))[0] and not os.read(0, 1):
                finish(program, asked, events)
                return
        tell(program, asked, events)


def finish(program: Any, asked: dict[str, Any], events: list[Any]) -> None:
    """What is there yet, and the end."""
    if asked["events"]:
        program.perf_buffer_poll(timeout=1)
    tell(program, asked, events)


def tell(program: Any, asked: dict[str, Any], events: list[Any]) -> None:
    tables: dict[str, Any] = {}
    for name in asked["tables"]:
        rows = []
        for key, value in program[name].items():
            key, value = plain(key), plain(value)
            if isinstance(key, dict) and "location" in key:
                symbol = program.ksym(key["location"], show_offset=False)
                key["location"] = symbol.decode(errors="replace")
            rows.append([key, value])
        tables[name] = rows
    say({"tables": tables, "events": list(events)})
    events.clear()


if __name__ == "__main__":
    main()
