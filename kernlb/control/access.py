"""Who may call: the control socket's place and mode, and its callers' credentials.

Callers are known by the kernel's word (SO_PEERCRED): root, the daemon's own user, and members
of the control group.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
from itertools import islice, takewhile
from pathlib import Path

_BACKLOG = 128
_GROUPS = frozenset({"service", "server"})  # of commands, whose verb is the next word
_LONGEST = 60  # characters of a command


def listen(path: Path, group: str) -> socket.socket:
    """A listening socket at ``path``, for its owner and the members of ``group``.

    The leftover of a killed daemon is replaced. Raises OSError where anything else is."""
    _clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        old = os.umask(0o177)  # nobody gets in between bind and chmod
        try:
            door.bind(str(path))
        finally:
            os.umask(old)
        number = group_id(group)
        if number is not None:
            os.chown(path, -1, number)
            path.chmod(0o660)
        door.listen(_BACKLOG)
    except OSError as error:
        door.close()
        raise OSError(f"cannot listen on {path}: {error.strerror}") from error
    return door


def may(peer: socket.socket, group: str) -> bool:
    """May the process at the other end of ``peer`` control the daemon?"""
    if peer.family != socket.AF_UNIX:
        return False
    _, uid, gid = _credentials(peer)
    if uid in (0, os.geteuid()):
        return True
    number = group_id(group)
    if number is None:
        return False
    try:
        return gid == number or number in os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return False


def name(peer: socket.socket) -> str:
    """Who is at the other end, for people: the user, and the command as it calls itself.

    No more of the command line than kernlb's own verbs: arguments are nobody's business."""
    pid, uid, _ = _credentials(peer)
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"uid {uid}"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()[:4096].decode("utf-8", "replace")
    except OSError:  # gone already
        return user
    command = _command(words.rstrip("\0").split("\0"))
    return f"{user} ({command})" if command else user


def _command(words: list[str]) -> str:
    """``kernlb server drain`` of ``/usr/bin/python3 -E /usr/bin/kernlb server drain web ...``."""
    names = [word.rpartition("/")[2] for word in words]
    if names and names[0].startswith("python"):
        scripts = (at for at, word in enumerate(words) if at and not word.startswith("-"))
        names = names[next(scripts, 0) :]
    if not names:
        return ""
    program = "kernlb" if names[0] == "kernlb.cli" else names[0]
    verbs = takewhile(str.isalpha, names[1:]) if program == "kernlb" else ()
    depth = 2 if names[1:2] and names[1] in _GROUPS else 1
    said = " ".join([program, *islice(verbs, depth)])[:_LONGEST]
    return "".join(each if each.isprintable() else "?" for each in said)


def _credentials(peer: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid of who connected."""
    packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", packed)
    return pid, uid, gid


def group_id(group: str) -> int | None:
    """None: there is no such group."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(f"cannot listen on {path}: it is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a daemon too busy to answer (EAGAIN) is one, too
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            raise OSError(f"cannot listen on {path}: {error.strerror}") from error
    raise OSError(f"cannot listen on {path}: another kernlbd does")
