"""The wheel has all that a balancer needs and no more, and the source archive makes that wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from kernlb import __version__
from tests.packaging import artefacts
from tests.packaging.artefacts import ROOT

pytestmark = pytest.mark.timeout(600)


def test_the_wheel_has_every_module_the_page_and_the_programs_for_the_kernel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {each for each in archive.namelist() if ".dist-info/" not in each}
    shipped = {str(each) for each in artefacts.builder().sources() if each.parts[0] == "kernlb"}
    programs = {
        f"kernlb/datapath/xdp/objects/{each.name.removesuffix('.c')}.o"
        for each in (ROOT / "bpf").glob("*.bpf.c")
    }
    assert len(programs) >= 4
    assert "kernlb/page/static/index.html" in shipped
    assert names == shipped | programs


def test_the_programs_in_the_wheel_name_no_place(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".bpf.o"):
                text = archive.read(name)
                assert text[:4] == b"\x7fELF" and b"BTF" in text
                for place in (str(ROOT).encode(), b"/tmp/", b"/home/", b"/root/"):
                    assert place not in text, name


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (meta,) = [each for each in archive.namelist() if each.endswith("/METADATA")]
        told = message_from_bytes(archive.read(meta))
        licences = {each for each in archive.namelist() if "/licenses/" in each}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert wheel.name == f"kernlb-{__version__}-py3-none-any.whl"
    assert (told["Name"], told["Version"]) == ("kernlb", __version__)
    assert told["Requires-Python"] == project["requires-python"]
    needed = [each for each in told.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert sorted(_name(each) for each in needed) == sorted(map(_name, project["dependencies"]))
    assert len(licences) == 2


def _name(requirement: str) -> str:
    return requirement.lower().replace("_", "-").replace(".", "-").partition(">")[0].strip()


def test_it_runs_where_it_was_installed(wheel: Path, tmp_path: Path) -> None:
    """With the libraries of this environment beside it, from a place that has no sources."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True, timeout=200)
    pip = [tmp_path / "env/bin/python", "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, timeout=200)
    (site,) = (tmp_path / "env/lib").glob("python3*/site-packages")
    (mine,) = (ROOT / ".venv/lib").glob("python3*/site-packages")
    (site / "libraries.pth").write_text(f"{mine}\n")

    def run(*argv: str) -> str:
        command = [tmp_path / "env/bin" / argv[0], *argv[1:]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert __version__ in run("kernlbd", "--version")
    assert json.loads(run("kernlb", "schema"))["title"]
    where = run("python", "-c", "import kernlb; print(kernlb.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path)


def test_the_source_archive_has_what_building_needs_and_nothing_of_this_machine(
    sdist: Path,
) -> None:
    assert sdist.name == f"kernlb-{__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = {each.name.partition("/")[2] for each in members}
    assert {str(each) for each in artefacts.builder().sources()} == names - {"PKG-INFO"}
    assert {"bpf/kernlb.bpf.c", "debian/control", "LICENSE", "debian/build"} <= names
    assert {(each.uid, each.gid) for each in members} == {(0, 0)}


def test_the_wheel_can_be_made_from_the_source_archive(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    """By debian/build of the archive itself; and it is the same wheel."""
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path], check=True, timeout=100)
    unpacked = tmp_path / f"kernlb-{__version__}"
    artefacts.lend_downloads(unpacked)
    artefacts.build(unpacked, tmp_path / "out", "wheel", epoch=artefacts.epoch_of(wheel))
    assert (tmp_path / "out" / wheel.name).read_bytes() == wheel.read_bytes()
