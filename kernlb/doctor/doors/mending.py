"""Carries ops out, and writes down those that a reboot would undo.

Order is the caller's. Every op is idempotent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from kernlb.doctor.doors import sysctl
from kernlb.doctor.ops import (
    AddAddress,
    LoadModule,
    MountBpf,
    Op,
    RemoveAddress,
    RemoveFile,
    SetChannels,
    SetMode,
    SetMtu,
    SetSysctl,
    SetUp,
    SwitchOff,
    written,
)

SYSCTL_FILE = Path("/etc/sysctl.d/70-kernlb-doctor.conf")
MODULES_FILE = Path("/etc/modules-load.d/kernlb-doctor.conf")


def carry_out(op: Op) -> None:
    """Raises OSError: cannot OP: why."""
    try:
        _act(op)
    except OSError as error:
        raise OSError(error.errno, f"cannot {op}: {error.strerror or error}") from error


def _act(op: Op) -> None:
    match op:
        case SetSysctl(name, value):
            sysctl.write(name, value)
        case AddAddress() | RemoveAddress():
            from kernlb.doctor.doors import rtnetlink

            rtnetlink.change_address(op)
        case SetUp(interface):
            from kernlb.doctor.doors import rtnetlink

            rtnetlink.change_link(interface, state="up")
        case SetMtu(interface, mtu):
            from kernlb.doctor.doors import rtnetlink

            rtnetlink.change_link(interface, mtu=mtu)
        case SwitchOff(interface, feature):
            from kernlb.doctor.doors import ethtool

            ethtool.switch_off(interface, feature)
        case SetChannels(interface, queues, kind):
            from kernlb.doctor.doors import ethtool

            ethtool.set_channels(interface, queues, kind)
        case LoadModule(name):
            from kernlb.doctor.doors import programs

            programs.run(["modprobe", name])
        case MountBpf(path):
            from kernlb.doctor.doors import programs

            programs.run(["mount", "-t", "bpf", "bpf", path])
        case RemoveFile(path):
            Path(path).unlink(missing_ok=True)
        case SetMode(path, mode):
            Path(path).chmod(mode)


def persist(
    ops: Iterable[Op], sysctls: Path = SYSCTL_FILE, modules: Path = MODULES_FILE
) -> list[Path]:
    """Have sysctls and modules set again at every boot, beside what the files say already. The
    files that were written. Raises OSError."""
    ops = list(ops)
    lines = {written(op.name): op.value for op in ops if isinstance(op, SetSysctl)}
    names = {op.name: "" for op in ops if isinstance(op, LoadModule)}
    done = []
    for path, entries, between in ((sysctls, lines, " = "), (modules, names, "")):
        if entries:
            _merge(path, entries, between)
            done.append(path)
    return done


def _merge(path: Path, entries: dict[str, str], between: str) -> None:
    kept = []
    if path.exists():
        for line in path.read_text().splitlines():
            name = line.partition("=")[0].strip()
            if name not in entries:
                kept.append(line)
    else:
        kept.append("# Written by `kernlb doctor --fix --persist`; edit it as you like.")
    text = "\n".join([*kept, *(f"{name}{between}{value}" for name, value in entries.items())])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text + "\n")
    beside.replace(path)
