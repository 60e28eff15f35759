"""The program is loaded once, and every test begins with empty maps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.network import Network
from tests.bpf.world import Sizes, World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "bpf":
            item.add_marker(pytest.mark.bpf)


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="session")
def loaded(network: Network) -> Iterator[World]:
    world = World(network)
    yield world
    world.close()


@pytest.fixture
def world(loaded: World) -> World:
    loaded.reset()
    return loaded


@pytest.fixture(scope="session")
def _tiny(network: Network) -> Iterator[World]:
    world = World(network, Sizes(conns4=2, conns6=2, cpus=64))
    yield world
    world.close()


@pytest.fixture
def tiny(_tiny: World) -> World:
    """Eight places for connections of each family."""
    _tiny.reset()
    return _tiny
