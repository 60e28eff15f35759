"""How each scheduler spreads connections, drawn from real ones.

    sudo .venv/bin/python -m bench.pictures.schedulers [docs/img]

In a lab, by XDP: server1 to server3 with weights 1, 2, 3. A connection is opened at every step, by
one of thirty clients; it ends after 40 steps on average, on server1 after 120: it is slow. server2
is drained at step 100 and enabled again at step 200. Writes scheduler-NAME.svg, prints a table.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from kernlb.control.protocol import Drain
from kernlb.datapath.xdp.loading import unload
from kernlb.lab.load import Answer
from kernlb.lab.network import Lab
from tests.netns.traffic.daemon import Daemon

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh")
WEIGHTS = {"server1": 1, "server2": 2, "server3": 3}
STEPS, DRAINED, ENABLED = 300, 100, 200
LASTS, SLOW = 40.0, 3.0
XDP = {"interfaces": ["front", "back"], "connections": 16384, "connections6": 1024}
XDP |= {"services": 64, "servers": 64, "slots": 131072}
PHASES = (("at first", 0, DRAINED), ("drained", DRAINED, ENABLED), ("again", ENABLED, STEPS))


@dataclass(frozen=True)
class Run:
    """By step: who took the new connection, of which client, and how many each then had."""

    takers: list[str]
    clients: list[int]
    held: list[dict[str, int]]

    def moved(self) -> float:
        """Share of connections of clients seen before that went elsewhere than their last one."""
        last: dict[int, str] = {}
        moves = []
        for client, taker in zip(self.clients, self.takers, strict=True):
            if client in last:
                moves.append(last[client] != taker)
            last[client] = taker
        return sum(moves) / len(moves)


def run(lab: Lab, daemon: Daemon, scheduler: str) -> Run:
    vip, random = lab.topology.vips(4)[0], Random(1)
    sources = lab.topology.sources(4)
    servers = [
        {"address": str(each.address(4)), "weight": WEIGHTS[each.role]}
        for each in lab.topology.servers
    ]
    document = {"address": str(vip), "port": 7, "scheduler": scheduler, "forwarding": "dsr"}
    daemon.client.add_service("echo", document | {"servers": servers})
    second = f"{lab.topology.servers[1].address(4)}:7"
    ends: list[tuple[float, Answer]] = []
    found = Run([], [], [])
    for step in range(STEPS):
        if step == DRAINED:
            daemon.client.drain_server("echo", second, Drain())
        if step == ENABLED:
            daemon.client.enable_server("echo", second)
        if over := [each for end, each in ends if end <= step]:
            lab.load.close_sessions(over)
        ends = [(end, each) for end, each in ends if end > step]
        client = random.randrange(len(sources))
        (answer,) = lab.load.open(vip, sources=[sources[client]])
        assert answer.server is not None, answer
        lasts = LASTS * (SLOW if answer.server == "server1" else 1)
        ends.append((step + random.expovariate(1 / lasts), answer))
        found.takers.append(answer.server)
        found.clients.append(client)
        found.held.append(dict(Counter(each.server or "" for _, each in ends)))
    lab.load.close_sessions()
    daemon.client.remove_service("echo")
    return found


WIDE, HIGH, ROW, LEFT, TOP = 600, 110, 9, 62, 34
STYLE = """
text { font: 11px sans-serif; fill: #333 }
.title { font-weight: bold; font-size: 12px }
.grid { stroke: #bbb; stroke-dasharray: 3 3 }
.axis { stroke: #888 }
path { fill: none; stroke-width: 1.6 }
.server1 { stroke: #0072b2 } .server2 { stroke: #d55e00 } .server3 { stroke: #009e73 }
rect.server1 { fill: #0072b2 } rect.server2 { fill: #d55e00 } rect.server3 { fill: #009e73 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #555 } }
"""


def picture(scheduler: str, found: Run) -> str:
    """Lines: connections that each server holds. Marks below: who took each new one."""
    most = max(max(held.values()) for held in found.held)
    base = TOP + HIGH

    def x(step: float) -> float:
        return round(LEFT + step / STEPS * WIDE, 1)

    def y(count: int) -> float:
        return round(base - count / most * HIGH, 1)

    height = base + 24 + ROW * len(WEIGHTS)
    box = f"0 0 {LEFT + WIDE + 70} {height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img">',
        f"<title>{scheduler}: connections by server</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="14">{scheduler}</text>',
        f'<text x="{LEFT - 8}" y="{TOP + 8}" text-anchor="end">{most} open</text>',
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">0</text>',
        f'<path class="axis" d="M{LEFT} {base}H{LEFT + WIDE}"/>',
    ]
    for step, what in ((DRAINED, "server2 drained"), (ENABLED, "server2 enabled")):
        parts.append(f'<path class="grid" d="M{x(step)} {TOP - 8}V{height - 10}"/>')
        parts.append(f'<text x="{x(step) + 4}" y="{TOP - 2}">{what}</text>')
    for number, server in enumerate(WEIGHTS):
        counts = [held.get(server, 0) for held in found.held]
        points = " ".join(f"{x(step)},{y(count)}" for step, count in enumerate(counts))
        parts.append(f'<path class="{server}" d="M{points}"/>')
        end = found.held[-1].get(server, 0)
        label = f"{server[-1]}, weight {WEIGHTS[server]}"
        parts.append(f'<text x="{LEFT + WIDE + 5}" y="{y(end) + 4}">{label}</text>')
        row = base + 12 + number * ROW
        parts.append(f'<text x="{LEFT - 8}" y="{row + 7}" text-anchor="end">{server}</text>')
        parts += [
            f'<rect class="{server}" x="{x(step)}" y="{row}" width="1.4" height="{ROW - 3}"/>'
            for step, taker in enumerate(found.takers)
            if taker == server
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def row(scheduler: str, found: Run) -> str:
    cells = []
    for _, begin, end in PHASES:
        shares = Counter(found.takers[begin:end])
        cells.append(" / ".join(f"{shares[server]}" for server in WEIGHTS))
    return f"| `{scheduler}` | {' | '.join(cells)} | {found.moved() * 100:.0f} % |"


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0] if arguments else "docs/img")
    folder.mkdir(parents=True, exist_ok=True)
    pins = Path(f"/sys/fs/bpf/pictures{os.getpid()}")
    print("| scheduler | at first | server2 drained | again | clients that changed servers |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as state, Lab(f"pic{os.getpid()}") as lab:
        lab.hold_vips()
        settings = {"defaults": {"datapath": "xdp"}, "xdp": XDP}
        daemon = Daemon(Path(state), lab.topology.namespace("balancer"), settings)
        try:
            daemon.start("--pins", str(pins))
            for scheduler in SCHEDULERS:
                found = run(lab, daemon, scheduler)
                (folder / f"scheduler-{scheduler}.svg").write_text(picture(scheduler, found))
                print(row(scheduler, found), flush=True)
        finally:
            daemon.stop()
            unload(pins)


if __name__ == "__main__":
    main(sys.argv[1:])
