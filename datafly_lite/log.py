"""The durable log, in the place of Kafka: append answers after the fsync, readers go by offset.

A bounded tail in memory spares a healthy system from reading its own disk. When the tail is full
what comes is left out of it, and the reader, which sees the hole in the offsets, takes that part
from the table: memory stays flat with a million events waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence

import anyio
import msgspec

from datafly_lite.errors import DataflyError
from datafly_lite.events import Arrival, Envelope, Event, Record, decode_envelope
from datafly_lite.store import Store, raw_events
from datafly_lite.store.raw_events import Appended, Appender

Decode = Callable[[Envelope, bytes], Event]
"""The gateway's reading of raw bytes; raises DataflyError for what it cannot read."""


class Log:
    """The topic `raw-events`, with one reader."""

    def __init__(self, store: Store, decode: Decode, *, tail_events: int, window_days: int) -> None:
        self._store = store
        self._decode = decode
        self._append = Appender(window_days).append  # bound once: the writer batches by identity
        self._into_tail, self._tail = anyio.create_memory_object_stream[Record](tail_events)
        self.end = 0

    async def open(self) -> None:
        """Find the end of the log."""
        self.end = await self._store.read(raw_events.end)

    def close(self) -> None:
        """Let the reader end when it has the tail."""
        self._into_tail.close()
        self._tail.close()

    def append(self, arrivals: Sequence[Arrival]) -> asyncio.Future[list[Appended]]:
        """Store the events of one request, all or none; done after commit and fsync.

        Raises StorageUnavailable at once, or through the future, when nothing was stored.
        """
        future = self._store.writer.write_batched(self._append, arrivals, len(arrivals))
        # A callback, not the caller's code after `await`: the caller may be gone by then.
        future.add_done_callback(lambda done: self._appended(arrivals, done))
        return asyncio.shield(future)  # a caller that is cancelled must not cancel the callback's view of it

    def append_within(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Appended]:
        """As `append`, inside a transaction of the writer; after its commit `announce` tells the reader."""
        return self._append(connection, [arrivals])[0]

    def _appended(self, arrivals: Sequence[Arrival], done: asyncio.Future[list[Appended]]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.announce(arrivals, done.result())

    def announce(self, arrivals: Sequence[Arrival], appended: Sequence[Appended]) -> None:
        """Events are committed: the reader may have them."""
        for arrival, (offset, duplicate) in zip(arrivals, appended, strict=True):
            if duplicate:
                continue
            self.end = max(self.end, offset)
            record = Record(offset, arrival.pipeline_id, arrival.envelope, arrival.raw, arrival.event)
            with contextlib.suppress(anyio.WouldBlock, anyio.ClosedResourceError):
                self._into_tail.send_nowait(record)

    def arrival(self, pipeline_id: str, envelope: Envelope, raw: bytes) -> Arrival:
        """An event of the program's own, read as one that came in. Raises DataflyError."""
        return Arrival(pipeline_id, envelope, raw, self._decode(envelope, raw))

    async def read(self, after: int, limit: int) -> list[Record]:
        """The next events beyond `after`, oldest first, without holes; waits for the first."""
        while True:
            if after < self.end and not self._tail.statistics().current_buffer_used:
                return await self._from_table(after, limit)
            record = await self._tail.receive()
            if record.offset == after + 1:
                return self._from_tail(record, limit)
            if record.offset > after + 1:
                return await self._from_table(after, limit)

    def _from_tail(self, record: Record, limit: int) -> list[Record]:
        records = [record]
        while len(records) < limit:
            try:
                record = self._tail.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
            if record.offset != records[-1].offset + 1:
                break  # a hole: the next read takes it, and this record, from the table
            records.append(record)
        return records

    async def _from_table(self, after: int, limit: int) -> list[Record]:
        rows = await self._store.read(raw_events.after, after, limit)
        return [self.record(row["offset"], row["pipeline_id"], row["envelope"], row["raw"]) for row in rows]

    def record(self, offset: int, pipeline_id: str, envelope: bytes, raw: bytes) -> Record:
        """A row of the table as the value that travels."""
        try:
            opened = decode_envelope(envelope)
        except msgspec.DecodeError:
            opened = Envelope(dialect="unknown", message_id=f"unreadable-{offset}", received_at_ms=0)
        event, error = self._read(opened, raw)
        return Record(offset, pipeline_id, opened, raw, event, error)

    def _read(self, envelope: Envelope, raw: bytes) -> tuple[Event | None, str]:
        """The event, or why it cannot be read."""
        try:
            return self._decode(envelope, raw), ""
        except DataflyError as error:
            return None, str(error)
