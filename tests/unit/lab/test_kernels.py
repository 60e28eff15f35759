"""Which installed kernel would be booted, and why another would not."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from kernlb.lab.images import unpacked
from kernlb.lab.kernels import NEEDED_MODULES, newest_bootable


def install(root: Path, release: str, *modules: str) -> None:
    (root / "boot").mkdir(exist_ok=True)
    (root / f"boot/vmlinuz-{release}").touch()
    tree = root / "modules" / release
    tree.mkdir(parents=True)
    (tree / "modules.dep").write_text("".join(f"kernel/{name}.ko.xz:\n" for name in modules))


def test_the_newest_release_wins_by_number_not_by_letter(tmp_path: Path) -> None:
    install(tmp_path, "6.9.0-1-amd64", *NEEDED_MODULES)
    install(tmp_path, "6.12.0-1-amd64", *NEEDED_MODULES)
    found = newest_bootable(tmp_path / "boot", tmp_path / "modules")
    assert found.release == "6.12.0-1-amd64"


def test_a_flavour_without_9p_is_passed_over(tmp_path: Path) -> None:
    install(tmp_path, "6.12.0-1-cloud-amd64", "ip_vs")
    install(tmp_path, "6.1.0-1-amd64", *NEEDED_MODULES)
    found = newest_bootable(tmp_path / "boot", tmp_path / "modules")
    assert found.release == "6.1.0-1-amd64"


def test_a_module_built_in_counts_as_there(tmp_path: Path) -> None:
    install(tmp_path, "6.8.0-1-generic", *[m for m in NEEDED_MODULES if m != "virtio_pci"])
    builtin = tmp_path / "modules/6.8.0-1-generic/modules.builtin"
    builtin.write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    assert newest_bootable(tmp_path / "boot", tmp_path / "modules").release == "6.8.0-1-generic"


def test_the_refusal_names_what_each_kernel_lacks(tmp_path: Path) -> None:
    install(tmp_path, "6.12.0-1-cloud-amd64", "ip_vs", "virtio_pci")
    with pytest.raises(LookupError, match=r"6\.12\.0-1-cloud-amd64 lacks 9p, 9pnet_virtio"):
        newest_bootable(tmp_path / "boot", tmp_path / "modules")


def test_no_kernel_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="vmlinuz"):
        newest_bootable(tmp_path, tmp_path)


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_a_packed_kernel_is_unpacked(pack: object) -> None:
    kernel = b"\x7fELF" + bytes(1000)
    assert callable(pack)
    assert unpacked(b"boot sector" + pack(kernel) + b"what follows it") == kernel


def test_what_cannot_be_unpacked_is_left_as_it_is() -> None:
    assert unpacked(b"MZ no kernel that we know of") is None
    assert unpacked(b"\x1f\x8b\x08 looks packed and is not") is None
