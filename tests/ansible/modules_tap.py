"""A tap on a control socket: passes requests on to the daemon, and tells which have been asked."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class Tap:
    """``path`` is where to call; ``asked`` are the first lines of the requests so far."""

    def __init__(self, path: Path, daemon: Path) -> None:
        self.path = path
        self.asked: list[str] = []
        asked = self.asked

        class Passing(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.socket(socket.AF_UNIX) as there, suppress(OSError):
                    there.connect(str(daemon))
                    answers = threading.Thread(target=_pump, args=(there, self.request))
                    answers.start()
                    while block := self.request.recv(65536):
                        asked.append(block.partition(b"\r\n")[0].decode(errors="replace"))
                        there.sendall(block)
                    there.shutdown(socket.SHUT_RDWR)
                    answers.join()

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Passing)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_RDWR)
