"""The same log gives the same state: however it was split into batches, and however often it crashed."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datafly_lite.clock import iso
from datafly_lite.events import Arrival
from datafly_lite.processor.explaining import decode_inputs
from datafly_lite.processor.runner import process
from datafly_lite.sessions import HOUR_MS, MINUTE_MS
from path_kit import NOON_MS, PIPELINE
from processing_kit import HandPath, Setup, open_processing, received

VISITORS = ("v-1", "v-2", "v-3")
USERS = ("u-1", "u-2", "undefined")
SCRIPT = """
function process(event, context) {
  if (event.properties.fails) { throw new Error("no") }
  event.properties.chance = Math.random();
  event.properties.at = new Date().toISOString();
  if (event.properties.as) { event.userId = event.properties.as; event.anonymousId = "v-1" }
  return event.properties.drops ? null : event
}
"""
STEPS = [
    {"type": "filter", "condition": "event.properties.price IS NULL OR event.properties.price > 3"},
    {"type": "map", "mappings": {"who": "event.userId", "what": "event.event"}},
]

FAST: dict[str, Any] = {"synchronous": "OFF", "readers": 2}
"""No power fails here (test_store_power.py): what is thrown away is the processor."""

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def integration(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "vendor": "webhook", "config": {"url": "https://hooks.example/", **config}}


HOOK = integration("Hook")

setups = st.builds(
    lambda pii, script, tracks, keys, rules, strips: Setup(
        {
            "pii_rules": {"hash_fields": pii},
            "session": {"track_session_start": tracks, "track_session_end": tracks},
            "custom_js": {"enabled": script, "code": SCRIPT},
            "deduplication": {"keys": [{"event": "purchase", "path": "properties.order_id"}] if keys else []},
            "routing_rules": [{"condition": "event = 'Internal Test'", "action": "drop"}] if rules else [],
            "bot_filtering": {"block_known_bots": rules},
        },
        {"required_categories": ["functional"], "on_refused": "strip" if strips else "drop"},
        [
            HOOK,
            integration("Ads", consent_categories=["marketing"]),
            integration("Steps", steps=STEPS, consent_categories=["analytics"]),
        ],
    ),
    st.sampled_from([[], ["userId"], ["userId", "groupId", "traits.email"]]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)

consents = st.dictionaries(
    st.sampled_from(["functional", "analytics", "marketing"]), st.booleans(), max_size=2
)
bodies = st.fixed_dictionaries(
    {"type": st.sampled_from(["track", "track", "page", "identify", "group", "alias", "screen"])},
    optional={
        "userId": st.sampled_from(USERS),
        "traits": st.dictionaries(st.sampled_from(["email", "plan"]), st.sampled_from(["a", "b", None])),
        "properties": st.fixed_dictionaries(
            {},
            optional={
                "order_id": st.sampled_from(["O-1", "O-2", 3]),
                "price": st.integers(1, 5),
                "as": st.sampled_from(["u-2", "u-3"]),
                "fails": st.booleans(),
                "drops": st.booleans(),
            },
        ),
        "consent": consents,
        "url": st.sampled_from(
            ["https://a.example/?fbclid=IwAR0abcdefghij", "https://a.example/?gclid=Cj0KCQabcdef"]
        ),
        "userAgent": st.sampled_from(["Googlebot/2.1", "Shop/1.0"]),
    },
)
moments = st.tuples(st.integers(0, 50), st.sampled_from([0, 0, 0, 40]))
"""Minutes since the event before, and minutes that it came late."""

histories = st.lists(
    st.tuples(bodies, st.sampled_from([*VISITORS, None]), moments, st.booleans()), min_size=8, max_size=18
)


def arrivals_of(history: Sequence[tuple[dict[str, Any], str | None, tuple[int, int], bool]]) -> list[Arrival]:
    at_ms, found = NOON_MS - 24 * HOUR_MS, []
    for number, (body, visitor, (minutes, late), has_gpc) in enumerate(history):
        at_ms += minutes * MINUTE_MS
        found.append(
            received(
                event_of(number, body, at_ms - late * MINUTE_MS),
                received_at_ms=at_ms,
                anonymous_id=visitor,
                has_gpc=has_gpc and number % 4 == 0,
            )
        )
    return found


def event_of(number: int, body: dict[str, Any], at_ms: int) -> dict[str, Any]:
    names = {"track": {"event": ("Purchase", "Order Completed", "Seen", "Internal Test")[number % 4]}}
    needed = {
        "group": {"groupId": ("g-1", "null")[number % 2]},
        "alias": {"userId": "u-1", "previousId": "v-2"},
    }
    own: dict[str, Any] = {
        name: body[name] for name in ("type", "userId", "traits", "properties") if name in body
    }
    context = {name: body[name] for name in ("consent", "userAgent") if name in body}
    page = {"page": {"url": body["url"]}} if "url" in body else {}
    if body["type"] == "identify":
        own.setdefault("userId", "u-1")
    if body["type"] == "track":
        own["properties"] = {"order_id": f"O-{number % 2}", **own.get("properties", {})}
    found: dict[str, Any] = {"messageId": f"m-{number}", "timestamp": iso(at_ms), "context": context | page}
    return found | names.get(body["type"], {}) | needed.get(body["type"], {}) | own


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────

TABLES = {
    "raw_events": "offset",
    "events": "offset",
    "deliveries": "id",
    "identities": "anonymous_id",
    "identity_links": "anonymous_id, user_id",
    "profiles": "kind, id",
    "sessions": "pipeline_id, anonymous_id",
    "consent_changes": "offset",
    "idempotency_keys": "digest",
    "offsets": "consumer",
    "counters": "pipeline_id, name",
    "delivery_counts": "pipeline_integration_id, name",
}
State = dict[str, list[dict[str, Any]]]


async def state_of(path: HandPath) -> State:
    """All that processing writes. The clock stands still, so that times are the same too."""
    return {name: await path.rows(f"SELECT * FROM {name} ORDER BY {order}") for name, order in TABLES.items()}


async def run(
    setup: Setup, arrivals: Sequence[Arrival], portions: Iterable[int] = (), crashes: Iterable[int] = ()
) -> State:
    """Process the arrivals; `crashes` are offsets at whose event the transaction fails, once each."""
    with tempfile.TemporaryDirectory() as name:
        folder, sizes = Path(name), list(portions)
        async with open_processing(folder, setup, **FAST) as path:
            await path.send(*arrivals)
        for offset in crashes:
            async with open_processing(folder, portions=sizes, **FAST) as path:
                await path.store.write(arm, offset)
                with contextlib.suppress(BaseExceptionGroup):
                    await path.process()
        async with open_processing(folder, portions=sizes, **FAST) as path:
            await path.store.write(disarm)
            await path.process()
            path.clock.now_ms += 48 * HOUR_MS
            await path.end_sessions()
            path.clock.now_ms -= 48 * HOUR_MS
            await path.process()
            return await state_of(path)


def arm(connection: sqlite3.Connection, offset: int) -> None:
    disarm(connection)
    connection.execute(
        f"CREATE TRIGGER crash BEFORE INSERT ON deliveries WHEN NEW.offset = {offset}"
        " BEGIN SELECT raise(ABORT, 'crash'); END"
    )


def disarm(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TRIGGER IF EXISTS crash")


def differing(one: State, other: State) -> dict[str, Any]:
    """By table, the rows that are in one of them only."""
    return {
        name: (
            [row for row in one[name] if row not in other[name]],
            [row for row in other[name] if row not in one[name]],
        )
        for name in TABLES
        if one[name] != other[name]
    }


# ── What holds ───────────────────────────────────────────────────────────────────────────────


@FEW
@given(setup=setups, history=histories, portions=st.lists(st.integers(1, 4), max_size=15))
def test_where_a_batch_ends_does_not_matter(setup: Setup, history: Any, portions: list[int]) -> None:
    arrivals = arrivals_of(history)
    whole = anyio.run(run, setup, arrivals)
    split = anyio.run(run, setup, arrivals, portions)
    assert differing(whole, split) == {}


@FEW
@given(
    setup=setups,
    history=histories,
    portions=st.lists(st.integers(1, 4), max_size=15),
    crashes=st.lists(st.integers(1, 18), min_size=1, max_size=3),
)
def test_a_crash_leaves_no_trace(setup: Setup, history: Any, portions: list[int], crashes: list[int]) -> None:
    arrivals = arrivals_of(history)
    whole = anyio.run(run, setup, arrivals)
    crashed = anyio.run(run, setup, arrivals, portions, crashes)
    assert differing(whole, crashed) == {}


async def explain_all(setup: Setup, arrivals: Sequence[Arrival]) -> list[str]:
    """What a second look at each event says otherwise than the first."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        async with open_processing(Path(name), setup, **FAST) as path:
            await path.send(*arrivals)
            await path.process()
            for row in await path.rows("SELECT * FROM events ORDER BY offset"):
                found += [f"{row['message_id']}: {one}" async for one in other_bytes(path, row)]
    return found


