"""The SDKs for Node, used as their documentation says, against the real server."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from capture_kit import lost
from clients_kit import (
    CUT,
    MANY_REQUESTS,
    NODE,
    PASS,
    RATE_LIMITED,
    SDKS,
    UNAVAILABLE,
    Fault,
    Road,
    counted,
    counted_found,
    events_found,
    require_node,
    running_road,
)
from kit import Management, Pipeline, Server, running_server

COUNT = 250
FAULTS = (RATE_LIMITED, PASS, UNAVAILABLE, CUT)
NUMBERS = itertools.count()
NAMES = ("segment", "rudder", "legacy")
"""@segment/analytics-node, @rudderstack/rudder-sdk-node and analytics-node (see clients/node.mjs)."""


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    require_node()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("node") / "data", env=MANY_REQUESTS) as running:
        yield running


def new_pipeline(management: Management, **fields: Any) -> Pipeline:
    return management.create_pipeline(f"node-{next(NUMBERS)}", **fields)


def told(name: str, key: str, url: str, calls: list[Any], **options: Any) -> list[str]:
    """Make these calls, `(method, message)`, with a client of this name; the errors that it told of."""
    given = json.dumps({"key": key, "url": url, "options": options})
    ran = subprocess.run(
        [NODE, str(SDKS / "node.mjs"), name, given],
        input=json.dumps(calls).encode(),
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    errors: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return errors


# ── One call of each kind ────────────────────────────────────────────────────────────────────

TRAITS = {"email": "nadia@example.net", "seats": 4}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("identify", {"userId": "usr-701", "traits": TRAITS, "messageId": "identify-1"}),
    (
        "track",
        {
            "userId": "usr-701",
            "event": "Ordered ☕",
            "properties": {"городок": "Ærøskøbing", "emoji": "🧺", "price": 19.5, "none": None},
            "context": {"ip": "203.0.113.9", "page": {"url": "https://shop.example/r?utm_source=nl"}},
            "messageId": "track-1",
        },
    ),
    (
        "track",
        {
            "anonymousId": "anon-42",
            "event": "Cart Opened",
            "properties": {"items": [{"id": "sku-1", "tags": ["a", None]}, {}], "gift": True},
            "integrations": {"All": False, "CRM": True},
            "timestamp": "2026-05-04T03:02:01.000Z",
            "messageId": "my own/id#1",
        },
    ),
    (
        "page",
        {
            "userId": "usr-701",
            "category": "docs",
            "name": "Install",
            "properties": {"url": "https://shop.example/docs"},
            "messageId": "page-1",
        },
    ),
    ("screen", {"userId": "usr-701", "name": "Home", "properties": {"tab": 1}, "messageId": "screen-1"}),
    (
        "group",
        {"userId": "usr-701", "groupId": "grp-9", "traits": {"name": "Northwind"}, "messageId": "group-1"},
    ),
    ("alias", {"userId": "usr-701", "previousId": "anon-42", "messageId": "alias-1"}),
]


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_call_is_kept_with_all_its_fields(
    name: str, server: Server, management: Management
) -> None:
    pipeline = new_pipeline(management)
    assert told(name, pipeline.key, server.base_url, CALLS) == []
    found = {one.message_id: one.canonical for one in events_found(management, pipeline.id, len(CALLS))}
    said = {message["messageId"]: {"type": kind, **message} for kind, message in CALLS}
    assert {message_id: lost(event, found[message_id]) for message_id, event in said.items()} == {
        message_id: [] for message_id in said
    }
    assert found["my own/id#1"]["timestamp"] == "2026-05-04T03:02:01.000Z"
    assert all(event["original"]["_metadata"]["nodeVersion"] for event in found.values())


# ── Many events, on a bad road ───────────────────────────────────────────────────────────────


class Case(NamedTuple):
    """A client on a road of its own. `limit_rps` makes the server itself refuse."""

    client: str
    options: dict[str, Any]
    faults: tuple[Fault | None, ...] = ()
    limit_rps: int = 1_000_000


class Run(NamedTuple):
    """What became of it."""

    pipeline: Pipeline
    road: Road
    errors: list[str]


CASES = {
    "segment": Case("segment", {"flushAt": 100}),
    "rudder": Case("rudder", {"flushAt": 100, "gzip": False}),
    "segment-faults": Case("segment", {"flushAt": 50}, FAULTS),
    "rudder-faults": Case("rudder", {"flushAt": 50}, FAULTS),
    "legacy-faults": Case("legacy", {"flushAt": 50}, FAULTS),
    "segment-limited": Case("segment", {"flushAt": 50}, limit_rps=100),
    "rudder-limited": Case("rudder", {"flushAt": 50}, limit_rps=100),
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
    calls = [("track", counted(number)) for number in range(COUNT)]
    with running_road(server.base_url) as road:
        road.faults = list(case.faults)
        return Run(pipeline, road, told(case.client, pipeline.key, road.url, calls, **case.options))


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


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_key_is_told_of_once_and_not_tried_again(name: str, server: Server) -> None:
    with running_road(server.base_url) as road:
        errors = told(name, "dk_unknown", road.url, [("track", {"userId": "usr-701", "event": "Ordered"})])
    assert [(one.status, one.path) for one in road.attempts] == [(401, "/v1/batch")]
    assert errors
    assert [error for error in errors if "Unauthorized" not in error] == []
