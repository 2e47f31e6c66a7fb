"""What bench.py measures against: a handler that only answers, and a webhook receiver that only answers.

`bench_servers.py null|receiver serve --data-dir … --host … --port N`: started as the product is.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import anyio
from hypercorn.asyncio import serve

from datafly_lite import server

BODY = b'{"success":true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + BODY


async def null(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body and answer 200: the least that the server costs."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


class Receiver(asyncio.Protocol):
    """Counts bytes up to Content-Length and answers 200."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, found, rest = head.partition(b"\r\ncontent-length:")
            whole = end + 4 + (int(rest.partition(b"\r\n")[0]) if found else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._transport.write(ANSWER)


async def run_null(port: int) -> None:
    made = server.config(f"127.0.0.1:{port}", shutdown_timeout_s=1.0)
    await serve(null, made)  # type: ignore[arg-type]  # an ASGI application in plain types


async def run_receiver(port: int) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Receiver, "127.0.0.1", port)
    stop = asyncio.Event()
    loop.add_signal_handler(15, stop.set)
    await stop.wait()
    listening.close()


if __name__ == "__main__":
    anyio.run({"null": run_null, "receiver": run_receiver}[sys.argv[1]], int(sys.argv[-1]))
