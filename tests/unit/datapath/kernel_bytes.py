"""Answers as the kernel packs them (ip_vs_genl_fill_service(), _fill_dest()), to be read back."""

from __future__ import annotations

import struct

from kernlb.datapath.ipvs import abi
from kernlb.datapath.ipvs.abi import Cmd, Command, Dest, Svc
from kernlb.datapath.ipvs.attributes import pack, walk
from kernlb.datapath.ipvs.requests import Request

FAMILY = 0x20


def message(command: int, body: bytes, sequence: int = 1) -> bytes:
    header = struct.pack("=IHHIIBBH", 20 + len(body), FAMILY, 2, sequence, 0, command, 1, 0)
    return header + body


def done(sequence: int = 1) -> bytes:
    return struct.pack("=IHHIIi", 20, abi.NLMSG_DONE, 2, sequence, 0, 0)


def service_answer(request: Request) -> bytes:
    """What GET_SERVICE answers once ``request`` (NEW_SERVICE) has been carried out."""
    sent = attributes(request[1], Cmd.SERVICE)
    flags, _mask = struct.unpack("=II", sent[Svc.FLAGS])
    sent[Svc.FLAGS] = struct.pack("=II", flags | abi.SVC_F_HASHED, 0xFFFFFFFF)
    order = (Svc.AF, Svc.FWMARK, Svc.PROTOCOL, Svc.ADDR, Svc.PORT, Svc.SCHED_NAME, Svc.PE_NAME)
    order += (Svc.FLAGS, Svc.TIMEOUT, Svc.NETMASK)
    body = b"".join(pack(kind, sent[kind]) for kind in order if kind in sent)
    body += pack(Svc.STATS, stats("I")) + pack(Svc.STATS64, stats("Q"))
    return message(Command.NEW_SERVICE, pack(Cmd.SERVICE, body))


def server_answer(dest: bytes, active: int = 0, inactive: int = 0, packets: int = 0) -> bytes:
    """What GET_DEST answers for a server written with the attribute ``dest``."""
    sent = attributes(dest, Cmd.DEST)
    for kind, number in ((7, active), (8, inactive), (9, 0)):
        sent[kind] = struct.pack("=I", number)
    order = (Dest.ADDR, Dest.PORT, Dest.FWD_METHOD, Dest.WEIGHT, Dest.TUN_TYPE, Dest.TUN_PORT)
    order += (Dest.TUN_FLAGS, Dest.U_THRESH, Dest.L_THRESH, Dest.ACTIVE_CONNS, Dest.INACT_CONNS)
    order += (Dest.PERSIST_CONNS, Dest.ADDR_FAMILY)
    body = b"".join(pack(kind, sent[kind]) for kind in order)
    body += pack(Dest.STATS, stats("I", packets)) + pack(Dest.STATS64, stats("Q", packets))
    return message(Command.NEW_DEST, pack(Cmd.DEST, body))


def stats(form: str, packets: int = 0) -> bytes:
    numbers = {2: packets}
    return b"".join(
        pack(kind, struct.pack(f"={form}", numbers.get(kind, 0))) for kind in range(1, 11)
    )


def attributes(body: bytes, nest: int) -> dict[int, bytes]:
    """The payloads within the attribute ``nest`` of a request's body."""
    outer = walk(body, 0, len(body))
    return {kind: body[a:b] for kind, (a, b) in walk(body, *outer[nest]).items()}
