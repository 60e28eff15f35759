"""Pictures of the page for the documentation, from a lab with real traffic and a dead server.

    python -m tests.page.pictures          writes docs/img/page-light.png, page-dark.png,
                                           page-small.png

Needs root, chromium, and fonts-inter for the looks. Each picture is below 200 kB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kernlb.datapath.xdp.loading import unload
from kernlb.lab.network import Lab
from tests.netns.page import ground
from tests.netns.traffic.breaking import killed
from tests.netns.traffic.daemon import Daemon
from tests.page.browser import Chromium, Page
from tests.unit.pages import ROOT

HOST = "lb1"
FOLDER = ROOT / "docs/img"
MOST = 200_000  # bytes
WARM_UP = 66.0  # seconds of traffic before, so that plots have something to show
PICTURES = {
    "page-light": (1280, 900, "light"),
    "page-dark": (1280, 900, "dark"),
    "page-small": (360, 900, "light"),
}


def main() -> int:
    """Under a host name of its own, for the page tells it."""
    if os.environ.get("KERNLB_PICTURES") != HOST:
        script = f'hostname {HOST} && KERNLB_PICTURES={HOST} exec "$@"'
        argv = ["unshare", "--uts", "sh", "-c", script, "sh", sys.executable, "-m", __spec__.name]
        return subprocess.run(argv, check=False).returncode
    pins = Path("/sys/fs/bpf/kernlb-pictures")
    try:
        with tempfile.TemporaryDirectory() as folder, Lab("pictures") as lab:
            lab.hold_vips()
            namespace = lab.topology.namespace("balancer")
            daemon = Daemon(Path(folder) / "kernlb", namespace, ground.SETTINGS)
            daemon.start("--pins", str(pins))
            try:
                ground.declare(lab, daemon)
                prefix = ("ip", "netns", "exec", namespace)
                with Chromium(Path(folder) / "chromium", prefix) as browser, ground.traffic(lab):
                    take(lab, browser.open(ground.URL))
            finally:
                daemon.stop()
    finally:
        unload(pins)
    return 0


def take(lab: Lab, page: Page) -> None:
    page.wait_for("document.querySelectorAll('.toggle').length === 3")
    page.pass_time(WARM_UP / 3)
    page.pass_time(WARM_UP / 3)
    page.pass_time(WARM_UP / 3)
    with killed(lab, "server3"):
        page.wait_for("document.querySelectorAll('#services-table .why').length > 1", 20)
        page.pass_time(12)
        FOLDER.mkdir(exist_ok=True)
        for name, (width, height, scheme) in PICTURES.items():
            page.resize(width, height)
            page.prefer(prefers_color_scheme=scheme)
            page.pass_time(1)
            picture = page.picture(height)
            assert len(picture) < MOST, f"{name} is {len(picture)} bytes"
            (FOLDER / f"{name}.png").write_bytes(picture)
            print(f"{name}.png: {len(picture)} bytes")


if __name__ == "__main__":
    sys.exit(main())
