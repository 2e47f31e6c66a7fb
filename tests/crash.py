"""Load, kill -9 at a random moment, start again, many times; then count.

    python tests/crash.py --rounds 200 --seed 1 [--mix]

What must hold at the end: every messageId that got a 200 is stored once and reached the webhook at least
once, each stored event is processed, each processed event has its delivery, and the file is sound.

With `--mix` visitors come and go, agree and take it back, some are robots, orders are sent twice, the data
layer's script fails, integrations filter, and the vendor refuses. Then no sum is known beforehand: the
ledger must come out, from its counters and from the rows alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from datafly_lite.management.stats import ledger_of
from datafly_lite.store.ledger import counted
from kit import (
    Management,
    Pipeline,
    RecordingVendor,
    Server,
    VendorAnswer,
    recording_vendor,
    running_server,
    wait_until,
)
from load import Result, Shot, events, new_message_ids, send

SETTINGS = {
    "DATAFLY_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
    "DATAFLY_DELIVERY_RATE_LIMIT_RPS": "100000",
    "DATAFLY_LOG_LEVEL": "warning",
}
KILL_AFTER_S = (0.2, 1.5)
RATES_RPS = (150.0, 300.0, 300.0, None)
"""None is as fast as it goes: the kill then meets full transactions and a backlog."""

CONNECTIONS = 8
SENT_AGAIN = 20
DRAIN_TIMEOUT_S = 120.0


class Ledger:
    """What clients know: which ids got a 200, and which were sent without an answer."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.unanswered: set[str] = set()
        self.refused: Counter[int] = Counter()

    def take(self, result: Result) -> None:
        self.sent.update(result.acknowledged, result.unanswered, result.refused_ids)
        self.acknowledged.update(result.acknowledged)
        self.unanswered.update(result.unanswered)
        self.unanswered -= self.acknowledged
        self.refused += result.refused

    def to_send_again(self, chance: random.Random) -> list[str]:
        """What a client that saw the crash sends again, and a few that it need not."""
        needless = chance.sample(sorted(self.acknowledged), min(SENT_AGAIN, len(self.acknowledged)))
        return [*sorted(self.unanswered), *needless]


# ── The mix ──────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
function process(event) {
  if (event.properties.fails) { throw new Error("it fails") }
  return event.properties.drops ? null : event
}
"""
DATA_LAYER = {
    "bot_filtering": {"block_known_bots": True},
    "session": {"track_session_start": True, "track_session_end": True},
    "deduplication": {"keys": [{"event": "purchase", "path": "properties.order_id"}]},
    "custom_js": {"enabled": True, "code": SCRIPT},
    "routing_rules": [{"condition": "event = 'Internal Test'", "action": "drop"}],
}
INTEGRATIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "ads": {"consent_categories": ["marketing"]},
    "orders": {
        "steps": [
            {"type": "filter", "condition": "event.event IN ('Purchase', 'session_end')"},
            {"type": "map", "mappings": {"order": "event.properties.order_id"}, "on_missing": "drop"},
        ]
    },
}
"""By the path that they send to."""

SPAN_MS = 24 * 3_600_000
ANSWERS = ([200, 400, 503], [90, 7, 3])
MIX_SETTINGS = {**SETTINGS, "DATAFLY_RETRY_BACKOFF_BASE": "1", "DATAFLY_RETRY_MAX_ATTEMPTS": "3"}


def mixed(message_ids: Iterable[str], key: str) -> Iterator[Shot]:
    """One request an event; what is in it follows from its messageId."""
    now_ms = time.time_ns() // 1_000_000
    for message_id in message_ids:
        body = json.dumps(mixed_event(message_id, now_ms)).encode()
        head = f"POST /v1/t HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        yield Shot((message_id,), f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def mixed_event(message_id: str, now_ms: int) -> dict[str, Any]:
    """An event of the last day, of one of forty visitors or of nobody."""
    chance = random.Random(message_id)
    context: dict[str, Any] = {}
    if chance.random() < 0.3:
        context["consent"] = {"marketing": chance.random() < 0.5}
    if chance.random() < 0.1:
        context["userAgent"] = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    return {
        "type": "track",
        "event": chance.choices(["Seen", "Purchase", "Internal Test"], [70, 25, 5])[0],
        "messageId": message_id,
        "anonymousId": f"visitor-{chance.randrange(40)}" if chance.random() < 0.95 else None,
        "timestamp": now_ms - chance.randrange(SPAN_MS),
        "properties": {
            "order_id": f"O-{chance.randrange(400)}",
            "fails": chance.random() < 0.03,
            "drops": chance.random() < 0.03,
        },
        "context": context,
    }


def set_up_mix(data_dir: Path, vendor: RecordingVendor) -> Pipeline:
    """A data layer that does what it can, and an integration for each path of the vendor."""
    with running_server(data_dir, env=MIX_SETTINGS) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline("Mix")
        management.call("PUT", "data-layer", {"config": DATA_LAYER})
        for name, config in INTEGRATIONS.items():
            management.attach(pipeline.id, "webhook", {"url": f"{vendor.url}{name}", **config}, name=name)
        return pipeline


def complaints_of_mix(ledger: Ledger, database: Path, vendor: RecordingVendor) -> Iterator[str]:
    """Each broken promise in words; none when all is well."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        sums = ledger_of(counted(connection), 0)
        own = {
            row[0] for row in connection.execute("SELECT message_id FROM events WHERE event LIKE 'session_%'")
        }
        reasons = dict(connection.execute(REASONS).fetchall())
        figures = [(sql, connection.execute(sql).fetchall()) for sql in MUST_BE_EMPTY]
        delivered = {tuple(row) for row in connection.execute(DELIVERED)}
    if not sums.balanced:
        yield f"the ledger does not come out: {sums}"
    if sums.events.dropped_by_reason != reasons:
        yield f"the ledger says {sums.events.dropped_by_reason}, the rows say {reasons}"
    yield from (f"{len(rows)} rows of {sql.strip()}" for sql, rows in figures if rows)
    stored = read_stored(database)
    yield from _complaints_of_log(ledger, stored, own)
    sent = {(one.path.strip("/"), json.loads(one.body)["messageId"]) for one in list(vendor.received)}
    if missed := delivered - sent:
        yield f"{len(missed)} are said to be delivered and never came, such as {min(missed)}"
    refused = {one for one in stored.raw if mixed_event(one, 0)["context"].get("consent") == NO} - own
    wrong = {message_id for path, message_id in sent if path == "ads"} & refused
    if wrong:
        yield f"{len(wrong)} that their visitor refused were sent, such as {min(wrong)}"


