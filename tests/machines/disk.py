"""What an emulated machine boots from: a disk with a bare Debian, and its kernel beside it.

The tree of image.py, with Debian's own kernel and without what only waits at boot, becomes an ext4
file system, without any mount; the unpacked kernel and a small initramfs lie beside it, because
emulated, a packed kernel and Debian's general initramfs take longer than the rest of the boot. A
machine gets a copy of the disk, sparse, with its own files written into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernlb.lab import images
from tests.machines import image
from tests.machines.cpio import Archive

SIZE = "3G"
INODES = 90_000
# What has the disk and the network card be there before systemd starts.
MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtio_net", "virtio_rng")
PATIENCE = 300.0  # seconds
FIRST = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /root
/bin/busybox mount -t devtmpfs none /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod /$module; done
tries=0
until [ -b /dev/vda ] || [ $tries = 100 ]; do /bin/busybox sleep 0.1; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 -o noatime /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""
# Every program that starts costs a tenth of a second and more there: what serves hardware that is
# not there, a person at a console, a file system that nobody asks for, or a session of systemd for
# each connection by ssh, does not start.
MASKED = """
dev-hugepages.mount dev-mqueue.mount dpkg-db-backup.timer e2scrub_reap.service
modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service
modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service
serial-getty@ttyS0.service sys-fs-fuse-connections.mount sys-kernel-config.mount
sys-kernel-debug.mount sys-kernel-tracing.mount systemd-ask-password-console.path
systemd-ask-password-wall.path systemd-fsck-root.service systemd-pcrphase-initrd.service
systemd-pcrphase-sysinit.service systemd-pcrphase.service systemd-pstore.service
systemd-random-seed.service systemd-rfkill.socket systemd-update-utmp.service
systemd-update-utmp-runlevel.service systemd-tmpfiles-clean.timer kmod-static-nodes.service
systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount
systemd-logind.service dbus-org.freedesktop.login1.service user@.service
user-runtime-dir@.service
"""
GENERATORS = """
systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator
systemd-getty-generator systemd-gpt-auto-generator systemd-hibernate-resume-generator
systemd-integritysetup-generator systemd-rc-local-generator systemd-system-update-generator
systemd-sysv-generator systemd-veritysetup-generator
"""
# Of all devices only these are looked at when it boots; each costs the search for its driver.
TRIGGER = """[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=net --subsystem-match=block
"""
HOOK = r"""
rm -f "$1"/boot/initrd.img-* "$1"/initrd.img* "$1"/etc/kernel/postinst.d/initramfs-tools
echo '/dev/vda / ext4 noatime 0 1' >"$1/etc/fstab"
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """Files that QEMU takes; the disk is to be copied, not written."""

    disk: Path
    kernel: Path
    initramfs: Path


def base(suite: str = "bookworm") -> Boot:
    """The disk, kernel and initramfs of a bare Debian, made when they are not there yet."""
    os.environ["INITRD"] = "No"  # read by Debian's kernel packages: no general initramfs
    tree = image.base(suite, ("linux-image-amd64",), HOOK)
    wanted = "\n".join([SIZE, str(INODES), *MODULES, MASKED, GENERATORS, TRIGGER, FIRST])
    folder = tree.with_name(f"{tree.name}-disk-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}")
    boot = Boot(folder / "disk", folder / "vmlinux", folder / "initramfs")
    with (image.CACHE / "disk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            _make(tree, making)
            making.rename(folder)
    return boot


def own(boot: Boot, target: Path, files: Mapping[str, str]) -> None:
    """A machine's own copy of the disk at ``target``, with ``files`` (by absolute path) in it."""
    _do("cp", "--sparse=always", "--reflink=auto", str(boot.disk), str(target))
    _edit(target, files)


def _make(tree: Path, folder: Path) -> None:
    [kernel] = (tree / "boot").glob("vmlinuz-*")
    plain = images.unpacked(kernel.read_bytes())
    (folder / "vmlinux").write_bytes(plain if plain is not None else kernel.read_bytes())
    (folder / "initramfs").write_bytes(_initramfs(tree, kernel.name.removeprefix("vmlinuz-")))
    disk = folder / "disk"
    argv = ["mke2fs", "-q", "-t", "ext4", "-d", str(tree), "-N", str(INODES), "-m", "0"]
    _do(*argv, "-O", "^metadata_csum", "-E", "lazy_itable_init=0", str(disk), SIZE)
    masks = [f"system/{unit}" for unit in MASKED.split()] + [
        f"system-generators/{g}" for g in GENERATORS.split()
    ]
    links = [f"symlink /etc/systemd/{mask} /dev/null" for mask in masks]
    drop_in = "/etc/systemd/system/systemd-udev-trigger.service.d"
    folders = ["mkdir /etc/systemd/system-generators", f"mkdir {drop_in}"]
    _edit(disk, {f"{drop_in}/few.conf": TRIGGER}, [*folders, *links])


def _edit(disk: Path, files: Mapping[str, str], before: Sequence[str] = ()) -> None:
    """Have debugfs write ``files`` in ``disk``, after the lines of ``before``.

    It has no exit code to speak of; that a machine is not as it should be shows when it boots.
    """
    with tempfile.TemporaryDirectory(prefix="kernlb-files") as folder:
        lines = list(before)
        for number, (path, content) in enumerate(files.items()):
            source = Path(folder) / str(number)
            source.write_text(content)
            lines += [f"rm {path}", f"write {source} {path}"]
        script = Path(folder) / "script"
        script.write_text("\n".join(lines) + "\n")
        _do("debugfs", "-w", "-f", str(script), str(disk))


def _initramfs(tree: Path, release: str) -> bytes:
    """busybox, the modules in order of need, and a first process that mounts the disk."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise image.ImageError(
            "cannot make an initramfs: busybox is missing; try: make setup-tests"
        )
    listed = _do("modprobe", "-d", str(tree), "-S", release, "-a", "--show-depends", *MODULES)
    paths = [line.split()[1] for line in listed.splitlines() if line.startswith("insmod ")]
    archive = Archive()
    for folder in ("bin", "dev", "modules.d"):
        archive.folder(folder)
    archive.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.file("init", FIRST.encode(), 0o755)
    names = []
    for path in dict.fromkeys(paths):
        names.append(f"modules.d/{Path(path).name}")
        archive.file(names[-1], Path(path).read_bytes(), 0o644)
    archive.file("modules", "\n".join(names).encode() + b"\n", 0o644)
    return archive.packed()


def _do(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise image.ImageError(
            f"cannot make a disk: {argv[0]} ended with {done.returncode}: {done.stderr}"
        )
    return done.stdout
