"""Lets servers' answers to probes at a VIP in: they come from the VIP, which is local here.

The kernel takes an IPv4 packet from one of its own addresses for forged unless the interface has
``accept_local``, and strict ``rp_filter`` asks for the way back, which is not by that interface.
Both are set where a server that is probed so is reached, and nowhere else; what they were is
written down first, and is put back when no such server is left there. IPv6 has no such check.
"""

from __future__ import annotations

import os
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

import msgspec

from kernlb.daemon.events import Events

FILE = "probing.json"
SYSCTLS = Path("/proc/sys")
_STRICT, _LOOSE = "1", "2"

Values = dict[str, str]  # name -> value


class Replies:
    """Of the interfaces of one network namespace. ``before`` is what was there."""

    def __init__(self, directory: Path, events: Events, root: Path = SYSCTLS) -> None:
        self._file = directory / FILE
        self._events = events
        self._root = root
        self._before: Values = {}
        with suppress(OSError, msgspec.MsgspecError):
            self._before = msgspec.json.decode(self._file.read_bytes(), type=Values)

    @property
    def in_use(self) -> bool:
        """Was anything begun, now or by a process before this one?"""
        return self._file.exists()

    def changed(self) -> list[tuple[str, str, str]]:
        """What is not as it was before: name, value now, value then. Gone interfaces left out."""
        found = []
        for name, before in sorted(self._before.items()):
            with suppress(FileNotFoundError):
                if (now := self._read(name)) != before:
                    found.append((_dotted(name), now, before))
        return found

    def begin(self) -> None:
        """Something in the kernel is to be kernlb's, for probes. Raises OSError."""
        if not self.in_use:
            self._save()

    def end(self) -> None:
        """Nothing is any more."""
        with suppress(OSError):
            self._file.unlink()

    def want(self, interfaces: Set[str]) -> None:
        """By these, and no others, answers may come. Raises OSError."""
        wanted: dict[str, str] = {}
        for each in sorted(interfaces):
            wanted |= self._settings(each)
        for name, value in wanted.items():
            if self._read(name) != value:
                self._set(name, value)
        for name in [each for each in self._before if self._interface(each) not in interfaces]:
            self._restore(name)

    def _settings(self, interface: str) -> Values:
        """The least that lets them in. The kernel takes accept_local from "all" or the interface,
        and the larger rp_filter of both (include/linux/inetdevice.h)."""
        own, all_ = f"net/ipv4/conf/{interface}", "net/ipv4/conf/all"
        wanted = {}
        if self._read(f"{all_}/accept_local") != "1":
            wanted[f"{own}/accept_local"] = "1"
        filters = [self._read(f"{each}/rp_filter") for each in (own, all_)]
        if _STRICT in filters and _LOOSE not in filters:
            wanted[f"{own}/rp_filter"] = _LOOSE
        return wanted

    def _set(self, name: str, value: str) -> None:
        now = self._read(name)
        if name not in self._before:
            self._before[name] = now
            self._save()
        self._write(name, value)
        why = "for answers to probes at a VIP"
        self._events.add(f"{_dotted(name)} {now} -> {value} {why}", "health")

    def _restore(self, name: str) -> None:
        value = self._before[name]
        with suppress(FileNotFoundError):  # it went with its interface
            now = self._read(name)
            if now != value:
                self._write(name, value)
                self._events.add(f"{_dotted(name)} {now} -> {value} as before", "health")
        del self._before[name]
        self._save()

    def _interface(self, name: str) -> str:
        return name.split("/")[3]

    def _read(self, name: str) -> str:
        return (self._root / name).read_text().strip()

    def _write(self, name: str, value: str) -> None:
        (self._root / name).write_text(f"{value}\n")

    def _save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self._before))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)


def _dotted(name: str) -> str:
    """As sysctl has it: a dot in an interface's name is a slash there."""
    return ".".join(each.replace(".", "/") for each in name.split("/"))
