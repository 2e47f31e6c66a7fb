"""The debug stream over real WebSockets: who may look, what they see, and when they are cut off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.to_thread import run_sync

from datafly_lite.live import BUFFERED_FRAMES, Frame
from datafly_lite.management.stream import is_wanted
from management_kit import Admin, running_admin

pytestmark = pytest.mark.anyio

NOW = "2026-02-25T10:00:00.000Z"
SUBSCRIBE = {"action": "subscribe"}


@pytest.fixture
def admin(tmp_path: Path) -> Any:
    with running_admin(tmp_path / "data") as running:
        yield running


@pytest.fixture
def strict_admin(tmp_path: Path) -> Any:
    """One that asks twenty times a second whether its viewers may still look."""
    with running_admin(tmp_path / "data", stream_recheck_s=0.05) as running:
        yield running


def frame(stage: Any = "processed", **fields: Any) -> Frame:
    return Frame(stage=stage, timestamp=NOW, **fields)


@contextlib.asynccontextmanager
async def connected(
    admin: Admin, headers: dict[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A stream that is open but not yet subscribed; by default the viewer's."""
    given = {"Authorization": f"Bearer {admin.tokens['viewer']}"} if headers is None else headers
    async with aiohttp.ClientSession() as client:
        url = f"{admin.base_url}/v1/admin/debug/stream"
        async with client.ws_connect(url, headers=given) as websocket:
            yield websocket


async def close_code(websocket: aiohttp.ClientWebSocketResponse) -> object:
    """The code that the server closes with, which is the next that it says beside its heartbeat."""
    message = await websocket.receive(timeout=10)
    while message.type is aiohttp.WSMsgType.TEXT and message.json() == {"missed": 0}:
        message = await websocket.receive(timeout=10)
    assert message.type is aiohttp.WSMsgType.CLOSE
    return message.data


