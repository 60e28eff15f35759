"""A bare Debian, once per suite: what machines are made of.

Built by mmdebstrap from the archive that this machine's apt is set up for, and kept in
.cache/machines. Machines have no way to that archive: the packages that the stories install lie in
the image itself, as an apt source of their own (`file:/var/local/archive`).
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "machines"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PATIENCE = 900.0  # seconds

# What a machine has after an installation from Debian's installer without any task, roughly, and
# python3-apt and sudo, which Ansible asks for.
BARE = """ca-certificates dbus init iproute2 iputils-ping kmod less libpam-systemd nftables
    openssh-server procps python3 python3-apt sudo systemd systemd-sysv udev"""
# What stories install: dependencies of the package, servers, oracles.
ARCHIVE = "curl ipvsadm keepalived libbpf1 man-db nginx-light rsync tcpdump"

PREPARE = r"""
set -e
mkdir -p "$1/var/local/archive"
chroot "$1" apt-get -qq -o Dir::Cache::Archives=/var/local/archive install --download-only -y \
    --no-install-recommends $ARCHIVE
rm -rf "$1/var/local/archive/partial" "$1/var/local/archive/lock"
(cd "$1/var/local/archive" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)
rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/var/lib/apt/lists/*
echo 'deb [trusted=yes] file:/var/local/archive ./' >"$1/etc/apt/sources.list"
chroot "$1" apt-get -qq update
chroot "$1" systemctl -q enable systemd-networkd.service ssh.service
chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer \
    fstrim.timer systemd-networkd-wait-online.service getty@tty1.service console-getty.service
rm -f "$1/etc/machine-id" "$1/var/lib/dbus/machine-id"; : >"$1/etc/machine-id"
mkdir -p "$1/root/.ssh"; chmod 700 "$1/root/.ssh"
"""


class ImageError(RuntimeError):
    """No image; the message says what was tried."""


def base(suite: str = "bookworm", extra: Sequence[str] = (), hook: str = "") -> Path:
    """The tree of a bare Debian, made when it is not there yet. Not to be written.

    ``extra`` packages are installed besides; ``hook`` is a script run last, the tree its ``$1``.
    """
    wanted = "\n".join([suite, *BARE.split(), *ARCHIVE.split(), PREPARE, *extra, hook])
    tree = CACHE / f"{suite}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if tree.exists():
        return tree
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            _build(suite, tree, extra, hook)
    return tree


def _build(suite: str, tree: Path, extra: Sequence[str], hook: str) -> None:
    if shutil.which("mmdebstrap") is None:
        raise ImageError(
            "cannot make a Debian machine: mmdebstrap is missing; try: make setup-tests"
        )
    making = tree.with_name(tree.name + ".new")
    shutil.rmtree(making, ignore_errors=True)
    script = CACHE / f"{suite}-prepare.sh"
    script.write_text(f"export ARCHIVE='{ARCHIVE}'\n{PREPARE}\n{hook}")
    argv = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--include={','.join([*BARE.split(), *extra])}",
    ]
    argv += ["--skip=cleanup/apt/lists", f'--customize-hook=sh {script} "$1"', "--format=directory"]
    argv += [suite, str(making), "-"]
    done = subprocess.run(
        argv, input=_sources(suite), text=True, capture_output=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        shutil.rmtree(making, ignore_errors=True)
        raise ImageError(f"cannot make a Debian {suite}: mmdebstrap failed:\n{done.stderr[-3000:]}")
    making.rename(tree)


def _sources(suite: str) -> str:
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    return f"deb {signed}{_configured()} {suite} main\n"


def _configured() -> str:
    """The address of Debian's archive, as this machine's own apt has it."""
    wanted = "$(REPO_URI) $(ORIGIN) $(RELEASE)"
    argv = ["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    for uri, origin, suite in (line.split() for line in listed.splitlines()):
        if origin == "Debian" and not suite.endswith(("-security", "/updates")):
            return uri
    raise ImageError("cannot make a Debian machine: apt here is not set up for Debian's archive")
