"""kernlbd: keeps the kernel's load balancer true to what is declared."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kernlb import __version__
from kernlb.control.protocol import SOCKET

PINS = "/sys/fs/bpf/kernlb"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit status is 0 after a clean stop, 1 if it could not start or go on."""
    arguments = _parser().parse_args(argv)
    _log(arguments.log_level)
    faulthandler.enable(2)  # a watchdog's SIGABRT tells in the log where it stood
    import uvloop

    from kernlb.config.errors import ConfigError
    from kernlb.daemon.app import App, Options
    from kernlb.daemon.guard import EndedError
    from kernlb.daemon.runtime import RuntimeStateError

    options = Options(
        config_dir=arguments.config_dir,
        state_dir=arguments.state_dir,
        socket=arguments.socket,
        flush_on_stop=arguments.flush_on_stop,
        fake=arguments.datapath == "fake",
        pins=arguments.pins,
    )

    async def serve() -> None:
        await App(options).run()

    try:
        uvloop.run(serve())
    except ConfigError as error:
        for fault in error.faults:
            print(f"kernlbd: {fault}", file=sys.stderr)
        return 1
    except (OSError, RuntimeStateError, EndedError) as error:
        print(f"kernlbd: {error}", file=sys.stderr)
        return 1
    return 0


def _log(level: str) -> None:
    """To the journal with fields, where standard error leads there; else to it, line by line."""
    from kernlb.daemon.journal import JournalHandler, is_stderr

    handlers: list[logging.Handler] | None = None
    if is_stderr():
        with contextlib.suppress(OSError):
            handlers = [JournalHandler()]
    lines = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(message)s"
    logging.basicConfig(
        level=getattr(logging, level.upper()),
        format="%(message)s" if handlers else lines,
        handlers=handlers or [logging.StreamHandler(sys.stderr)],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernlbd",
        description="Keep the kernel's load balancer true to the declared services.",
    )
    add = parser.add_argument
    add("--config-dir", type=Path, default=Path("/etc/kernlb"), help="kernlb.yaml and services.d")
    add("--state-dir", type=Path, default=Path("/var/lib/kernlb"), help="what outlives a restart")
    add("--socket", type=Path, default=Path(SOCKET), help="the control socket")
    add(
        "--flush-on-stop",
        action="store_true",
        help="remove kernlb's services and VIPs from the kernel on a clean stop",
    )
    add("--pins", type=Path, default=Path(PINS), help="what XDP keeps in the kernel (bpffs)")
    add(
        "--datapath",
        choices=("kernel", "fake"),
        default="kernel",
        help="fake: hold services in memory and forward nothing, to try the control plane",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add("--version", action="version", version=f"kernlbd {__version__}")
    return parser
