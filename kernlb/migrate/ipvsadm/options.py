"""One line of ipvsadm to a :class:`Command`: what it asks for, as values.

What ipvsadm declines is declined (``RefusedError``), and so is what it takes and kernlb cannot
carry; those sentences say "kernlb".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from kernlb.migrate.ipvsadm.grammar import FAILED, RefusedError, Verb, hold, scan
from kernlb.migrate.ipvsadm.line import WHOLE_V4, Line, seconds, split_flags
from kernlb.migrate.ipvsadm.names import Names
from kernlb.model import (
    MAX_WEIGHT,
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    ServiceKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

_VERBS = frozenset(verb.value for verb in Verb)
_CHECKSUMS: dict[TunnelType, tuple[str, ...]] = {
    TunnelType.IPIP: (),
    TunnelType.GRE: ("tun-nocsum", "tun-csum"),
    TunnelType.GUE: ("tun-nocsum", "tun-csum", "tun-remcsum"),
}


@dataclass(frozen=True, slots=True)
class Command:
    """What a line asks for.

    ``key`` is the service's, None for all. ``service`` is set to add or edit one, ``server`` to add
    or edit one of its real servers, ``target`` wherever a real server is named. ``numeric`` and
    ``parts`` (options given, ipvsadm's words) say how to list; ``words`` are an argument of
    --start-daemon and --stop-daemon, or the three of --set."""

    verb: Verb
    key: ServiceKey | None = None
    service: VirtualService | None = None
    target: ServerKey | None = None
    server: RealServer | None = None
    parts: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        return "numeric" in self.parts


def parse(words: Sequence[str], names: Names, *, saved: bool = False) -> Command:
    """The command of a line, its program left out. Raises RefusedError.

    ``saved``: the line is of ipvsadm-save, which prints large marks with a sign."""
    rest: list[str] = []
    given = scan(words, rest)
    try:
        first = next(given, None)
    except RefusedError as error:
        raise RefusedError(str(error), FAILED) from None
    if first is None or first.option.name not in _VERBS:
        raise RefusedError("a command comes first, such as -A, -a or -L: see -h", FAILED)
    verb = Verb(first.option.name)
    if verb in (Verb.HELP, Verb.VERSION):
        return Command(verb)
    words_of: tuple[str, ...] = ()
    if verb in (Verb.START_DAEMON, Verb.STOP_DAEMON):
        if first.text not in ("master", "backup"):
            raise RefusedError(f'--{verb} takes master or backup, not "{first.text}"')
        words_of = (first.text,)
    line = Line(names, saved)
    for each in given:
        if each.option.name in _VERBS:
            raise RefusedError(f"--{each.option.name} does not go with --{verb}: one command")
        line.take(each)
    if verb is Verb.SET:
        words_of = _timeouts(rest)
    if rest:
        raise RefusedError(f'there is no place for "{rest[0]}"')
    _hold_flags(line)
    hold(verb, line.parts)
    return _command(line, verb, words_of)


def _hold_flags(line: Line) -> None:
    """Flags must be of the scheduler, whatever the command."""
    for flag in split_flags(line.flags):
        if flag in ("flag-1", "flag-2", "flag-3"):
            continue
        if flag not in list(SchedulerFlag):
            raise RefusedError(f'there is no scheduler flag "{flag}"')
        if SchedulerFlag(flag).scheduler != (line.scheduler or Scheduler.WLC):
            raise RefusedError(f"{flag} is no flag of scheduler {line.scheduler or Scheduler.WLC}")


def _command(line: Line, verb: Verb, words: tuple[str, ...]) -> Command:
    key = _key(line)
    parts = frozenset(line.parts)
    if verb in (Verb.ADD_SERVICE, Verb.EDIT_SERVICE):
        return Command(verb, key, _service(line, key), parts=parts)
    if verb in (Verb.ADD_SERVER, Verb.EDIT_SERVER):
        server = _server(line)
        return Command(verb, key, target=server.key, server=server, parts=parts)
    target = None if line.server is None else ServerKey(line.server, line.server_port)
    if verb is Verb.LIST:
        _hold_list(line)
    return Command(verb, key, target=target, parts=parts, words=words)


def _key(line: Line) -> ServiceKey | None:
    if line.fwmark:
        family = Family.IPV6 if line.version == 6 else Family.IPV4
        return FwmarkKey(family, line.fwmark)
    if line.address is None or line.protocol is None:
        return None
    return AddressKey(line.protocol, line.address, line.port)


def _service(line: Line, key: ServiceKey | None) -> VirtualService:
    assert key is not None  # the table asks for one
    if isinstance(key, AddressKey):
        if key.port == 0 and line.timeout is None:
            raise RefusedError("port 0, every port, needs -p")
        if line.one_packet and key.protocol is not L4Protocol.UDP:
            raise RefusedError("-o goes with UDP services and with marks only")
    name = line.scheduler or Scheduler.WLC.value
    if name not in list(Scheduler):
        raise RefusedError(f'there is no scheduler "{name}"', FAILED, fatal=False)
    scheduler = Scheduler(name)
    return VirtualService(
        key, scheduler, _scheduler_flags(line, scheduler), _persistence(line), line.one_packet
    )


def _scheduler_flags(line: Line, scheduler: Scheduler) -> frozenset[SchedulerFlag]:
    known = [flag for flag in SchedulerFlag if flag.scheduler is scheduler]
    numbered = {f"flag-{number}": flag for number, flag in enumerate(known, 1)}
    flags = set()
    for word in split_flags(line.flags):
        flag = numbered.get(word, word)
        if flag not in known:
            why = f"kernlb carries no {word} of scheduler {scheduler}"
            raise RefusedError(why, FAILED, fatal=False)
        flags.add(SchedulerFlag(flag))
    return frozenset(flags)


def _persistence(line: Line) -> Persistence | None:
    engine = line.engine or None
    if engine not in (None, "sip"):
        raise RefusedError(f'there is no persistence engine "{engine}"', FAILED, fatal=False)
    if line.timeout is None:
        if engine is not None:
            why = f"kernlb carries --pe {engine} with -p only: alone it does nothing"
            raise RefusedError(why, FAILED, fatal=False)
        return None  # a netmask alone does nothing either, and nobody prints it
    if line.version == 6:
        return Persistence(line.timeout, line.netmask, engine)
    prefix = line.netmask.bit_count()
    if prefix == 0 or line.netmask != WHOLE_V4 << (32 - prefix) & WHOLE_V4:
        why = f"kernlb carries no netmask {IPv4Address(line.netmask)}: 1 to 32 bits in front"
        raise RefusedError(why, FAILED, fatal=False)
    return Persistence(line.timeout, prefix, engine)


def _server(line: Line) -> RealServer:
    assert line.server is not None
    forwarding = line.forwarding
    port = line.server_port
    if not line.fwmark and forwarding is not Forwarding.NAT:
        port = line.port  # neither method changes it
    if line.weight > MAX_WEIGHT:
        raise RefusedError(f"kernlb carries no weight above {MAX_WEIGHT}", FAILED, fatal=False)
    if line.server.version != line.version and forwarding is not Forwarding.TUNNEL:
        raise RefusedError("only tunnels (-i) lead from one address family to the other")
    return RealServer(
        line.server, port, line.weight, forwarding, _tunnel(line), line.upper, line.lower
    )


def _tunnel(line: Line) -> Tunnel | None:
    sums = [name for name in ("tun-nocsum", "tun-csum", "tun-remcsum") if name in line.parts]
    options = [name for name in ("tun-type", "tun-port") if name in line.parts] + sums
    if line.forwarding is not Forwarding.TUNNEL:
        if options:
            raise RefusedError(f"--{options[0]} goes with -i only")
        return None
    kind = line.tunnel_type
    if kind is TunnelType.GUE and "tun-port" not in line.parts:
        raise RefusedError("--tun-type gue needs --tun-port")
    if kind is not TunnelType.GUE and "tun-port" in line.parts:
        raise RefusedError(f"--tun-port does not go with --tun-type {kind}")
    for name in sums:
        if name not in _CHECKSUMS[kind]:
            raise RefusedError(f"--{name} does not go with --tun-type {kind}")
    if len(sums) > 1:
        raise RefusedError(f"--{sums[1]} does not go with --{sums[0]}")
    if "tun-remcsum" in sums:
        raise RefusedError("kernlb carries no --tun-remcsum", FAILED, fatal=False)
    return Tunnel(kind, line.tunnel_port, "tun-csum" in sums)


def _hold_list(line: Line) -> None:
    other = line.parts & {"connection", "timeout", "daemon"}
    detail = line.parts & {"stats", "rate", "thresholds"}
    if other & {"timeout", "daemon"}:
        detail |= line.parts & {"persistent-conn"}
    if other and detail:
        raise RefusedError(f"--{min(detail)} does not go with --{min(other)} in --list")


def _timeouts(rest: list[str]) -> tuple[str, ...]:
    """Takes the three words of --set from what is left over."""
    if len(rest) < 3:
        raise RefusedError("--set needs three timeouts: tcp tcpfin udp")
    return tuple(str(seconds(rest.pop(0), 0)) for _ in range(3))
