"""Every recording of a real client is sent again, byte for byte, and its events are found field by field."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from capture_kit import (
    CAPTURES,
    KEY,
    Recorded,
    events_of,
    expected_timestamp,
    lost,
    rebuilt,
    recordings,
    refusal_by_browser,
    sent,
    unreadable_by_browser,
)
from clients_kit import MANY_REQUESTS, Found, events_found
from kit import Answer, Management, Pipeline, Server, request, running_server

RECORDINGS = recordings()
NUMBERS = itertools.count()
COMMANDERS_ACT = ("/events", "/events/batch")


def of(method: str) -> list[Any]:
    """The recorded requests with this method, as parameters that name file and number."""
    return [pytest.param(name, entry, id=name) for name, entry in RECORDINGS if entry["method"] == method]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("captures") / "data", env=MANY_REQUESTS) as running:
        yield running


@pytest.fixture
def pipeline(management: Management) -> Pipeline:
    """A pipeline for each recording: several use the same message ids."""
    return management.create_pipeline(f"recording-{next(NUMBERS)}")


def test_all_recordings_are_here() -> None:
    assert len(list(CAPTURES.glob("*.json"))) == 21
    assert {entry["method"] for _, entry in RECORDINGS} == {"GET", "OPTIONS", "POST"}


def test_every_request_is_rebuilt_to_the_byte() -> None:
    """With the key that it was recorded with; of what was compressed, only the content can be alike."""
    for name, entry in RECORDINGS:
        recorded = rebuilt(name, entry, KEY)
        assert len(recorded.spoken) == entry.get("decoded_bytes", 0), name
        is_alike = entry.get("decoded_from") == "gzip"
        assert is_alike or [list(pair) for pair in recorded.headers] == entry["headers"], name


@pytest.mark.parametrize(("name", "entry"), of("POST"))
def test_a_recorded_request_is_taken_and_kept_field_by_field(
    name: str, entry: dict[str, Any], server: Server, management: Management, pipeline: Pipeline
) -> None:
    recorded = rebuilt(name, entry, pipeline.key)
    answer = sent(recorded, server.port)
    if recorded.header("Origin"):
        assert unreadable_by_browser(recorded, answer) is None
    events = events_of(recorded)
    check_taken(recorded, answer, len(events))
    found = events_found(management, pipeline.id, len(events))
    for event, one in zip(events, found, strict=True):
        check_kept(recorded, event, one)


def check_taken(recorded: Recorded, answer: Answer, count: int) -> None:
    """Exactly 200 with a small object (wire-formats.md, section 0, rule 4)."""
    expected = {"success": True, "accepted": count} if b'"batch"' in recorded.spoken else {"success": True}
    assert (answer.status, answer.json()) == (200, expected), answer.body


def check_kept(recorded: Recorded, event: dict[str, Any], found: Found) -> None:
    if recorded.path in COMMANDERS_ACT:
        check_commanders_act(event, found)
        return
    assert lost(event, found.canonical) == []
    assert found.message_id == event["messageId"]
    assert found.canonical["timestamp"] == expected_timestamp(event, found.canonical["receivedAt"])


def check_commanders_act(event: dict[str, Any], found: Found) -> None:
    """The body is kept whole, as its own names are not canonical."""
    kept, context = found.canonical, event.get("context", {})
    assert kept["original"] == {name: value for name, value in event.items() if name != "sentAt"}
    assert found.message_id == context.get("eventId", found.message_id)
    assert kept.get("originalTimestamp") == context.get("created")
    named = {"type": "page"} if event["event_name"] == "page_view" else {"event": event["event_name"]}
    assert {**kept, **named} == kept


@pytest.mark.parametrize(("name", "entry"), of("OPTIONS"))
def test_a_recorded_preflight_lets_the_browser_go_on(
    name: str, entry: dict[str, Any], server: Server
) -> None:
    recorded = rebuilt(name, entry, "dk_any")
    assert refusal_by_browser(recorded, sent(recorded, server.port)) is None


@pytest.mark.parametrize(("name", "entry"), of("GET"))
def test_recorded_settings_are_answered_as_the_recording_shows(
    name: str, entry: dict[str, Any], server: Server, pipeline: Pipeline
) -> None:
    """The document that the client was given then, with this server's address and key."""
    recorded = rebuilt(name, entry, pipeline.key)
    answer = sent(recorded, server.port)
    given = json.loads((CAPTURES / f"{name.partition('[')[0]}.json").read_text())["settings_answer"]
    place = {"apiKey": pipeline.key, "apiHost": f"127.0.0.1:{server.port}/v1", "protocol": "http"}
    assert given["integrations"]["Segment.io"].keys() == place.keys()
    assert answer.status == 200
    assert answer.json() == {**given, "integrations": {"Segment.io": place}}
    assert unreadable_by_browser(recorded, answer) is None


# ── What clients make of an error's body ─────────────────────────────────────────────────────

SHAPES = json.loads((CAPTURES / "retry_error_body_shapes.json").read_text())
"""`{client: {"400 <shape of the body>": {"answers": [status, …]}}}`: more than one answer is a retry."""


def understood() -> set[str]:
    """The shapes after which every client let a 4xx be."""
    shapes = {shape for tried in SHAPES.values() for shape in tried}
    return {
        shape
        for shape in shapes
        if all(len(tried[shape]["answers"]) == 1 for tried in SHAPES.values() if shape in tried)
    }


def shape_of(answer: Answer) -> str:
    """The record's own name for the shape of this body."""
    if not answer.body:
        return "400 empty"
    try:
        body = answer.json()
    except ValueError:
        return "400 text"
    is_named = isinstance(body, dict) and {"code", "message"} <= body.keys()
    return '400 {"code","message"}' if is_named else f"400 {answer.body.decode()}"


def refusals(server: Server, key: str) -> Iterator[Answer]:
    """One of each permanent refusal that a client of these paths can be given."""
    good = b'{"batch": [{"type": "track", "event": "A", "userId": "u"}]}'
    to_batch = f"{server.base_url}/v1/batch"
    named = {"Authorization": f"Bearer {key}"}
    yield request(to_batch, "POST", b"{", named)
    yield request(to_batch, "POST", b'{"batch": 1}', named)
    yield request(to_batch, "POST", good, {"Authorization": "Bearer dk_unknown"})
    yield request(to_batch, "POST", good)
    yield request(to_batch, "GET", None, named)
    yield request(to_batch, "POST", b" " * 6_000_000, named)
    yield request(to_batch, "POST", gzip.compress(b" " * 6_000_000), named)
    yield request(f"{server.base_url}/v1/unknown", "POST", good, named)
    yield request(f"{server.base_url}/v1/t", "POST", b'{"type": "track"}', named)


def test_no_recorded_client_tries_again_what_is_refused_for_good(server: Server, pipeline: Pipeline) -> None:
    assert understood() == {'400 {"code","message"}', "400 empty", "400 text"}
    given = list(refusals(server, pipeline.key))
    assert {answer.status for answer in given} == {400, 401, 404, 405, 413}
    assert [answer.body for answer in given if shape_of(answer) not in understood()] == []
