"""Segment's and RudderStack's own Python SDKs, used as their documentation says, against the real server."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from capture_kit import lost
from clients_kit import (
    CUT,
    MANY_REQUESTS,
    PASS,
    RATE_LIMITED,
    UNAVAILABLE,
    Fault,
    Road,
    counted,
    counted_found,
    events_found,
    running_road,
)
from kit import Management, Pipeline, Server, running_server

COUNT = 250
"""Events, so that they make several batches: both clients send a hundred at most."""

FAULTS = (RATE_LIMITED, PASS, UNAVAILABLE, CUT)
NUMBERS = itertools.count()


class Sdk(NamedTuple):
    """A client and how its documentation names the host."""

    module: str
    host: str


SDKS = {
    "segment": Sdk("segment.analytics", "host"),
    "rudder": Sdk("rudderstack.analytics", "dataPlaneUrl"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("clients") / "data", env=MANY_REQUESTS) as running:
        yield running


def new_pipeline(management: Management, **fields: Any) -> Pipeline:
    return management.create_pipeline(f"client-{next(NUMBERS)}", **fields)


# ── One call of each kind ────────────────────────────────────────────────────────────────────

SINCE = datetime(2019, 5, 4, 3, 2, 1, 500_000, tzinfo=UTC)
AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ADDRESS = {"ip": "203.0.113.9", "page": {"url": "https://shop.example/r?utm_source=nl", "path": "/r"}}
UNICODE = {"городок": "Ærøskøbing", "emoji": "🧺", "quote": 'a "b" \\ \u2028', "price": 19.5, "rows": 1204}
NESTED = {"items": [{"id": "sku-1", "tags": ["a", None]}, {}], "gift": True, "coupon": None}


def speak(client: Any) -> None:
    """Each kind of call once, with what the documentation shows for it."""
    client.identify("usr-701", {"email": "nadia@example.net", "since": SINCE}, message_id="identify-1")
    client.track(
        "usr-701", "Ordered ☕", {**UNICODE, "at": SINCE}, context=dict(ADDRESS), message_id="track-1"
    )
    client.track(
        event="Cart Opened", anonymous_id="anon-42", properties=NESTED, timestamp=AT,
        integrations={"All": False, "CRM": True}, message_id="my own/id#1",
    )  # fmt: skip
    client.page("usr-701", "docs", "Install", {"url": "https://shop.example/docs"}, message_id="page-1")
    client.screen("usr-701", "app", "Home", {"tab": 1}, message_id="screen-1")
    client.group("usr-701", "grp-9", {"name": "Northwind", "since": SINCE}, message_id="group-1")
    client.alias("anon-42", "usr-701", message_id="alias-1")


SINCE_TEXT = "2019-05-04T03:02:01.500000+00:00"
SPOKEN: dict[str, dict[str, Any]] = {
    "identify-1": {"type": "identify", "userId": "usr-701"},
    "track-1": {
        "type": "track",
        "userId": "usr-701",
        "event": "Ordered ☕",
        "properties": {**UNICODE, "at": SINCE_TEXT},
        "context": ADDRESS,
    },
    "my own/id#1": {
        "type": "track",
        "anonymousId": "anon-42",
        "event": "Cart Opened",
        "properties": NESTED,
        "integrations": {"All": False, "CRM": True},
    },
    "page-1": {
        "type": "page",
        "userId": "usr-701",
        "category": "docs",
        "name": "Install",
        "properties": {"url": "https://shop.example/docs"},
    },
    "screen-1": {
        "type": "screen",
        "userId": "usr-701",
        "category": "app",
        "name": "Home",
        "properties": {"tab": 1},
    },
    "group-1": {
        "type": "group",
        "userId": "usr-701",
        "groupId": "grp-9",
        "traits": {"name": "Northwind", "since": SINCE_TEXT},
    },
    "alias-1": {"type": "alias", "userId": "usr-701", "previousId": "anon-42"},
}
TRAITS = {"email": "nadia@example.net", "since": SINCE_TEXT}
IDENTIFIED: dict[str, dict[str, Any]] = {
    "segment": {"traits": TRAITS},
    "rudder": {"context": {"traits": TRAITS}, "channel": "server"},
}
"""Where each SDK puts what it was told of a person."""


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
@pytest.mark.parametrize("name", SDKS)
def test_each_kind_of_call_is_kept_with_all_its_fields(
    name: str, compressed: bool, server: Server, management: Management
) -> None:
    pipeline = new_pipeline(management)
    errors: list[Any] = []
    analytics: Any = importlib.import_module(SDKS[name].module)
    analytics.write_key = pipeline.key
    setattr(analytics, SDKS[name].host, server.base_url)
    analytics.gzip = compressed
    analytics.max_retries = 2  # there is nothing to try again
    analytics.on_error = lambda error, _: errors.append(error)
    speak(analytics)
    analytics.shutdown()
    analytics.default_client = None
    assert errors == []
    found = {one.message_id: one.canonical for one in events_found(management, pipeline.id, len(SPOKEN))}
    expected = {**SPOKEN, "identify-1": {**SPOKEN["identify-1"], **IDENTIFIED[name]}}
    assert {message_id: lost(event, found[message_id]) for message_id, event in expected.items()} == {
        message_id: [] for message_id in expected
    }
    assert found["my own/id#1"]["timestamp"] == "2026-05-04T03:02:01.000Z"
    assert {event["context"]["library"]["name"] for event in found.values()} == {"analytics-python"}


# ── Many events, on a bad road ───────────────────────────────────────────────────────────────


class Case(NamedTuple):
    """A client on a road of its own. `limit_rps` makes the server itself refuse."""

    sdk: str
    options: dict[str, Any] = {}  # noqa: RUF012 - a default that is only read
    faults: tuple[Fault | None, ...] = ()
    limit_rps: int = 1_000_000


class Run(NamedTuple):
    """What became of it; `errors` is what the client told of."""

    pipeline: Pipeline
    road: Road
    errors: list[Any]


CASES = {
    "segment": Case("segment"),
    "segment-gzip": Case("segment", {"gzip": True}),
    "rudder": Case("rudder"),
    "rudder-plain": Case("rudder", {"gzip": False}),
    "segment-faults": Case("segment", faults=FAULTS),
    "segment-gzip-faults": Case("segment", {"gzip": True}, FAULTS),
    "rudder-faults": Case("rudder", faults=FAULTS),
    "rudder-plain-faults": Case("rudder", {"gzip": False}, FAULTS),
    "segment-limited": Case("segment", limit_rps=100),
    "rudder-limited": Case("rudder", limit_rps=100),
}


@pytest.fixture(scope="module")
def runs(server: Server, management: Management) -> Iterator[dict[str, Future[Run]]]:
    """All of them at the same time: they wait for most of it."""
    pipelines = {
        name: new_pipeline(management, rate_limit_rps=case.limit_rps) for name, case in CASES.items()
    }
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {name: pool.submit(drive, case, server, pipelines[name]) for name, case in CASES.items()}


def drive(case: Case, server: Server, pipeline: Pipeline) -> Run:
    with running_road(server.base_url) as road:
        road.faults = list(case.faults)
        run = Run(pipeline, road, [])
        client = new_client(case.sdk, run, **case.options)
        for number in range(COUNT):
            event = counted(number)
            client.track(event["userId"], event["event"], event["properties"])
        client.shutdown()
        return run


def new_client(sdk: str, run: Run, **options: Any) -> Any:
    """A client object, for several beside one another in one process; both SDKs name its host so.

    It tries six times again, not ten, so that a failing test ends in its time.
    """
    module = importlib.import_module(f"{SDKS[sdk].module}.client")
    on_error = lambda error, _: run.errors.append(error)  # noqa: E731
    return module.Client(run.pipeline.key, host=run.road.url, on_error=on_error, max_retries=6, **options)


@pytest.mark.parametrize("name", CASES)
def test_many_events_arrive_each_exactly_once(
    name: str, runs: dict[str, Future[Run]], management: Management
) -> None:
    run, case = runs[name].result(), CASES[name]
    assert run.errors == []
    found = counted_found(management, run.pipeline.id, COUNT)
    run.road.check_kept(found)
    run.road.check_met(case.faults)
    assert (run.road.refused(429) > 0) == (case.limit_rps == 100)


@pytest.mark.parametrize("name", SDKS)
def test_a_wrong_key_is_told_of_once_and_not_tried_again(name: str, server: Server) -> None:
    with running_road(server.base_url) as road:
        run = Run(Pipeline("", "dk_unknown", ""), road, [])
        client = new_client(name, run)
        client.track("usr-701", "Ordered")
        client.shutdown()
    assert [(one.status, one.path) for one in road.attempts] == [(401, "/v1/batch")]
    assert [(error.status, error.code) for error in run.errors] == [(401, "invalid_key")]
