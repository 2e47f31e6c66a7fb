"""The vendor twins: they answer as vendors do, find what vendors would find, and remember within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config

from datafly_lite.clock import system_clock
from datafly_lite.events import Event
from datafly_lite.twins import DEMO_WEBHOOK_SECRET, twins_app
from datafly_lite.twins.ga4 import messages
from datafly_lite.twins.record import KEPT_REQUESTS
from datafly_lite.vendors import VENDORS
from datafly_lite.vendors.declaration import Answer, Outgoing, Request, with_defaults
from kit import free_port

pytestmark = pytest.mark.anyio


class Client:
    """Talks to running twins."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self._session = session

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(Request(method, self.base_url + path, named, body))

    async def send(self, request: Request) -> Answer:
        async with self._session.request(
            request.method, request.url, headers=request.headers, data=request.body
        ) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, headers, await answer.read())

    async def received(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = msgspec.json.decode((await self.call("GET", "/received")).body)
        return found


@asynccontextmanager
async def running_twins() -> AsyncIterator[Client]:
    app: Any = twins_app()  # Starlette and Hypercorn type ASGI apart
    config = Config()
    config.bind = [f"127.0.0.1:{free_port()}"]
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def serve() -> None:
            await worker_serve(ASGIWrapper(app), config, shutdown_trigger=stop.wait)

        tasks.start_soon(serve)
        try:
            async with aiohttp.ClientSession() as session:
                await answering(config.bind[0])
                yield Client(f"http://{config.bind[0]}", session)
        finally:
            stop.set()


async def answering(bind: str) -> None:
    host, _, port = bind.partition(":")
    with anyio.fail_after(10):
        while True:
            try:
                await (await anyio.connect_tcp(host, int(port))).aclose()
                return
            except OSError:
                await anyio.sleep(0.01)


def demo_settings(client: Client) -> dict[str, Any]:
    url = f"{client.base_url}/webhook/demo"
    return {"url": url, "authentication": "hmac", "secret": DEMO_WEBHOOK_SECRET}


def made(vendor: str, config: dict[str, Any], **fields: Any) -> Request:
    event = Event(type="track", message_id="m-1", timestamp="", received_at="", anonymous_id="a", **fields)
    request = VENDORS[vendor].request_for(
        [Outgoing(event)], with_defaults(VENDORS[vendor], config), system_clock()
    )
    assert request is not None
    return request


async def test_what_the_products_vendors_send_is_found_fine() -> None:
    async with running_twins() as client:
        demo = demo_settings(client)
        ga4 = {
            "measurement_id": "G-DEMO000001",
            "api_secret": "demo-secret",
            "endpoint": f"{client.base_url}/mp/collect",
        }
        signed = await client.send(made("webhook", demo, event="A"))
        counted = await client.send(made("ga4", ga4, event="A"))
        received = await client.received()
    assert (signed.status, counted.status, counted.body) == (200, 204, b"")
    assert [(one["twin"], one["path"], one["problems"]) for one in received] == [
        ("webhook", "/webhook/demo", []),
        ("ga4", "/mp/collect", []),
    ]
    assert "demo-secret" not in str(received)


@pytest.mark.parametrize("change", ["body", "signature", "id", "none", "junk"])
async def test_a_signature_that_does_not_hold_is_401(change: str) -> None:
    async with running_twins() as client:
        demo = demo_settings(client)
        request = made("webhook", demo, event="A")
        headers = dict(request.headers)
        if change == "none":
            del headers["webhook-signature"]
        elif change != "body":
            headers |= {
                "signature": {"webhook-signature": "v1,AAAA"},
                "id": {"webhook-id": "m-2"},
                "junk": {"webhook-signature": "junk"},
            }[change]
        body = request.body + b" " if change == "body" else request.body
        answer = await client.send(Request("POST", request.url, headers, body))
        verdict = (await client.received())[0]["problems"]
    assert answer.status == 401
    assert verdict[0].startswith("signature")


async def test_another_receiver_checks_json_alone() -> None:
    async with running_twins() as client:
        assert (await client.call("POST", "/webhook/other", b"{}", webhook_id="1")).status == 200
        assert (await client.call("POST", "/webhook/other", b"{", webhook_id="1")).status == 400
        assert (await client.call("POST", "/webhook/other", b"[" * 100_000)).status == 400
        assert (await client.call("POST", "/webhook/other", b'"' + b"x" * 200_000 + b'"')).status == 413
        assert (await client.call("GET", "/webhook/other")).status == 405


async def test_collect_answers_204_whatever_comes_and_debug_says_what_is_wrong() -> None:
    wrong = b'{"events":[{"name":"session_start"}]}'
    async with running_twins() as client:
        counted = [await client.call("POST", "/mp/collect", body) for body in (wrong, b"junk", b"")]
        checked = await client.call("POST", "/debug/mp/collect", wrong)
        problems = (await client.received())[0]["problems"]
    assert [answer.status for answer in counted] == [204, 204, 204]
    assert msgspec.json.decode(checked.body) == {
        "validationMessages": [
            {
                "fieldPath": "client_id",
                "description": "is required for a web stream",
                "validationCode": "VALUE_REQUIRED",
            },
            {
                "fieldPath": "events[0].name",
                "description": "session_start is reserved",
                "validationCode": "NAME_RESERVED",
            },
        ]
    }
    assert problems[:2] == ["measurement_id: missing in the URL", "api_secret: missing in the URL"]


NOW_MS = 1_772_359_205_000


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"client_id": 5}, "client_id", "VALUE_INVALID"),
        ({"nope": 1}, "nope", "NAME_INVALID"),
        ({"timestamp_micros": (NOW_MS - 73 * 3_600_000) * 1_000}, "timestamp_micros", "VALUE_OUT_OF_BOUNDS"),
        ({"user_properties": {"x" * 25: {"value": 1}}}, "user_properties." + "x" * 25, "NAME_INVALID"),
        ({"user_properties": {"ga_x": {"value": 1}}}, "user_properties.ga_x", "NAME_RESERVED"),
        ({"user_properties": {"x": {"value": "v" * 37}}}, "user_properties.x", "VALUE_INVALID"),
        ({"consent": {"ad_user_data": "yes"}}, "consent.ad_user_data", "VALUE_INVALID"),
        ({"events": []}, "events", "VALUE_REQUIRED"),
        ({"events": [{"name": "a"}] * 26}, "events", "EXCEEDED_MAX_ENTITIES"),
        ({"events": [{"name": "1a"}]}, "events[0].name", "NAME_INVALID"),
        ({"events": [{"name": "a", "params": {"_b": 1}}]}, "events[0].params._b", "NAME_INVALID"),
        (
            {"events": [{"name": "a", "params": {"b": "v" * 101}}]},
            "events[0].params.b",
            "VALUE_OUT_OF_BOUNDS",
        ),
        ({"events": [{"name": "a", "params": {"b": []}}]}, "events[0].params.b", "VALUE_INVALID"),
        (
            {"events": [{"name": "a", "params": {f"p{number}": 1 for number in range(26)}}]},
            "events[0].params",
            "EXCEEDED_MAX_ENTITIES",
        ),
        (
            {"events": [{"name": "search", "params": {}}]},
            "events[0].params.search_term",
            "VALUE_REQUIRED",
        ),
        (
            {"events": [{"name": "a", "params": {"value": 1}}]},
            "events[0].params.currency",
            "VALUE_REQUIRED",
        ),
        (
            {"events": [{"name": "a", "params": {"items": [{"price": 1}]}}]},
            "events[0].params.items[0]",
            "VALUE_REQUIRED",
        ),
    ],
)
def test_a_published_rule_is_kept(change: dict[str, Any], path: str, code: str) -> None:
    payload = {"client_id": "1.2", "events": [{"name": "a"}], **change}
    found = messages(msgspec.json.encode(payload), NOW_MS)
    assert (path, code) in [(one.field_path, one.code) for one in found]


