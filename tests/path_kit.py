"""The event path without HTTP: a store with one pipeline, its log and its processor."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from datafly_lite.clock import system_clock
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.events import Arrival, Envelope
from datafly_lite.gateway import event_of, limits
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.log import Log
from datafly_lite.metrics import Metrics
from datafly_lite.processor.explaining import Tracer
from datafly_lite.processor.processor import Processor
from datafly_lite.settings import Settings
from datafly_lite.store import Store
from kit import open_store

PIPELINE = "pip_1"
ATTACHMENT = "pi_1"
NOON_MS = 1_772_020_800_000
WITHIN = limits(Settings())


def arrival(
    message_id: str,
    *,
    at_ms: int = NOON_MS,
    pipeline: str = PIPELINE,
    visitor: str | None = None,
    **body: Any,
) -> Arrival:
    """An event as the gateway hands it to the log."""
    event = {"type": "track", "event": "Tested", "messageId": message_id, **body}
    raw = msgspec.json.encode(event)
    envelope = Envelope(
        dialect="datafly",
        message_id=message_id,
        received_at_ms=at_ms,
        anonymous_id=visitor,
        type=event["type"],
    )
    return Arrival(pipeline, envelope, raw, event_of(envelope, raw, WITHIN))


def insert_configuration(connection: sqlite3.Connection, keyring: Keyring) -> None:
    """One pipeline with a webhook attached, as the management API would write them."""
    sealed = keyring.encrypt(b"{}")
    connection.execute(
        """
        INSERT OR IGNORE INTO pipelines (id, name, slug, type, pipeline_key, secret_ciphertext, secret_prefix,
            domain_allowlist, labels, rate_limit_rps, challenge_token_required, parameters, config,
            js_builder_config, identity_config, enabled, created_at_ms, updated_at_ms)
        VALUES (?, 'Test', 'test', 'web', 'dk_1', ?, 'sk_abcd',
            '[]', '[]', 1000, 0, '{}', '{}', '{}', '{}', 1, 0, 0)
        """,
        (PIPELINE, sealed),
    )
    connection.execute(
        "INSERT OR IGNORE INTO integrations (id, name, vendor, created_at_ms, updated_at_ms)"
        " VALUES ('tmpl_1', 'Hook', 'webhook', 0, 0)"
    )
    connection.execute(
        "INSERT OR IGNORE INTO revisions (id, integration_id, revision_number, config, secrets_ciphertext,"
        " created_at_ms) VALUES ('rev_1', 'tmpl_1', 1, '{\"consent_categories\": [\"marketing\"]}', ?, 0)",
        (sealed,),
    )
    connection.execute(
        "INSERT OR IGNORE INTO pipeline_integrations (id, pipeline_id, integration_id, revision_id, enabled,"
        " mode, created_at_ms, updated_at_ms) VALUES (?, ?, 'tmpl_1', 'rev_1', 1, 'live', 0, 0)",
        (ATTACHMENT, PIPELINE),
    )


class EventPath:
    """The parts of one event path, open."""

    def __init__(
        self, store: Store, configuration: LiveConfiguration, log: Log, processor: Processor
    ) -> None:
        self.store = store
        self.configuration = configuration
        self.log = log
        self.processor = processor
        self.tracer = Tracer(store, configuration, log.record)
        self.woken: list[str] = []

    async def send(self, *arrivals: Arrival) -> list[bool]:
        """Append as one request; whether each was a duplicate."""
        return [one.duplicate for one in await self.log.append(arrivals)]

    async def process(self, timeout_s: float = 20) -> None:
        """Run the processor until it has finished with all that is in the log."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.processor.run)
            with anyio.fail_after(timeout_s):
                while self.processor.position < self.log.end:  # noqa: ASYNC110 - it has no event to wait for
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

    async def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """What the store holds, as dictionaries."""

        def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(sql, parameters)]

        return await self.store.read(read)


@contextlib.asynccontextmanager
async def open_path(
    folder: Path, *, tail_events: int = 4_000, window_days: int = 7, queue_limit: int = 10_000
) -> AsyncIterator[EventPath]:
    """Open the store of `folder` with its log and processor, not yet processing."""
    keyring = Keyring(b"k" * 32)
    async with open_store(folder / "datafly.db", queue_limit=queue_limit) as store:
        await store.write(insert_configuration, keyring)
        configuration = LiveConfiguration(store, keyring)
        await configuration.reload()
        log = Log(
            store,
            lambda envelope, raw: event_of(envelope, raw, WITHIN),
            tail_events=tail_events,
            window_days=window_days,
        )
        await log.open()
        woken: list[str] = []

        def wake(attachments: Iterable[str]) -> None:
            woken.extend(attachments)

        processor = Processor(store, log, configuration, wake, wake, LiveStream(), Metrics(), system_clock)
        await processor.open()
        path = EventPath(store, configuration, log, processor)
        path.woken = woken
        try:
            yield path
        finally:
            log.close()