OWN_WAY = """
    SELECT steps, iif(detail LIKE 'withdrawn: %', NULL, reason), iif(detail LIKE 'withdrawn: %', NULL, detail)
      FROM deliveries WHERE offset = ?
"""


async def other_bytes(path: HandPath, row: dict[str, Any]) -> Any:
    """The trace of one event, and its way again from the kept inputs."""
    trace = await path.tracer.trace(PIPELINE, row["message_id"])
    assert trace is not None
    if not trace.recomputed_alike:
        yield "recomputed otherwise"
    steps = [*trace.steps, *(step for one in trace.deliveries for step in one.steps)]
    for step in steps:
        if step.outcome != step.recorded:
            yield f"{step.name} was {step.recorded} and is {step.outcome}"
    raw = (await path.rows("SELECT * FROM raw_events WHERE offset = ?", row["offset"]))[0]
    record = path.log.record(raw["offset"], raw["pipeline_id"], raw["envelope"], raw["raw"])
    current = path.configuration.current
    done = process(record, decode_inputs(row["inputs"]), current.rules, current.by_id[PIPELINE])
    if msgspec.json.encode(done.event) != row["body"]:
        yield f"{row['body']!r} and again {msgspec.json.encode(done.event)!r}"
    # A later withdrawal of consent can cancel what waits: that is no part of the event's own way.
    deliveries = await path.rows(OWN_WAY, row["offset"])
    again = [(one.steps, one.reason, one.detail or None) for one in done.fanouts]
    if [tuple(one.values()) for one in deliveries] != again:
        yield f"{deliveries} and again {again}"


