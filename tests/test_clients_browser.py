"""The SDKs for browsers in the real Chromium, on a page of another origin, against the real server."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser

from capture_kit import lost
from clients_kit import (
    CUT,
    MANY_REQUESTS,
    PASS,
    RATE_LIMITED,
    SDKS,
    UNAVAILABLE,
    Fault,
    Road,
    events_found,
    require_node,
    running_road,
)
from collector_kit import chromium
from kit import Management, Pipeline, Server, running_server

NEXT = "@segment/analytics-next/dist/umd/index.js"
NEXT_1_81 = "analytics-next-1-81/dist/umd/index.js"
RUDDER = "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js"

FAULTS = (RATE_LIMITED, PASS, UNAVAILABLE, CUT)
ONE_LETTER = {"/v1/i", "/v1/p", "/v1/t", "/v1/g", "/v1/s", "/v1/a"}
LONG = {"/v1/identify", "/v1/page", "/v1/track", "/v1/group", "/v1/alias"}


class Case(NamedTuple):
    """An SDK on a road of its own. `limit_rps` makes the server itself refuse."""

    script: str
    paths: set[str]
    options: dict[str, Any] = {}  # noqa: RUF012 - a default that is only read
    faults: tuple[Fault | None, ...] = ()
    limit_rps: int = 1_000_000

    @property
    def client(self) -> str:
        return "rudder" if self.script == RUDDER else "segment"


def segment_io(**settings: Any) -> dict[str, Any]:
    return {"integrations": {"Segment.io": settings}}


BATCHING = segment_io(deliveryStrategy={"strategy": "batching", "config": {"size": 100, "timeout": 300}})
QUEUED = {"queueOptions": {"batch": {"enabled": True, "maxItems": 100, "flushInterval": 300}}}
BEACON = {"useBeacon": True, "beaconQueueOptions": {"flushQueueInterval": 300}}

CASES = {
    "next": Case(NEXT, ONE_LETTER),
    "next-faults": Case(NEXT, ONE_LETTER, faults=FAULTS),
    "next-batching-faults": Case(NEXT, {"/v1/b"}, BATCHING, (RATE_LIMITED, UNAVAILABLE, CUT)),
    "next-limited": Case(NEXT, ONE_LETTER, limit_rps=3),
    "next-1.81-faults": Case(NEXT_1_81, ONE_LETTER, faults=FAULTS),
    "rudder-faults": Case(RUDDER, LONG, faults=FAULTS),
    "rudder-batch": Case(RUDDER, {"/v1/batch"}, QUEUED),
    "rudder-beacon": Case(RUDDER, {"/beacon/v1/batch"}, BEACON),
}


class Visit(NamedTuple):
    """A page with an SDK, and the way from it to the server."""

    pipeline: Pipeline
    road: Road


@pytest.fixture(scope="module", autouse=True)
def _node() -> None:
    require_node()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("browser") / "data", env=MANY_REQUESTS) as running:
        yield running


class Files(SimpleHTTPRequestHandler):
    """The page and node_modules."""

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """The address of the page: localhost, where the server is 127.0.0.1."""
    handler = functools.partial(Files, directory=str(SDKS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        thread = threading.Thread(target=files.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://localhost:{files.server_port}"
        files.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(_node: None) -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def visits(browser: Browser, shop: str, server: Server, management: Management) -> Iterator[dict[str, Visit]]:
    """All of them at the same time: they wait for most of it."""
    with contextlib.ExitStack() as roads:
        found: dict[str, Visit] = {}
        for number, (name, case) in enumerate(CASES.items()):
            pipeline = management.create_pipeline(
                f"browser-{number}", rate_limit_rps=case.limit_rps, domain_allowlist=["localhost"]
            )
            road = roads.enter_context(running_road(server.base_url))
            road.faults = list(case.faults)
            found[name] = Visit(pipeline, road)
            visit(browser, shop, case, found[name])
        yield found


def visit(browser: Browser, shop: str, case: Case, to: Visit) -> None:
    """Open the page as a person who is there for the first time, and make one call of each kind."""
    page = browser.new_context().new_page()
    page.goto(f"{shop}/page.html")
    page.add_script_tag(url=f"/node_modules/{case.script}")
    page.add_script_tag(url="/browser.js")
    page.evaluate("given => speak(...given)", [case.client, to.pipeline.key, to.road.url, case.options])


TRAITS = {"email": "nadia@example.net", "seats": 4}
SPOKEN: dict[str, dict[str, Any]] = {
    "identify": {"userId": "usr-701"},
    "page": {
        "category": "docs",
        "name": "Install",
        "properties": {"section": "intro", "title": "Shop", "path": "/page.html"},
    },
    "track": {
        "userId": "usr-701",
        "event": "Ordered ☕",
        "properties": {"городок": "Ærøskøbing", "items": [{"id": "sku-1"}], "price": 19.5},
    },
    "group": {"userId": "usr-701", "groupId": "grp-9", "traits": {"name": "Northwind"}},
    "screen": {"userId": "usr-701", "name": "Home", "properties": {"tab": 1}},
    "alias": {"previousId": "usr-701"},
}
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "segment": {
        "identify": {"traits": TRAITS},
        "page": {"_metadata": {"bundled": ["Segment.io"]}},
        "alias": {"userId": "usr-701"},
    },
    "rudder": {
        "identify": {"context": {"traits": TRAITS}},
        "page": {"channel": "web"},
        "alias": {"userId": "usr-702"},
    },
}
"""What each SDK says in its own way: Segment's names the person of before also as the one of after."""


@pytest.mark.parametrize("name", CASES)
def test_each_call_in_a_browser_arrives_exactly_once_with_all_its_fields(
    name: str, visits: dict[str, Visit], management: Management
) -> None:
    case, (pipeline, road) = CASES[name], visits[name]
    kinds = SPOKEN.keys() - ({"screen"} if case.client == "rudder" else set())
    found = events_found(management, pipeline.id, len(kinds))
    kept = {one.canonical["type"]: one.canonical for one in found}
    assert {kind: lost(said(case, kind), kept[kind]) for kind in kinds} == {kind: [] for kind in kinds}
    assert len({event["anonymousId"] for event in kept.values()}) == 1
    road.check_kept(found)
    assert {one.path for one in road.attempts} == case.paths
    road.check_met(case.faults)
    assert (road.refused(429) > 0) == (case.limit_rps == 3)


def said(case: Case, kind: str) -> dict[str, Any]:
    return {"type": kind, **SPOKEN[kind], **OWN[case.client].get(kind, {})}


def test_a_page_can_read_when_to_come_again(browser: Browser, shop: str, server: Server) -> None:
    with running_road(server.base_url) as road:
        road.faults = [RATE_LIMITED, UNAVAILABLE]
        page = browser.new_context().new_page()
        page.goto(f"{shop}/page.html")
        ask = "url => fetch(url, {method: 'POST'}).then(answer => answer.headers.get('Retry-After'))"
        assert [page.evaluate(ask, f"{road.url}/v1/t") for _ in range(2)] == ["1", "1"]
