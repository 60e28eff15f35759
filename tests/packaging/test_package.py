"""What is inside the Debian package, and that it runs with nothing but what it carries."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from kernlb import __version__
from tests.packaging.artefacts import ROOT, builder

pytestmark = pytest.mark.timeout(600)

PYTHONS = ("cp311", "cp312", "cp313")
LOCKED = re.findall(r"(?m)^([a-z0-9-]+)==(\S+) ", (ROOT / "debian/vendor.lock").read_text())


def field(package: Path, name: str) -> str:
    argv = ["dpkg-deb", "-f", package, name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_it_says_what_it_is_and_what_it_needs(package: Path) -> None:
    assert package.name == f"kernlb_{__version__}_amd64.deb"
    assert field(package, "Version") == __version__
    needs = {each.split("|")[0].strip() for each in field(package, "Depends").split(",")}
    assert {"python3 (>= 3.11)", "python3 (<< 3.14)", "libbpf1", "kmod", "iproute2"} <= needs
    (glibc,) = (each for each in needs if each.startswith("libc6 "))
    assert tuple(map(int, re.findall(r"\d+", glibc)[1:])) <= (2, 36), "Debian 12 has 2.36"
    assert "load balancer" in field(package, "Description")


def test_each_file_is_where_a_package_has_it(package: Path) -> None:
    listed = subprocess.run(
        ["dpkg-deb", "-c", package], capture_output=True, text=True, check=True
    ).stdout
    files = {}
    for line in listed.splitlines():
        rights, owner, _, _, _, name = line.split(None, 5)
        path = name.partition(" -> ")[0].removeprefix(".")
        files[path] = rights
        assert owner == "root/root", line
        # A file that everybody may write, or a setuid program, would be a gift.
        assert rights[8] != "w" or rights[0] == "l", line
        assert "s" not in rights.lower(), line
    for path, rights in {
        "/usr/bin/kernlb": "l",
        "/usr/sbin/kernlbd": "l",
        "/usr/lib/kernlb/launch": "-rwxr-xr-x",
        "/usr/lib/systemd/system/kernlbd.service": "-rw-r--r--",
        "/usr/lib/sysusers.d/kernlb.conf": "-rw-r--r--",
        "/usr/lib/tmpfiles.d/kernlb.conf": "-rw-r--r--",
        "/etc/kernlb/kernlb.yaml": "-rw-r--r--",
        "/etc/kernlb/services.d/": "drwxr-xr-x",
        "/usr/share/man/man1/kernlb.1.gz": "-rw-r--r--",
        "/usr/share/man/man1/kernlb-service.1.gz": "-rw-r--r--",
        "/usr/share/man/man8/kernlbd.8.gz": "-rw-r--r--",
        "/usr/share/bash-completion/completions/kernlb": "-rw-r--r--",
        "/usr/share/zsh/vendor-completions/_kernlb": "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/kernlb.fish": "-rw-r--r--",
        "/usr/share/kernlb/settings.schema.json": "-rw-r--r--",
        "/usr/share/doc/kernlb/operating.md": "-rw-r--r--",
        "/usr/share/doc/kernlb/examples/kernlb.yaml": "-rw-r--r--",
    }.items():
        assert files.get(path, "").startswith(rights), f"{path}: {files.get(path)}"
    assert not [each for each in files if "/tests/" in each or "__pycache__" in each]


def test_kernlb_in_it_is_that_of_the_checkout_with_the_programs_of_the_wheel(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    lib = tree / "usr/lib/kernlb/lib/kernlb"
    shipped = {each for each in builder().sources() if each.parts[0] == "kernlb"}
    for name in shipped:
        assert (lib.parent / name).read_bytes() == (ROOT / name).read_bytes(), name
    shutil.unpack_archive(wheel, tmp_path, "zip")
    programs = sorted((tmp_path / "kernlb").rglob("*.bpf.o"))
    assert len(programs) >= 4
    for each in programs:
        inside = lib.parent / each.relative_to(tmp_path)
        assert inside.read_bytes() == each.read_bytes(), each.name


def test_every_library_is_there_for_every_python_in_the_version_of_the_lock(tree: Path) -> None:
    assert len(LOCKED) > 20
    for python in PYTHONS:
        there = {}
        for meta in (tree / "usr/lib/kernlb").glob("*/*.dist-info"):
            if meta.parent.name in ("lib", python):
                name, _, version = meta.name.removesuffix(".dist-info").rpartition("-")
                there[name.lower().replace("_", "-")] = version
        assert there == dict(LOCKED), python


def test_what_is_compiled_is_compiled_for_every_python(tree: Path) -> None:
    compiled = {
        python: {
            str(each.relative_to(tree / "usr/lib/kernlb" / python)).partition(".")[0]: each
            for each in (tree / "usr/lib/kernlb" / python).rglob("*.so")
        }
        for python in PYTHONS
    }
    assert len(compiled["cp311"]) >= 10
    assert compiled["cp311"].keys() == compiled["cp312"].keys() == compiled["cp313"].keys()
    for python, files in compiled.items():
        for each in files.values():
            assert f".cpython-{python[2:]}-x86_64-" in each.name or ".abi3." in each.name, each
    assert not list((tree / "usr/lib/kernlb/lib").rglob("*.so"))


def test_the_tree_imports_in_this_systems_python_with_nothing_else(tree: Path) -> None:
    """All modules of kernlb, isolated; every one comes from the tree or from Python itself."""
    program = """
