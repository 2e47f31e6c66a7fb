"""Processed events a second, and where the time goes, step by step.

The path is the real one without HTTP: log, processor, store with its fsync. Events are of a shop's visitors
with real user agents; the data layer has every step on. Nothing is asserted.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from datafly_lite.consent import ConsentSettings
from datafly_lite.data_layer import DataLayer, Rules, compiled
from datafly_lite.events import Arrival, Envelope, Record
from datafly_lite.gateway import event_of
from datafly_lite.processor.passage import Inputs
from datafly_lite.processor.runner import passage_of
from datafly_lite.processor.steps import DATA_LAYER
from datafly_lite.store import data_layers
from path_kit import NOON_MS, PIPELINE, WITHIN, EventPath, open_path

EVENTS = 20_000
BATCH_EVENTS = 100
VISITORS = 500
ALL_ON = {
    "pii_rules": {
        "hash_fields": ["traits.email", "properties.customer_email"],
        "redact_fields": ["properties.credit_card"],
        "auto_detect": "redact",
        "ip_address": "truncate",
    },
    "bot_filtering": {
        "block_known_bots": True,
        "block_empty_user_agent": True,
        "custom_patterns": ["internal-monitor/*"],
    },
    "session": {"track_session_start": True, "track_session_end": True},
    "deduplication": {"keys": [{"event": "purchase", "path": "properties.order_id"}]},
    "routing_rules": [
        {"condition": "event == 'Internal Test'", "action": "drop"},
        {"condition": "context.page.url contains '/staging'", "action": "drop"},
        {"condition": "properties.environment == 'production'", "action": "pass"},
    ],
}
SCRIPT = "function process(event, context) { event.properties.seen = context.now; return event; }"
WITH_SCRIPT = {**ALL_ON, "custom_js": {"enabled": True, "code": SCRIPT}}

USER_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/142.0.0.0 Mobile Safari/537.36",
)


class Speed(NamedTuple):
    """Events a second of one configuration."""

    name: str
    events_per_s: float


def arrivals(number: int) -> Iterator[Arrival]:
    """A shop's events; every tenth is a purchase, every fiftieth an identify."""
    for at in range(number):
        yield _arrival(at)


def _arrival(at: int) -> Arrival:
    visitor = at % VISITORS
    body = {
        "type": "identify" if at % 50 == 0 else "track",
        "event": "Order Completed" if at % 10 == 0 else "Product Viewed",
        "userId": f"u-{visitor}" if at % 50 == 0 else None,
        "traits": {"email": f"someone{visitor}@example.com", "plan": "gold"} if at % 50 == 0 else {},
        "properties": {
            "order_id": f"O-{at}",
            "revenue": 49.9,
            "currency": "EUR",
            "products": [{"product_id": f"P-{at % 90}", "name": "Mug", "price": 24.95, "quantity": 2}],
        },
        "context": {
            "page": {"url": f"https://shop.example/p/{at % 90}?utm_source=nl&gclid=Cj0K{at}", "title": "Mug"},
            "consent": {"categories": {"C0002": True, "C0004": at % 7 != 0}},
            "locale": "en-GB",
        },
        "messageId": f"bench-{at}",
    }
    envelope = Envelope(
        dialect="datafly",
        message_id=f"bench-{at}",
        received_at_ms=NOON_MS + at * 10,
        type=str(body["type"]),
        anonymous_id=f"{visitor:08x}-7a3b-4c3d-8e3f-1a2b3c4d5e6f",
        ip=f"203.0.113.{visitor % 250}",
        user_agent=USER_AGENTS[visitor % len(USER_AGENTS)],
        origin="https://shop.example",
    )
    raw = msgspec.json.encode(body)
    return Arrival(PIPELINE, envelope, raw, event_of(envelope, raw, WITHIN))


async def speed_of(name: str, config: dict[str, object], folder: Path, number: int) -> Speed:
    """From the log to the commit of all that follows, with one webhook attached."""
    async with open_path(folder, tail_events=number + 1, queue_limit=number + 1) as path:
        await _use(path, config)
        batch: list[Arrival] = []
        for one in arrivals(number):
            batch.append(one)
            if len(batch) == BATCH_EVENTS:
                await path.log.append(batch)
                batch = []
        started_s = time.perf_counter()
        await path.process(timeout_s=600)
        return Speed(name, path.processor.position / (time.perf_counter() - started_s))


async def _use(path: EventPath, config: dict[str, object]) -> None:
    text = msgspec.json.encode(config).decode()
    await path.store.write(data_layers.add, "data_layers", text, None, NOON_MS)
    await path.configuration.reload()


def step_times_us(rules: Rules, records: Sequence[Record]) -> dict[str, float]:
    """Microseconds an event in each step, the first tenth of the events not counted."""
    spent_ns: Counter[str] = Counter()
    counted = 0
    for number, record in enumerate(records):
        if record.event is None:
            continue
        passage = passage_of(record, record.event, Inputs(), rules)
        counted += number >= len(records) // 10
        for step in DATA_LAYER:
            started_ns = time.perf_counter_ns()
            step(passage)
            if number >= len(records) // 10:
                spent_ns[step.__name__] += time.perf_counter_ns() - started_ns
    return {name: spent / counted / 1000 for name, spent in spent_ns.items()}


def run(folder: Path, number: int = EVENTS) -> None:
    """Print it all."""
    folder.mkdir(parents=True, exist_ok=True)
    speeds = [
        anyio.run(speed_of, name, config, _made(folder / str(place)), number)
        for place, (name, config) in enumerate(
            {"defaults": {}, "all steps on": ALL_ON, "and one JavaScript step": WITH_SCRIPT}.items()
        )
    ]
    for one in speeds:
        ratio = one.events_per_s / speeds[0].events_per_s
        say(f"processed, {one.name}: {one.events_per_s:,.0f} events/s ({ratio:.2f}), aim 2,000")
    rules = compiled(msgspec.convert(ALL_ON, DataLayer), 1, ConsentSettings(), 0)
    records = [
        Record(at, one.pipeline_id, one.envelope, one.raw, one.event)
        for at, one in enumerate(arrivals(number // 4), 1)
    ]
    times_us = step_times_us(rules, records)
    for name, spent_us in times_us.items():
        say(f"  {name:20} {spent_us:8.2f} us")
    say(f"  {'all of them':20} {sum(times_us.values()):8.2f} us")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
