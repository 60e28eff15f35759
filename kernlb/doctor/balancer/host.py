"""The host's own resources: backlogs, disks, and who may write what kernlb believes."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Place, Places, Queueing
from kernlb.doctor.network import Network
from kernlb.doctor.ops import SetMode, SetSysctl
from kernlb.doctor.sysctls import Sysctls

_BACKLOG = "net/core/netdev_max_backlog"
_DROPPED = 1e-4  # of what was taken in
_ROOM = 16 << 20  # bytes
_NEAR = 0.9
_OTHERS_WRITE, _OTHERS_READ = 0o002, 0o004


def _softnet(facts: Facts) -> Iterator[Finding]:
    queues = facts[Queueing]
    if queues.dropped and queues.dropped > _DROPPED * queues.processed:
        now = facts[Sysctls].number(_BACKLOG)
        evidence = f"{queues.dropped} packets did not fit since boot, {queues.processed} did"
        fix = (SetSysctl(_BACKLOG, str(max(now * 2, 10_000))),) if now is not None else ()
        yield Finding("backlog", evidence, (f"sysctl -w {_BACKLOG.replace('/', '.')}=10000",), fix)


def _neighbours(facts: Facts) -> Iterator[Finding]:
    network, sysctls = facts[Network], facts[Sysctls]
    for version in (4, 6):
        name = f"net/ipv{version}/neigh/default/gc_thresh3"
        most = sysctls.number(name)
        count = sum(
            each.address.version == version and each.state not in ("noarp", "permanent", "none")
            for each in network.neighbours
        )
        if most and count >= _NEAR * most:
            evidence = f"{count} neighbours, and {sysctls.seen(name)}"
            fix = (SetSysctl(name, str(max(most * 4, 8192))),)
            yield Finding(f"IPv{version}", evidence, fix=fix)


def _full(facts: Facts) -> Iterator[Finding]:
    place = facts[Places].of("state")
    if place is None or not place.is_there:
        return
    if place.free < _ROOM or place.free_nodes == 0:
        room = f"{place.free >> 20} MiB" if place.free_nodes else "no inode"
        remedy = f"df -h {place.path}; du -xsh {place.path}/.."
        yield Finding(place.path, f"{room} left on its file system", (remedy,))


def _read_only(facts: Facts) -> Iterator[Finding]:
    place = facts[Places].of("state")
    if place is not None and place.read_only:
        evidence = "its file system is mounted read-only"
        yield Finding(place.path, evidence, (f"dmesg | tail; mount -o remount,rw {place.path}",))


def _missing(facts: Facts) -> Iterator[Finding]:
    place = facts[Places].of("services")
    if place is not None and not place.is_there:
        yield Finding(place.path, "there is no such folder", (f"mkdir -p {place.path}",))


def _writable(facts: Facts) -> Iterator[Finding]:
    for place in facts[Places].all:
        if place.what != "socket" and place.is_there and place.mode & _OTHERS_WRITE:
            mode = place.mode & 0o7777
            fix = (SetMode(place.path, mode & ~_OTHERS_WRITE),)
            yield Finding(place.path, f"its mode is {mode:04o}: anybody may write to it", fix=fix)


def _socket(facts: Facts) -> Iterator[Finding]:
    place: Place | None = facts[Places].of("socket")
    if place is not None and place.is_there and place.mode & (_OTHERS_WRITE | _OTHERS_READ):
        mode = place.mode & 0o7777
        fix = (SetMode(place.path, mode & 0o770),)
        yield Finding(place.path, f"its mode is {mode:04o}: anybody may knock", fix=fix)


CHECKS = (
    Check(
        id="backlog-drops",
        severity=Severity.WARNING,
        means="CPUs dropped packets because their backlogs were full.",
        why="Packets that come in by veth, tunnels, or drivers without queues of their own wait "
        "there; a dropped one is a retransmission.",
        remedy="sysctl -w net.core.netdev_max_backlog=10000",
        find=_softnet,
    ),
    Check(
        id="neighbours-many",
        severity=Severity.WARNING,
        means="The table of neighbours is almost full.",
        why="When it is, servers that are known are forgotten for others: packets wait or are "
        "dropped (neighbour table overflow).",
        remedy="sysctl -w net.ipv4.neigh.default.gc_thresh3=8192",
        find=_neighbours,
    ),
    Check(
        id="state-disk-full",
        severity=Severity.ERROR,
        means="There is no room left for what kernlbd keeps.",
        why="Drains and verdicts are not written down, and a restart forgets them.",
        remedy="df -h /var/lib/kernlb",
        find=_full,
    ),
    Check(
        id="state-read-only",
        severity=Severity.ERROR,
        means="What kernlbd keeps is on a read-only file system.",
        why="Drains and verdicts are not written down, and a restart forgets them. A disk that "
        "became read-only by itself is about to fail.",
        remedy="mount -o remount,rw FILESYSTEM",
        find=_read_only,
    ),
    Check(
        id="services-folder-missing",
        severity=Severity.NOTE,
        means="There is no folder of services.",
        why="No service is declared. kernlb service add makes it.",
        remedy="mkdir -p /etc/kernlb/services.d",
        find=_missing,
    ),
    Check(
        id="files-writable-by-all",
        severity=Severity.ERROR,
        means="Anybody on this host may change what kernlb believes.",
        why="Whoever writes there says where clients' connections go.",
        remedy="chmod o-w PATH",
        find=_writable,
    ),
    Check(
        id="socket-open-to-all",
        severity=Severity.WARNING,
        means="The control socket can be opened by everybody.",
        why="kernlbd checks who calls, and that should not be all that stands between.",
        remedy="chmod 0660 /run/kernlb/control.sock",
        find=_socket,
    ),
)
