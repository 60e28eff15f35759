"""What the Vagrantfile makes, by Vagrant itself; no machine is started.

Vagrant runs in a home of its own. VirtualBox is a stand-in that tells its version, as is the
plugin vagrant-qemu, by the names of its options (home_vagrantfile.rb); libvirt's plugin is real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VAGRANT = ROOT / "vagrant"
PROVIDERS = ("libvirt", "virtualbox", "qemu")
PATIENCE = 180.0  # seconds; Ruby takes a few, on a busy machine many
VERSION_ONLY = "#!/bin/sh\necho 7.0.20r163906\n"

Run = Callable[..., subprocess.CompletedProcess[str]]

HERE = os.environ.get("CI") != "true"  # there, what is missing fails
needs_vagrant = pytest.mark.skipif(
    HERE and not shutil.which("vagrant"), reason="vagrant is not installed"
)
needs_ruby = pytest.mark.skipif(HERE and not shutil.which("ruby"), reason="ruby is not installed")


@pytest.fixture
def vagrant(tmp_path: Path) -> Run:
    """Call vagrant in the project's folder; all that it writes goes to a temporary one."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    shutil.copy(Path(__file__).with_name("home_vagrantfile.rb"), home / "Vagrantfile")
    (programs / "VBoxManage").write_text(VERSION_ONLY)
    (programs / "VBoxManage").chmod(0o755)
    package = tmp_path / "kernlb_9_amd64.deb"
    package.write_bytes(b"")

    def run(*words: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("KERNLB_")
        }
        environment |= {
            "HOME": str(tmp_path),
            "VAGRANT_HOME": str(home),
            "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KERNLB_DEB": str(package),
            **environ,
        }
        done = subprocess.run(
            ["vagrant", *words],
            cwd=VAGRANT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def machines(vagrant: Run) -> Callable[..., dict[str, Any]]:
    """What would be made, by provider and name of the machine. All of it is valid."""

    def tell(*providers: str, **environ: str) -> dict[str, Any]:
        found = vagrant("machines", *providers, **environ).stdout
        told: dict[str, Any] = json.loads(found.splitlines()[-1])
        assert list(told) == list(providers)
        assert [
            each["errors"] for made in told.values() for each in made.values() if each["errors"]
        ] == []
        return told

    return tell


@needs_ruby
def test_the_vagrantfile_is_ruby() -> None:
    done = subprocess.run(
        ["ruby", "-wc", str(VAGRANT / "Vagrantfile")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@needs_vagrant
@pytest.mark.parametrize("vms", ["1", "3"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_both_variants_are_valid(vagrant: Run, provider: str, vms: str) -> None:
    done = vagrant("validate", VAGRANT_DEFAULT_PROVIDER=provider, KERNLB_VMS=vms)
    assert "validated successfully" in done.stdout


@needs_vagrant
def test_an_option_that_the_provider_does_not_have_is_found(vagrant: Run, tmp_path: Path) -> None:
    """So that the test before this one can fail."""
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    text = (VAGRANT / "Vagrantfile").read_text().replace("vm.net_device =", "vm.net_devise =")
    (wrong / "Vagrantfile").write_text(text)
    done = vagrant("validate", check=False, VAGRANT_DEFAULT_PROVIDER="qemu", VAGRANT_CWD=str(wrong))
    assert done.returncode != 0
    assert "net_devise" in done.stdout + done.stderr


@needs_vagrant
def test_one_machine_is_balancer_and_servers_at_once(
    machines: Callable[..., dict[str, Any]],
) -> None:
    found = machines("libvirt", KERNLB_ANSIBLE="host", KERNLB_DATAPATHS="xdp")["libvirt"]
    assert list(found) == ["balancer"]
    balancer = found["balancer"]
    assert balancer["hostname"] == "balancer"
    assert balancer["box"] == "debian/bookworm64"
    assert not [kind for kind, _ in balancer["networks"] if kind == "private_network"]
    farm, smoke = balancer["provisioners"]
    assert farm["type"] == "ansible"
    assert farm["groups"] == {"balancers": ["balancer"], "backends": ["balancer"]}
    assert farm["extra_vars"]["farm_datapaths"] == ["xdp"]
    assert farm["extra_vars"]["farm_vrrp"] is False
    assert farm["extra_vars"]["kernlb_deb"].endswith("/kernlb_9_amd64.deb")
    assert (smoke["name"], smoke["run"]) == ("smoke", "never")


@needs_vagrant
def test_three_machines_share_a_segment(machines: Callable[..., dict[str, Any]]) -> None:
    made = machines(*PROVIDERS, KERNLB_VMS="3", KERNLB_BOX="somebody/else", KERNLB_ANSIBLE="host")
    for provider, found in made.items():
        assert list(found) == ["balancer1", "balancer2", "backends"]
        told = {name: machine["provisioners"] for name, machine in found.items()}
        assert [len(each) for each in told.values()] == [2, 2, 1]  # a smoke test needs kernlbd
        variables = told["backends"][0]["host_vars"]
        assert [each["farm_number"] for each in variables.values()] == [1, 2, 3]
        assert len({each["farm_address"] for each in variables.values()}) == 3
        for name, machine in found.items():
            farm = told[name][0]
            assert machine["box"] == "somebody/else"
            assert farm["groups"] == {
                "balancers": ["balancer1", "balancer2"],
                "backends": ["backends"],
            }
            assert farm["extra_vars"]["farm_vrrp"] is True
            has_card(provider, machine, variables[name]["farm_uplink_mac"])


def has_card(provider: str, machine: dict[str, Any], mac: str) -> None:
    """On the segment, and left alone by Vagrant."""
    if provider == "qemu":  # it passes over `network`
        assert f"mac={mac}" in machine["options"]["extra_qemu_args"]
        return
    (network,) = (each for kind, each in machine["networks"] if kind == "private_network")
    assert network["mac"].lower() in (mac.replace(":", ""), mac)
    assert network["auto_config"] is False


@needs_vagrant
def test_without_ansible_on_the_host_it_runs_in_the_machine(
    machines: Callable[..., dict[str, Any]],
) -> None:
    balancer = machines("libvirt", KERNLB_ANSIBLE="guest")["libvirt"]["balancer"]
    package, farm, _ = balancer["provisioners"]
    assert (package["type"], farm["type"]) == ("file", "ansible_local")
    assert farm["extra_vars"]["kernlb_deb"] == "/tmp/kernlb_9_amd64.deb"
    assert set(balancer["folders"]) == {"/opt/kernlb-farm/ansible", "/opt/kernlb-farm/vagrant"}


@needs_vagrant
def test_a_missing_package_is_said_in_one_sentence(vagrant: Run) -> None:
    done = vagrant(
        "up", "--provider", "qemu", check=False, KERNLB_DEB="/nowhere/kernlb_1_amd64.deb"
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "There is no kernlb package at /nowhere/kernlb_1_amd64.deb: build one with `make dist` "
        "in the checkout, or name one in KERNLB_DEB."
    )
    vagrant("validate", VAGRANT_DEFAULT_PROVIDER="qemu", KERNLB_DEB="/nowhere/kernlb_1_amd64.deb")


@needs_vagrant
def test_another_number_of_machines_is_refused(vagrant: Run) -> None:
    done = vagrant("validate", check=False, KERNLB_VMS="2")
    assert done.returncode == 1
    assert done.stderr.strip() == "KERNLB_VMS is 2: it must be 1 or 3"
