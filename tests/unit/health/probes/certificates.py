"""Certificates for tests, made by openssl: an authority, and one server for each thing wrong."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

NAME = "www.kernlb.test"
ADDRESSES = "IP:127.0.0.1,IP:::1"
# name -> (what it is of, starts in days, ends in days)
SERVERS = {
    "good": (f"DNS:{NAME},{ADDRESSES}", -1, 365),
    "expired": (f"DNS:{NAME},{ADDRESSES}", -30, -2),
    "future": (f"DNS:{NAME},{ADDRESSES}", 2, 30),
    "soon": (f"DNS:{NAME},{ADDRESSES}", -30, 3),
    "other": ("DNS:other.kernlb.test,IP:192.0.2.1", -1, 365),
}
_CONFIG = """
[ca]
default_ca = it
[it]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
[any]
commonName = optional
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""


class Certificates:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = str(folder / "ca.pem")
        sections = [f"[{each}]\nsubjectAltName = {SERVERS[each][0]}\n" for each in SERVERS]
        (folder / "openssl.cnf").write_text(_CONFIG + "".join(sections))
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        for authority in ("ca", "stranger"):
            self._key(authority)
            self._openssl(
                f"req -config openssl.cnf -x509 -new -key {authority}.key -out {authority}.pem"
                f" -days 3650 -subj /CN={authority} -extensions authority"
            )
        self._key("server")
        self._openssl(
            "req -config openssl.cnf -new -key server.key -out server.csr -subj /CN=server"
        )
        for name, (_, start, end) in SERVERS.items():
            self._sign(name, "ca", start, end)
        self._sign("untrusted", "stranger", -1, 365, "good")

    def server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / "server.key")
        return context

    def _key(self, name: str) -> None:
        self._openssl(f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key")

    def _sign(self, name: str, by: str, start: int, end: int, section: str | None = None) -> None:
        now = datetime.now(UTC)
        begin, until = ((now + timedelta(each)).strftime("%Y%m%d%H%M%SZ") for each in (start, end))
        self._openssl(
            f"ca -batch -notext -config openssl.cnf -in server.csr -out {name}.pem -cert {by}.pem"
            f" -keyfile {by}.key -startdate {begin} -enddate {until} -extensions {section or name}"
            f" -subj /CN={name}"
        )

    def _openssl(self, words: str) -> None:
        done = subprocess.run(
            ["openssl", *words.split()], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
