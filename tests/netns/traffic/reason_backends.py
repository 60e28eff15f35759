"""Backends that can be bad and good again at a word: one process for each real server of a lab.

A process serves all rows of a table at once, each on its own port. It listens at a unix socket
for the words ``good`` and ``bad``, and answers once its backends are so. It ends with the
connection that the words came by.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from kernlb.lab.namespaces import enter, write_sysctl
from tests.netns.traffic.daemon import fork_into
from tests.netns.traffic.wait import wait_for
from tests.unit.health.probes.certificates import Certificates
from tests.unit.health.probes.far_ends import Answer, Handler

LIMIT = 60.0  # seconds until a process listens, or has changed its backends


@dataclass(frozen=True, slots=True)
class Stream:
    """A TCP server; with ``certificate`` it speaks TLS, and with ``ciphers`` TLS 1.2 by these."""

    handler: Handler
    certificate: str = ""
    ciphers: str = ""


@dataclass(frozen=True, slots=True)
class Datagrams:
    """A UDP server. ``elsewhere``: its answers come from another port."""

    answer: Answer
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """What the program of an exec check does when it is run for this server."""

    text: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """The good backend, behind a packet filter with this verdict for what comes to it."""

    verdict: str


@dataclass(frozen=True, slots=True)
class Full:
    """Listens, and accepts nobody: its queue is full."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The host is up, and nothing of ours runs: its port is closed, its kernel answers pings."""


Backend = Stream | Datagrams | Script | Filtered | Full | Nothing


@dataclass(frozen=True, slots=True)
class Places:
    """Of one row: ``match`` is what a packet filter knows its packets by, ``script`` the path of
    its programs without the address of the server that each is for."""

    port: int
    match: str
    script: Path
    good: Backend
    bad: Backend


def drips(first: bytes, rest: bytes) -> Handler:
    """Reads, says the first at once and a byte of the rest ten times a second."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(first)
        for byte in rest:
            connection.sendall(bytes([byte]))
            if select.select([connection], [], [], 0.1)[0]:
                return  # the other end has had enough

    return handle


class Backends:
    """The process of one real server, from outside."""

    def __init__(
        self, namespace: str, address: str, rows: Mapping[str, Places], made: Certificates
    ) -> None:
        control = made.folder / f"{namespace}.sock"
        control.unlink(missing_ok=True)  # an earlier one's
        serve = _Serving(address, rows, made).run
        self._log = made.folder / f"{namespace}.log"
        self._pid = fork_into(lambda: serve(namespace, control), self._log)
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._words.settimeout(LIMIT)

        def connected() -> bool:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
            assert not ended, f"the backends of {namespace} ended: {self._log.read_text()}"
            with suppress(FileNotFoundError, ConnectionRefusedError):
                self._words.connect(str(control))
                return True
            return False

        wait_for(connected, LIMIT, f"the backends of {namespace} listen")

    def be(self, word: str) -> None:
        """Returns when they are."""
        self._words.sendall(word.encode())
        answer = self._words.recv(100).decode()
        assert answer == word, f"the backends cannot be {word}: {self._log.read_text()}"

    def close(self) -> None:
        self._words.close()
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class _Serving:
    """The process from inside. One thread hears of everything; a connection has its own."""

    def __init__(self, address: str, rows: Mapping[str, Places], made: Certificates) -> None:
        self._address = address
        self._rows = rows
        self._made = made
        self._open: dict[str, ExitStack] = {}  # what a row's backend holds

    def run(self, namespace: str, control: Path) -> int:
        self._selector = selectors.DefaultSelector()  # a fork inherits none
        enter(namespace)
        write_sysctl("net.ipv4.icmp_ratelimit", "0")  # refusals are told by ICMP
        self._be("good")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(control))
            listener.listen()
            words, _ = listener.accept()
        self._selector.register(words, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    with suppress(OSError):
                        key.data()
                elif word := words.recv(100):
                    self._be(word.decode())
                    words.sendall(word)
                else:
                    return 0

    def _be(self, word: str) -> None:
        rules = []
        for name, row in self._rows.items():
            backend = row.good if word == "good" else row.bad
            if isinstance(backend, Filtered):
                rules.append(f"{row.match} {backend.verdict};")
                continue
            if name in self._open:
                if row.good == row.bad or isinstance(row.bad, Filtered):
                    continue
                self._open.pop(name).close()
            self._open[name] = ExitStack()
            self._start(backend, row, self._open[name])
        chain = "chain in { type filter hook input priority 0; " + " ".join(rules) + " };"
        ruleset = "table ip reasons\ndelete table ip reasons\ntable ip reasons { " + chain + " }\n"
        subprocess.run(["nft", "-f", "-"], input=ruleset, text=True, check=True)

    def _start(self, backend: Backend, row: Places, held: ExitStack) -> None:
        match backend:
            case Stream():
                self._listen(backend, row.port, held)
            case Datagrams():
                self._answer(backend, row.port, held)
            case Script():
                written = Path(f"{row.script}.{self._address}")
                new = Path(f"{written}.new")
                new.write_text(backend.text)
                new.rename(written)
            case Full():
                listener = held.enter_context(socket.create_server((self._address, row.port)))
                listener.listen(0)
                for _ in range(2):
                    waiting = held.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex((self._address, row.port))

    def _listen(self, backend: Stream, port: int, held: ExitStack) -> None:
        listener = held.enter_context(socket.create_server((self._address, port), backlog=100))
        context = self._made.server(backend.certificate) if backend.certificate else None
        if context is not None and backend.ciphers:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(backend.ciphers)

        def serve(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                if context is None:
                    backend.handler(connection)
                else:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        backend.handler(secured)

        def accept() -> None:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

        self._watch(listener, accept, held)

    def _answer(self, backend: Datagrams, port: int, held: ExitStack) -> None:
        sock = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        other = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((self._address, port))
        other.bind((self._address, 0))

        def answer() -> None:
            data, source = sock.recvfrom(65535)
            for reply in backend.answer(data):
                (other if backend.elsewhere else sock).sendto(reply, source)

        self._watch(sock, answer, held)

    def _watch(self, sock: socket.socket, act: Callable[[], None], held: ExitStack) -> None:
        self._selector.register(sock, selectors.EVENT_READ, act)
        held.callback(self._selector.unregister, sock)  # before it is closed
