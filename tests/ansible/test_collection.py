"""The collection as Ansible's own tools see it: linted, documented, built, installed offline."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.ansible.variables import ROLES, filled, specs

ANSIBLE = ROLES.parent
MINE = ("kernlb", "kernlb_realserver")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where Ansible finds the checkout's collection by its name."""
    folder = tmp_path_factory.mktemp("collections")
    place = folder / "ansible_collections" / "kernlb" / "balancer"
    place.parent.mkdir(parents=True)
    place.symlink_to(ANSIBLE)
    yield folder


def run(collections: Path, *argv: str | Path, cwd: Path = ANSIBLE) -> str:
    """What a command prints; it must succeed."""
    environ = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [*map(str, argv)], env=environ, cwd=cwd, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_linter_finds_nothing_by_its_strictest_profile(collections: Path) -> None:
    said = run(collections, "ansible-lint", "--profile", "production", "--offline")
    assert "Passed with production profile: 0 failure(s), 0 warning(s)" in said, said


@pytest.mark.parametrize(
    "playbook", sorted((ANSIBLE / "playbooks").glob("*.yml")), ids=lambda p: p.stem
)
def test_a_playbook_is_one_that_ansible_reads(collections: Path, playbook: Path) -> None:
    inventory = ANSIBLE / "inventory" / "example.yml"
    run(collections, "ansible-playbook", "--syntax-check", "-i", inventory, playbook)


@pytest.mark.parametrize("role", MINE)
def test_variables_are_those_of_the_specs_with_their_defaults(role: str) -> None:
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    described = {name: option["default"] for name, option in specs(role).items()}
    assert defaults == described
    assert all(option["description"] and option["type"] for option in specs(role).values())


@pytest.mark.parametrize("role", MINE)
def test_the_readme_has_every_variable_as_the_specs_say_it(role: str) -> None:
    written = (ROLES / role / "README.md").read_text()
    assert written == filled(role), "run: python -m tests.ansible.variables"


@pytest.mark.parametrize("role", MINE)
def test_ansible_doc_tells_of_a_role(collections: Path, role: str) -> None:
    said = run(collections, "ansible-doc", "-t", "role", f"kernlb.balancer.{role}")
    assert all(f"- {name}" in said for name in specs(role)), said


@pytest.mark.parametrize("module", ["kernlb_server", "kernlb_service"])
def test_ansible_doc_tells_of_a_module(collections: Path, module: str) -> None:
    said = run(collections, "ansible-doc", "-t", "module", f"kernlb.balancer.{module}")
    assert f"KERNLB.BALANCER.{module.upper()}" in said and "EXAMPLES:" in said, said


def test_it_is_built_and_installed_without_a_network(collections: Path, tmp_path: Path) -> None:
    """From a copy, so that nothing of a build is left in the checkout."""
    source = tmp_path / "source"
    shutil.copytree(ANSIBLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    run(collections, "ansible-galaxy", "collection", "build", source, "--output-path", tmp_path)
    [archive] = tmp_path.glob("kernlb-balancer-*.tar.gz")
    installed = tmp_path / "installed"
    alone = ["unshare", "--net"] if os.geteuid() == 0 else []
    run(
        installed,
        *alone,
        *("ansible-galaxy", "collection", "install", archive, "-p", installed, "--offline"),
    )
    said = run(installed, "ansible-doc", "-t", "role", "-l", "kernlb.balancer", cwd=tmp_path)
    assert all(f"kernlb.balancer.{role}" in said for role in MINE), said
