"""Hosts to type on: a shell in a network namespace, with an /etc and /var/lib of its own.

What a command writes there is gone with the host; nothing of this machine changes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Self

from tests.unit.pages import ROOT

END = "\x1e"
PATIENCE = 180.0  # seconds for one command; an emulated guest is slow
PATH = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
OWN = ("/etc", "/var/lib", "/usr/local")  # written on layers of their own
EMPTY = ("/run/kernlb", "/root", "/tmp")  # begin empty, as /sys/fs/bpf does

_OF_A_JOB = re.compile(
    r"bash: line \d+: +\d+ (Killed|Terminated)"
)  # a shell of a person says so later

_PRIVATE = """
set -e
mount --make-rprivate /
layers=$1; shift
mount -t tmpfs layers "$layers"
for place in $OWN; do
    name=$layers/$(echo "$place" | tr / _)
    mkdir -p "$name/new" "$name/work"
    mount -t overlay layer -o "lowerdir=$place,upperdir=$name/new,workdir=$name/work" "$place"
done
mkdir "$layers/checkout"
mount --bind "$CHECKOUT" "$layers/checkout"
exec 3< "$layers"
for place in $EMPTY; do mkdir -p "$place"; mount -t tmpfs empty "$place"; done
if [ ! -e "$CHECKOUT" ]; then # it is in a place that is empty now
    mkdir -p "$CHECKOUT"
    mount --bind /proc/self/fd/3/checkout "$CHECKOUT"
fi
exec 3<&-
mount -t bpf bpf /sys/fs/bpf
cd /root
exec bash --norc --noprofile
"""


class Host:
    """A shell that keeps its variables and background jobs from one command to the next."""

    def __init__(self, namespace: str, variables: Mapping[str, str] | None = None) -> None:
        self._layers = tempfile.TemporaryDirectory(prefix="kernlb-docs")
        variables = {"OWN": " ".join(OWN), "EMPTY": " ".join(EMPTY), **(variables or {})}
        variables |= {"CHECKOUT": str(ROOT)}
        variables |= {"PATH": PATH, "HOME": "/root", "SHELL": "/bin/bash", "TERM": "xterm"}
        net = f"--net=/run/netns/{namespace}"
        self._shell = subprocess.Popen(
            ["nsenter", net, "unshare", "--mount", "bash", "-c", _PRIVATE, "-", self._layers.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            start_new_session=True,
        )
        self.run("set +m; unset OWN EMPTY CHECKOUT; true")

    def run(self, command: str, patience: float = PATIENCE) -> tuple[int, list[str]]:
        """Exit code and lines printed, on both outputs as they came."""
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(f"{command}\nprintf '{END}%s{END}' $?\n".encode())
        self._shell.stdin.flush()
        heard, deadline = b"", time.monotonic() + patience
        end = re.compile(f"{END}(\\d+){END}".encode())
        while (match := end.search(heard)) is None:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._shell.stdout], [], [], left)[0]
            more = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            if not more:
                what = "ended the shell" if ready else f"took more than {patience:g} s"
                self.end()  # what comes next would wait for it
                raise AssertionError(f"`{command}` {what}; it printed: {heard.decode()}")
            heard += more
        text = heard[: match.start()].decode(errors="replace")
        return int(match[1]), [each for each in text.splitlines() if not _OF_A_JOB.match(each)]

    @property
    def ended(self) -> bool:
        return self._shell.poll() is not None

    def end(self) -> None:
        """End the shell and all that it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._shell.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._shell.wait(5)
                break

    def close(self) -> None:
        """End it, and remove what it wrote."""
        self.end()
        self._layers.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