import pkgutil, sys
lib = sys.argv[1]
sys.path[:0] = [f"{lib}/lib", f"{lib}/cp%d%d" % sys.version_info[:2]]
sys.path[:] = [each for each in sys.path if "-packages" not in each]
import kernlb
names = [each.name for each in pkgutil.walk_packages(kernlb.__path__, "kernlb.")]
for name in names:
    if not name.endswith(("__main__", "bcc_child", "exec_runner", "lab.guest", "lab.backend")):
        __import__(name)
for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None) or ""
    assert not path or path.startswith((lib, sys.base_prefix)), (name, path)
print(len(names), "aiohttp" in sys.modules, "uvloop" in sys.modules, "pyroute2" in sys.modules)
"""
    argv = ["/usr/bin/python3", "-I", "-B", "-c", program, str(tree / "usr/lib/kernlb")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    many, *_ = done.stdout.split()
    assert int(many) > 300, done.stdout


def test_the_launcher_goes_by_its_name_and_says_what_it_lacks(tree: Path, tmp_path: Path) -> None:
    lib = tmp_path / "kernlb"
    shutil.copytree(tree / "usr/lib/kernlb", lib, symlinks=True)
    for name in ("kernlb", "kernlbd"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(lib / "launch")
        argv = [tmp_path / "bin" / name, "--help"]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100).stdout
        assert re.match(rf"(?i)usage: {name} \[", told), told
    mine = "cp{}{}".format(*_system_python())
    shutil.rmtree(lib / mine)
    done = subprocess.run([tmp_path / "bin/kernlb"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"kernlb: cannot run with Python 3\.\d+: {lib} has libraries for 3\.\d+, 3\.\d+\n",
        done.stderr,
    )


def _system_python() -> tuple[int, int]:
    argv = ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
    major, minor = map(int, told.split())
    return major, minor


def test_the_manual_pages_are_pages(tree: Path) -> None:
    pages = sorted((tree / "usr/share/man").rglob("*.gz"))
    assert len(pages) > 20
    for page in pages:
        text = gzip.decompress(page.read_bytes())
        argv = ["groff", "-man", "-Tutf8", "-ww", "-Wbreak", "-z"]
        done = subprocess.run(argv, input=text, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), page.name
        assert f"kernlb {__version__}".encode() in text.replace(b"\\-", b"-"), page.name


def test_completions_are_of_their_shells(tree: Path) -> None:
    for path, word in (
        ("bash-completion/completions/kernlb", "complete -o nosort -F"),
        ("zsh/vendor-completions/_kernlb", "#compdef kernlb"),
        ("fish/vendor_completions.d/kernlb.fish", "complete --no-files --command kernlb"),
    ):
        assert word in (tree / "usr/share" / path).read_text()
    argv = ["bash", "-n", tree / "usr/share/bash-completion/completions/kernlb"]
    assert subprocess.run(argv, timeout=20).returncode == 0


def test_settings_are_a_conffile_and_equal_to_those_that_are_tested(
    package: Path, tree: Path
) -> None:
    installed = tree / "etc/kernlb/kernlb.yaml"
    assert installed.read_bytes() == (ROOT / "debian/conf/kernlb.yaml").read_bytes()
    argv = ["dpkg-deb", "-I", package, "conffiles"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["/etc/kernlb/kernlb.yaml"]


def test_the_licence_of_every_library_is_told(tree: Path) -> None:
    told = (tree / "usr/share/doc/kernlb/copyright").read_text()
    for name, _ in LOCKED:
        assert f"vendor/*/{name.replace('-', '_')}-*" in told, name
    assert (
        "Files: bpf/*\nCopyright: the kernlb authors\nLicense: GPL-2.0-only or BSD-2-clause" in told
    )


def test_the_lock_agrees_with_the_versions_that_tests_run_with() -> None:
    pinned = dict(re.findall(r"(?m)^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text()))
    known = {
        name.lower().replace("_", "-").replace(".", "-"): each for name, each in pinned.items()
    }
    assert {name: known.get(name) for name, _ in LOCKED} == dict(LOCKED)


def test_maintainer_scripts_are_shell_that_every_shell_reads(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-e", package, tmp_path / "scripts"], check=True, timeout=60)
    for name in ("postinst", "prerm", "postrm"):
        script = tmp_path / "scripts" / name
        assert subprocess.run(["dash", "-n", script], timeout=20).returncode == 0, name
        assert "#DEBHELPER#" not in script.read_text()


@pytest.mark.skipif(
    shutil.which("lintian") is None and os.environ.get("CI") != "true",
    reason="lintian is not installed",
)
def test_lintian_has_nothing_to_object(package: Path) -> None:
    argv = ["lintian", "--allow-root", "--fail-on", "error,warning", package]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout


def test_the_archive_in_the_package_has_one_time(package: Path, tmp_path: Path) -> None:
    """No file is younger than the sources: nothing of the build's own day is inside."""
    from tests.packaging.artefacts import epoch_of

    raw = tmp_path / "data.tar"
    with raw.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=file, check=True, timeout=60)
    with tarfile.open(raw) as archive:
        assert {int(each.mtime) for each in archive} == {epoch_of(package)}
