"""The ledger after all that can happen to events at once: it comes out, and says what the rows say."""

from __future__ import annotations

import random
import secrets
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crash import NO, mixed_event, run
from datafly_lite.events import Arrival
from datafly_lite.management.stats import ledger_of
from datafly_lite.sessions import HOUR_MS
from datafly_lite.store import deliveries
from datafly_lite.store.deliveries import Attempted
from datafly_lite.store.ledger import counted
from path_kit import NOON_MS
from processing_kit import HandPath, Setup, open_processing
from test_ledger import recount, summed, without_reasons_of_dead
from test_processing_properties import FAST, FEW, arrivals_of, histories, setups

OUTCOMES = [("delivered", None), ("dead", "refused"), ("dropped", "filter"), ("pending", None)]


async def look(path: HandPath) -> dict[str, Any]:
    """The ledger, which must come out."""

    def both(connection: sqlite3.Connection) -> tuple[dict[str, Any], Any]:
        return msgspec.to_builtins(ledger_of(counted(connection), 0)), recount(connection)

    ledger, rows = await path.store.read(both)
    assert ledger["balanced"], ledger
    assert summed(ledger) == without_reasons_of_dead(rows)
    return ledger


async def settle(path: HandPath, outcomes: Sequence[int]) -> None:
    """What waits is tried, as a worker records it; some of it was cancelled meanwhile."""
    rows = await path.rows("SELECT id FROM deliveries ORDER BY id")
    tried = [
        Attempted(row["id"], 1, *OUTCOMES[outcome], NOON_MS, NOON_MS, verdict="x", request="{}")
        for row, outcome in zip(rows, outcomes, strict=False)
    ]
    await path.store.write(deliveries.record_attempts, tried)
    dead = await path.rows("SELECT id FROM deliveries WHERE status = 'dead' AND id % 2")
    await path.store.write(deliveries.replay, [row["id"] for row in dead], NOON_MS)


async def live_through(setup: Setup, arrivals: Sequence[Arrival], outcomes: Sequence[int]) -> dict[str, Any]:
    """Half of the events, attempts, the other half and some sent again, attempts, the end of all sessions."""
    half = len(arrivals) // 2
    with tempfile.TemporaryDirectory() as name:
        async with open_processing(Path(name), setup, **FAST) as path:
            for part in (arrivals[:half], arrivals[half // 2 :]):
                if part:
                    await path.send(*part)
                await look(path)
                await path.process()
                await look(path)
                await settle(path, outcomes)
                await look(path)
            path.clock.now_ms = NOON_MS + 48 * HOUR_MS
            await path.end_sessions()
            await path.process()
            return await look(path)


@FEW
@given(
    setup=setups,
    history=histories,
    outcomes=st.lists(st.integers(0, len(OUTCOMES) - 1), max_size=60),
)
def test_it_comes_out_whatever_happens_to_events(setup: Setup, history: Any, outcomes: list[int]) -> None:
    arrivals = arrivals_of(history)
    ledger = anyio.run(live_through, setup, arrivals, outcomes)
    half = len(arrivals) // 2
    assert ledger["received"]["duplicates"] == half - half // 2
    assert ledger["events"]["waiting"] == 0


def expected_reasons(message_ids: Sequence[str]) -> dict[str, str | None]:
    """What the mix's data layer must say of its events, in the log's order, told a second time."""
    orders, found = set[str](), dict[str, str | None]()
    for message_id in message_ids:
        event = mixed_event(message_id, NOON_MS)
        order, properties = event["properties"]["order_id"], event["properties"]
        is_purchase = event["event"] == "Purchase"
        if "userAgent" in event["context"]:
            found[message_id] = "bot"
            continue
        if is_purchase and order in orders:
            found[message_id] = "duplicate"
        elif properties["fails"]:
            found[message_id] = "custom_js"
        elif properties["drops"]:
            found[message_id] = "filter"
        else:
            found[message_id] = "routing" if event["event"] == "Internal Test" else None
        if is_purchase:
            orders.add(order)
    return found


@pytest.mark.timeout(300)
def test_it_comes_out_after_kill_9_under_a_load_of_everything(data_dir: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    print(f"to repeat: python tests/crash.py --mix --rounds 2 --seed {seed}")  # noqa: T201 - shown when it fails
    run(data_dir, 2, random.Random(seed), mix=True, rates_rps=(100.0, 200.0))
    with closing(sqlite3.connect(data_dir / "datafly.db")) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        ledger, rows = ledger_of(counted(connection), 0), recount(connection)
        processed = connection.execute("SELECT message_id, event, drop_reason FROM events ORDER BY offset")
        reasons = {row["message_id"]: (row["event"], row["drop_reason"]) for row in processed}
    assert summed(msgspec.to_builtins(ledger)) == without_reasons_of_dead(rows)
    made = {name: one for name, one in reasons.items() if one[0].startswith("session_")}
    assert "session_start" in {name for name, _ in made.values()}
    assert {reason for _, reason in made.values()} == {None}
    sent = {name: reason for name, (_, reason) in reasons.items() if name not in made}
    assert sent == expected_reasons(list(sent))
    assert {*ledger.deliveries.dropped_by_reason} <= {"consent", "filter"}


def test_the_mix_is_what_it_says() -> None:
    """Or the load above would prove less than it seems to."""
    events = [mixed_event(str(number), NOON_MS) for number in range(1_000)]
    assert events == [mixed_event(str(number), NOON_MS) for number in range(1_000)]
    assert sum(one["context"].get("consent") == NO for one in events) > 50
    assert sum("userAgent" in one["context"] for one in events) > 50
    assert sum(one["properties"]["fails"] for one in events) > 10
    assert len({one["properties"]["order_id"] for one in events if one["event"] == "Purchase"}) > 100
