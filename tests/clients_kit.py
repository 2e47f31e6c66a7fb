"""What real clients need to be tested: a road to the server that fails when told, and their events again."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, web

from capture_kit import events_in, lost
from kit import Management, wait_until

MANY_REQUESTS = {"DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "100000"}
"""For a server whose events are looked at one by one."""

GZIP_MAGIC = b"\x1f\x8b"

PAGE_EVENTS = 100
"""The most that one page of the list of events holds."""

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
"""What belongs to one connection, and is made anew for the next."""

SDKS = Path(__file__).parent / "clients"
"""The SDKs from npm, which `make sdks` installs, and what drives them."""

NODE = shutil.which("node") or "node"


def require_node() -> None:
    """Skip where Node or the SDKs are not installed; in CI they must be."""
    missing = [
        what
        for what, is_there in (
            ("node", shutil.which("node")),
            ("make sdks", (SDKS / "node_modules").is_dir()),
        )
        if not is_there
    ]
    if not missing:
        return
    reason = f"the SDKs that are written in JavaScript need {' and '.join(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


# ── Events, as the management API shows them ─────────────────────────────────────────────────


class Found(NamedTuple):
    """An event that was taken."""

    message_id: str
    canonical: dict[str, Any]


def listed(management: Management, pipeline_id: str) -> list[dict[str, Any]]:
    """All events of a pipeline, in the order in which they came."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        query = f"events?pipeline_id={pipeline_id}&limit={PAGE_EVENTS}&cursor={cursor}"
        page = management.call("GET", query)
        rows += page["data"]
        if not page["has_more"]:
            return rows[::-1]
        cursor = page["next_cursor"]


def await_listed(management: Management, pipeline_id: str, count: int) -> list[dict[str, Any]]:
    """As `listed`, when there are as many; fails with what there is when there are less, or more."""
    rows: list[dict[str, Any]] = []

    def are_there() -> bool:
        rows[:] = listed(management, pipeline_id)
        return len(rows) >= count

    wait_until(are_there, f"{count} events are listed")
    assert len(rows) == count, [(row["message_id"], row["event"]) for row in rows]
    return rows


def canonical(management: Management, pipeline_id: str, message_id: str) -> dict[str, Any]:
    """The event as it is kept, from its trace."""
    trace = management.call("GET", f"events/{pipeline_id}/{quote(message_id)}")
    event: dict[str, Any] = trace["canonical"]
    return event


def events_found(management: Management, pipeline_id: str, count: int) -> list[Found]:
    """All events of a pipeline in the order in which they came, when there are `count`."""
    rows = await_listed(management, pipeline_id, count)
    ids = [row["message_id"] for row in rows]
    return [Found(one, canonical(management, pipeline_id, one)) for one in ids]


def counted(number: int) -> dict[str, Any]:
    """The event that a client sends as its number so-and-so, when it sends many."""
    return {
        "type": "track",
        "userId": f"usr-{number}",
        "event": f"Counted {number}",
        "properties": {"number": number, "twice": [number, number]},
    }


def counted_found(management: Management, pipeline_id: str, count: int) -> list[Found]:
    """So many counted events, when each is there exactly once with its fields, and nothing else is."""
    found = events_found(management, pipeline_id, count)
    kept = {one.canonical["event"]: one.canonical for one in found}
    expected = {event["event"]: event for event in map(counted, range(count))}
    assert {name: lost(event, kept.get(name, {})) for name, event in expected.items()} == {
        name: [] for name in expected
    }
    return found


# ── The road ─────────────────────────────────────────────────────────────────────────────────


class Fault(NamedTuple):
    """What happens to a request on its way. `status` None cuts the connection after the server's 200."""

    status: int | None
    code: str = ""
    retry_after_s: int | None = None


RATE_LIMITED = Fault(429, "rate_limited", 1)
UNAVAILABLE = Fault(503, "storage_unavailable", 1)
CUT = Fault(None)
PASS = None


