"""One lab for each module of tests, under a name of its own so that runs do not meet."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kernlb.lab.network import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"test{os.getpid()}") as lab:
        yield lab
