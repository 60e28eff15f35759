"""Takes a long download slowly until standard input ends, then the rest at once.

    download.py VIP SOURCE

Prints one JSON object: how many bytes came, of how many (`promised`), their sha256, and what went
wrong in words, or null. Standard library only: it runs in a namespace, without the checkout.
"""

import hashlib
import json
import select
import socket
import sys

PATH = "/1mb"
BODY = bytes(range(256)) * (16 << 12)  # 16 MiB, more than its name says
PIECE = 4096  # bytes
PAUSE = 0.1  # seconds between two pieces: 40 kB/s, so it lasts for six minutes
PATIENCE = 30.0


def take(connection: socket.socket, digest: "hashlib._Hash") -> dict[str, int]:
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: farm\r\nConnection: close\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(PIECE)
    head, _, body = head.partition(b"\r\n\r\n")
    promised = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    count, slowly = 0, True
    while body:
        digest.update(body)
        count += len(body)
        if slowly and select.select([sys.stdin], [], [], PAUSE)[0]:
            slowly = False
        body = connection.recv(PIECE if slowly else 1 << 16)
    return {"bytes": count, "promised": promised}


def main(vip: str, source: str) -> None:
    digest = hashlib.sha256()
    record: dict[str, object] = {"bytes": 0, "promised": 0, "error": None}
    with socket.socket() as connection:
        # A small window, so that most of it is still at the server while it goes slowly.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.settimeout(PATIENCE)
        try:
            connection.bind((source, 0))
            connection.connect((vip, 80))
            record |= take(connection, digest)
        except OSError as error:
            record["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(record | {"sha256": digest.hexdigest()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