class Attempt(NamedTuple):
    """One POST that came along, and its answer; `status` is None where the client got none.

    `fault` is what befell it on the way; `events` as capture_kit.events_in gives them.
    """

    fault: Fault | None
    status: int | None
    path: str
    events: list[dict[str, Any]]

    @property
    def message_ids(self) -> set[str]:
        return {event["messageId"] for event in self.events}


class Road:
    """An HTTP proxy to the server. Each POST meets the next of `faults`; when none are left, none."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.faults: list[Fault | None] = []
        self.attempts: list[Attempt] = []
        self._session: ClientSession

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Listen until `stop`; bytes pass as they are, compressed or not."""
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, auto_decompress=False)
        async with ClientSession(auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await stop.wait()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.method != "POST":
            return await self._forward(request, body)
        fault = self.faults.pop(0) if self.faults else PASS
        answer = await (
            self._refusal(fault, request) if fault and fault.status else self._forward(request, body)
        )
        self.attempts.append(_attempt(fault, None if fault == CUT else answer.status, request, body))
        if fault == CUT:
            assert answer.status == 200, answer.body
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        # The Host stays the road's, as it does behind a proxy that keeps it.
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        async with self._session.request(
            request.method,
            f"{self.upstream}{request.raw_path}",
            data=body or None,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept", "Accept-Encoding"),
        ) as answer:
            passed = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP
            ]
            response = web.Response(status=answer.status, body=await answer.read())
            response.headers.clear()
            response.headers.extend(passed)
            return response

    async def _refusal(self, fault: Fault, request: web.Request) -> web.Response:
        """The server's own refusal, of no body at all, with another reason: its shape and headers stay."""
        answer = await self._forward(request, b"")
        assert isinstance(answer.body, bytes)
        refusal = json.loads(answer.body)
        assert (answer.status // 100, refusal["success"]) == (4, False), refusal
        answer.set_status(fault.status or 0)
        answer.body = json.dumps({**refusal, "code": fault.code, "message": "for the moment"}).encode()
        if fault.retry_after_s is not None:
            answer.headers["Retry-After"] = str(fault.retry_after_s)
        return answer

    def check_met(self, faults: Sequence[Fault | None]) -> None:
        """Each fault befell a request, and every event that was not answered with 200 came again."""
        assert not self.faults, self.attempts
        met = Counter(one.fault for one in self.attempts if one.fault)
        assert met == Counter(one for one in faults if one), self.attempts
        for place, attempt in enumerate(self.attempts):
            later = set[str]().union(*(other.message_ids for other in self.attempts[place + 1 :]))
            assert attempt.status == 200 or attempt.message_ids <= later, attempt

    def check_kept(self, found: Sequence[Found]) -> None:
        """What is kept is what went along here, field by field; of a retry that differs, either."""
        sent: dict[str, list[dict[str, Any]]] = {}
        for event in (event for attempt in self.attempts for event in attempt.events):
            sent.setdefault(event["messageId"], []).append(event)
        assert sorted(sent) == sorted(one.message_id for one in found)
        for one in found:
            missing = [lost(event, one.canonical) for event in sent[one.message_id]]
            assert [] in missing, (missing, one.canonical)

    def refused(self, status: int) -> int:
        """How often the server itself answered so."""
        return sum(one.status == status and one.fault is None for one in self.attempts)


def _attempt(fault: Fault | None, status: int | None, request: web.Request, body: bytes) -> Attempt:
    plain = gzip.decompress(body) if body.startswith(GZIP_MAGIC) else body
    events = events_in(json.loads(plain), request.headers.get("SentAt")) if plain else []
    return Attempt(fault, status, request.path, events)


@contextlib.contextmanager
def running_road(upstream: str) -> Iterator[Road]:
    """A Road that listens in a thread of its own."""
    road = Road(upstream)
    started, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(road.serve(started, stop)), daemon=True)
    thread.start()
    assert started.wait(10), "the road did not open"
    try:
        yield road
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
