"""What the server and the process that runs scripts say to each other: messages of several parts.

A file of its own, because importing quickjs starts a thread, which the server has no use for.
"""

from __future__ import annotations

import socket
import struct

COUNT = struct.Struct("!I")
CHECK, RUN = b"check", b"run"
"""Asked: one of them, the source, and time and chance; to RUN also the event and the context, as JSON."""

BEGUN = b"begun"
"""Said first, alone: whatever ends the process from here on to its reply ends it within the call."""

VALUE, DROP, ERROR = b"value", b"drop", b"error"
"""What a reply begins with. A value goes on with its JSON, an error with its message and its stack."""

TOO_LONG = "it took more than 50 ms"
TOO_MUCH = "it used more than 8 MB of memory"


def send(connection: socket.socket, *parts: bytes) -> None:
    """One message of several parts."""
    sizes = b"".join(COUNT.pack(len(part)) for part in parts)
    connection.sendall(COUNT.pack(len(parts)) + sizes + b"".join(parts))


def receive(connection: socket.socket) -> list[bytes]:
    """The next message. Raises EOFError where the other side is gone."""
    (count,) = COUNT.unpack(_exactly(connection, COUNT.size))
    sizes = [size for (size,) in COUNT.iter_unpack(_exactly(connection, COUNT.size * count))]
    return [_exactly(connection, size) for size in sizes]


def _exactly(connection: socket.socket, size_bytes: int) -> bytes:
    chunks: list[bytes] = []
    while size_bytes:
        chunk = connection.recv(min(size_bytes, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        size_bytes -= len(chunk)
    return b"".join(chunks)
