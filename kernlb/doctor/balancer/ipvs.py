"""IPVS itself: its modules, its sysctls, what is in it, and who else writes to it."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.daemon import Daemon
from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Kernel, Processes
from kernlb.doctor.ipvs import Ipvs
from kernlb.doctor.ops import LoadModule, SetSysctl
from kernlb.doctor.services import Declared, names
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import DatapathKind, FwmarkKey

_VS = "net/ipv4/vs"
_DENSE = 4  # connections a hash bucket, above which looking one up shows
_OTHERS = ("keepalived", "ldirectord", "kube-proxy", "ipvsadmd", "surealived", "kube-router")


def _in_use(facts: Facts) -> bool:
    return next(facts[Declared].of(DatapathKind.IPVS), None) is not None


def _module(facts: Facts) -> Iterator[Finding]:
    modules = facts[Kernel].modules
    services = list(facts[Declared].of(DatapathKind.IPVS))
    if not services or modules.get("ip_vs"):
        return
    if "ip_vs" in modules:
        evidence = f"ip_vs is not loaded, and {names(services)} need it"
        yield Finding("kernel", evidence, fix=(LoadModule("ip_vs"),))
    else:
        evidence = f"kernel {facts[Kernel].release} has no ip_vs, and {names(services)} need it"
        yield Finding("kernel", evidence, ("install a kernel with IPVS, or use datapath xdp",))


def _scheduler(facts: Facts) -> Iterator[Finding]:
    kernel = facts[Kernel]
    if "ip_vs" not in kernel.modules:
        return  # ipvs-missing says it
    missing: dict[str, list[str]] = {}
    for service in facts[Declared].of(DatapathKind.IPVS):
        if f"ip_vs_{service.scheduler}" not in kernel.modules:
            missing.setdefault(str(service.scheduler), []).append(service.name)
    for scheduler, users in missing.items():
        evidence = f"kernel {kernel.release} has no ip_vs_{scheduler}, which {users[0]} wants"
        yield Finding(scheduler, evidence, (f"kernlb service edit {users[0]} --scheduler wlc",))


def _set(facts: Facts, name: str, bad: int, good: int) -> Iterator[Finding]:
    """An IPVS sysctl that is ``bad``; nothing where IPVS is not used."""
    sysctls = facts[Sysctls]
    if _in_use(facts) and sysctls.number(f"{_VS}/{name}") == bad:
        fix = (SetSysctl(f"{_VS}/{name}", str(good)),)
        yield Finding("IPVS", sysctls.seen(f"{_VS}/{name}"), fix=fix)


def _defence(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    for name in ("drop_entry", "drop_packet", "secure_tcp"):
        value = sysctls.number(f"{_VS}/{name}")
        if _in_use(facts) and value in (2, 3):
            fix = (SetSysctl(f"{_VS}/{name}", "1"),)
            yield Finding("IPVS", sysctls.seen(f"{_VS}/{name}"), fix=fix)


def _differs(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    for name, wanted in facts[Declared].ipvs_sysctls:
        now = sysctls.number(f"{_VS}/{name}")
        if now is not None and now != wanted:
            evidence = f"{sysctls.seen(f'{_VS}/{name}')}, and kernlb.yaml says {wanted}"
            fix = (SetSysctl(f"{_VS}/{name}", str(wanted)),)
            yield Finding(name, evidence, fix=fix)


def _backup_only(facts: Facts) -> Iterator[Finding]:
    sysctls, name = facts[Sysctls], f"{_VS}/backup_only"
    if _in_use(facts) and sysctls.number(name) and facts[Ipvs].backup:
        evidence = f"{sysctls.seen(name)}, and connection sync runs as backup"
        yield Finding("IPVS", evidence, fix=(SetSysctl(name, "0"),))


def _not_there(facts: Facts) -> Iterator[Finding]:
    services = list(facts[Declared].of(DatapathKind.IPVS))
    if not services:
        return
    keys = facts[Ipvs].keys
    states = {each.name: each.state for each in facts[Daemon].standings}
    for service in services:
        if service.key not in keys and states.get(service.name) != "failed":
            evidence = f"{service.key} is declared and IPVS has it not"
            yield Finding(f"service {service.name}", evidence, ("kernlb reload",))


def _foreign(facts: Facts) -> Iterator[Finding]:
    declared = {service.key for service in facts[Declared].of(DatapathKind.IPVS)}
    try:
        keys = facts[Ipvs].keys
    except UnreadError:
        if _in_use(facts):
            raise
        return
    for key in sorted(keys - declared, key=str):
        mark = isinstance(key, FwmarkKey)
        option = f"-f {key.fwmark}" if isinstance(key, FwmarkKey) else _ipvsadm(str(key))
        six = " -6" if mark and key.family == "ipv6" else ""
        remedy = (
            f"ipvsadm -D {option}{six}, or declare it and adopt it (kernlb service add --adopt)"
        )
        yield Finding(str(key), "IPVS has it, and no file declares it", (remedy,))


def _ipvsadm(key: str) -> str:
    protocol, _, endpoint = key.partition("/")
    return {"tcp": "-t", "udp": "-u"}.get(protocol, f"--{protocol}-service") + f" {endpoint}"


def _conflict(facts: Facts) -> Iterator[Finding]:
    for each in facts[Daemon].standings:
        if each.state == "conflict":
            why = each.error or "somebody else's service has its key"
            remedy = f"kernlb service adopt {each.name}, or remove the other one"
            yield Finding(f"service {each.name}", why, (remedy,))


def _table(facts: Facts) -> Iterator[Finding]:
    if not _in_use(facts):
        return
    ipvs = facts[Ipvs]
    if ipvs.buckets and ipvs.connections > _DENSE * ipvs.buckets:
        bits = max(12, (ipvs.connections // 2).bit_length())
        evidence = f"{ipvs.connections} connections in {ipvs.buckets} buckets"
        remedy = (
            f"echo 'options ip_vs conn_tab_bits={min(bits, 20)}' > /etc/modprobe.d/ip_vs.conf",
            "then load the module anew (which ends its connections), or restart the host",
        )
        yield Finding("IPVS", evidence, remedy)


def _others(facts: Facts) -> Iterator[Finding]:
    for process in facts[Processes].all:
        if process.name in _OTHERS:
            remedy = f"systemctl disable --now {process.name}, if it has virtual servers"
            yield Finding(process.name, f"it runs here as process {process.pid}", (remedy,))


CHECKS = (
    Check(
        id="ipvs-missing",
        severity=Severity.ERROR,
        means="The kernel has no IPVS, or has not loaded it.",
        why="Services of datapath ipvs cannot be made.",
        remedy="modprobe ip_vs",
        find=_module,
    ),
    Check(
        id="scheduler-missing",
        severity=Severity.ERROR,
        means="The kernel has not the scheduler of a service.",
        why="IPVS refuses the service.",
        remedy="kernlb service edit SERVICE --scheduler wlc",
        find=_scheduler,
    ),
    Check(
        id="expire-nodest-off",
        severity=Severity.WARNING,
        means="Connections to a server that was removed are dropped in silence.",
        why="With expire_nodest_conn 0, clients of a removed server wait for their own timeouts; "
        "with 1 the connection is reset at once and they come again.",
        remedy="sysctl -w net.ipv4.vs.expire_nodest_conn=1 (ipvs.sysctls in kernlb.yaml)",
        find=lambda facts: _set(facts, "expire_nodest_conn", 0, 1),
    ),
    Check(
        id="conn-reuse-off",
        severity=Severity.WARNING,
        means="A client's port that is used again goes to its old server.",
        why="With conn_reuse_mode 0, new connections from busy clients (proxies, pods) follow "
        "entries of old ones: also to servers that are drained, and past new ones.",
        remedy="sysctl -w net.ipv4.vs.conn_reuse_mode=1 (ipvs.sysctls in kernlb.yaml)",
        find=lambda facts: _set(facts, "conn_reuse_mode", 0, 1),
    ),
    Check(
        id="ipvs-drops-on-purpose",
        severity=Severity.WARNING,
        means="A defence of IPVS against floods is at work.",
        why="At 2 and 3, drop_entry, drop_packet and secure_tcp give up connections and packets "
        "at random, as they were told to when memory is short.",
        remedy="sysctl -w net.ipv4.vs.drop_packet=1",
        find=_defence,
    ),
    Check(
        id="ipvs-sysctl-differs",
        severity=Severity.WARNING,
        means="A sysctl of IPVS is not what kernlb.yaml says.",
        why="Somebody changed it after kernlbd had set it.",
        remedy="kernlb reload",
        find=_differs,
    ),
    Check(
        id="run-estimation-off",
        severity=Severity.NOTE,
        means="IPVS does not count rates.",
        why="With run_estimation 0 all rates of statistics are 0.",
        remedy="sysctl -w net.ipv4.vs.run_estimation=1",
        find=lambda facts: _set(facts, "run_estimation", 0, 1),
    ),
    Check(
        id="ipvs-backup-only",
        severity=Severity.ERROR,
        means="IPVS balances nothing, because it is a backup only.",
        why="With backup_only 1, a host whose connection sync runs as backup lets packets of "
        "services pass by.",
        remedy="sysctl -w net.ipv4.vs.backup_only=0",
        find=_backup_only,
    ),
    Check(
        id="service-not-in-kernel",
        severity=Severity.ERROR,
        means="A declared service is not in IPVS.",
        why="Clients are refused.",
        remedy="kernlb reload",
        find=_not_there,
    ),
    Check(
        id="service-foreign",
        severity=Severity.NOTE,
        means="IPVS has a service that is not kernlb's.",
        why="It is left alone. If it was forgotten, it balances to servers that nobody watches.",
        remedy="ipvsadm -D -t VIP:PORT, or kernlb service add --adopt",
        find=_foreign,
    ),
    Check(
        id="service-conflict",
        severity=Severity.ERROR,
        means="A declared service's address and port are somebody else's in IPVS.",
        why="kernlb does not touch what it did not make, so the declaration is not in force.",
        remedy="kernlb service adopt SERVICE",
        find=_conflict,
    ),
    Check(
        id="conn-table-small",
        severity=Severity.WARNING,
        means="IPVS has few hash buckets for its connections.",
        why="Each packet walks the list of its bucket: CPU time grows with the connections.",
        remedy="options ip_vs conn_tab_bits=20, in /etc/modprobe.d",
        find=_table,
    ),
    Check(
        id="other-manager",
        severity=Severity.WARNING,
        means="Another program that manages IPVS runs on this host.",
        why="Two that write the same table undo each other's work; kernlb repairs, and the other "
        "one repairs that.",
        remedy="systemctl disable --now PROGRAM",
        find=_others,
    ),
)
