"""The real servers' programs: nginx for HTTP, and `backend.py` for TCP echo and UDP.

nginx on 80 and 8080 answers `server1 10.0.0.11` to any GET, 1 MiB at /1mb, and takes bodies at
/upload, answering only when it has all of one. Pure but for `write_files`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kernlb.lab.topology import Topology

BODY = 1 << 20
HTTP_PORTS = (80, 8080)
_COUNTER_PORT = 8099  # on the server's loopback: says how much of a body nginx passed on

_NGINX = """\
daemon on;
master_process off;
worker_rlimit_nofile 65536;
pid {folder}/{role}.nginx.pid;
error_log {folder}/{role}.nginx.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    default_type text/plain;
    server_tokens off;
    client_max_body_size 16m;
    client_body_buffer_size 2m;
    {temporary}
    server {{
        {listen}
        root {folder}/www;
        location / {{ return 200 "{role} $remote_addr\\n"; }}
        location = /1mb {{ add_header X-Server {role}; add_header X-Client $remote_addr; }}
        location = /upload {{
            proxy_set_header X-Client $remote_addr;
            proxy_pass http://127.0.0.1:{counter};
        }}
        location = /health {{ return 200 "ok\\n"; }}
    }}
    server {{
        listen 127.0.0.1:{counter};
        location / {{ return 200 "{role} $http_x_client $http_content_length\\n"; }}
    }}
}}
"""


def nginx_configuration(folder: Path, role: str) -> str:
    """The configuration of one server's nginx. All it writes goes to `folder`."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n    ".join(f"{kind}_temp_path {folder}/{role}.{kind};" for kind in kinds)
    listen = "\n        ".join(
        f"listen {port} backlog=4096;\n        listen [::]:{port} backlog=4096 ipv6only=on;"
        for port in HTTP_PORTS
    )
    return _NGINX.format(
        folder=folder, role=role, temporary=temporary, listen=listen, counter=_COUNTER_PORT
    )


def write_files(lab: Topology, folder: Path) -> None:
    www = folder / "www"
    www.mkdir(parents=True, exist_ok=True)
    (www / "1mb").write_bytes(bytes(range(256)) * (BODY // 256))
    for server in lab.servers:
        configuration = nginx_configuration(folder, server.role)
        (folder / f"{server.role}.nginx.conf").write_text(configuration)


def nginx_command(folder: Path, role: str) -> list[str]:
    """Returns when nginx listens: it opens its sockets before it goes to the background."""
    log = f"{folder}/{role}.nginx.log"
    return ["nginx", "-e", log, "-p", str(folder), "-c", f"{folder}/{role}.nginx.conf"]


def backends_command(lab: Topology) -> list[str]:
    """One interpreter for all servers: it forks into each namespace, and ends when all listen."""
    program = Path(__file__).with_name("backend.py")
    places = [f"{server.role}={lab.namespace(server.role)}" for server in lab.servers]
    return [sys.executable, "-I", "-S", str(program), *places]