@FEW
@given(setup=setups, history=histories)
def test_the_kept_inputs_give_the_same_bytes_again(setup: Setup, history: Any) -> None:
    assert anyio.run(explain_all, setup, arrivals_of(history)) == []


# ── What was wrong once ──────────────────────────────────────────────────────────────────────


async def one_by_one(setup: Setup, *events: tuple[str, dict[str, Any]]) -> State:
    """Each event in a batch of its own."""
    return await run(setup, minutes(events), portions=[1] * len(events))


async def together(setup: Setup, *events: tuple[str, dict[str, Any]]) -> State:
    return await run(setup, minutes(events))


def minutes(events: Sequence[tuple[str, dict[str, Any]]]) -> list[Arrival]:
    """A minute apart, each with its visitor."""
    return [
        received(
            {"messageId": f"m-{number}", "timestamp": iso(NOON_MS + number * MINUTE_MS), **event},
            received_at_ms=NOON_MS + number * MINUTE_MS,
            anonymous_id=visitor,
        )
        for number, (visitor, event) in enumerate(events)
    ]


def identify(user_id: str, **traits: Any) -> dict[str, Any]:
    return {"type": "identify", "userId": user_id, "traits": traits}


def traits_of(state: State) -> dict[str, Any]:
    return {row["id"]: msgspec.json.decode(row["traits"]) for row in state["profiles"]}


