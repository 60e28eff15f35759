"""A server of a test's own, and a program that listens there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.netns.realserver.world import PORT, Server

_numbers = count()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Server]:
    """As a server comes: an address, a route, and nothing for VIPs."""
    server = Server(f"rs-{os.getpid()}-{next(_numbers)}", tmp_path)
    try:
        server.up()
        yield server
    finally:
        server.down()


@pytest.fixture
def server(bare: Server) -> Iterator[Server]:
    """The same with a program that listens at the service's port, at any address."""
    with ExitStack() as stack:
        stack.enter_context(bare.inside(lambda: listener("::")))
        yield bare


def listener(address: str, backlog: int = 64) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    waiting = socket.socket(family, socket.SOCK_STREAM)
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    waiting.bind((address, PORT))
    waiting.listen(backlog)
    return waiting
