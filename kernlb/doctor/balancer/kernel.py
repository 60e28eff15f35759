"""Whether this kernel runs BPF as XDP needs it."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.balancer.used import xdp_interfaces
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Kernel, Places
from kernlb.doctor.ops import MountBpf, SetSysctl
from kernlb.doctor.sysctls import Sysctls

OLDEST = (6, 1)


def _bpffs(facts: Facts) -> Iterator[Finding]:
    if xdp_interfaces(facts) and not facts[Places].bpffs:
        yield Finding("/sys/fs/bpf", "the bpf file system is not mounted there", fix=(MountBpf(),))


def _kernel(facts: Facts) -> Iterator[Finding]:
    kernel = facts[Kernel]
    if xdp_interfaces(facts) and kernel.version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        yield Finding("kernel", f"this is {kernel.release}; {wanted} is the oldest that is tried")


def _jit(facts: Facts) -> Iterator[Finding]:
    sysctls, name = facts[Sysctls], "net/core/bpf_jit_enable"
    if xdp_interfaces(facts) and sysctls.number(name) == 0:
        yield Finding("kernel", sysctls.seen(name), fix=(SetSysctl(name, "1"),))


def _unprivileged(facts: Facts) -> Iterator[Finding]:
    sysctls, name = facts[Sysctls], "kernel/unprivileged_bpf_disabled"
    if xdp_interfaces(facts) and sysctls.number(name) == 0:
        yield Finding("kernel", sysctls.seen(name), fix=(SetSysctl(name, "2"),))


CHECKS = (
    Check(
        id="bpffs-missing",
        severity=Severity.ERROR,
        means="The bpf file system is not mounted.",
        why="XDP's programs and tables are kept there over a restart of kernlbd; without it"
        " they cannot be loaded.",
        remedy="mount -t bpf bpf /sys/fs/bpf",
        find=_bpffs,
    ),
    Check(
        id="kernel-old",
        severity=Severity.ERROR,
        means="The kernel is older than XDP needs.",
        why="The program uses what 6.1 brought: older kernels refuse it.",
        remedy="install Linux 6.1 or newer, or use datapath ipvs",
        find=_kernel,
    ),
    Check(
        id="bpf-jit-off",
        severity=Severity.WARNING,
        means="The kernel interprets BPF.",
        why="XDP then costs several times the CPU.",
        remedy="sysctl -w net.core.bpf_jit_enable=1",
        find=_jit,
    ),
    Check(
        id="bpf-unprivileged",
        severity=Severity.NOTE,
        means="Anybody on this host may load BPF programs.",
        why="Nothing of kernlb needs it, and it has been a way to root more than once.",
        remedy="sysctl -w kernel.unprivileged_bpf_disabled=2",
        find=_unprivileged,
    ),
)
