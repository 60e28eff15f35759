"""The same sources give the same bytes: elsewhere, at another time, for somebody else."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging import artefacts
from tests.packaging.artefacts import ROOT

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the sources at a longer path, with other times and other rights; it lends only
    what was downloaded."""
    copy = tmp_path_factory.mktemp("elsewhere") / "some/other/home/kernlb"
    for name in artefacts.builder().sources():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
        (copy / name).chmod(0o700 if os.access(ROOT / name, os.X_OK) else 0o600)
    artefacts.lend_downloads(copy)
    before = os.umask(0o077)
    yield copy
    os.umask(before)


@pytest.mark.parametrize("kind", ["wheel", "sdist", "package"])
def test_another_build_has_the_same_bytes(
    kind: str,
    elsewhere: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: Path = request.getfixturevalue(kind)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    what = "deb" if kind == "package" else kind
    artefacts.build(elsewhere, tmp_path, what, epoch=artefacts.epoch_of(made))
    again = tmp_path / made.name
    if kind == "package" and again.read_bytes() != made.read_bytes():
        pytest.fail(_difference(made, again, tmp_path))
    assert again.read_bytes() == made.read_bytes()


def _difference(one: Path, other: Path, scratch: Path) -> str:
    """Which files of two packages differ."""
    for name, package in (("one", one), ("other", other)):
        subprocess.run(["dpkg-deb", "-R", package, scratch / name], check=True, timeout=100)
    argv = ["diff", "-rq", scratch / "one", scratch / "other"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=100).stdout
    return f"two builds differ: {told or 'in times or rights only'}"


def test_the_time_in_them_is_that_of_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    argv = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
    last = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
    assert artefacts.builder().epoch() == int(last)


def test_a_version_before_a_release_sorts_before_it() -> None:
    order = ["0.1.9", "0.2.0a1", "0.2.0rc1", "0.2.0", "0.2.1"]
    debian = [artefacts.builder().debian_version(each) for each in order]
    assert debian[3] == "0.2.0"
    for older, newer in itertools.pairwise(debian):
        argv = ["dpkg", "--compare-versions", older, "lt", newer]
        assert subprocess.run(argv, timeout=20).returncode == 0, (older, newer)
