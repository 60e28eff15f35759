"""The door to addresses on interfaces: rtnetlink by pyroute2, announcements by AF_PACKET."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Set
from ipaddress import ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from kernlb.model import Family
from kernlb.vip.announce import INTERVAL, REPEATS, frame
from kernlb.vip.plan import AddVip, Holding, RemoveVip, VipOp

_IFA_F_NODAD = 0x02  # a VIP must work at once; whether it is taken is the operator's to know
_ARPHRD_ETHER = 1
_NO_SUCH_INTERFACE = (None, errno.ENODEV, errno.ENXIO)  # None: Python before 3.14 sets no errno
_ALREADY: dict[type[VipOp], set[int]] = {
    AddVip: {errno.EEXIST},
    RemoveVip: {errno.EADDRNOTAVAIL},
}


class VipError(OSError):
    """An address could not be added or removed."""


class Addresses:
    """Reads, adds, removes and announces addresses in the process's network namespace."""

    def __init__(self) -> None:
        self._announcing: set[asyncio.Task[None]] = set()

    async def present(self) -> Set[Holding]:
        """Every address of every interface, whatever its prefix length."""
        return await asyncio.to_thread(_present)

    async def apply(self, op: VipOp) -> bool:
        """Add or remove one address; twice equals once. False if it was so already. Raises
        VipError."""
        changed = await asyncio.to_thread(_apply, op)
        if changed and isinstance(op, AddVip) and op.announce:
            self.announce(op.vip, op.announce)
        return changed

    def announce(self, vip: Holding, interface: str) -> None:
        """Announce ``vip`` now and a few times more, in the background."""
        task = asyncio.get_running_loop().create_task(_announce(vip, interface))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    async def close(self) -> None:
        for task in self._announcing:
            task.cancel()
        await asyncio.gather(*self._announcing, return_exceptions=True)


# pyroute2 brings its own event loop, and needs one that knows AF_NETLINK, which uvloop does not:
# hence a thread, and its synchronous face.


def _present() -> Set[Holding]:
    try:
        with IPRoute() as netlink:
            names = {link["index"]: link.get("ifname") for link in netlink.get_links()}
            found = set()
            for entry in netlink.get_addr():
                # IFA_LOCAL where there is one: on a point-to-point link IFA_ADDRESS is the peer
                address = entry.get("IFA_LOCAL") or entry.get("IFA_ADDRESS")
                if address and entry["index"] in names:
                    found.add(Holding(ip_address(address), names[entry["index"]]))
            return found
    except NetlinkError as error:
        raise VipError(f"cannot list addresses: {error}") from error


def _apply(op: VipOp) -> bool:
    """True if the address was not there before (add), or was (remove)."""
    verb = "add" if isinstance(op, AddVip) else "remove"
    family = Family.of(op.vip.address)
    extra = {"flags": _IFA_F_NODAD} if family is Family.IPV6 else {}
    try:
        index = socket.if_nametoindex(op.vip.interface)
    except OSError as error:
        if isinstance(op, RemoveVip) and error.errno in _NO_SUCH_INTERFACE:
            return False  # the address went with its interface
        raise VipError(f"cannot {verb} {op.vip}: there is no such interface") from error
    try:
        with IPRoute() as netlink:
            netlink.addr(
                "add" if isinstance(op, AddVip) else "del",
                index=index,
                address=str(op.vip.address),
                prefixlen=family.max_prefix,
                **extra,
            )
    except NetlinkError as error:
        if error.code in _ALREADY[type(op)]:
            return False
        raise VipError(f"cannot {verb} {op.vip}: {error}") from error
    return True


async def _announce(vip: Holding, interface: str) -> None:
    for left in reversed(range(REPEATS)):
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
                link.bind((interface, 0))
                _, _, _, kind, mac = link.getsockname()
                if kind != _ARPHRD_ETHER:
                    return  # nobody asks for addresses there
                link.send(frame(vip.address, mac))
        except OSError:
            return  # the interface is down or gone: there is nobody to tell
        if left:
            await asyncio.sleep(INTERVAL)
