"""The door to what drivers offer to XDP: generic netlink family ``netdev``, since Linux 6.3."""

from __future__ import annotations

from typing import Any

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

_DEV_GET = 1  # enum netdev_cmd
_BASIC = 1  # enum netdev_xdp_act


class _Message(genlmsg):  # type: ignore[misc]
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def native_xdp(index: int) -> bool | None:
    """True if the driver of an interface runs XDP itself; None: this kernel does not tell."""
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind("netdev", _Message)
            request: Any = _Message()
            request["cmd"], request["version"] = _DEV_GET, 1
            request["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
            answers = netlink.nlm_request(request, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST)
            for message in answers:
                features = message.get_attr("NETDEV_A_DEV_XDP_FEATURES")
                if features is not None:
                    return bool(features & _BASIC)
    except (NetlinkError, OSError, KeyError):
        return None
    return None
