"""kernlbd: whether it runs, what it says of itself, and whether it has what it needs."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.daemon import Daemon
from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Clock, DaemonProcess
from kernlb.doctor.ops import RemoveFile, SetSysctl
from kernlb.doctor.services import Declared
from kernlb.doctor.sysctls import Sysctls

_DRIFT = 3  # repairs by one run of the daemon, from which on they are no accident
_AUDITS = 3  # intervals that may pass without a whole audit
_LATE = 1.0  # seconds
_JUMP = 5.0  # seconds
_SPARE = 64  # descriptors beside those in use and those of probes
_FEW_PORTS = 1024
_RANGE = "net/ipv4/ip_local_port_range"


def _silent(facts: Facts) -> Iterator[Finding]:
    daemon = facts[Daemon]
    if daemon.denied:
        raise UnreadError(daemon.why)
    if not daemon.answers and (services := facts[Declared].services):
        evidence = f"{daemon.why}; {len(services)} declared services"
        yield Finding("kernlbd", evidence, ("systemctl start kernlbd",))


def _stale(facts: Facts) -> Iterator[Finding]:
    daemon = facts[Daemon]
    if daemon.refusing:
        evidence = f"{daemon.socket} is there, and nobody listens on it"
        yield Finding(daemon.socket, evidence, fix=(RemoveFile(daemon.socket),))


def _answering(facts: Facts) -> Daemon:
    """Raises UnreadError where it does not answer, for checks of what it says."""
    daemon = facts[Daemon]
    if not daemon.answers:
        raise UnreadError(daemon.why)
    return daemon


def _faults(facts: Facts) -> Iterator[Finding]:
    for fault in facts[Declared].faults:
        yield Finding("files", fault, ("mend the file, then: kernlb reload",))


def _failed(facts: Facts) -> Iterator[Finding]:
    for each in _answering(facts).standings:
        if each.state == "failed":
            why = each.error or "the kernel refused it"
            yield Finding(f"service {each.name}", why, (f"kernlb service show {each.name}",))


def _nobody(facts: Facts) -> Iterator[Finding]:
    for each in _answering(facts).standings:
        if not each.serving and each.state != "invalid":
            what = f"none of its {each.servers} servers serves" if each.servers else "it has none"
            yield Finding(f"service {each.name}", what, (f"kernlb health {each.name}",))


def _datapath(facts: Facts) -> Iterator[Finding]:
    for kind, why in _answering(facts).datapaths_missing:
        users = [each for each in facts[Declared].services if each.datapath == kind]
        if users:
            evidence = f"{why}; service {users[0].name} wants it"
            yield Finding(f"datapath {kind}", evidence, ("kernlb status",))


def _drift(facts: Facts) -> Iterator[Finding]:
    daemon = _answering(facts)
    if daemon.drift_repaired >= _DRIFT:
        last = f"; last: {daemon.drift_events[-1]}" if daemon.drift_events else ""
        evidence = f"{daemon.drift_repaired} services were changed behind its back{last}"
        yield Finding("services", evidence, ("kernlb events; stop whoever writes to them",))


def _audit(facts: Facts) -> Iterator[Finding]:
    daemon, now = _answering(facts), facts[Clock].now
    since = now - max(daemon.last_audit, daemon.started)
    if since > _AUDITS * daemon.audit_interval + 10:
        evidence = f"the last whole one ended {since:.0f} s ago; one is due every "
        evidence += f"{daemon.audit_interval:g} s"
        yield Finding("audit", evidence, ("kernlb status; journalctl -u kernlbd",))


def _late(facts: Facts) -> Iterator[Finding]:
    daemon = _answering(facts)
    if daemon.suspended:
        yield Finding("probes", "verdicts are suspended: kernlbd gets too little time", _BUSY)
    elif daemon.late_p99 > _LATE:
        evidence = f"1 in 100 of the latest probes started {daemon.late_p99:.1f} s late or more"
        yield Finding("probes", evidence, _BUSY)


_BUSY = ("systemd-cgtop names who takes the CPU; or CPUWeight= for kernlbd, or longer intervals",)


def _all_failing(facts: Facts) -> Iterator[Finding]:
    if _answering(facts).all_failing:
        evidence = "almost everything failed at once, so verdicts wait"
        yield Finding("probes", evidence, ("look at the balancer's own links first",))


def _descriptors(facts: Facts) -> Iterator[Finding]:
    daemon, process = _answering(facts), facts[DaemonProcess]
    needed = process.descriptors + daemon.targets + _SPARE
    if process.most_descriptors < needed:
        evidence = (
            f"process {process.pid} may have {process.most_descriptors} descriptors open, has "
            f"{process.descriptors}, and {daemon.targets} servers to probe"
        )
        remedy = f"prlimit --pid {process.pid} --nofile={max(needed * 2, 65536)}"
        yield Finding("kernlbd", evidence, (remedy, "and LimitNOFILE= in its unit"))


def _ports(facts: Facts) -> Iterator[Finding]:
    text = facts[Sysctls].values.get(_RANGE, "")
    ends = [int(word) for word in text.split() if word.isdigit()]
    if len(ends) == 2 and ends[1] - ends[0] + 1 < _FEW_PORTS:
        evidence = f"net.ipv4.ip_local_port_range is {ends[0]} {ends[1]}"
        yield Finding("ports", evidence, fix=(SetSysctl(_RANGE, "32768 60999"),))


def _unsynchronised(facts: Facts) -> Iterator[Finding]:
    if not facts[Clock].synchronised:
        evidence = "the kernel's clock is marked unsynchronised (adjtimex: STA_UNSYNC)"
        yield Finding("clock", evidence, ("systemctl enable --now systemd-timesyncd",))


def _jumped(facts: Facts) -> Iterator[Finding]:
    """By what the clock said when the daemon started, and what it says now of that moment."""
    daemon, clock = _answering(facts), facts[Clock]
    jump = clock.boot + facts[DaemonProcess].started - daemon.started
    if abs(jump) > _JUMP + _START:
        evidence = f"it was set by about {jump:+.0f} s since kernlbd started"
        yield Finding("clock", evidence, ("timedatectl timesync-status; chronyc tracking",))


_START = 60.0  # seconds that a process may take until it notes when it started


CHECKS = (
    Check(
        id="daemon-silent",
        severity=Severity.ERROR,
        means="Services are declared, and kernlbd does not answer.",
        why="The kernel forwards on as it was told last: no failed server is taken out, and no "
        "change is carried out.",
        remedy="systemctl start kernlbd",
        find=_silent,
    ),
    Check(
        id="socket-stale",
        severity=Severity.WARNING,
        means="The control socket is there, and nobody is behind it.",
        why="kernlbd was killed. It cleans up at its next start.",
        remedy="rm -f /run/kernlb/control.sock; systemctl start kernlbd",
        find=_stale,
    ),
    Check(
        id="file-fault",
        severity=Severity.ERROR,
        means="A file of settings or of a service is bad.",
        why="What it says is not in force: the last good version is, if there was one, and after "
        "a reboot there is none.",
        remedy="mend the file; kernlb reload",
        find=_faults,
    ),
    Check(
        id="service-failed",
        severity=Severity.ERROR,
        means="The kernel refused a service, or a part of it.",
        why="It is not in force as declared.",
        remedy="kernlb service show SERVICE",
        find=_failed,
    ),
    Check(
        id="service-serves-nobody",
        severity=Severity.ERROR,
        means="A service has no server that takes connections.",
        why="Its clients are refused.",
        remedy="kernlb health SERVICE",
        find=_nobody,
    ),
    Check(
        id="datapath-missing",
        severity=Severity.ERROR,
        means="kernlbd could not open a datapath that services want.",
        why="They are not in force.",
        remedy="kernlb status",
        find=_datapath,
    ),
    Check(
        id="drift-again",
        severity=Severity.WARNING,
        means="Somebody keeps changing kernlb's services in the kernel.",
        why="kernlbd puts them right at its audits; in between, traffic goes elsewhere.",
        remedy="kernlb events",
        find=_drift,
    ),
    Check(
        id="audit-late",
        severity=Severity.WARNING,
        means="kernlbd has not looked over all services for long.",
        why="Changes behind its back stay undone. It is stuck, or starved of CPU.",
        remedy="journalctl -u kernlbd",
        find=_audit,
    ),
    Check(
        id="probes-late",
        severity=Severity.WARNING,
        means="Health probes start late.",
        why="kernlbd gets too little CPU time: failed servers are found late, and verdicts are "
        "held back, as good servers would look bad.",
        remedy="systemd-cgtop; CPUWeight= for kernlbd",
        find=_late,
    ),
    Check(
        id="probes-all-failing",
        severity=Severity.WARNING,
        means="Almost all servers fail their probes at once.",
        why="That is more often the balancer's own network than all of them: nobody is taken out "
        "until it is clearer.",
        remedy="kernlb health",
        find=_all_failing,
    ),
    Check(
        id="descriptors-few",
        severity=Severity.WARNING,
        means="kernlbd may open fewer files than it has servers to probe.",
        why="A probe without a descriptor cannot be made, and says nothing of its server.",
        remedy="LimitNOFILE= in the unit of kernlbd",
        find=_descriptors,
    ),
    Check(
        id="ports-few",
        severity=Severity.WARNING,
        means="There are few local ports for probes.",
        why="A port stays taken for a minute after each probe of the same server.",
        remedy='sysctl -w net.ipv4.ip_local_port_range="32768 60999"',
        find=_ports,
    ),
    Check(
        id="clock-unsynchronised",
        severity=Severity.WARNING,
        means="Nothing keeps the clock.",
        why="Events and certificates are judged by it, and logs of several hosts do not agree.",
        remedy="systemctl enable --now systemd-timesyncd",
        find=_unsynchronised,
    ),
    Check(
        id="clock-jumped",
        severity=Severity.WARNING,
        means="The clock was set while kernlbd ran.",
        why="Times of events before and after do not compare, nor do deadlines of drains.",
        remedy="chronyc tracking",
        find=_jumped,
    ),
)
