"""A machine under QEMU's emulation: Debian with its own kernel, on a tap of the site's bridge.

Slow (about ten times), and whole: IPVS, ipip, a reboot of the machine itself. A reset in the guest
boots the same kernel again inside the same QEMU; the disk stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from kernlb.lab.vm import EMULATED_CPU, KERNEL_LINE
from tests.machines import disk
from tests.machines.container import NETWORK
from tests.machines.machine import HOSTS, MachineError, Result, Shell

if TYPE_CHECKING:
    from tests.machines.site import Site

# Where this machine has other work to do, waiting longer helps.
PATIENCE = float(os.environ.get("KERNLB_PATIENCE", "1"))
BOOT_SECONDS = 300.0 * PATIENCE
SLOWER = 5 * PATIENCE  # than a container: limits that callers give are stretched by this
MEMORY = "1G"
BOOTED = "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running --wait"
# The network card is named as in containers.
LINK = """[Match]
MACAddress={mac}
[Link]
Name=host0
"""
# What systemd-networkd asks for in vain takes seconds to load.
UNWANTED = "cfg80211"
LINE = f"{KERNEL_LINE} rw audit=0 module_blacklist={UNWANTED} "
LINE += "systemd.show_status=0 systemd.unit=multi-user.target"


_begun: list[Emulated] | None = None  # inside `together`


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Machines added within boot side by side, and are up when this ends."""
    global _begun
    _begun = begun = []
    try:
        yield
    finally:
        _begun = None
    for machine in begun:
        machine.wait_up()


class Emulated:
    """Behind the `Machine` protocol. Limits given to `run` are those of a container."""

    kind = "emulated"
    has_ipvs = True

    def __init__(
        self,
        site: Site,
        shell: Shell,
        name: str,
        address: IPv4Address,
        address6: IPv6Address,
        suite: str,
    ) -> None:
        from tests.machines.site import BRIDGE

        self.name, self.address, self.address6 = name, address, address6
        self._shell = shell
        self._boot_id = ""
        self._place = Path(tempfile.mkdtemp(prefix="kernlb-machine", dir="/var/tmp"))
        number = int(address) & 0xFF
        mac, self._tap = f"52:54:00:77:00:{number:02x}", f"tap{number}"
        boot = disk.base(suite)
        disk.own(boot, self._place / "disk", self._files(site, mac))
        for line in (
            f"tuntap add dev {self._tap} mode tap",
            f"link set {self._tap} master {BRIDGE} up",
        ):
            site.run(["ip", *line.split()])
        self._qemu = subprocess.Popen(
            [*site.within, *self._command(boot, mac)],
            stdin=subprocess.DEVNULL,
            stdout=(self._place / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        if _begun is None:
            self.wait_up()
        else:
            _begun.append(self)

    def wait_up(self) -> None:
        """Wait until it has booted, anew after a reboot, and answers."""
        deadline = time.monotonic() + BOOT_SECONDS
        said = ""
        while (left := deadline - time.monotonic()) > 0 and self._qemu.poll() is None:
            try:
                result = self._shell.run(BOOTED, left, False)
            except MachineError as late:
                said = str(late)
                break
            said = result.out + result.err
            boot_id, _, state = result.out.strip().partition("\n")
            if state in ("running", "degraded") and boot_id != self._boot_id:
                self._boot_id = boot_id
                return
            time.sleep(0.5)
        words = f"{self.name} is not up after {BOOT_SECONDS:g} s: {said}\n{self._last_words()}"
        self.stop()
        raise MachineError(words)

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> Result:
        return self._shell.run(command, timeout * SLOWER, check)

    def put(self, source: Path, target: str) -> None:
        self._shell.put(source, target)

    def reboot(self) -> None:
        self.run("systemctl --no-block reboot", check=False)
        self._shell.forget()
        self.wait_up()

    def stop(self) -> None:
        self._shell.forget()
        self._qemu.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._qemu.wait(20)
        shutil.rmtree(self._place, ignore_errors=True)

    def _files(self, site: Site, mac: str) -> dict[str, str]:
        from tests.machines.site import GATEWAY

        network = NETWORK.format(address=self.address, address6=self.address6, gateway=GATEWAY)
        return {
            "/etc/hostname": f"{self.name}\n",
            "/etc/hosts": HOSTS.format(name=self.name),
            "/etc/machine-id": f"{uuid.uuid4().hex}\n",  # without, systemd enables all it finds
            "/etc/systemd/network/10-host0.link": LINK.format(mac=mac),
            "/etc/systemd/network/10-host0.network": network,
            "/root/.ssh/authorized_keys": site.key.with_suffix(".pub").read_text(),
        }

    def _command(self, boot: disk.Boot, mac: str) -> list[str]:
        # A guest must not outlive whoever waits for it, even when that one is killed.
        argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
        argv += ["-nodefaults", "-no-user-config", "-display", "none"]
        argv += ["-machine", "q35,sata=off,smbus=off", "-m", MEMORY, "-smp", "1"]
        argv += ["-accel", "tcg,tb-size=256", "-cpu", EMULATED_CPU]
        argv += ["-kernel", str(boot.kernel), "-initrd", str(boot.initramfs), "-append", LINE]
        argv += ["-drive", f"file={self._place}/disk,format=raw,if=virtio,cache=unsafe"]
        argv += ["-netdev", f"tap,id=net,ifname={self._tap},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,netdev=net,mac={mac}", "-device", "virtio-rng-pci"]
        argv += ["-chardev", f"file,id=console,path={self._place}/console.log"]
        return [*argv, "-serial", "chardev:console"]

    def _last_words(self) -> str:
        texts = [self._place / "console.log", self._place / "qemu.log"]
        return "\n".join(
            each.read_text(errors="replace")[-3000:] for each in texts if each.exists()
        )
