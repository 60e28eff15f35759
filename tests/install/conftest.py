"""Which machines the stories run on: containers, or emulated guests with `--machines emulated`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.machines.site import Site


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
