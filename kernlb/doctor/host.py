"""What of the host itself matters to a balancer: clock, files, processes, the kernel. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from kernlb.model import IPAddress


@dataclass(frozen=True, slots=True)
class Kernel:
    """``modules``: by those of interest, True where it is loaded or built in, False where it can
    be loaded, and absent where this kernel has it not."""

    release: str
    cpus: int
    modules: Mapping[str, bool] = field(default_factory=dict)

    @property
    def version(self) -> tuple[int, int]:
        major, _, rest = self.release.partition(".")
        minor = rest.partition(".")[0].partition("-")[0].rstrip("+")
        return int(major), int(minor) if minor.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Clock:
    """``now`` in seconds since the epoch; ``boot``: what the clock says now of the moment at which
    this kernel started."""

    now: float
    boot: float
    synchronised: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for clients. ``address`` unspecified: on every address."""

    protocol: str  # tcp or udp
    address: IPAddress
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol}/{host}:{self.port}"

    def takes(self, protocol: str, address: IPAddress, port: int) -> bool:
        """True if packets to there would be its own."""
        return (
            self.protocol == protocol
            and self.port == port
            and (self.address in (address, _ANY[address.version]) or self.address == _ANY[6])
        )


_ANY: dict[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}


@dataclass(frozen=True, slots=True)
class Listeners:
    all: tuple[Listener, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Processes:
    """Those of this network namespace."""

    all: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonProcess:
    """Of the process that answered: limits of descriptors, those in use, and when it started in
    seconds after boot."""

    pid: int
    descriptors: int
    most_descriptors: int
    started: float


@dataclass(frozen=True, slots=True)
class Queueing:
    """Packets that CPUs took from their backlogs, and that did not fit, since boot."""

    processed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Of TcpExt: this network namespace's, since it is there."""

    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A file, folder or socket that kernlb uses. ``mode`` 0 where it is not there. ``free`` bytes
    and ``size`` of its file system."""

    path: str
    what: str
    mode: int = 0
    owner: int = 0
    folder: bool = False
    read_only: bool = False
    free: int = 0
    size: int = 0
    free_nodes: int = 1

    @property
    def is_there(self) -> bool:
        return self.mode != 0


@dataclass(frozen=True, slots=True)
class Places:
    """``bpffs``: /sys/fs/bpf is the bpf file system here."""

    all: tuple[Place, ...] = ()
    bpffs: bool = True

    def of(self, what: str) -> Place | None:
        return next((place for place in self.all if place.what == what), None)


def address_of(text: str) -> IPAddress:
    """Of /proc/net/tcp: words of the host's byte order (little endian), in hexadecimal."""
    words = bytes.fromhex(text)
    swapped = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    address = ip_address(swapped)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
