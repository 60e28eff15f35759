"""What debian/build makes, made once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.packaging import artefacts


@pytest.fixture(scope="session")
def package() -> Path:
    return artefacts.deb()


@pytest.fixture(scope="session")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, in a directory that stands for the root."""
    root = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "-x", package, root], check=True, timeout=100)
    return root


@pytest.fixture(scope="session")
def wheel() -> Path:
    return artefacts.wheel()


@pytest.fixture(scope="session")
def sdist() -> Path:
    return artefacts.sdist()
