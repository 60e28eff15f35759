"""Runs the programs of exec checks: a small process of its own, started as a script.

It stands apart from the daemon because forking a large process is dear, and because of what ends
a program: whatever it started, in whatever session, must be gone as well. Each program has a
minder (a fork of this process) that is the reaper of all its descendants (PR_SET_CHILD_SUBREAPER,
prctl(2)): an orphan becomes the minder's child, so killing children until there are none finds
them all. A process group alone would lose whoever calls setsid; a cgroup would need one to be
delegated; a PID namespace needs CAP_SYS_ADMIN.

The socket on descriptor 0 (SOCK_SEQPACKET) carries a JSON object a message: ``Order`` in,
{"cancel": id} in, ``Report`` out. When it closes, this process kills what runs and ends; when this
process is killed, its minders kill what runs and end.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

LONGEST_MESSAGE = 65536
MOST_OUTPUT = 65536  # bytes that a program may print
FIRST_LINE = 1024  # bytes of them that are told
KILL_TIME = 1.0  # seconds for killing what a program left behind

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


class Order(NamedTuple):
    """``user``: uid and gid, None to stay who this process is. ``timeout`` in seconds."""

    id: int
    command: list[str]
    environment: dict[str, str]
    user: tuple[int, int] | None
    timeout: float


class Report(NamedTuple):
    """``end`` is "exit" (``code``: its status), "signal" (its number), "timeout", "output" (too
    much of it), "error" (errno: it could not be started) or "lost" (its minder ended)."""

    id: int
    end: str
    code: int = 0
    output: str = ""


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def main() -> None:
    channel = socket.socket(fileno=0)
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)  # a minder's word to stop; see _mind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is meant for the daemon
    minders: dict[int, int] = {}  # process id: order's id
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _reap(channel, minders)
        if 0 in ready:
            try:
                message = channel.recv(LONGEST_MESSAGE)
            except ConnectionResetError:
                break  # closed, and something that we told was not read
            if not message:
                break
            _obey(json.loads(message), channel, minders)
    for minder in minders:
        os.kill(minder, signal.SIGTERM)


def _obey(word: dict[str, Any], channel: socket.socket, minders: dict[int, int]) -> None:
    if "cancel" in word:
        for minder, number in minders.items():
            if number == word["cancel"]:  # not reaped yet, so it is still that process
                os.kill(minder, signal.SIGTERM)
        return
    order = Order(**word)
    # a word to stop must not reach the minder before it listens
    runner = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        minder = os.fork()
    except OSError as error:
        _report(channel, Report(order.id, "error", error.errno or 0))
        minder = -1
    if minder:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if minder > 0:
            minders[minder] = order.id
        return
    failed = 1  # told as "lost"
    try:
        try:
            report = _mind(order, runner)
        except OSError as error:
            report = Report(order.id, "error", error.errno or 0)
        _report(channel, report)
        failed = 0
    finally:
        os._exit(failed)


def _reap(channel: socket.socket, minders: dict[int, int]) -> None:
    while minders:
        try:
            minder, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not minder:
            return
        number = minders.pop(minder)
        if status:
            _report(channel, Report(number, "lost"))


def _report(channel: socket.socket, report: Report) -> None:
    channel.sendall(json.dumps(report._asdict()).encode())


def _mind(order: Order, runner: int) -> Report:
    """Run a program and kill all that it started, however it ends. The death of ``runner``, this
    minder's parent, is a word to stop."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != runner:
        return Report(order.id, "lost")
    deadline = time.monotonic() + order.timeout
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    output, into = os.pipe2(os.O_CLOEXEC)
    trouble, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _become(order, into, told)
    os.close(into)
    os.close(told)
    os.set_blocking(output, False)
    try:
        if not select.select([trouble], [], [], order.timeout)[0]:  # a file system that hangs
            return Report(order.id, "timeout")
        if number := os.read(trouble, 16):  # empty when the exec has closed it
            return Report(order.id, "error", int(number))
        return _watch(order.id, child, output, wake, deadline)
    finally:
        _kill_all(child)


def _watch(number: int, child: int, output: int, wake: int, deadline: float) -> Report:
    said = bytearray()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            if descriptor == wake:
                if signal.SIGTERM in os.read(wake, 4096):
                    return Report(number, "timeout")
            elif not _read(output, said):
                poll.unregister(output)
        if len(said) > MOST_OUTPUT:
            return Report(number, "output")
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            _read(output, said)
            first = bytes(said[:FIRST_LINE]).decode("utf-8", "replace").strip().splitlines()
            end = "exit" if ended.si_code == os.CLD_EXITED else "signal"
            return Report(number, end, ended.si_status, first[0] if first else "")
    return Report(number, "timeout")


def _read(output: int, said: bytearray) -> bool:
    """Take what is there; whether more may come."""
    while len(said) <= MOST_OUTPUT:
        try:
            data = os.read(output, 16384)
        except BlockingIOError:
            return True
        if not data:
            return False
        said += data
    return True


def _kill_all(child: int) -> None:
    """The program, its group, and all of its descendants, which become ours as they are orphaned.
    The program is not reaped before its group is killed, so the number is still its own."""
    give_up = time.monotonic() + KILL_TIME
    _kill(child, group=True)
    _kill(child)
    children = f"/proc/self/task/{os.getpid()}/children"
    while time.monotonic() < give_up:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return  # none is left
        if reaped:
            continue
        try:
            with open(children) as file:  # noqa: PTH123 (pathlib is dear to load)
                left = [int(each) for each in file.read().split()]
        except OSError:
            left = []  # a kernel without CONFIG_PROC_CHILDREN
        for each in left:
            _kill(each)
        time.sleep(0.001)


def _kill(process: int, *, group: bool = False) -> None:
    with suppress(OSError):  # gone already
        (os.killpg if group else os.kill)(process, signal.SIGKILL)


def _become(order: Order, output: int, told: int) -> NoReturn:
    """Turn this fork into the program: another user, in a session of its own, with three
    descriptors and nothing to gain privilege by."""
    try:
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
            signal.signal(each, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for source, number in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, number)
        if told != 3:
            os.dup2(told, 3, inheritable=False)
            told = 3
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        os.umask(0o022)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if order.user is not None:
            uid, gid = order.user
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        os.execve(order.command[0], order.command, order.environment)
    except OSError as error:
        os.write(told, str(error.errno or 0).encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    main()
