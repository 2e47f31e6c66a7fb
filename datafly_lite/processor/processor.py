"""Takes events from the log, runs their steps, and writes all that follows in one transaction.

The processed event, its deliveries, the identity changes and the processor's own offset are one
commit: a crash between any two of them can neither lose nor double an event inside the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import anyio
import structlog

from datafly_lite.clock import Clock, iso
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.errors import StorageUnavailable
from datafly_lite.events import Record
from datafly_lite.identity import Known
from datafly_lite.live import Frame, LiveStream
from datafly_lite.metrics import Metrics
from datafly_lite.processor.runner import Processed, process, unreadable
from datafly_lite.processor.steps import Inputs, known_after
from datafly_lite.processor.writing import changes_of
from datafly_lite.store import Store, events, identities

CONSUMER = "processor"
BATCH_EVENTS = 100
"""Large enough to share a commit, small enough that the door is not kept waiting."""
RETRY_S = 1.0

log_ = structlog.get_logger(__name__)


class EventSource(Protocol):
    """The log as its reader sees it."""

    end: int

    async def read(self, after: int, limit: int) -> list[Record]:
        """The next events beyond `after`; waits for the first."""
        ...


class Processor:
    """One reader of the log. `wake` is told which attachments have something new to send."""

    def __init__(
        self,
        store: Store,
        log: EventSource,
        configuration: LiveConfiguration,
        wake: Callable[[Iterable[str]], None],
        live: LiveStream,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._log = log
        self._configuration = configuration
        self._wake = wake
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self.position = 0

    async def open(self) -> None:
        """Take up the work where the last commit left it."""
        self.position = await self._store.read(events.position, CONSUMER)

    async def run(self) -> None:
        """Process until cancelled; a transaction that was begun is finished."""
        while True:
            records = await self._log.read(self.position, BATCH_EVENTS)
            try:
                with anyio.CancelScope(shield=True):
                    batch = await self._process(records)
            except StorageUnavailable as error:
                log_.warning("events wait for the store", error=str(error), events=len(records))
                await anyio.sleep(RETRY_S)
                continue
            self.position = records[-1].offset
            self._announce(batch)

    async def _process(self, records: Sequence[Record]) -> list[Processed]:
        by_id = self._configuration.current.by_id
        known = await self._known(records)
        before = dict(known)
        batch: list[Processed] = []
        for record in records:
            visitor = record.event.anonymous_id if record.event else None
            inputs = Inputs(known.get(visitor, Known()) if visitor else Known())
            done = _guarded(record, inputs, by_id.get(record.pipeline_id))
            if visitor and done.event is not None:
                known[visitor] = known_after(done.event, inputs)
            batch.append(done)
        changes = changes_of(batch, before, known, self._clock())
        await self._store.write(events.write_processed, CONSUMER, changes)
        return batch

    async def _known(self, records: Sequence[Record]) -> dict[str, Known]:
        visitors = {
            record.event.anonymous_id for record in records if record.event and record.event.anonymous_id
        }
        rows = await self._store.read(identities.known, sorted(visitors))
        return {row["anonymous_id"]: Known(row["user_id"], row["group_id"]) for row in rows}

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
                "integrations": [
                    one.attachment.integration_name for one in done.fanouts if one.reason is None
                ],
            },
        )


def _guarded(record: Record, inputs: Inputs, pipeline: Pipeline | None) -> Processed:
    """One event that a step stumbles over must not keep all the others waiting: it is dropped and seen."""
    try:
        return process(record, inputs, pipeline)
    except Exception:
        log_.exception("a step failed on an event", offset=record.offset, pipeline=record.pipeline_id)
        return unreadable(record, inputs, "step")
