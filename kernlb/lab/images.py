"""What a stock kernel needs before QEMU can boot it fast: a plain image and an initramfs.

Emulated, a compressed kernel spends seven seconds unpacking itself, so it is unpacked here once.
The initramfs comes from virtme-ng, which knows the modules that a 9p root needs. Both are kept in
the cache folder under a name made of what they were made from, so a new kernel makes new ones.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from kernlb.lab.kernels import StockKernel

XZ, GZIP, ZSTD = b"\xfd7zXZ\x00", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class BootImages:
    kernel: Path
    initramfs: Path


def prepare(kernel: StockKernel, cache: Path) -> BootImages:
    """The images of this kernel, made when the cache has none. Raises OSError, RuntimeError."""
    stat = kernel.image.stat()
    origin = f"{kernel.image} {stat.st_mtime_ns} {stat.st_size} {version('virtme-ng')}"
    folder = cache / f"{kernel.release}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    images = BootImages(folder / "vmlinux", folder / "initramfs")
    if not images.kernel.exists():
        plain = unpacked(kernel.image.read_bytes())
        _place(images.kernel, plain if plain is not None else kernel.image.read_bytes())
    if not images.initramfs.exists():
        _place(images.initramfs, _make_initramfs(kernel))
    return images


def unpacked(image: bytes) -> bytes | None:
    """The ELF kernel inside a bzImage, or None where its packing is not one we can undo."""
    for magic, unpack in ((XZ, _unxz), (ZSTD, _unzstd), (GZIP, _gunzip)):
        start = image.find(magic)
        if start < 0:
            continue
        plain = unpack(image[start:])
        if plain is not None and plain.startswith(ELF):
            return plain
    return None


def _unxz(packed: bytes) -> bytes | None:
    try:
        return lzma.LZMADecompressor().decompress(packed)
    except lzma.LZMAError:
        return None


def _gunzip(packed: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(wbits=31).decompress(packed)
    except zlib.error:
        return None


def _unzstd(packed: bytes) -> bytes | None:
    if shutil.which("zstd") is None:
        return None
    # zstd complains about what follows the frame, after having written all of it.
    done = subprocess.run(
        ["zstd", "-dcq"], input=packed, capture_output=True, check=False, timeout=120
    )
    return done.stdout


def _make_initramfs(kernel: StockKernel) -> bytes:
    tool = Path(sys.executable).parent / "virtme-run"
    target = f"/tmp/kernlb-initramfs.{os.getpid()}"
    argv = [str(tool), "--kimg", str(kernel.image), "--mods", "auto", "--disable-kvm"]
    argv += ["--save-initramfs", target, "--dry-run"]
    path = f"{tool.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "PATH": path},
        )
        if done.returncode:
            raise RuntimeError(
                f"cannot make an initramfs for {kernel.release}: {done.stderr.strip()}"
            )
        return Path(target).read_bytes()
    finally:
        Path(target).unlink(missing_ok=True)


def _place(target: Path, content: bytes) -> None:
    """Write and rename, so that two runs at once never see half a file."""
    partial = target.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(target)
