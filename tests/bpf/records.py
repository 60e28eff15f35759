"""The values of the maps in bytes, as bpf/abi.h has them."""

from __future__ import annotations

import re
import socket
import struct
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bpf.network import Interfaces
    from tests.bpf.services import Server, Service

_ABI = (Path(__file__).parents[2] / "bpf" / "abi.h").read_text()


def _names(enum: str, prefix: str) -> list[str]:
    """Of an enum that counts from 0, or of one of single bits."""
    body = re.search(rf"enum {enum} {{(.*?)}};", _ABI, re.DOTALL)
    assert body is not None, enum
    text = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    names = [re.match(r"\s*(\w+)", line) for line in text.split(",")]
    return [name[1].removeprefix(prefix).lower() for name in names if name]


REASONS = _names("reason", "REASON_")[:-1]
STATES = _names("conn_state", "STATE_")[:-1]
FORWARDINGS = _names("forwarding", "FORWARD_")
TUNNELS = _names("tunnel", "TUNNEL_")
SCHEDULERS = _names("scheduler", "SCHEDULE_")
CHOSEN_BY = _names("chosen_by", "CHOSEN_")
SERVICE_FLAGS = _names("service_flag", "SERVICE_")
CONN_FLAGS = _names("conn_flag", "CONN_")
COUNTERS = ["packets_in", "bytes_in", "packets_out", "bytes_out", "connections"]
EXPLANATION = ["reason", "service", "server", "chosen_by", "conn", "state", "ifindex", "by_fib"]
SERVER_ALIVE, SERVER_HOP_KNOWN = 1 << 0, 1 << 2

SERVICE_SIZE = SERVER_SIZE = 128
LOAD_SIZE = 16
CONN_SIZE = {4: 32, 6: 64}
CURSOR_OFFSET = 72
AS_MANY_AS = {
    "service_ids": "services",
    "service_counters": "services",
    "server_counters": "servers",
    "loads": "servers",
    "recounts": "servers",
}
TICK = (1 << 26) / 1e9


def _address(text: str) -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text).ljust(16, b"\0")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def pack_service_key(address: bytes, port: int, protocol: int, family: int) -> bytes:
    return address.ljust(16, b"\0") + _port(port) + bytes([protocol, family])


def pack_service(service: Service, members: tuple[int, int], table: tuple[int, int]) -> bytes:
    from tests.bpf.frames import NUMBER

    flags = sum(1 << SERVICE_FLAGS.index(name) for name in service.flags)
    base = ip_network(f"{service.address}/{service.prefix}", strict=False)
    step, most = service.steps
    return b"".join(
        (
            struct.pack("=4I4x", *members, *table),
            bytes([SCHEDULERS.index(service.scheduler), flags, service.family]),
            bytes([NUMBER[service.protocol]]),
            _address(service.address),
            base.netmask.packed.ljust(16, b"\0"),
            struct.pack("=I", round(service.persistence / TICK)),
            _port(service.port),
            bytes([service.prefix, 0]),
            struct.pack("=IIQI44x", most, step, service.cursor, service.persistence),
        )
    )


def pack_server(server: Server, service: int, interfaces: Interfaces) -> bytes:
    outer = _address(server.address), _address(server.ours)
    outer_sum = sum(sum(struct.unpack("=8H", each)) for each in outer) if server.family == 4 else 0
    flags = SERVER_ALIVE * server.alive | SERVER_HOP_KNOWN * server.hop_known
    return b"".join(
        (
            *outer,
            struct.pack("=I", getattr(interfaces, server.interface)),
            *map(_mac, server.macs),
            struct.pack("=IBBBB", service, server.generation, flags, server.family,
                        FORWARDINGS.index(server.forwarding)),
            struct.pack("=I", server.weight),
            _port(server.port),
            struct.pack("=H", server.mtu),
            _port(server.vlan),
            bytes([TUNNELS.index(server.tunnel), 0]),
            _port(server.tunnel_port if server.tunnel == "gue" else 0),
            _port(server.port),
            struct.pack("=IIII40x", outer_sum, server.upper, server.lower, server.last_weight),
        )
    )
