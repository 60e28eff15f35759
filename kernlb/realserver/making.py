"""Carries changes out, each by the command that it prints as; files whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from kernlb.doctor.doors import programs, sysctl
from kernlb.realserver.slots import Change, Kind


def make(change: Change, root: Path) -> None:
    """Raises OSError: cannot CHANGE: why."""
    try:
        _make(change, root)
    except OSError as error:
        what = str(change).partition("\n")[0].partition("  # ")[0]
        raise OSError(error.errno, f"cannot {what}: {error.strerror or error}") from error


def _make(change: Change, root: Path) -> None:
    slot, after = change.slot, change.after
    path = root / slot.name.lstrip("/")
    match slot.kind:
        case Kind.SYSCTL:
            sysctl.write(slot.name, after or "0")
        case Kind.DECAP:
            _attach(slot.name, after)
        case Kind.FILE:
            write_file(path, after)
        case Kind.SYMLINK:
            path.unlink(missing_ok=True)
            if after is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(after)
        case _:
            for command in change.commands:
                programs.run(command)


def write_file(path: Path, text: str | None, mode: int = 0o644) -> None:
    """A reader sees the old text or the new one, also after a crash. None: no file."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def tell_systemd() -> None:
    """Units changed; nothing where it does not run. Raises OSError."""
    if Path("/run/systemd/system").exists():
        programs.run(["systemctl", "daemon-reload"])


def _attach(device: str, words: str | None) -> None:
    """``words``: those behind `decap attach DEVICE`; None to detach."""
    from kernlb.datapath.xdp import decap
    from kernlb.datapath.xdp.libbpf import Mode

    if words is None:
        decap.detach(device)
        return
    named: dict[str, list[str]] = {"--address": [], "--source": [], "--gue-port": []}
    generic = "--generic" in words.split()
    left = [word for word in words.split() if word != "--generic"]
    for option, value in zip(left[::2], left[1::2], strict=True):
        named[option].append(value)
    wanted = decap.Decap(
        tuple(map(ip_address, named["--address"])),
        tuple(map(ip_address, named["--source"])),
        int(named["--gue-port"][0]),
    )
    mode = Mode.GENERIC if generic else Mode.NATIVE
    present = decap.status(device)
    if present is not None and present.mode is not mode:
        decap.detach(device)
    decap.attach(device, wanted, mode)
