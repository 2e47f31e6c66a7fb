"""A load of events over raw sockets: keep-alive connections, requests rendered before they are sent.

Cheap enough to saturate the server from one core. Latencies of a paced load count from when a request
was due, not from when a connection came free for it, so that a stall is not hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from typing import NamedTuple

import uuid_utils

EVENT = (
    '{"type":"track","event":"Product Added","anonymousId":"0b7c5a2e-5c1d-4f0a-9f5e-3f5b8f7a1c11",'
    '"properties":{"product_id":"SKU-1234","name":"Wireless Headphones","price":79.99,"currency":"USD",'
    '"quantity":1,"category":"Audio","brand":"Acme","cart_id":"cart_7f3a9c","position":3},'
    '"context":{"page":{"url":"https://shop.example.com/products/headphones?utm_source=newsletter",'
    '"title":"Wireless Headphones | Shop","path":"/products/headphones",'
    '"referrer":"https://shop.example.com/category/audio","search":"?utm_source=newsletter"},'
    '"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",'
    '"locale":"en-US","timezone":"Europe/Berlin","screen":{"width":1920,"height":1080,"density":2},'
    '"library":{"name":"datafly.js","version":"1.0.0"}},"timestamp":"%s","messageId":"%s"}'
)
"""A track event of about 0.9 KB, as stack.md measured with."""
VISITOR = "0b7c5a2e-5c1d-4f0a-9f5e-3f5b8f7a1c11"
EVENTS_A_VISITOR = 10


class Shot(NamedTuple):
    """One request, and the messageIds in it."""

    message_ids: tuple[str, ...]
    data: bytes


def new_message_ids() -> Iterator[str]:
    """Random ids without end."""
    while True:
        yield str(uuid_utils.uuid4())


def events(message_ids: Iterable[str], key: str, path: str = "/v1/t") -> Iterator[Shot]:
    """A request an event."""
    now = _now()
    for number, message_id in enumerate(message_ids):
        yield Shot((message_id,), _request(path, key, event(number, now, message_id)))


def event(number: int, now: str, message_id: str) -> str:
    """The body of the `number`th: each visitor sends ten."""
    visitor = f"{number // EVENTS_A_VISITOR:08x}{VISITOR[8:]}"
    return (EVENT % (now, message_id)).replace(VISITOR, visitor, 1)


def batches(message_ids: Iterable[str], key: str, size: int, path: str = "/v1/batch") -> Iterator[Shot]:
    """A request each `size` events."""
    waiting, number, now = iter(message_ids), count(), _now()
    while chosen := tuple(islice(waiting, size)):
        body = ",".join(event(next(number), now, message_id) for message_id in chosen)
        yield Shot(chosen, _request(path, key, f'{{"batch":[{body}]}}'))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _request(path: str, key: str, body: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@dataclass
class Result:
    """What came of a load."""

    acknowledged: list[str] = field(default_factory=list)
    """messageIds in requests that got a 200."""
    deduplicated: list[str] = field(default_factory=list)
    """Those of them that the server knew already."""
    unanswered: list[str] = field(default_factory=list)
    """messageIds in requests that got no whole answer: stored or not, nobody knows."""
    refused_ids: list[str] = field(default_factory=list)
    """messageIds in requests that got another status."""
    refused: Counter[int] = field(default_factory=Counter)
    """HTTP status -> how many requests got it."""
    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """Of the answered requests, whatever their status."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1000 if ordered else 0.0


class _Connection(asyncio.Protocol):
    """One request at a time on one connection."""

    def __init__(
        self, answered: Callable[[_Connection, int, bytes], None], lost: Callable[[_Connection], None]
    ):
        self._answered = answered
        self._lost = lost
        self._buffer = b""
        self.transport: asyncio.Transport
        self.shot: Shot | None = None
        self.due_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def fire(self, shot: Shot, due_s: float) -> None:
        self.shot, self.due_s = shot, due_s
        self.transport.write(shot.data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or not _is_whole(head, body):
            return
        self._buffer = b""
        self._answered(self, int(head[9:12]), body)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)


def _is_whole(head: bytes, body: bytes) -> bool:
    _, found, rest = head.lower().partition(b"\ncontent-length:")
    if not found:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(rest.partition(b"\r\n")[0])


class Load:
    """Sends shots over a fixed number of connections until they, or the time, run out.

    With `rate_rps` they are sent at that pace; without, each connection sends its next one as soon as
    it has its answer. The load ends early when all connections are lost.
    """

    def __init__(
        self,
        port: int,
        shots: Iterable[Shot],
        *,
        connections: int,
        duration_s: float,
        rate_rps: float | None = None,
    ) -> None:
        self._port = port
        self._shots = iter(shots)
        self._count = connections
        self._duration_s = duration_s
        self._rate_rps = rate_rps
        self._idle: deque[_Connection] = deque()
        self._overdue: deque[tuple[Shot, float]] = deque()
        self._open = 0
        self._closing = False
        self._ended = asyncio.Event()
        self._result = Result()

    async def run(self) -> Result:
        """Connect, send, and wait for the last answer."""
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._take_answer, self._take_loss), "127.0.0.1", self._port
            )
            self._open += 1
            self._idle.append(connection)
        started_s = time.perf_counter()
        await (self._saturate() if self._rate_rps is None else self._pace(self._rate_rps, started_s))
        self._close_idle()
        if self._open:
            await self._ended.wait()
        self._result.elapsed_s = time.perf_counter() - started_s
        return self._result

    async def _saturate(self) -> None:
        for connection in [self._idle.popleft() for _ in range(len(self._idle))]:
            self._next(connection)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), self._duration_s)
        self._shots = iter(())

    async def _pace(self, rate_rps: float, started_s: float) -> None:
        for number in range(int(rate_rps * self._duration_s)):
            due_s = started_s + number / rate_rps
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            shot = next(self._shots, None)
            if shot is None or self._ended.is_set():
                return
            if self._idle:
                self._idle.popleft().fire(shot, due_s)
            else:
                self._overdue.append((shot, due_s))

    def _close_idle(self) -> None:
        self._closing = True
        for connection in self._idle:
            connection.transport.close()

    def _next(self, connection: _Connection) -> None:
        if self._overdue:
            connection.fire(*self._overdue.popleft())
            return
        shot = next(self._shots, None) if self._rate_rps is None else None
        if shot is not None:
            connection.fire(shot, time.perf_counter())
        elif self._closing:
            connection.transport.close()
        else:
            self._idle.append(connection)

    def _take_answer(self, connection: _Connection, status: int, body: bytes) -> None:
        shot, connection.shot = connection.shot, None
        assert shot is not None, f"an answer to no request: {status} {body!r}"
        self._result.latencies_s.append(time.perf_counter() - connection.due_s)
        if status == 200:
            self._result.acknowledged += shot.message_ids
            if b'"deduplicated"' in body:
                self._result.deduplicated += shot.message_ids
        else:
            self._result.refused_ids += shot.message_ids
            self._result.refused[status] += 1
        self._next(connection)

    def _take_loss(self, connection: _Connection) -> None:
        if connection.shot is not None:
            self._result.unanswered += connection.shot.message_ids
        if connection in self._idle:
            self._idle.remove(connection)
        self._open -= 1
        if not self._open:
            self._ended.set()


async def send(
    port: int,
    shots: Iterable[Shot],
    *,
    connections: int = 8,
    duration_s: float = 1.0,
    rate_rps: float | None = None,
) -> Result:
    """Send `shots` to 127.0.0.1; see Load."""
    return await Load(port, shots, connections=connections, duration_s=duration_s, rate_rps=rate_rps).run()
