"""ipvsadm as a second opinion on what the kernel holds: what it prints and should print."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    L4Protocol,
    RealServer,
    ServiceKey,
    ServiceState,
    TunnelType,
    endpoint,
)

_PROTOCOLS = {L4Protocol.TCP: "-t", L4Protocol.UDP: "-u", L4Protocol.SCTP: "--sctp-service"}
_METHODS = {Forwarding.NAT: "-m", Forwarding.TUNNEL: "-i", Forwarding.DSR: "-g"}


def run(*words: str) -> str:
    done = subprocess.run(["ipvsadm", *words], capture_output=True, text=True, check=True)
    return done.stdout


def saved() -> list[str]:
    """The rules that `ipvsadm -Sn` prints."""
    return sorted(run("-Sn").splitlines())


def expected(states: Iterable[ServiceState]) -> list[str]:
    """The rules that it should print."""
    lines = []
    for state in states:
        lines.append(_service_line(state))
        lines += [_server_line(state.key, server) for server in state.servers]
    return sorted(lines)


def thresholds() -> set[tuple[str, str, int, int]]:
    """(service, server, upper, lower) as `ipvsadm -Ln --thresholds` lists them."""
    found, service = set(), ""
    for line in run("-Ln", "--thresholds").splitlines():
        words = line.split()
        if words[:1] == ["->"] and words[1] != "RemoteAddress:Port":
            found.add((service, words[1], int(words[2]), int(words[3])))
        elif words[:1] and words[0] in ("TCP", "UDP", "SCTP", "FWM"):
            service = " ".join(words[:2])
            service += " IPv6" if words[2:3] == ["IPv6"] else ""
    return found


def expected_thresholds(states: Iterable[ServiceState]) -> set[tuple[str, str, int, int]]:
    return {
        (_listed(state.key), str(s.key), s.upper_threshold, s.lower_threshold)
        for state in states
        for s in state.servers
    }


def _listed(key: ServiceKey) -> str:
    if isinstance(key, AddressKey):
        return f"{key.protocol.upper()} {endpoint(key.address, key.port)}"
    return f"FWM {key.fwmark}" + (" IPv6" if key.family is Family.IPV6 else "")


def _named(key: ServiceKey) -> str:
    if isinstance(key, AddressKey):
        return f"{_PROTOCOLS[key.protocol]} {endpoint(key.address, key.port)}"
    return f"-f {key.fwmark}" + (" -6" if key.family is Family.IPV6 else "")


def _service_line(state: ServiceState) -> str:
    service = state.service
    words = ["-A", _named(state.key), "-s", str(service.scheduler)]
    if (persistence := service.persistence) is not None:
        words += ["-p", str(persistence.timeout)]
        if persistence.prefix != service.family.max_prefix:
            mask = f"{persistence.prefix}"
            if service.family is Family.IPV4:
                bits = 0xFFFFFFFF << (32 - persistence.prefix) & 0xFFFFFFFF
                mask = ".".join(str(byte) for byte in bits.to_bytes(4, "big"))
            words += ["-M", mask]
        if persistence.engine is not None:
            words += ["--pe", persistence.engine]
    if service.one_packet:
        words.append("-o")
    if service.flags:
        words += ["-b", ",".join(sorted(service.flags))]
    return " ".join(words)


def _server_line(key: ServiceKey, server: RealServer) -> str:
    words = ["-a", _named(key), "-r", str(server.key), _METHODS[server.forwarding]]
    words += ["-w", str(server.weight)]
    if server.tunnel is not None:
        words += ["--tun-type", str(server.tunnel.type)]
        if server.tunnel.port:
            words += ["--tun-port", str(server.tunnel.port)]
        if server.tunnel.type is not TunnelType.IPIP:
            words.append("--tun-csum" if server.tunnel.checksum else "--tun-nocsum")
    return " ".join(words)