def _complaints_of_log(ledger: Ledger, stored: Stored, own: set[str]) -> Iterator[str]:
    times = Counter(stored.raw)
    lost, doubled = ledger.acknowledged - set(times), [one for one, number in times.items() if number > 1]
    if lost or doubled:
        yield f"{len(lost)} acknowledged events are not stored, {len(doubled)} more than once"
    if set(times) - ledger.sent - own:
        yield f"{len(set(times) - ledger.sent - own)} events are stored that nobody sent"
    if stored.processed != stored.raw[: stored.finished_with]:
        yield f"{stored.finished_with} events are finished with, {len(stored.processed)} processed"
    if stored.offsets != (1, len(stored.raw)) or stored.stored_counter != len(stored.raw):
        yield f"offsets {stored.offsets}, counter {stored.stored_counter}, of {len(stored.raw)} events"
    if stored.integrity != "ok":
        yield f"integrity_check: {stored.integrity}"


NO = {"marketing": False}
REASONS = (
    "SELECT drop_reason, count(*) FROM events WHERE drop_reason IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
)
DELIVERED = """
    SELECT i.name, e.message_id FROM deliveries AS d JOIN events AS e ON e.offset = d.offset
      JOIN pipeline_integrations AS a ON a.id = d.pipeline_integration_id
      JOIN integrations AS i ON i.id = a.integration_id WHERE d.status = 'delivered'
"""
MUST_BE_EMPTY = (
    f"""
    SELECT offset FROM events AS e WHERE iif(drop_reason IS NULL, {len(INTEGRATIONS)}, 0)
        <> (SELECT count(*) FROM deliveries AS d WHERE d.offset = e.offset)
    """,
    "SELECT id FROM deliveries WHERE status IN ('dropped', 'dead') AND reason IS NULL",
    """
    SELECT pipeline_integration_id, status || coalesce(':' || reason, ''), count(*) FROM deliveries
     GROUP BY 1, 2 EXCEPT SELECT pipeline_integration_id, name, value FROM delivery_counts
    """,
)
"""Rows that contradict what the processor promises."""


# ── What the file says ───────────────────────────────────────────────────────────────────────


class Stored(NamedTuple):
    """What the file says."""

    raw: list[str]
    processed: list[str]
    offsets: tuple[int, int]
    finished_with: int
    deliveries: Counter[str]
    stored_counter: int
    integrity: str


