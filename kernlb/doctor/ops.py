"""What can be done about a finding, as values. Each prints as the command that does the same.

Only what is safe while traffic flows is an op: a finding without one has its remedy in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """``name`` with slashes (net/ipv4/conf/eth0.5/rp_filter): names of interfaces have dots."""

    name: str
    value: str

    def __str__(self) -> str:
        value = f'"{self.value}"' if " " in self.value else self.value
        return f"sysctl -w {written(self.name)}={value}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """``address`` with its prefix length, on ``interface``. IPv6: without a search for others."""

    address: IPv4Interface | IPv6Interface
    interface: str

    def __str__(self) -> str:
        nodad = " nodad" if self.address.version == 6 else ""
        return f"ip addr add {self.address} dev {self.interface}{nodad}"


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    address: IPv4Interface | IPv6Interface
    interface: str

    def __str__(self) -> str:
        return f"ip addr del {self.address} dev {self.interface}"


@dataclass(frozen=True, slots=True)
class SetUp:
    """Switch an interface on."""

    interface: str

    def __str__(self) -> str:
        return f"ip link set {self.interface} up"


@dataclass(frozen=True, slots=True)
class SetMtu:
    interface: str
    mtu: int

    def __str__(self) -> str:
        return f"ip link set {self.interface} mtu {self.mtu}"


@dataclass(frozen=True, slots=True)
class SwitchOff:
    """A feature of a driver, as ethtool names it: lro or tx."""

    interface: str
    feature: str

    def __str__(self) -> str:
        return f"ethtool -K {self.interface} {self.feature} off"


@dataclass(frozen=True, slots=True)
class SetChannels:
    """Queues of a network card; ``kind`` is combined or rx."""

    interface: str
    queues: int
    kind: str = "combined"

    def __str__(self) -> str:
        return f"ethtool -L {self.interface} {self.kind} {self.queues}"


@dataclass(frozen=True, slots=True)
class LoadModule:
    name: str

    def __str__(self) -> str:
        return f"modprobe {self.name}"


@dataclass(frozen=True, slots=True)
class MountBpf:
    path: str = "/sys/fs/bpf"

    def __str__(self) -> str:
        return f"mount -t bpf bpf {self.path}"


@dataclass(frozen=True, slots=True)
class RemoveFile:
    path: str

    def __str__(self) -> str:
        return f"rm -f {self.path}"


@dataclass(frozen=True, slots=True)
class SetMode:
    """Permissions of a file or folder."""

    path: str
    mode: int

    def __str__(self) -> str:
        return f"chmod {self.mode:04o} {self.path}"


Op = (
    SetSysctl
    | AddAddress
    | RemoveAddress
    | SetUp
    | SetMtu
    | SwitchOff
    | SetChannels
    | LoadModule
    | MountBpf
    | RemoveFile
    | SetMode
)


def written(name: str) -> str:
    """A sysctl's name as people write it: dots, unless a part of it has a dot itself."""
    return name if "." in name else name.replace("/", ".")