async def refusal(admin: Admin, headers: dict[str, str]) -> int:
    """The HTTP status of a stream that must not open."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with connected(admin, headers):
            pass
    return caught.value.status


async def watched(admin: Admin, viewers: int = 1) -> None:
    """Until the server has taken up so many subscriptions."""
    with anyio.fail_after(10):
        while len(admin.services.live.watchers) != viewers:  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.005)


async def publish(admin: Admin, *frames: Frame) -> None:
    def all_of_them() -> None:
        for one in frames:
            admin.services.live.publish(one)

    await run_sync(admin.portal.call, all_of_them)


async def session(admin: Admin) -> str:
    token: str = await run_sync(admin.run, admin.services.authority.open_session, admin.users["viewer"])
    return token


async def test_frames_come_as_they_happen(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_json(SUBSCRIBE)
        await watched(admin)
        sent = frame(pipeline_id="pip_1", message_id="m-1", data={"event": "A", "n": 2**70})
        await publish(admin, sent)
        assert await websocket.receive_json() == {
            "stage": "processed",
            "timestamp": NOW,
            "pipeline_id": "pip_1",
            "message_id": "m-1",
            "data": {"event": "A", "n": 2**70},
        }
    await watched(admin, 0)


async def test_a_real_event_is_seen(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_json(SUBSCRIBE)
        await watched(admin)
        await run_sync(admin.process, "pip_gone", {"type": "track", "event": "E", "messageId": "m-1"})
        assert (await websocket.receive_json())["message_id"] == "m-1"


async def test_filters_choose_and_can_be_changed(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_json({**SUBSCRIBE, "filters": {"pipeline_id": "pip_1", "event": "A"}})
        await watched(admin)
        wanted = frame(pipeline_id="pip_1", data={"event": "A"})
        await publish(
            admin, frame(pipeline_id="pip_2", data={"event": "A"}), frame(pipeline_id="pip_1"), wanted
        )
        assert (await websocket.receive_json())["data"] == {"event": "A"}
        await websocket.send_json({**SUBSCRIBE, "filters": {"stage": "refused"}})
        with anyio.fail_after(10):
            while True:
                await publish(admin, frame("refused"))
                with contextlib.suppress(TimeoutError):
                    assert (await websocket.receive_json(timeout=0.05))["stage"] == "refused"
                    break


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"stage": "received", "message_id": "m"}, True),
        ({"stage": "processed"}, False),
        ({"user_id": "u", "anonymous_id": "a", "type": "track"}, True),
        ({"user_id": "other"}, False),
        ({"status": "200"}, True),
        ({"integration_id": "pi_x"}, False),
    ],
)
def test_a_filter_knows_both_spellings(filters: dict[str, str], wanted: bool) -> None:
    data = {"type": "track", "userId": "u", "anonymous_id": "a", "status": 200}
    assert is_wanted(frame("received", message_id="m", data=data), filters) is wanted


async def test_a_slow_viewer_is_told_what_it_missed(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_json(SUBSCRIBE)
        await watched(admin)
        await publish(admin, *(frame(message_id=str(number)) for number in range(BUFFERED_FRAMES + 5)))
        assert await websocket.receive_json() == {"missed": 5}
        seen = [(await websocket.receive_json())["message_id"] for _ in range(BUFFERED_FRAMES)]
        assert seen == [str(number) for number in range(5, BUFFERED_FRAMES + 5)]


NO_SUBSCRIPTIONS = (
    *("", "x", "[]", "null", "{}", '{"action":"publish"}', '{"action":"subscribe","filters":[]}'),
    *('{"action":"subscribe","filters":{"sql":"x"}}', '{"action":"subscribe","filters":{"event":1}}'),
    *('{"action":"subscribe","x":1}', "[" * 5000),
)


async def test_what_is_no_subscription_is_told_so_and_closed(admin: Admin) -> None:
    for message in NO_SUBSCRIPTIONS:
        async with connected(admin) as websocket:
            await websocket.send_str(message)
            assert set((await websocket.receive_json())["error"]) == {"code", "message", "details"}
            assert await close_code(websocket) == 1008
        assert not admin.services.live.watchers


async def test_bytes_and_a_second_message_that_is_none(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_bytes(json.dumps(SUBSCRIBE).encode())
        await watched(admin)
        await websocket.send_bytes(b"\xff\xfe")
        assert (await websocket.receive_json())["error"]["code"] == "INVALID_JSON"
        assert await close_code(websocket) == 1008
    await watched(admin, 0)


async def test_nobody_looks_without_a_token_or_a_session(admin: Admin) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Cookie": "datafly_session=x"},
        {"Authorization": "Basic x"},
    ):
        assert await refusal(admin, headers) == 401


async def test_a_session_looks_only_from_the_products_own_pages(admin: Admin) -> None:
    own, cookie = admin.base_url, {"Cookie": f"datafly_session={await session(admin)}"}
    for origin in (
        "https://evil.example",
        "null",
        own.replace("127.0.0.1", "127.0.0.2"),
        own + ".evil.example",
        "file://",
    ):
        assert await refusal(admin, {**cookie, "Origin": origin}) == 403, origin
    async with connected(admin, {**cookie, "Origin": own}) as websocket:
        await websocket.send_json(SUBSCRIBE)
        await watched(admin)
    await watched(admin, 0)


@pytest.mark.parametrize(
    ("public_url", "good", "bad"),
    [
        ("https://datafly.example", "__Host-datafly_session", "datafly_session"),
        ("http://datafly.example", "datafly_session", "__Host-datafly_session"),
    ],
)
async def test_a_session_counts_in_the_cookie_of_its_scheme_only(
    tmp_path: Path, public_url: str, good: str, bad: str
) -> None:
    with running_admin(tmp_path / "data", public_url=public_url) as admin:
        token = await session(admin)
        assert await refusal(admin, {"Cookie": f"{bad}={token}"}) == 401
        assert await refusal(admin, {"Cookie": f"{bad}={token}; {good}=x"}) == 401
        async with connected(admin, {"Cookie": f"{good}={token}"}) as websocket:
            await websocket.send_json(SUBSCRIBE)
            await watched(admin)
        await watched(admin, 0)


async def test_a_foreign_page_with_a_token_is_refused_too(admin: Admin) -> None:
    bearer = {"Authorization": f"Bearer {admin.tokens['viewer']}"}
    assert await refusal(admin, {**bearer, "Origin": "https://evil.example"}) == 403


async def test_who_is_logged_out_is_cut_off(strict_admin: Admin) -> None:
    admin = strict_admin
    token = await session(admin)
    async with (
        connected(admin, {"Cookie": f"datafly_session={token}"}) as by_session,
        connected(admin) as by_token,
    ):
        await by_session.send_json(SUBSCRIBE)
        await by_token.send_json(SUBSCRIBE)
        await watched(admin, 2)
        await run_sync(admin.run, admin.services.authority.close_session, token)
        await run_sync(admin.run, admin.services.authority.logout, admin.tokens["viewer"])
        for websocket in (by_session, by_token):
            assert await close_code(websocket) == 1008
    await watched(admin, 0)


async def test_an_idle_stream_has_a_heartbeat(strict_admin: Admin) -> None:
    async with connected(strict_admin) as websocket:
        await websocket.send_json(SUBSCRIBE)
        assert await websocket.receive_json() == {"missed": 0}


async def test_a_server_that_stops_lets_its_viewers_go(admin: Admin) -> None:
    async with connected(admin) as websocket:
        await websocket.send_json(SUBSCRIBE)
        await watched(admin)
        await publish(admin, frame(message_id="last"))
        await run_sync(admin.portal.call, admin.services.live.close)
        assert (await websocket.receive_json())["message_id"] == "last"
        assert await close_code(websocket) == 1001
    async with connected(admin) as late:
        await late.send_json(SUBSCRIBE)
        assert await close_code(late) == 1001


async def test_a_path_that_is_not_there_does_not_open(admin: Admin) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.ws_connect(f"{admin.base_url}/v1/admin/debug/other")


async def test_the_path_is_no_page(admin: Admin) -> None:
    answer = await run_sync(admin.call, "GET", "/debug/stream")
    assert answer.status == 404
