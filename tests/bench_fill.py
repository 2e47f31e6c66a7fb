"""Insert speed of the log in an empty store and in a full one, through the store itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import anyio

from datafly_lite.clock import iso, system_clock
from datafly_lite.events import Arrival, Envelope, Event
from datafly_lite.processor.processor import CONSUMER
from datafly_lite.store import Store, raw_events
from datafly_lite.store.events import Changes, write_processed
from datafly_lite.store.raw_events import Appender
from datafly_lite.store.visitors import VisitorChanges
from kit import open_store
from load import EVENT, new_message_ids

ITEM_EVENTS = 100
ITEMS_A_COMMIT = 5
PROBE_EVENTS = 10_000
PROBES = 5
WINDOW_DAYS = 7

NOTHING = Changes(0, [], [], VisitorChanges([], [], [], [], []), [], 0)
"""What the processor would change, but for its offset."""


def arrivals(count: int) -> list[Arrival]:
    """Events as the gateway hands them over, with random ids."""
    now_ms = system_clock()
    return [_arrival(message_id, now_ms) for message_id in islice(new_message_ids(), count)]


def _arrival(message_id: str, now_ms: int) -> Arrival:
    raw = (EVENT % (iso(now_ms), message_id)).encode()
    envelope = Envelope(
        dialect="datafly", message_id=message_id, received_at_ms=now_ms, type="track", user_agent="bench"
    )
    event = Event(type="track", message_id=message_id, timestamp=iso(now_ms), received_at=iso(now_ms))
    return Arrival("pip_bench", envelope, raw, event)


class Filling:
    """An open store and the one appender that knows its ids."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._append = Appender(WINDOW_DAYS).append

    async def insert(self, count: int) -> float:
        """Store `count` events in commits of 500; events a second of the time in the store alone."""
        spent_s = 0.0
        for _ in range(count // (ITEM_EVENTS * ITEMS_A_COMMIT)):
            items: list[Sequence[Arrival]] = [arrivals(ITEM_EVENTS) for _ in range(ITEMS_A_COMMIT)]
            started_s = time.perf_counter()
            futures = [self._store.writer.write_batched(self._append, item) for item in items]
            for future in futures:
                await future
            spent_s += time.perf_counter() - started_s
        return count / spent_s


def fill_speeds(folder: Path, events: int) -> tuple[float, float]:
    """Events a second into an empty store, and into one that holds `events`: medians, taken in turns."""

    async def run() -> tuple[float, float]:
        async with (
            open_store(folder / "full" / "datafly.db") as full,
            open_store(folder / "empty" / "datafly.db") as empty,
        ):
            into_full, into_empty = Filling(full), Filling(empty)
            await into_full.insert(events)
            rates = [
                (await into_empty.insert(PROBE_EVENTS), await into_full.insert(PROBE_EVENTS))
                for _ in range(PROBES)
            ]
        of_empty, of_full = zip(*rates, strict=True)
        return statistics.median(of_empty), statistics.median(of_full)

    return anyio.run(run)


def fill(database: Path, events: int) -> None:
    """Store `events` and call them processed, so that a server starts on them without a backlog."""

    async def run() -> None:
        async with open_store(database) as store:
            await Filling(store).insert(events)
            end = await store.read(raw_events.end)
            await store.write(write_processed, CONSUMER, NOTHING._replace(offset=end))

    anyio.run(run)
