"""The event path as proofs of processing need it: any rules, any integrations, a clock that stands still,
and batches that end where a test says.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import anyio
import msgspec

from datafly_lite.configuration import LiveConfiguration
from datafly_lite.events import Arrival, Envelope, Record
from datafly_lite.gateway import event_of
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.log import Log
from datafly_lite.metrics import Metrics
from datafly_lite.processor.processor import Processor
from datafly_lite.processor.state import Locate, nowhere
from datafly_lite.store import Store, data_layers
from kit import open_store
from path_kit import NOON_MS, PIPELINE, WITHIN, EventPath, insert_configuration

KEYRING = Keyring(b"k" * 32)
NO_SECRETS = KEYRING.encrypt(b"{}")


class Setup(NamedTuple):
    """What a user has set. An integration is `{"name", "vendor", "config"}`."""

    data_layer: Mapping[str, Any] = {}
    consent_settings: Mapping[str, Any] = {}
    integrations: Sequence[Mapping[str, Any]] = ()


class Hand:
    """A clock that a test moves: `clock.now_ms = …`."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class PortionedLog(Log):
    """The log, read in portions of the sizes that `portions` gives while it lasts."""

    portions: Iterator[int] = iter(())

    async def read(self, after: int, limit: int) -> list[Record]:
        """As Log.read."""
        return await super().read(after, min(limit, next(self.portions, limit)))


class HandPath(EventPath):
    """An event path with its hand-moved clock."""

    clock: Hand

    async def process_portion(self, events: int, timeout_s: float = 20) -> None:
        """Process no more than so many events, and throw the processor's task away."""
        until = min(self.processor.position + events, self.log.end)
        cast("PortionedLog", self.log).portions = itertools.chain([events], itertools.repeat(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.processor.run)
            with anyio.fail_after(timeout_s):
                while self.processor.position < until:  # noqa: ASYNC110 - it has no event to wait for
                    await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        cast("PortionedLog", self.log).portions = iter(())

    async def end_sessions(self) -> int:
        """What the processor does every few seconds."""
        return await self.processor.end_sessions()


def received(event: Mapping[str, Any], *, pipeline: str = PIPELINE, **envelope: Any) -> Arrival:
    """An event as the gateway hands it to the log; `envelope` has what the gateway knew beside it."""
    raw = msgspec.json.encode(event)
    known = Envelope(
        **{
            "dialect": "datafly",
            "message_id": event.get("messageId"),
            "received_at_ms": NOON_MS,
            "type": event.get("type"),
            **envelope,
        }
    )
    return Arrival(pipeline, known, raw, event_of(known, raw, WITHIN))


@contextlib.asynccontextmanager
async def open_processing(
    folder: Path,
    setup: Setup | None = None,
    *,
    clock: Hand | None = None,
    locate: Locate = nowhere,
    portions: Iterable[int] = (),
    **options: Any,
) -> AsyncIterator[HandPath]:
    """Open the store of `folder`; `setup` is None where an earlier opening has said it.

    `options` are those of Store.open.
    """
    clock = clock or Hand()
    async with open_store(folder / "datafly.db", **options) as store:
        if setup is not None:
            await store.write(_configure, setup)
        configuration = LiveConfiguration(store, KEYRING)
        await configuration.reload()
        log = PortionedLog(
            store, lambda envelope, raw: event_of(envelope, raw, WITHIN), tail_events=4_000, window_days=7
        )
        log.portions = iter(portions)
        await log.open()
        path = HandPath(store, configuration, log, _processor(store, log, configuration, clock, locate))
        path.clock = clock
        await path.processor.open()
        try:
            yield path
        finally:
            log.close()


def _processor(
    store: Store, log: Log, configuration: LiveConfiguration, clock: Hand, locate: Locate
) -> Processor:
    def nobody(_: Iterable[str]) -> None:
        """There is no delivery here."""

    return Processor(store, log, configuration, nobody, nobody, LiveStream(), Metrics(), clock, locate)


def _configure(connection: sqlite3.Connection, setup: Setup) -> None:
    insert_configuration(connection, KEYRING)
    for table in ("pipeline_integrations", "revisions", "integrations"):  # its webhook makes room
        connection.execute(f"DELETE FROM {table}")
    for number, one in enumerate(setup.integrations, 1):
        _attach(connection, number, one)
    for table, config in (("data_layers", setup.data_layer), ("consent_settings", setup.consent_settings)):
        if config:
            data_layers.add(connection, table, msgspec.json.encode(config).decode(), None, 0)  # type: ignore[arg-type]  # both are names


def _attach(connection: sqlite3.Connection, number: int, one: Mapping[str, Any]) -> None:
    connection.execute(
        "INSERT INTO integrations (id, name, vendor, created_at_ms, updated_at_ms) VALUES (?, ?, ?, 0, 0)",
        (f"tmpl_{number}", one["name"], one["vendor"]),
    )
    connection.execute(
        "INSERT INTO revisions (id, integration_id, revision_number, config, secrets_ciphertext,"
        " created_at_ms) VALUES (?, ?, 1, ?, ?, 0)",
        (f"rev_{number}", f"tmpl_{number}", msgspec.json.encode(one.get("config", {})).decode(), NO_SECRETS),
    )
    connection.execute(
        "INSERT INTO pipeline_integrations (id, pipeline_id, integration_id, revision_id, enabled, mode,"
        " created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, 1, 'live', 0, 0)",
        (f"pi_{number}", PIPELINE, f"tmpl_{number}", f"rev_{number}"),
    )
