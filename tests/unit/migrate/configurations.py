"""Configurations in memory, and a short way to read them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kernlb.migrate.keepalived import read_keepalived
from kernlb.migrate.report import Report

SAMPLES = Path("/usr/share/doc/keepalived/samples")


class Memory:
    """Files by their paths."""

    def __init__(self, files: dict[str, str | bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(2, "No such file or directory")
        content = self._files[path]
        return content.encode() if isinstance(content, str) else content

    def find(self, pattern: str) -> list[str]:
        return sorted(path for path in self._files if fnmatchcase(path, pattern))


def read(text: str | bytes, config_id: str = "here", **files: str) -> Report:
    """A keepalived.conf; ``files`` by their names without the suffix are beside it."""
    beside: dict[str, str | bytes] = {f"/etc/{name}.conf": body for name, body in files.items()}
    return read_keepalived(
        "/etc/keepalived.conf", Memory({"/etc/keepalived.conf": text, **beside}), config_id
    )


def virtual_server(service: str = "", server: str = "", checker: str = "") -> str:
    """One virtual server with one real server, and more to say of each."""
    return f"""virtual_server 192.0.2.1 80 {{
    protocol TCP
    lvs_sched wlc
    {service}
    real_server 10.0.0.1 80 {{
        weight 1
        {server}
        {checker}
    }}
}}
"""


def document(report: Report) -> dict[str, Any]:
    """Of the one service that there is."""
    (service,) = report.services
    return service.document


def told(report: Report) -> list[str]:
    """What is lost, changed or to be known, without the file."""
    return [str(loss).removeprefix("/etc/keepalived.conf:") for loss in report.losses]