def count_pending(database: Path) -> int:
    """Events not yet processed and deliveries not yet made."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA query_only = ON")
        newest, done, pending = (_one(connection, sql) or 0 for sql in (NEWEST, DONE, PENDING))
        return int(newest) - int(done) + int(pending)


NEWEST = "SELECT max(offset) FROM raw_events"
DONE = "SELECT max(offset) FROM offsets WHERE consumer = 'processor'"
PENDING = "SELECT count(*) FROM deliveries WHERE status = 'pending'"
STORED = "SELECT sum(value) FROM counters WHERE name = 'stored'"
STATUSES = "SELECT status, count(*) FROM deliveries GROUP BY status"


def _one(connection: sqlite3.Connection, sql: str) -> Any:
    return connection.execute(sql).fetchone()[0]


def read_stored(database: Path) -> Stored:
    """All of it, from the file of a stopped server."""
    with closing(sqlite3.connect(database)) as connection:
        envelopes = connection.execute("SELECT envelope FROM raw_events ORDER BY offset")
        processed = connection.execute("SELECT message_id FROM events ORDER BY offset")
        return Stored(
            raw=[msgspec.json.decode(envelope)["messageId"] for (envelope,) in envelopes],
            processed=[message_id for (message_id,) in processed],
            offsets=(_one(connection, "SELECT min(offset) FROM raw_events"), _one(connection, NEWEST)),
            finished_with=_one(connection, DONE),
            deliveries=Counter(dict(connection.execute(STATUSES).fetchall())),
            stored_counter=_one(connection, STORED),
            integrity=_one(connection, "PRAGMA integrity_check"),
        )


def complaints(ledger: Ledger, stored: Stored, delivered: set[str]) -> Iterator[str]:
    """Each broken promise in words; none when all is well."""
    times = Counter(stored.raw)
    lost = ledger.acknowledged - set(times)
    if lost:
        yield f"{len(lost)} acknowledged events are not stored, such as {min(lost)}"
    doubled = [message_id for message_id, count in times.items() if count > 1]
    if doubled:
        yield f"{len(doubled)} events are stored more than once, such as {doubled[0]}"
    if set(times) - ledger.sent:
        yield f"{len(set(times) - ledger.sent)} events are stored that nobody sent"
    if stored.processed != stored.raw:
        yield f"{len(stored.raw)} events in the log, {len(stored.processed)} processed, or in another order"
    if stored.offsets != (1, len(stored.raw)) or stored.finished_with != len(stored.raw):
        yield f"offsets {stored.offsets}, processor at {stored.finished_with}, of {len(stored.raw)} events"
    if stored.deliveries != Counter({"delivered": len(stored.raw)}):
        yield f"{len(stored.raw)} events to one integration gave {dict(stored.deliveries)}"
    if stored.stored_counter != len(stored.raw):
        yield f"the counter says {stored.stored_counter} stored, the log has {len(stored.raw)}"
    missed = set(stored.raw) - delivered
    if missed:
        yield f"{len(missed)} stored events never reached the webhook, such as {min(missed)}"
    if stored.integrity != "ok":
        yield f"integrity_check: {stored.integrity}"


def wait_until_drained(server: Server, database: Path) -> None:
    """Until all is processed and delivered; fails with the server's output when it dies meanwhile."""
    wait_until(
        lambda: server.ready() and count_pending(database) == 0,
        "all events processed and delivered",
        DRAIN_TIMEOUT_S,
    )


async def load_until_killed(
    server: Server, shots: Iterator[Shot], chance: random.Random, rates_rps: Sequence[float | None]
) -> Result:
    """Load the server, and kill it meanwhile."""
    asyncio.get_running_loop().call_later(chance.uniform(*KILL_AFTER_S), server.process.kill)
    rate_rps = chance.choice(rates_rps)
    return await send(
        server.port, shots, connections=CONNECTIONS, duration_s=2 * KILL_AFTER_S[1], rate_rps=rate_rps
    )


def set_up(data_dir: Path, vendor: RecordingVendor) -> Pipeline:
    """A pipeline with one webhook integration."""
    with running_server(data_dir, env=SETTINGS) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline("Crash")
        management.attach(pipeline.id, "webhook", {"url": vendor.url})
        return pipeline


def run(
    data_dir: Path,
    rounds: int,
    chance: random.Random,
    *,
    mix: bool = False,
    rates_rps: Sequence[float | None] = RATES_RPS,
) -> str:
    """Run the rounds and count; one line of figures, or AssertionError with every broken promise."""
    database, ledger = data_dir / "datafly.db", Ledger()
    environment, shots = (MIX_SETTINGS, mixed) if mix else (SETTINGS, events)
    with recording_vendor() as vendor:
        pipeline = (set_up_mix if mix else set_up)(data_dir, vendor)
        vendor.answers += [VendorAnswer(one) for one in chance.choices(*ANSWERS, k=100_000)] if mix else []
        for _ in range(rounds):
            with running_server(data_dir, env=environment) as server:
                if chance.random() < 0.5:  # the others meet the backlog of the crash before
                    wait_until_drained(server, database)
                ids = chain(ledger.to_send_again(chance), new_message_ids())
                load = load_until_killed(server, shots(ids, pipeline.key), chance, rates_rps)
                ledger.take(asyncio.run(load))
                server.kill()
        with running_server(data_dir, env=environment) as server:
            wait_until_drained(server, database)
        received = vendor.message_ids
    stored = read_stored(database)
    found = list(
        complaints_of_mix(ledger, database, vendor) if mix else complaints(ledger, stored, set(received))
    )
    assert not found, "\n".join(found)
    assert not ledger.refused, f"refused: {dict(ledger.refused)}"
    return (
        f"{rounds} rounds: {len(ledger.acknowledged)} acknowledged, {len(ledger.unanswered)} unanswered, "
        f"{len(stored.raw)} stored, {len(received)} webhook requests for them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--mix", action="store_true", help="visitors, consent, bots, scripts and failures")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    sys.stdout.flush()
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(
            Path(folder) / "data", arguments.rounds, random.Random(arguments.seed), mix=arguments.mix
        )
    sys.stdout.write(f"{figures}, in {time.monotonic() - started_s:.0f} s\n")


if __name__ == "__main__":
    main()