@pytest.mark.anyio
async def test_users_whose_ids_are_hashed_keep_their_traits_on_each_device() -> None:
    setup = Setup({"pii_rules": {"hash_fields": ["userId"]}}, {}, [HOOK])
    found = await one_by_one(
        setup,
        ("v-1", identify("u-1", plan="gold")),
        ("v-2", identify("u-1", seats=5)),
        ("v-2", {"type": "track", "event": "Seen", "userId": "u-1"}),
    )
    digest = hashlib.sha256(b"u-1").hexdigest()
    assert traits_of(found) == {digest: {"plan": "gold", "seats": 5}}
    last = msgspec.json.decode(found["events"][-1]["body"])
    assert (last["userId"], last["context"]["traits"]) == (digest, {"plan": "gold", "seats": 5})


@pytest.mark.anyio
async def test_the_digest_of_nobody_is_nobody() -> None:
    setup = Setup({"pii_rules": {"hash_fields": ["userId"]}}, {}, [HOOK])
    found = await one_by_one(setup, ("v-1", identify("undefined", plan="a")), ("v-2", identify("undefined")))
    assert (found["profiles"], found["identity_links"]) == ([], [])
    assert [row["user_id"] for row in found["events"]] == [None, None]


@pytest.mark.anyio
async def test_a_group_of_nobody_says_nothing_of_the_visitors_own() -> None:
    found = await one_by_one(
        Setup({}, {}, [HOOK]),
        ("v-1", {"type": "group", "groupId": "acme", "traits": {"seats": 5}}),
        ("v-1", {"type": "group", "groupId": "null", "traits": {"name": "?"}}),
    )
    assert traits_of(found) == {"acme": {"seats": 5}}


@pytest.mark.anyio
async def test_an_id_of_nobody_does_not_hide_the_known_users_traits() -> None:
    found = await one_by_one(
        Setup({}, {}, [HOOK]),
        ("v-1", identify("u-1", plan="gold")),
        ("v-1", {"type": "track", "event": "Seen", "userId": "undefined"}),
    )
    last = msgspec.json.decode(found["events"][-1]["body"])
    assert (last["userId"], last["context"]["traits"]) == ("u-1", {"plan": "gold"})


@pytest.mark.anyio
async def test_an_alias_to_nobody_links_no_visitor_to_the_known_user() -> None:
    events = (
        ("v-2", {"type": "track", "event": "Seen"}),
        ("v-3", identify("u-1")),
        ("v-3", {"type": "alias", "userId": "undefined", "previousId": "v-2"}),
    )
    found = await one_by_one(Setup({}, {}, [HOOK]), *events)
    assert [(row["anonymous_id"], row["user_id"]) for row in found["identities"]] == [
        ("v-2", None),
        ("v-3", "u-1"),
    ]
    assert differing(found, await together(Setup({}, {}, [HOOK]), *events)) == {}


TAKES = """function process(event) {
  if (event.properties.as) { event.anonymousId = "v-1"; event.userId = "u-1" }
  return event
}"""


@pytest.mark.anyio
async def test_a_script_that_names_another_visitor_changes_nothing_that_is_known_of_that_one() -> None:
    """Else one person's yes would be another's, and a delivery would ask the wrong one."""
    ads = integration("Ads", consent_categories=["marketing"])
    found = await one_by_one(
        Setup({"custom_js": {"enabled": True, "code": TAKES}}, {}, [ads]),
        ("v-1", {"type": "track", "event": "Seen", "context": {"consent": {"marketing": False}}}),
        ("v-1", identify("u-1", plan="gold")),
        ("v-2", {"type": "track", "event": "Seen", "properties": {"as": 1}}),
        ("v-2", {**identify("u-2", plan="free"), "properties": {"as": 1}}),
    )
    known = {row["anonymous_id"]: (row["user_id"], row["consent"]) for row in found["identities"]}
    assert known["v-1"][0] == "u-1"
    assert msgspec.json.decode(known["v-1"][1])["choices"] == {"marketing": False}
    assert known["v-2"] == ("u-2", "{}")
    assert traits_of(found) == {"u-1": {"plan": "gold"}, "u-2": {"plan": "free"}}
    assert [(row["anonymous_id"], row["status"]) for row in found["deliveries"]] == [
        ("v-1", "dropped"),
        ("v-1", "dropped"),
        ("v-2", "pending"),
        ("v-2", "pending"),
    ]
