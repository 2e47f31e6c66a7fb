"""A store with a pipeline, attachments and queued events, and Delivery running on it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from datafly_lite.clock import Clock, new_id, system_clock
from datafly_lite.configuration import LiveConfiguration
from datafly_lite.delivery.worker import Delivery
from datafly_lite.keyring import Keyring
from datafly_lite.live import LiveStream
from datafly_lite.settings import Settings
from datafly_lite.store import Store
from datafly_lite.store.events import Changes, DeliveryRow, EventRow, write_processed
from datafly_lite.store.visitors import VisitorChanges
from kit import open_store

PIPELINE = "pip_1"
TIMES = {"created_at_ms": 0, "updated_at_ms": 0}
SECRET_SETTINGS = ("auth_token", "password", "secret", "api_secret")


class FakeClock:
    """Stands still until the test moves it."""

    def __init__(self, now_ms: int = 1_772_359_205_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Outbox:
    """What the processor and the management API leave for delivery."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.live = LiveStream()
        self.keyring = Keyring.open(folder / "key", create=True)
        self.configuration = LiveConfiguration(store, self.keyring)
        self.queued = 0

    async def execute(self, statement: str, *values: Any) -> None:
        await self.store.write(lambda connection: connection.execute(statement, values).close())

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        found = await self.store.read(lambda connection: connection.execute(statement, values).fetchall())
        return [dict(row) for row in found]

    async def insert(self, table: str, **columns: Any) -> None:
        marks = ", ".join("?" * len(columns))
        await self.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", *columns.values())

    async def make_pipeline(self) -> None:
        await self.insert(
            "pipelines",
            id=PIPELINE,
            name="P",
            slug="p",
            type="web",
            pipeline_key="dk_1",
            secret_ciphertext=self.keyring.encrypt(b"sk_0000"),
            secret_prefix="sk_0000",
            domain_allowlist="[]",
            labels="[]",
            rate_limit_rps=100,
            challenge_token_required=0,
            parameters="{}",
            config="{}",
            js_builder_config="{}",
            identity_config="{}",
            enabled=1,
            **TIMES,
        )

    async def attach(self, vendor: str = "webhook", **config: Any) -> str:
        """A live attachment of its own integration; the configuration knows it at once."""
        integration, attachment = new_id("tmpl"), new_id("pi")
        await self.insert("integrations", id=integration, name=integration, vendor=vendor, **TIMES)
        revision = await self.revise(integration, 1, **config)
        await self.insert(
            "pipeline_integrations",
            id=attachment,
            pipeline_id=PIPELINE,
            integration_id=integration,
            revision_id=revision,
            enabled=1,
            mode="live",
            **TIMES,
        )
        await self.configuration.reload()
        return attachment

    async def revise(self, integration: str, number: int, **config: Any) -> str:
        """A new revision; its id."""
        revision = new_id("rev")
        secrets = {name: value for name, value in config.items() if name in SECRET_SETTINGS}
        public = {name: "***" if name in secrets else value for name, value in config.items()}
        await self.insert(
            "revisions",
            id=revision,
            integration_id=integration,
            revision_number=number,
            config=msgspec.json.encode(public).decode(),
            secrets_ciphertext=self.keyring.encrypt(msgspec.json.encode(secrets)),
            created_at_ms=0,
        )
        return revision

    async def change(self, attachment: str, **columns: Any) -> None:
        """Change columns of the attachment and let the configuration know."""
        for name, value in columns.items():
            await self.execute(f"UPDATE pipeline_integrations SET {name} = ? WHERE id = ?", value, attachment)
        await self.configuration.reload()

    async def attachment(self, attachment: str) -> dict[str, Any]:
        return (await self.rows("SELECT * FROM pipeline_integrations WHERE id = ?", attachment))[0]

    async def queue(
        self,
        attachments: Iterable[str],
        count: int = 1,
        *,
        now_ms: int | None = None,
        body: bytes | None = None,
        **fields: Any,
    ) -> list[str]:
        """`count` processed events, each with a delivery to each attachment; their messageIds."""
        at_ms = system_clock() if now_ms is None else now_ms
        offsets = range(self.queued + 1, self.queued + count + 1)
        self.queued += count
        await self.store.write(
            write_processed,
            "processor",
            Changes(
                offset=self.queued,
                events=[_event(offset, at_ms, body, fields) for offset in offsets],
                deliveries=[
                    _delivery(offset, one, fields.get("anonymousId", "a-1"), at_ms)
                    for offset in offsets
                    for one in attachments
                ],
                visitors=VisitorChanges([], [], [], [], []),
                consent_changes=[],
                processed_at_ms=at_ms,
            ),
        )
        return [f"m-{offset}" for offset in offsets]

    async def deliveries(self, attachment: str) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT * FROM deliveries WHERE pipeline_integration_id = ? ORDER BY id", attachment
        )

    async def attempts(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM delivery_attempts ORDER BY delivery_id, attempt")

    async def until(self, attachment: str, **wanted: int) -> None:
        """Wait until the attachment has so many deliveries of each status: `until(a, delivered=2)`."""

        async def reached() -> bool:
            found = await self.rows(
                "SELECT status, count(*) AS n FROM deliveries WHERE pipeline_integration_id = ? GROUP BY 1",
                attachment,
            )
            counts = {row["status"]: row["n"] for row in found}
            return all(counts.get(status, 0) == number for status, number in wanted.items())

        await until(reached, f"{attachment} has {wanted}")


def _event(offset: int, at_ms: int, body: bytes | None, fields: dict[str, Any]) -> EventRow:
    message_id = f"m-{offset}"
    event = {
        "type": "track",
        "event": "Test",
        "messageId": message_id,
        "timestamp": "2026-03-01T10:00:00.000Z",
        "receivedAt": "2026-03-01T10:00:00.000Z",
        "anonymousId": "a-1",
        **fields,
    }
    encoded = msgspec.json.encode(event) if body is None else body
    return EventRow(
        offset=offset,
        pipeline_id=PIPELINE,
        message_id=message_id,
        type="track",
        event="Test",
        anonymous_id=event["anonymousId"],
        user_id=None,
        received_at_ms=at_ms,
        processed_at_ms=at_ms,
        drop_reason=None,
        detail=None,
        steps="",
        data_layer_version=0,
        consent_settings_version=0,
        inputs="{}",
        program="0",
        body=encoded,
    )


def _delivery(offset: int, attachment: str, visitor: str, at_ms: int) -> DeliveryRow:
    return DeliveryRow(
        offset=offset,
        pipeline_id=PIPELINE,
        pipeline_integration_id=attachment,
        revision_id="rev_1",
        anonymous_id=visitor,
        status="pending",
        reason=None,
        detail=None,
        next_attempt_at_ms=at_ms,
        created_at_ms=at_ms,
        finished_at_ms=None,
        steps="",
    )


async def until(condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 20.0) -> None:
    """Look every 5 ms until the condition holds; fail with `what` when it never does."""
    deadline_s = anyio.current_time() + timeout_s
    while not await condition():
        if anyio.current_time() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await anyio.sleep(0.005)


@contextlib.asynccontextmanager
async def outbox(folder: Path) -> AsyncIterator[Outbox]:
    """A new store, or the one that is there."""
    async with open_store(folder / "datafly.db", readers=2) as store:
        made = Outbox(store, folder)
        made.queued = (await made.rows("SELECT coalesce(max(offset), 0) AS n FROM events"))[0]["n"]
        if not await made.rows("SELECT id FROM pipelines"):
            await made.make_pipeline()
        await made.configuration.reload()
        yield made


@contextlib.asynccontextmanager
async def delivering(
    box: Outbox,
    *,
    clock: Clock = system_clock,
    chance: float = 0.0,
    crash: bool = False,
    store: Any = None,
    **settings: Any,
) -> AsyncIterator[Delivery]:
    """Delivery at work; stopped at the end, or with `crash` cut off as by a kill."""
    chosen = Settings(
        **{"dev": True, "shutdown_timeout_s": 5.0, "delivery_rate_limit_rps": 100_000, **settings}
    )
    seams: dict[str, Any] = {"monotonic": clock} if isinstance(clock, FakeClock) else {}
    delivery = Delivery(
        store or box.store, box.configuration, box.live, chosen, clock, lambda: chance, **seams
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delivery.run)
        yield delivery
        if crash:
            tasks.cancel_scope.cancel()
        delivery.stop()
