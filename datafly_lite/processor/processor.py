"""Takes events from the log, runs their steps, and writes all that follows in one transaction.

The processed event, its deliveries, the identity changes and the processor's own offset are one
commit: a crash between any two of them can neither lose nor double an event inside the process.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import structlog

from datafly_lite import bots, devices, scripting
from datafly_lite.clock import Clock, iso
from datafly_lite.configuration import Configuration, LiveConfiguration
from datafly_lite.data_layer import MAX_WINDOW_HOURS
from datafly_lite.errors import DataflyError, ScriptEngineUnavailable, StorageUnavailable
from datafly_lite.events import Arrival, Envelope, Record
from datafly_lite.live import Frame, LiveStream
from datafly_lite.metrics import Metrics
from datafly_lite.processor import state
from datafly_lite.processor.generating import Made, ended_session, session_events
from datafly_lite.processor.passage import Inputs
from datafly_lite.processor.runner import Processed, process, unreadable
from datafly_lite.processor.state import Locate, State, nowhere
from datafly_lite.processor.writing import changes_of
from datafly_lite.store import Store, events, visitors
from datafly_lite.store.events import Changes
from datafly_lite.store.raw_events import Appended
from datafly_lite.store.visitors import SessionRow, VisitorChanges

T = TypeVar("T")

CONSUMER = "processor"
BATCH_EVENTS = 100
"""Large enough to share a commit, small enough that the door is not kept waiting."""
RETRY_S = 1.0
SESSIONS_S = 15.0
"""How often sessions are looked at that are over."""
LONGEST_WINDOW_MS = MAX_WINDOW_HOURS * 3_600_000 + 24 * 3_600_000
"""A day more than any window."""

log_ = structlog.get_logger(__name__)


class EventSource(Protocol):
    """The log as its reader sees it."""

    end: int

    async def read(self, after: int, limit: int) -> list[Record]:
        """The next events beyond `after`; waits for the first."""
        ...

    def arrival(self, pipeline_id: str, envelope: Envelope, raw: bytes) -> Arrival:
        """An event of the processor's own, read as one that came in."""
        ...

    def append_within(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> list[Appended]:
        """Store events of the processor's own in its transaction."""
        ...

    def announce(self, arrivals: Sequence[Arrival], appended: Sequence[Appended]) -> None:
        """They are committed."""
        ...


class Processor:
    """One reader of the log. `wake` is told which attachments have something new to send, and `cancelled`
    of which a withdrawal of consent has taken something away.
    """

    def __init__(
        self,
        store: Store,
        log: EventSource,
        configuration: LiveConfiguration,
        wake: Callable[[Iterable[str]], None],
        cancelled: Callable[[Iterable[str]], None],
        live: LiveStream,
        metrics: Metrics,
        clock: Clock,
        locate: Locate = nowhere,
    ) -> None:
        self._store = store
        self._log = log
        self._configuration = configuration
        self._wake = wake
        self._cancelled = cancelled
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self._locate = locate
        self._turn = anyio.Lock()
        self._processed_until_ms = 0
        self.position = 0

    async def open(self) -> None:
        """Take up the work where the last commit left it."""
        self.position = await self._store.read(events.position, CONSUMER)

    async def run(self) -> None:
        """Process until cancelled; a transaction that was begun is finished."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow_the_clock)
            tasks.start_soon(anyio.to_thread.run_sync, _load_tables)
            while True:
                records = await self._log.read(self.position, BATCH_EVENTS)
                try:
                    with anyio.CancelScope(shield=True):
                        batch = await self._process(records)
                except (StorageUnavailable, ScriptEngineUnavailable) as error:
                    # A script may be what protects people: no event goes on without it.
                    log_.warning("events wait", error=str(error), events=len(records))
                    await anyio.sleep(RETRY_S)
                    continue
                self._announce(batch)

    async def alone(self, work: Callable[..., T], *args: Any) -> T:
        """Change in the store what is known of visitors, between two batches. As `Store.write`."""
        async with self._turn:
            return await self._store.write(work, *args)

    async def _process(self, records: Sequence[Record]) -> list[Processed]:
        async with self._turn:
            configuration = self._configuration.current
            before = await self._store.read(state.load, records, configuration.rules)
            after = before.copy()
            if configuration.has_scripts:  # JavaScript must not keep the door waiting: it lets go of the lock
                batch = await anyio.to_thread.run_sync(self._run, records, configuration, after)
            else:
                batch = self._run(records, configuration, after)
            now_ms = self._clock()
            changes = changes_of(batch, before, after, configuration.attachments, now_ms)
            generated = [self._arrival(one) for done in batch for one in session_events(done, now_ms)]
            appended = await self._store.write(self._write, changes, generated)
            self.position = records[-1].offset
            self._processed_until_ms = records[-1].envelope.received_at_ms
            self._log.announce(generated, appended)
            self._cancelled({one for change in changes.consent_changes for one in change.attachment_ids})
            return batch

    def _run(self, records: Sequence[Record], configuration: Configuration, known: State) -> list[Processed]:
        """The steps of each event, each with what is known after those before it.

        Raises ScriptEngineUnavailable.
        """
        with scripting.asking(scripting.DATA_LAYER):
            return self._run_each(records, configuration, known)

    def _run_each(
        self, records: Sequence[Record], configuration: Configuration, known: State
    ) -> list[Processed]:
        batch: list[Processed] = []
        for record in records:
            try:
                batch.append(self._run_one(record, configuration, known))
            except ScriptEngineUnavailable:
                raise
            except Exception as error:
                # One event that a step stumbles over must not keep all the others waiting.
                log_.exception("a step failed on an event", offset=record.offset, pipeline=record.pipeline_id)
                words = f"a step failed: {type(error).__name__}"
                batch.append(unreadable(record, configuration.rules, Inputs(), "step", words))
        return batch

    def _run_one(self, record: Record, configuration: Configuration, known: State) -> Processed:
        pipeline = configuration.by_id.get(record.pipeline_id)
        inputs = known.inputs_of(record, configuration.rules, pipeline.name if pipeline else "", self._locate)
        done = process(record, inputs, configuration.rules, pipeline)
        if done.passage is not None:
            known.take(record, done.passage, done.reason)
        return done

    def _arrival(self, made: Made) -> Arrival:
        """A session event copies what its visitor's event says of page and place: that may be too much."""
        try:
            return self._log.arrival(*made)
        except DataflyError as error:
            log_.warning("a session event goes without its page", error=str(error))
            return self._log.arrival(*made.bare())

    def _write(
        self, connection: sqlite3.Connection, changes: Changes, generated: Sequence[Arrival]
    ) -> list[Appended]:
        events.write_processed(connection, CONSUMER, changes)
        return self._log.append_within(connection, generated) if generated else []

    async def _follow_the_clock(self) -> None:
        """What is due without an event: the ends of sessions, and keys that no window reaches any more."""
        while True:
            await anyio.sleep(SESSIONS_S)
            try:
                with anyio.CancelScope(shield=True):
                    await self.end_sessions()
                    await self._forget_keys()
            except StorageUnavailable as error:
                log_.warning("sessions wait for the store", error=str(error))

    async def _forget_keys(self) -> None:
        before_ms = self._clock() - LONGEST_WINDOW_MS
        if await self._store.read(visitors.has_keys, before_ms):
            await self.alone(visitors.forget_keys, before_ms)

    async def end_sessions(self) -> int:
        """Append a session_end for each session whose time is over; how many there were.

        While events wait, after a crash say, it is as late as the newest that was processed: one that waits
        may go on with a session.
        """
        until_ms, count = self._clock() if self.position >= self._log.end else self._processed_until_ms, 0
        while number := await self._end_sessions(until_ms):
            count += number
        return count

    async def _end_sessions(self, until_ms: int) -> int:
        async with self._turn:
            due = await self._store.read(visitors.ending, until_ms, BATCH_EVENTS)
            if not due:
                return 0
            ended = [ended_session(row, self._clock()) for row in due]
            arrivals = [self._log.arrival(*one.event) for one in ended]
            appended = await self._store.write(self._write_ended, [one.row for one in ended], arrivals)
            self._log.announce(arrivals, appended)
            return len(ended)

    def _write_ended(
        self, connection: sqlite3.Connection, rows: list[SessionRow], arrivals: Sequence[Arrival]
    ) -> list[Appended]:
        visitors.write(connection, VisitorChanges([], [], [], rows, []))
        return self._log.append_within(connection, arrivals)

    def _announce(self, batch: list[Processed]) -> None:
        self._wake({one.attachment.id for done in batch for one in done.fanouts if one.reason is None})
        dropped = sum(done.reason is not None for done in batch)
        self._metrics.processed(len(batch) - dropped, dropped)
        if self._live.watchers:
            for done in batch:
                self._live.publish(self._frame(done))

    def _frame(self, done: Processed) -> Frame:
        event = done.event
        return Frame(
            stage="dropped" if done.reason else "processed",
            timestamp=iso(self._clock()),
            pipeline_id=done.record.pipeline_id,
            message_id=done.record.envelope.message_id,
            data={
                "type": event.type if event else None,
                "event": (event.event or event.name) if event else None,
                "user_id": event.user_id if event else None,
                "anonymous_id": event.anonymous_id if event else None,
                "reason": done.reason,
                "detail": done.detail or None,
                "integrations": [
                    one.attachment.integration_name for one in done.fanouts if one.reason is None
                ],
            },
        )


def _load_tables() -> None:
    """Those of browsers and crawlers take some tenths of a second: neither the start nor the first event
    should wait for them.
    """
    devices.describe("Mozilla/5.0")
    bots.known_bot("Mozilla/5.0")
