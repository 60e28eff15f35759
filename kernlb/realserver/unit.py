"""The unit of systemd that makes a real server again after a boot. Pure.

One mechanism for every host: it knows nothing of who configures the network (systemd-networkd,
ifupdown, NetworkManager, cloud-init), and makes what was recorded, whole or not at all, until it
succeeds: interfaces may come late.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.realserver.plan import Want
from kernlb.realserver.slots import Kind, Slot

NAME = "kernlb-realserver.service"
PATH = f"/etc/systemd/system/{NAME}"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{NAME}"
RECORD = "/var/lib/kernlb/realserver.json"

_UNIT = """\
# Written by `kernlb realserver setup`; `kernlb realserver remove` takes it away.
[Unit]
Description=Real server of kernlb: VIPs, and the end of tunnels
Documentation=man:kernlb(1)
ConditionPathExists={record}
Wants=network-online.target
After=network-online.target systemd-sysctl.service nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={program} realserver setup --from-state
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


def files(program: str) -> Iterator[Want]:
    yield Want(Slot(Kind.FILE, PATH), _UNIT.format(program=program, record=RECORD))
    yield Want(Slot(Kind.SYMLINK, ENABLED), PATH)
