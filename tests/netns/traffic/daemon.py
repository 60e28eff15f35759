"""A real kernlbd in a network namespace: a process of its own that can be stopped and killed.

Importing the daemon takes an emulated guest many seconds, so this process imports it once and
each daemon is a fork of it that goes on in the daemon's own ``main``. Beside that it is what
systemd would start: its own session, signals, log file, control socket and state.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernlb.control.client import Client, DaemonUnreachableError
from kernlb.health.probes import exec_door, icmp, sockets
from kernlb.lab.namespaces import enter
from tests.netns.traffic.wait import wait_for

START_LIMIT = 60.0  # seconds until it answers; an emulated guest is slow
STOP_LIMIT = 30.0


StartDaemon = Callable[..., "Daemon"]  # the fixture start_daemon


class Daemon:
    """kernlbd with its directories under ``folder``. ``settings`` are those of kernlb.yaml."""

    def __init__(self, folder: Path, namespace: str, settings: Mapping[str, Any]) -> None:
        self.namespace = namespace
        self.settings = settings
        self.config = folder / "etc"
        self.services = self.config / "services.d"
        self.socket = folder / "control.sock"
        self.log = folder / "kernlbd.log"
        self.options: tuple[str, ...] = ()  # that it was first started with
        self._state = folder / "state"
        self._pid: int | None = None
        self.services.mkdir(parents=True)
        self.client = Client(str(self.socket))
        self.settle({})

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Write kernlb.yaml (JSON is YAML too): these settings beside those it was made with."""
        document = {"metrics_listen": False, **self.settings, **settings}
        (self.config / "kernlb.yaml").write_text(json.dumps(document))

    def start(self, *options: str, wait: bool = True) -> None:
        import kernlb.daemon.app  # imported here once, for every fork
        import kernlb.vip.netlink  # noqa: F401 (where there are VIPs)

        self.socket.unlink(missing_ok=True)  # so that who waits does not meet a dead one's
        argv = ["--config-dir", str(self.config), "--state-dir", str(self._state)]
        self.options = self.options or options
        argv += ["--socket", str(self.socket), *options]
        self._pid = fork_into(lambda: _run_daemon(self.namespace, argv), self.log)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until it answers; it does so once what is on disk has been carried out."""
        wait_for(self._answers, START_LIMIT, f"kernlbd answers\n{self.tail()}")

    def _answers(self) -> bool:
        assert self.running, f"kernlbd ended:\n{self.tail()}"
        with suppress(DaemonUnreachableError):
            return self.client.status().pid == self._pid
        return False

    @property
    def running(self) -> bool:
        if self._pid is None:
            return False
        pid, _ = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            self._pid = None
        return not pid

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._pid = None

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, time passes, SIGCONT."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)  # what is asked for is that nothing happens meanwhile
        finally:
            os.kill(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        """A clean stop, if it runs."""
        if not self.running:
            return
        assert self._pid is not None
        os.kill(self._pid, signal.SIGTERM)
        wait_for(lambda: not self.running, STOP_LIMIT, f"kernlbd stops\n{self.tail()}")

    def cli(self, *words: str, code: int = 0) -> str:
        """Run the installed ``kernlb`` command as a shell would; its output."""
        argv = [sys.executable, "-m", "kernlb.cli", *self._cli_words(words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=START_LIMIT)
        assert done.returncode == code, f"kernlb {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def quick_cli(self, *words: str, code: int = 0) -> str:
        """The same in a fork of this process, which has the interpreter up already."""
        output = self.socket.with_name("cli.out")
        output.unlink(missing_ok=True)
        pid = fork_into(lambda: _run_cli(self._cli_words(words)), output)
        _, status = os.waitpid(pid, 0)
        said = output.read_text()
        assert os.waitstatus_to_exitcode(status) == code, f"kernlb {' '.join(words)}: {said}"
        return said

    def _cli_words(self, words: Sequence[str]) -> list[str]:
        return ["--socket", str(self.socket), *words]

    def tail(self) -> str:
        with suppress(FileNotFoundError):
            return "\n".join(self.log.read_text().splitlines()[-30:])
        return ""


def _run_daemon(namespace: str, argv: Sequence[str]) -> int:
    os.setsid()
    enter(namespace)
    from kernlb.daemon import main

    return main(argv)


def _run_cli(words: Sequence[str]) -> int:
    from kernlb.cli import main

    sys.argv = ["kernlb", *words]
    main()  # leaves by SystemExit
    return 0


def _close_probes() -> None:
    """Of tests that ran before: they would close numbers that are somebody else's by then."""
    for poller in sockets._pollers.values():
        poller.close()
    for each in (sockets._pollers, icmp._pingers, exec_door._doors):
        each.clear()  # type: ignore[attr-defined]


def fork_into(program: Callable[[], int], log: Path) -> int:
    """Run ``program`` in a fork of this process that has nothing of it but what is imported:
    standard streams, signals and descriptors are as a service manager hands them out. Its pid."""
    gc.freeze()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for standard, descriptor in ((0, null), (1, output), (2, output)):
            os.dup2(descriptor, standard)
        _close_probes()
        os.closerange(3, 65536)  # connections that a test holds end when the test ends them
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        logging.root.handlers.clear()  # pytest's
        code = program()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:  # must not come back as a second pytest
        print(f"cannot run: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(code)
