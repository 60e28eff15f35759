"""Traffic on a farm: requests, open connections that data goes over, and a long download.

All on every method at once, from before something happens to after it. `end` counts, prints the
figures and fails for any request, connection or download that did not go as it should.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from kernlb.lab.background import Stream, Talk
from kernlb.lab.load import LoadClient
from tests.install import download
from tests.machines.site import Site
from tests.netns.traffic.wait import wait_for

ECHO = 7
INTERVAL = 0.2  # seconds between two exchanges on each connection
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Flow:
    """Where clients go, and who they are."""

    name: str
    vip: IPv4Address
    clients: Sequence[IPv4Address]


@dataclass(frozen=True, slots=True)
class Figures:
    requests: int
    connections: int
    exchanges: int
    downloaded: int  # bytes, of all downloads
    downloads: int


class Traffic:
    """Under way when made. ``rate`` requests a second and ``sessions`` connections in all."""

    def __init__(
        self, site: Site, load: LoadClient, flows: Sequence[Flow], rate: float, sessions: int
    ) -> None:
        self._load = load
        self._names = [flow.name for flow in flows]
        opened = [
            answer
            for flow in flows
            for answer in load.open(
                flow.vip, count=-(-sessions // len(flows)), sources=flow.clients, timeout=PATIENCE
            )
        ]
        assert {answer.error for answer in opened} == {None}, opened
        self._downloads = [_download(site, flow) for flow in flows]
        self._talk: Talk = load.talk(opened, interval=INTERVAL, size=300, timeout=PATIENCE)
        each = rate / len(flows)
        self._streams: list[Stream] = [
            load.stream(flow.vip, rate=each, sources=flow.clients, timeout=PATIENCE)
            for flow in flows
        ]
        self.goes_on()

    def goes_on(self) -> None:
        """Requests sent from now on are answered, and every connection carried data again."""
        talk, streams = self._talk.look(), [stream.look() for stream in self._streams]
        wait_for(lambda: self._talk.look().least >= talk.least + 2, 60, "all connections go on")
        for name, stream, before in zip(self._names, self._streams, streams, strict=True):
            wait_for(
                lambda stream=stream, before=before: stream.look().answered > before.sent,
                60,
                f"requests to {name} are answered",
            )

    def end(self) -> Figures:
        """Stop it, print what there was; none of it failed."""
        self.goes_on()
        talk, streams = self._talk.stop(), [stream.stop() for stream in self._streams]
        downloads = [_ended(process) for process in self._downloads]
        requests = sum(stream.answered for stream in streams)
        taken = sum(record["bytes"] for record in downloads)
        failed = {
            name: [*stream.failures, *([] if record["error"] is None else [record["error"]])]
            for name, stream, record in zip(self._names, streams, downloads, strict=True)
        }
        print(
            f"{requests} requests, {talk.sessions} connections with {talk.exchanged} exchanges "
            f"({talk.least} at least on each), {len(downloads)} downloads of {taken >> 20} MiB: "
            f"{sum(map(len, failed.values())) + len(talk.failures)} failed"
        )
        assert (failed, talk.failures) == ({name: [] for name in self._names}, ())
        assert requests == sum(stream.sent for stream in streams)
        body = download.BODY
        for record in downloads:
            assert record["bytes"] == record["promised"] == len(body), record
            assert record["sha256"] == hashlib.sha256(body).hexdigest()
        return Figures(requests, talk.sessions, talk.exchanged, taken, len(downloads))

    def close(self) -> None:
        """Whatever of it still runs. Twice equals once."""
        for process in self._downloads:
            process.kill()
            process.wait(20)
        for each in (self._talk, *self._streams):
            with suppress(Exception):
                each.stop()
        self._load.close_sessions()


def _download(site: Site, flow: Flow) -> subprocess.Popen[str]:
    argv = [sys.executable, "-I", "-S", str(Path(download.__file__))]
    argv += [str(flow.vip), str(flow.clients[0])]
    return site.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.poll() is None, f"the download ended early: {process.communicate()[0]}"
    printed, _ = process.communicate(timeout=120)
    record: dict[str, Any] = json.loads(printed)
    return record
