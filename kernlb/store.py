"""The one door to services.d: list, read, write and remove the documents of services.

A service is one file, NAME.yaml or NAME.json. Rules:

* one bad file never stops a good one: what is wrong with it is a fault under its name;
* nothing in the directory can block or exhaust the reader: only regular files are read (links to
  them too), never more of one than ``config`` would take;
* a file is read again only if its identity, size or times changed;
* a write is whole or not at all: a reader sees the old text or the new one, also after a crash.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernlb.config import ConfigError, Defaults, Fault, parse_service
from kernlb.config.service import NAME, NAME_RULE
from kernlb.config.syntax import MAX_BYTES
from kernlb.declaration import Declaration

SUFFIXES = (".yaml", ".json")
MODE = 0o640
# A write within this time of a read may leave size and times as they were: file systems stamp
# with the kernel's coarse clock (up to 10 ms a tick), and some with whole seconds.
SETTLED_NS = 2_000_000_000

Signature = tuple[int, int, int, int, int]
Faults = tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say: a name is in one of the two, or in none if its file is gone."""

    declarations: dict[str, Declaration]
    faults: dict[str, Faults]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was read last. ``settled``: an equal signature means an equal content."""

    signature: Signature
    settled: bool
    result: Declaration | Faults


class _VanishedError(Exception):
    pass


class Store:
    """services.d. ``defaults`` are those of the host; ``clock`` tells the time in ns."""

    def __init__(
        self,
        directory: Path,
        defaults: Defaults | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.directory = directory
        self._defaults = defaults or Defaults()
        self._clock = clock
        self._seen: dict[str, _Seen] = {}  # by file name

    @property
    def defaults(self) -> Defaults:
        return self._defaults

    @defaults.setter
    def defaults(self, defaults: Defaults) -> None:
        """New settings of the host: every document may mean something else now."""
        if defaults != self._defaults:
            self._defaults = defaults
            self._seen.clear()

    def load(self) -> Loaded:
        """What all files say now. Raises ConfigError if the directory cannot be listed; one that
        is not there holds nothing."""
        loaded = Loaded({}, {})
        files = self._files()
        seen = {}
        for name, entries in sorted(files.items()):
            if len(entries) > 1:
                both = " and ".join(entries)
                fault = Fault(f"{both} are both there: one file a service", self._path(entries[0]))
                loaded.faults[name] = (fault,)
                continue
            try:
                one = self._load(name, entries[0])
            except _VanishedError:
                continue
            seen[entries[0]] = one
            if isinstance(one.result, Declaration):
                loaded.declarations[name] = one.result
            else:
                loaded.faults[name] = one.result
        self._seen = seen
        return loaded

    def names(self) -> list[str]:
        """Names of the services that have a file, good or bad."""
        return sorted(name for name in self._files() if NAME.fullmatch(name))

    def path(self, name: str) -> Path:
        """The file of a service: the one that is there, else where a new one goes.

        Raises ConfigError if the name is none."""
        if not NAME.fullmatch(name):
            raise ConfigError(Fault(f'"{name}" is not a name: {NAME_RULE}'))
        paths = [self.directory / f"{name}{suffix}" for suffix in SUFFIXES]
        return next((path for path in paths if os.path.lexists(path)), paths[0])

    def read_text(self, name: str) -> str:
        """The document as it is written. Raises FileNotFoundError if there is none, ConfigError
        if it cannot be read."""
        path = self.path(name)
        try:
            return _read(path)[0].decode()
        except _VanishedError:
            raise FileNotFoundError(errno.ENOENT, "no such service", str(path)) from None
        except UnicodeDecodeError:
            raise ConfigError(Fault("is not UTF-8", str(path))) from None

    def write(self, name: str, text: str) -> Path:
        """Make ``text`` the document of a service, durably. What is there keeps its format, its
        owner and mode, and a link stays a link. Nothing is validated: parse first.

        Raises ConfigError if the name is none, OSError if it cannot be written."""
        path = self.path(name)
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # one name a service, so that what a crash leaves behind is overwritten by the next write
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _take_after(target, descriptor)
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)
        return path

    def remove(self, name: str) -> None:
        """Take the document of a service away; one that is not there is fine."""
        path = self.path(name)
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_directory(self.directory)

    def _files(self) -> dict[str, list[str]]:
        """File names by service name."""
        files: dict[str, list[str]] = {}
        try:
            entries = sorted(path.name for path in self.directory.iterdir())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(_cannot_read(self.directory, error)) from error
        for entry in entries:
            stem, dot, suffix = entry.rpartition(".")
            if not entry.startswith(".") and dot + suffix in (*SUFFIXES, ".yml"):
                files.setdefault(_printable(stem), []).append(entry)
        return files

    def _load(self, name: str, entry: str) -> _Seen:
        path = self.directory / entry
        before = self._seen.get(entry)
        try:
            if (
                before is not None
                and before.settled
                and before.signature == _signature(path.stat())
            ):
                return before
        except OSError:
            pass  # reading it says what is wrong
        now = self._clock()
        try:
            if path.suffix == ".yml":
                raise ConfigError(Fault("ends in .yml: call it .yaml", self._path(entry)))
            text, signature = _read(path)
            result: Declaration | Faults = parse_service(
                text, name=name, source=str(path), defaults=self._defaults
            )
        except ConfigError as error:
            return _Seen((0, 0, 0, 0, 0), False, error.faults)
        settled = max(signature[0], signature[1]) < now - SETTLED_NS
        return _Seen(signature, settled, result)

    def _path(self, entry: str) -> str:
        return _printable(str(self.directory / entry))


def _read(path: Path) -> tuple[bytes, Signature]:
    """Content of a regular file, at most one byte more than is ever taken, and its signature.

    Raises _VanishedError if nothing is there, ConfigError if it cannot be read."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        _refuse_irregular(path, path.stat())  # opening a device may do something
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            for _ in range(3):
                before = os.fstat(descriptor)
                _refuse_irregular(path, before)
                file.seek(0)
                text = file.read(MAX_BYTES + 1)
                if _signature(os.fstat(descriptor)) == _signature(before):
                    return text, _signature(before)
    except FileNotFoundError as error:
        if path.is_symlink():
            why = f"is a link to {_printable(str(path.readlink()))}, which is not there"
            raise ConfigError(Fault(why, str(path))) from error
        raise _VanishedError from None
    except OSError as error:
        raise ConfigError(_cannot_read(path, error)) from error
    raise ConfigError(Fault("cannot be read: it changes while it is read", str(path)))


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode), "no regular file")
    raise ConfigError(Fault(f"is {kind}, not a file", str(path)))


def _cannot_read(path: Path, error: OSError) -> Fault:
    if error.errno == errno.ELOOP:
        return Fault("is a link that leads back to itself", _printable(str(path)))
    return Fault(f"cannot be read: {error.strerror}", _printable(str(path)))


def _signature(status: os.stat_result) -> Signature:
    return (
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_size,
        status.st_ino,
        status.st_dev,
    )


def _take_after(target: Path, descriptor: int) -> None:
    """Mode and owner of the file that is about to be replaced."""
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, MODE)
        return
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _printable(text: str) -> str:
    """File names are bytes: show those that are no text without failing on them."""
    return os.fsencode(text).decode(errors="backslashreplace")
