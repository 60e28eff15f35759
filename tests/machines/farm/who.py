#!/usr/bin/python3 -IS
"""Answers every HTTP request with the name of this machine."""

import socket
import threading

ANSWER = socket.gethostname().encode() + b"\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"


def answer(connection: socket.socket) -> None:
    connection.settimeout(10)
    try:
        with connection:
            if connection.recv(4096):
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
    except OSError:
        return


listener = socket.create_server(("0.0.0.0", 80), backlog=512)
while True:
    threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()