def test_a_good_payload_has_no_messages() -> None:
    payload = {"client_id": "1.2", "events": [{"name": "a", "params": {"session_id": "12", "b": 1.5}}]}
    assert messages(msgspec.json.encode(payload), NOW_MS) == []


async def test_trouble_is_answered_in_order_and_then_is_over() -> None:
    script = {
        "twin": "webhook",
        "answers": [503, {"status": 429, "headers": {"Retry-After": "2"}, "body": "slow"}],
    }
    async with running_twins() as client:
        assert (await client.call("POST", "/trouble", msgspec.json.encode(script))).status == 200
        answers = [await client.call("POST", "/webhook/x", b"{}") for _ in range(3)]
        ga4 = await client.call("POST", "/mp/collect", b"{}")
        statuses = [one["status"] for one in await client.received()]
    assert [answer.status for answer in answers] == [503, 429, 200]
    assert (answers[1].headers["retry-after"], answers[1].body) == ("2", b"slow")
    assert ga4.status == 204
    assert statuses == [503, 429, 200, 204]


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"twin":"webhook"}',
        b'{"twin":"nobody","answers":[]}',
        b'{"twin":"webhook","answers":[99]}',
        b'{"twin":"webhook","answers":[{"status":200,"headers":{"a":"b\\r\\nc: d"}}]}',
        b'{"twin":"webhook","answers":[{"delay_s":1e9}]}',
        b'{"twin":"webhook","answers":[{"nope":1}]}',
    ],
)
async def test_trouble_that_cannot_be_read_is_refused(script: bytes) -> None:
    async with running_twins() as client:
        answer = await client.call("POST", "/trouble", script)
        assert answer.status == 400
        assert msgspec.json.decode(answer.body)["error"]
        assert (await client.call("POST", "/webhook/x", b"{}")).status == 200


async def test_only_the_last_requests_are_kept_until_they_are_deleted() -> None:
    async with running_twins() as client:
        for number in range(KEPT_REQUESTS + 5):
            await client.call("POST", f"/webhook/{number}", b"{}")
        received = await client.received()
        deleted = await client.call("DELETE", "/received")
        left = await client.received()
    assert [received[0]["path"], received[-1]["path"], len(received)] == [
        "/webhook/5",
        "/webhook/504",
        KEPT_REQUESTS,
    ]
    assert (deleted.status, left) == (204, [])


async def test_the_page_shows_what_came_as_text() -> None:
    async with running_twins() as client:
        empty = await client.call("GET", "/")
        await client.call("POST", "/webhook/%3Cb%3E", b'{"a":"<script>alert(1)</script>"}')
        full = await client.call("GET", "/")
    assert b"Nothing has been received yet" in empty.body
    assert b"<script" not in full.body
    assert b"&lt;script&gt;alert(1)" in full.body
    assert full.headers["content-security-policy"] == "default-src 'none'"
