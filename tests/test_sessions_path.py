"""Sessions through the whole path: their beginning and their end are events, stored once."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.clock import iso
from datafly_lite.events import Arrival
from datafly_lite.gateway import event_of
from datafly_lite.management.stats import ledger_of
from datafly_lite.sessions import HOUR_MS, MINUTE_MS
from datafly_lite.store.ledger import counted
from path_kit import NOON_MS, PIPELINE, WITHIN
from processing_kit import HandPath, Setup, open_processing, received
from test_processing_properties import FAST, FEW, HOOK, arm, disarm, integration

TRACKED: dict[str, Any] = {"session": {"track_session_start": True, "track_session_end": True}}
SETUP = Setup(TRACKED, {}, [HOOK])


def seen(minute: float, visitor: str | None = "v-1", **body: Any) -> Arrival:
    """An event of that minute after noon, that came at once."""
    at_ms = NOON_MS + round(minute * MINUTE_MS)
    event = {
        "type": "track",
        "event": "Seen",
        "messageId": f"{visitor}-{minute:g}",
        "timestamp": iso(at_ms),
        **body,
    }
    return received(event, received_at_ms=at_ms, anonymous_id=visitor)


async def process(path: HandPath, *arrivals: Arrival) -> None:
    """Each at its time, in a batch of its own."""
    for one in arrivals:
        path.clock.now_ms = one.envelope.received_at_ms
        await path.send(one)
        await path.process()


async def moments(path: HandPath) -> list[tuple[str, str, int, int | None]]:
    """(event, visitor, number of the session, its seconds) of each session event that was processed."""
    rows = await path.rows("SELECT body FROM events WHERE event LIKE 'session%' ORDER BY offset")
    bodies = [msgspec.json.decode(row["body"]) for row in rows]
    return [
        (
            body["event"],
            body["anonymousId"],
            body["properties"]["session_number"],
            body["properties"].get("duration_s"),
        )
        for body in bodies
    ]


async def later(path: HandPath, minute: float) -> int:
    """What the processor does by the clock, at that minute after noon; how many sessions it ended."""
    path.clock.now_ms = NOON_MS + round(minute * MINUTE_MS)
    ended = await path.end_sessions()
    await path.process()
    return ended


@pytest.mark.anyio
async def test_a_session_begins_and_ends_once_with_a_trace_and_deliveries_of_its_own(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0), seen(10))
        assert await later(path, 39.9) == 0
        assert await later(path, 40) == 1
        assert await later(path, 90) == 0
        assert await moments(path) == [("session_start", "v-1", 1, None), ("session_end", "v-1", 1, 600)]
        for row in await path.rows("SELECT offset, message_id FROM events WHERE event LIKE 'session%'"):
            trace = await path.tracer.trace(PIPELINE, row["message_id"])
            assert trace is not None
            assert (trace.offset, trace.recomputed_alike) == (row["offset"], True)
            assert [one.status for one in trace.deliveries] == ["pending"]


@pytest.mark.anyio
async def test_who_comes_back_ends_the_session_and_the_clock_does_not_end_it_again(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0), seen(50))
        expected = [
            ("session_start", "v-1", 1, None),
            ("session_end", "v-1", 1, 0),
            ("session_start", "v-1", 2, None),
        ]
        assert await moments(path) == expected
        assert await later(path, 60) == 0
        assert await moments(path) == expected


@pytest.mark.anyio
async def test_what_the_clock_ended_is_not_ended_again_by_who_comes_back(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0))
        assert await later(path, 31) == 1
    async with open_processing(data_dir) as path:  # a start between the two
        await process(path, seen(50))
        assert [one[:3] for one in await moments(path)] == [
            ("session_start", "v-1", 1),
            ("session_end", "v-1", 1),
            ("session_start", "v-1", 2),
        ]
        assert ledger_of(await path.store.read(counted), 0).received.duplicates == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, []),
        ({"track_session_start": True}, [("session_start", 1), ("session_start", 2)]),
        ({"track_session_end": True}, [("session_end", 1), ("session_end", 2)]),
    ],
    ids=["none", "starts", "ends"],
)
async def test_only_what_is_wanted_is_made(
    data_dir: Path, rules: dict[str, bool], expected: list[tuple[str, int]]
) -> None:
    async with open_processing(data_dir, Setup({"session": rules}, {}, [HOOK])) as path:
        await process(path, seen(0), seen(50))
        await later(path, 120)
        assert [(one[0], one[2]) for one in await moments(path)] == expected
        assert [row["number"] for row in await path.rows("SELECT number FROM sessions")] == [2]


@pytest.mark.anyio
async def test_a_crash_while_an_end_is_made_leaves_it_to_be_made_once(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0))
        path.clock.now_ms = NOON_MS + HOUR_MS
        fails = "CREATE TRIGGER fails BEFORE INSERT ON raw_events BEGIN SELECT raise(ABORT, 'crash'); END"
        await path.store.write(lambda connection: connection.execute(fails))
        with pytest.raises(Exception, match="crash"):
            await path.end_sessions()
        await path.store.write(lambda connection: connection.execute("DROP TRIGGER fails"))
    async with open_processing(data_dir) as path:
        assert await later(path, 60) == 1
        assert await later(path, 61) == 0
        assert [one[0] for one in await moments(path)] == ["session_start", "session_end"]


@pytest.mark.anyio
async def test_events_that_wait_still_belong_to_their_session(data_dir: Path) -> None:
    """After a crash the clock has gone on, and the log has what came before it: the session was not over."""
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0))
        await path.send(seen(20))
    async with open_processing(data_dir) as path:
        path.clock.now_ms = NOON_MS + 10 * HOUR_MS
        assert await path.end_sessions() == 0
        await path.process()
        assert await later(path, 600) == 1
        assert await moments(path) == [("session_start", "v-1", 1, None), ("session_end", "v-1", 1, 20 * 60)]


@pytest.mark.anyio
async def test_many_sessions_end_at_once(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP, **FAST) as path:
        await path.send(*(seen(0, f"v-{number}") for number in range(250)))
        await path.process()
        assert await later(path, 31) == 250
        assert len(await path.rows("SELECT 1 FROM events WHERE event = 'session_end'")) == 250


@pytest.mark.anyio
async def test_no_session_without_a_visitor_and_none_of_a_bot(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        bot = {"userAgent": "Googlebot/2.1"}
        await process(path, seen(0, None), seen(1, "crawler", context=bot), seen(2, None, userId="u-1"))
        assert await moments(path) == []
        assert await path.rows("SELECT * FROM sessions") == []


@pytest.mark.anyio
async def test_a_session_of_a_clock_that_was_never_set_has_digits_for_an_id(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0, timestamp="1969-12-31T23:59:00.000Z"))
        assert [row["id"] for row in await path.rows("SELECT id FROM sessions")] == ["60000"]
        assert [one[0] for one in await moments(path)] == ["session_start"]


@pytest.mark.anyio
async def test_what_consent_or_the_bot_filter_drops_begins_no_session(data_dir: Path) -> None:
    blocks = {**TRACKED, "bot_filtering": {"block_known_bots": True}}
    required = {"required_categories": ["analytics"]}
    async with open_processing(data_dir, Setup(blocks, required, [HOOK])) as path:
        no = {"consent": {"analytics": False}}
        await process(path, seen(0, context=no), seen(1, "v-2", context={"userAgent": "Googlebot/2.1"}))
        assert await moments(path) == []
        await process(path, seen(2, context={"consent": {"analytics": True}}))
        assert [one[:3] for one in await moments(path)] == [("session_start", "v-1", 1)]


@pytest.mark.anyio
async def test_a_session_that_a_dropped_event_began_starts_with_the_first_that_goes_on(
    data_dir: Path,
) -> None:
    """The visitor was there, but where the event may not go its session_start may not go either."""
    rules = {**TRACKED, "routing_rules": [{"condition": "event = 'Internal'", "action": "drop"}]}
    async with open_processing(data_dir, Setup(rules, {}, [HOOK])) as path:
        await process(path, seen(0, event="Internal"))
        await process(path, seen(1), seen(2))
        rows = await path.rows("SELECT event, drop_reason FROM events ORDER BY offset")
        found = [tuple(row.values()) for row in rows]
        assert found == [("Internal", "routing"), ("Seen", None), ("session_start", None), ("Seen", None)]
        assert len(await path.rows("SELECT 1 FROM deliveries")) == 3
        [session] = await path.rows("SELECT number, started_at_ms, has_start FROM sessions")
        assert session == {"number": 1, "started_at_ms": seen(0).envelope.received_at_ms, "has_start": 1}


@pytest.mark.anyio
async def test_an_event_too_deep_to_be_copied_has_a_session_start_without_its_page(data_dir: Path) -> None:
    """What a batch says for all its events may be as deep as a body; inside another body it is deeper."""
    page: dict[str, Any] = {}
    for _ in range(30):
        page = {"a": page}
    async with open_processing(data_dir, SETUP) as path:
        deep = seen(0)
        shared = msgspec.structs.replace(deep.envelope, shared={"context": {"page": page}})
        event = event_of(shared, deep.raw, WITHIN)
        await process(path, msgspec.structs.replace(deep, envelope=shared, event=event))
        rows = await path.rows("SELECT event, body FROM events ORDER BY offset")
        assert [row["event"] for row in rows] == ["Seen", "session_start"]
        assert "page" not in msgspec.json.decode(rows[1]["body"])["context"]


@pytest.mark.anyio
async def test_a_session_start_goes_where_its_sender_let_the_event_go(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0, integrations={"All": False}))
        rows = await path.rows("SELECT status, reason FROM deliveries ORDER BY offset")
        assert [tuple(row.values()) for row in rows] == [("dropped", "routing")] * 2


@pytest.mark.anyio
async def test_session_events_obey_the_visitors_consent(data_dir: Path) -> None:
    ads = integration("Ads", consent_categories=["marketing"])
    async with open_processing(data_dir, Setup(TRACKED, {}, [ads])) as path:
        await process(path, seen(0, context={"consent": {"marketing": False}}))
        await later(path, 60)
        rows = await path.rows("SELECT status, reason FROM deliveries ORDER BY offset")
        assert [tuple(row.values()) for row in rows] == [("dropped", "consent")] * 3


@pytest.mark.anyio
async def test_the_ledger_counts_them_as_stored_and_never_as_duplicates(data_dir: Path) -> None:
    async with open_processing(data_dir, SETUP) as path:
        await process(path, seen(0), seen(50))
        await later(path, 120)
        ledger = ledger_of(await path.store.read(counted), 0)
        assert ledger.balanced
        assert (ledger.received.stored, ledger.received.duplicates, ledger.events.processed) == (6, 0, 6)
        assert ledger.deliveries.matched == 6


# ── In any order of batches, crashes and looks at the clock ──────────────────────────────────

visits = st.lists(st.tuples(st.integers(0, 45), st.sampled_from(["v-1", "v-2"])), min_size=1, max_size=12)
Ends = tuple[list[dict[str, Any]], set[str]]


async def ends(
    visits: Sequence[tuple[int, str]], looks: Sequence[bool] = (), crashes: Iterable[int] = ()
) -> Ends:
    """The sessions, and the session events without their place in the log and when they were made."""
    minute, arrivals = 0, list[Arrival]()
    for number, (pause, visitor) in enumerate(visits):
        minute += pause
        arrivals.append(seen(minute + number / 1000, visitor))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_processing(folder, SETUP, **FAST) as path:
            await path.send(*arrivals)
        for offset in crashes:
            async with open_processing(folder, portions=[1] * offset, **FAST) as path:
                path.clock.now_ms = NOON_MS + 100 * HOUR_MS
                await path.store.write(arm, offset)
                with contextlib.suppress(BaseExceptionGroup):
                    await path.process()
                await path.end_sessions()
        async with open_processing(folder, **FAST) as path:
            await path.store.write(disarm)
            path.clock.now_ms = NOON_MS + 100 * HOUR_MS
            for look in looks:
                if look:
                    await path.end_sessions()
                await path.process_portion(2)
            await path.process()
            await later(path, 6000)
            made = await path.rows("SELECT body FROM events WHERE event LIKE 'session%'")
            bodies = [msgspec.json.decode(row["body"]) for row in made]
            texts = [repr((one["messageId"], one["timestamp"], one["properties"])) for one in bodies]
            assert len(texts) == len({*texts})
            return await path.rows("SELECT * FROM sessions ORDER BY anonymous_id"), {*texts}


@FEW
@given(
    visits=visits, looks=st.lists(st.booleans(), max_size=6), crashes=st.lists(st.integers(1, 14), max_size=3)
)
def test_looks_at_the_clock_and_crashes_change_no_session(
    visits: list[tuple[int, str]], looks: list[bool], crashes: list[int]
) -> None:
    assert anyio.run(ends, visits, looks, crashes) == anyio.run(ends, visits)
