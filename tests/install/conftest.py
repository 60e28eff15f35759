"""Which machines the stories run on: containers, or emulated guests with `--machines emulated`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.machines.site import Site

EMULATED_ALONE = ("test_emulated_methods.py",)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """On containers other stories show what can be shown there."""
    emulated = config.getoption("--machines") == "emulated"
    return True if collection_path.name in EMULATED_ALONE and not emulated else None


@pytest.fixture(scope="session")
def machines(request: pytest.FixtureRequest) -> str:
    """The kind of machine: container or emulated."""
    return str(request.config.getoption("--machines"))


@pytest.fixture(scope="module")
def site(machines: str) -> Iterator[Site]:
    """A site of the module's own, empty."""
    with Site(machines) as made:
        yield made


@pytest.fixture
def new_site(machines: str) -> Iterator[Callable[[], Site]]:
    """Makes sites that end with the test."""
    with ExitStack() as made:
        yield lambda: made.enter_context(Site(machines))
