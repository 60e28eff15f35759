"""Which of the kernels that were got is used, and what is said when none can be got."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.lab.archive import ArchiveError, obtain


def keep(cache: Path, release: str) -> None:
    image = cache / "debian" / release / "boot" / f"vmlinuz-{release}"
    image.parent.mkdir(parents=True)
    image.touch()


@pytest.fixture(autouse=True)
def no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_the_newest_of_a_series_is_used_again_without_apt(tmp_path: Path) -> None:
    for release in ("6.12.9+deb13-amd64", "6.12.107+deb13-amd64", "6.16.3+deb13-amd64"):
        keep(tmp_path, release)
    found = obtain("6.12", tmp_path)
    place = tmp_path / "debian" / "6.12.107+deb13-amd64"
    assert found.release == "6.12.107+deb13-amd64"
    assert found.image == place / "boot" / "vmlinuz-6.12.107+deb13-amd64"
    assert found.modules == place / "lib" / "modules"


def test_another_series_that_begins_alike_is_not_used(tmp_path: Path) -> None:
    keep(tmp_path, "6.12.107+deb13-amd64")
    with pytest.raises(ArchiveError, match=r"cannot get a Debian kernel: .*apt-get"):
        obtain("6.1", tmp_path)
