"""The documents in force, read from their files for who exports them: no daemon is asked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kernlb.config import ConfigError, Defaults, load_settings, parse_service
from kernlb.declaration import Declaration
from kernlb.migrate.report import MigrationError

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 4 << 20  # bytes, as config takes them


def read_declarations(paths: Iterable[Path], settings: Path) -> dict[str, Declaration]:
    """Of files and directories, with the host's defaults. Raises MigrationError with every fault
    of the first file that has any."""
    try:
        defaults = load_settings(settings).defaults
    except ConfigError as error:
        raise MigrationError(str(error)) from None
    found: dict[str, Declaration] = {}
    for path in paths:
        for file in _files(path):
            declaration = _read(file, defaults)
            if declaration.name in found:
                raise MigrationError(f"{file}: service {declaration.name} is described twice")
            found[declaration.name] = declaration
    return found


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        listed = sorted(path.iterdir())
    except OSError as error:
        raise MigrationError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return [each for each in listed if each.suffix in SUFFIXES and not each.name.startswith(".")]


def _read(file: Path, defaults: Defaults) -> Declaration:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_FILE + 1)
        return parse_service(text, name=file.stem, source=str(file), defaults=defaults)
    except OSError as error:
        raise MigrationError(f"{file}: {(error.strerror or str(error)).lower()}") from None
    except ConfigError as error:
        raise MigrationError(str(error)) from None
