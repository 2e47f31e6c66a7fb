"""API keys: made, used, limited, ended; what they may do and what is for people only."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.to_thread import run_sync

from auth_kit import bytes_on_disk, set_status
from datafly_lite.auth import SESSION_TOUCH_MS, User
from datafly_lite.auth_keys import checksum_of, is_whole, new_key
from datafly_lite.clock import iso_s, new_id
from datafly_lite.management import api_keys, audit_logs
from datafly_lite.management.routes import OPERATIONS, Operation
from datafly_lite.store import accounts
from management_kit import PASSWORD_HASH, Admin, error_of, running_admin

KEYS = [
    *("id", "name", "prefix", "role", "user_id", "user_email", "expires_at", "last_used_at", "created_at")
]
GUARDED = [operation for operation in OPERATIONS if operation.role]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_admin(folder, management_rate_limit_rpm=9999) as running:
        yield running


@pytest.fixture
def own_admin(tmp_path: Path) -> Iterator[Admin]:
    with running_admin(tmp_path / "data") as running:
        yield running


def make(admin: Admin, role: str = "viewer", by: str = "owner", **fields: Any) -> dict[str, Any]:
    """A key; `admin.call(..., role=<its id>)` calls with it."""
    made: dict[str, Any] = admin.ok("POST", "/api-keys", {"name": "Exports", "role": role, **fields}, role=by)
    admin.tokens[made["id"]] = made["key"]
    return made


def add_admin(admin: Admin) -> str:
    """Another admin, whom `admin.call(..., role=<their id>)` calls as."""
    fields = {"id": new_id("usr"), "email": f"{new_id('a')}@example.com", "name": "", "now_ms": admin.clock()}
    row = {**fields, "role": "admin", "password_hash": PASSWORD_HASH}
    admin.run(admin.services.store.write, accounts.insert_user, row)
    user = User(**admin.ok("GET", f"/users/{fields['id']}"))
    tokens = admin.run(admin.services.authority.issue_tokens, user)
    admin.tokens[user.id] = tokens["access_token"]
    return str(user.id)


def listed(admin: Admin, key_id: str) -> dict[str, Any] | None:
    found = admin.ok("GET", "/api-keys?limit=100")["data"]
    return next((one for one in found if one["id"] == key_id), None)


# ── A key's life ─────────────────────────────────────────────────────────────────────────────


def test_a_key_is_shown_once_and_works_until_it_is_deleted(admin: Admin) -> None:
    made = make(admin, "editor")
    assert list(made) == [*KEYS, "key"]
    assert re.fullmatch(r"ak_[a-z0-9]{50}", made["key"])
    assert made["key"].startswith(made["prefix"])
    assert len(made["prefix"]) == 7
    assert (made["user_id"], made["user_email"]) == (admin.users["owner"].id, "owner@example.com")
    assert (made["expires_at"], made["last_used_at"]) == (None, None)
    shown = listed(admin, made["id"])
    assert shown == {name: made[name] for name in KEYS}

    pipeline = admin.ok("POST", "/pipelines", {"name": "By a program"}, role=made["id"])
    assert admin.ok("GET", f"/pipelines/{pipeline['id']}", role=made["id"])["name"] == "By a program"
    assert admin.error("DELETE", f"/pipelines/{pipeline['id']}", role=made["id"]) == (403, "FORBIDDEN")

    assert admin.call("DELETE", f"/api-keys/{made['id']}").status == 204
    assert admin.error("GET", "/pipelines", role=made["id"]) == (401, "INVALID_TOKEN")
    assert listed(admin, made["id"]) is None
    assert admin.error("DELETE", f"/api-keys/{made['id']}") == (404, "NOT_FOUND")


def test_a_key_ends_when_it_was_said_to(own_admin: Admin) -> None:
    admin, start_ms = own_admin, own_admin.clock() // 1000 * 1000
    admin.clock.fixed_ms = start_ms
    made = make(admin, expires_at=iso_s(start_ms + 1000))
    assert made["expires_at"] == iso_s(start_ms + 1000)
    admin.clock.fixed_ms = start_ms + 999
    assert admin.call("GET", "/pipelines", role=made["id"]).status == 200
    admin.clock.fixed_ms = start_ms + 1000
    answer = admin.call("GET", "/pipelines", role=made["id"])
    assert error_of(answer) == (401, "EXPIRED_TOKEN")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert listed(admin, made["id"]) is not None
    body = {"name": "x", "role": "viewer", "expires_at": iso_s(start_ms + 1000)}
    assert admin.error("POST", "/api-keys", body) == (422, "VALIDATION_ERROR")


def test_the_last_use_is_written_down_at_most_once_a_minute(own_admin: Admin) -> None:
    admin, start_ms = own_admin, own_admin.clock() // 1000 * 1000
    made = make(admin)
    for after_ms, expected_ms in ((0, 0), (SESSION_TOUCH_MS - 1, 0), (SESSION_TOUCH_MS, SESSION_TOUCH_MS)):
        admin.clock.fixed_ms = start_ms + after_ms
        admin.ok("GET", "/pipelines", role=made["id"])
        shown = listed(admin, made["id"])
        assert shown is not None
        assert shown["last_used_at"] == iso_s(start_ms + expected_ms)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"role": "viewer"},
        {"name": "", "role": "viewer"},
        {"name": " ", "role": "viewer"},
        {"name": "a\nb", "role": "viewer"},
        {"name": "x" * 201, "role": "viewer"},
        {"name": "x", "role": "root"},
        {"name": "x", "role": None},
        {"name": "x", "role": "viewer", "expires_at": "tomorrow"},
        {"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "role": "viewer", "expires_at": "0001-01-01T00:00:00Z"},
        {"name": "x", "role": "viewer", "expires_at": "9999-12-31T23:59:59-23:59"},
        {"name": "x", "role": "viewer", "expires_at": 1},
        {"name": "x", "role": "viewer", "key": "ak_mine"},
        {"name": "x", "role": "viewer", "user_id": "usr_1"},
    ],
)
def test_what_is_no_key_is_refused(admin: Admin, body: Any) -> None:
    assert admin.error("POST", "/api-keys", body) == (422, "VALIDATION_ERROR")


def test_a_person_has_so_many_keys(own_admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_OF_A_PERSON", 2)
    first = make(own_admin)
    make(own_admin)
    body = {"name": "third", "role": "viewer"}
    assert own_admin.error("POST", "/api-keys", body) == (409, "CONFLICT")
    make(own_admin, by="admin")
    own_admin.call("DELETE", f"/api-keys/{first['id']}")
    make(own_admin)


def test_pages_stay_while_keys_come_and_go(own_admin: Admin) -> None:
    made = [make(own_admin)["id"] for _ in range(5)]
    first = own_admin.ok("GET", "/api-keys?limit=2")
    assert [one["id"] for one in first["data"]] == made[:2]
    own_admin.call("DELETE", f"/api-keys/{made[0]}")
    own_admin.call("DELETE", f"/api-keys/{made[3]}")
    rest = own_admin.ok("GET", f"/api-keys?cursor={first['next_cursor']}")
    assert [one["id"] for one in rest["data"]] == [made[2], made[4]]
    assert rest["has_more"] is False


# ── The text of a key ────────────────────────────────────────────────────────────────────────


def test_a_checksum_tells_a_key_that_was_cut_or_mistyped() -> None:
    key = new_key()
    assert is_whole(key)
    assert int(checksum_of("123456789"), 36) == 0xCBF43926, "is not CRC-32's check value"
    assert checksum_of("") == "0000000"
    wrong = "b" if key[10] != "b" else "c"
    for other in (key[:-1], key + "a", key.upper(), key[:10] + wrong + key[11:], "ak_", ""):
        assert not is_whole(other), other


@pytest.mark.parametrize("token", ["ak_", "ak_x", "ak_" + "a" * 50, "AK_" + "a" * 50, "ak_" + "x" * 9000])
def test_garbage_is_no_key(admin: Admin, token: str) -> None:
    answer = admin.send("GET", "/pipelines", role=None, headers={"Authorization": f"Bearer {token}"})
    assert error_of(answer) == (401, "INVALID_TOKEN")
    is_meant_as_one = token.startswith("ak_")
    assert ("checksum" in answer.json()["error"]["message"]) is is_meant_as_one


def test_a_whole_key_that_nobody_made_is_none(admin: Admin) -> None:
    answer = admin.send("GET", "/pipelines", role=None, headers={"Authorization": f"Bearer {new_key()}"})
    assert error_of(answer) == (401, "INVALID_TOKEN")
    assert "unknown" in answer.json()["error"]["message"]


def test_the_key_of_somebody_who_is_not_active_is_none(admin: Admin) -> None:
    """However they came to be so: disabling somebody here deletes the key."""
    maker_id = add_admin(admin)
    made = make(admin, by=maker_id)
    admin.run(admin.services.store.write, set_status, maker_id, "disabled")
    assert admin.error("GET", "/pipelines", role=made["id"]) == (401, "INVALID_TOKEN")
    admin.run(admin.services.store.write, set_status, maker_id, "active")
    assert admin.call("GET", "/pipelines", role=made["id"]).status == 200


# ── What a key may do ────────────────────────────────────────────────────────────────────────


def test_a_key_has_its_makers_role_at_most(admin: Admin) -> None:
    body = {"name": "x", "role": "owner"}
    assert admin.error("POST", "/api-keys", body, role="admin") == (403, "FORBIDDEN")
    make(admin, "admin", by="admin")
    make(admin, "owner")


def test_a_key_never_does_more_than_its_maker_may_now(admin: Admin) -> None:
    maker_id = add_admin(admin)
    key_id = make(admin, "admin", by=maker_id)["id"]
    assert admin.call("GET", "/users", role=key_id).status == 200
    admin.ok("PUT", f"/users/{maker_id}", {"role": "viewer"})
    assert admin.call("GET", "/pipelines", role=key_id).status == 200
    assert admin.error("GET", "/users", role=key_id) == (403, "FORBIDDEN")
    assert admin.error("POST", "/pipelines", {"name": "x"}, role=key_id) == (403, "FORBIDDEN")
    admin.ok("PUT", f"/users/{maker_id}", {"role": "editor"})
    assert admin.call("POST", "/pipelines", {"name": "x"}, role=key_id).status == 201
    assert admin.error("GET", "/users", role=key_id) == (403, "FORBIDDEN")


def path_of(operation: Operation) -> str:
    return re.sub(r"\{[a-z_]+(:path)?\}", "1", operation.path)


FOR_PEOPLE = {
    *("POST /auth/logout", "GET /auth/me", "POST /auth/password"),
    *("POST /users", "PUT /users/{user_id}", "DELETE /users/{user_id}", "POST /users/{user_id}/invite-link"),
    *("POST /api-keys", "DELETE /api-keys/{key_id}"),
}


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: f"{one.method} {one.path}")
def test_a_key_works_on_every_route_but_those_for_people(admin: Admin, operation: Operation) -> None:
    if "by-route" not in admin.tokens:
        admin.tokens["by-route"] = make(admin, "owner")["key"]
    answer = admin.call(operation.method, path_of(operation), {}, role="by-route")
    if f"{operation.method} {operation.path}" in FOR_PEOPLE:
        assert error_of(answer) == (403, "FORBIDDEN")
        assert "API key" in answer.json()["error"]["message"]
    else:
        assert answer.status in (200, 201, 404, 422)


def test_each_key_has_a_rate_of_its_own(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data", management_rate_limit_rpm=4) as admin:
        wild, calm = make(admin)["id"], make(admin)["id"]
        statuses = [admin.call("GET", "/pipelines", role=wild).status for _ in range(5)]
        assert statuses == [200, 200, 200, 200, 429]
        assert admin.call("GET", "/pipelines", role=calm).status == 200
        assert admin.call("GET", "/pipelines").status == 200


# ── The stream ───────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def stream(admin: Admin, token: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Subscribed, as the server knows."""
    async with aiohttp.ClientSession() as client:
        url, headers = f"{admin.base_url}/v1/admin/debug/stream", {"Authorization": f"Bearer {token}"}
        async with client.ws_connect(url, headers=headers) as websocket:
            before = len(admin.services.live.watchers)
            await websocket.send_json({"action": "subscribe"})
            with anyio.fail_after(10):
                while len(admin.services.live.watchers) == before:  # noqa: ASYNC110 - it tells nobody
                    await anyio.sleep(0.005)
            yield websocket


async def is_cut_off(websocket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether the server's next word is that this viewer may no longer look: well before it looks by
    itself, which is every half minute.
    """
    message = await websocket.receive(timeout=10)
    while message.type is aiohttp.WSMsgType.TEXT and message.json() == {"missed": 0}:
        message = await websocket.receive(timeout=10)
    return bool(message.type is aiohttp.WSMsgType.CLOSE and message.data == 1008)


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["the key is deleted", "its maker is disabled", "its maker is removed"])
async def test_a_stream_ends_at_once_with_what_opened_it(own_admin: Admin, end: str) -> None:
    admin = own_admin
    maker_id = await run_sync(add_admin, admin)
    gone = await run_sync(partial(make, admin, by=maker_id))
    stays = await run_sync(make, admin)
    async with stream(admin, gone["key"]) as cut, stream(admin, stays["key"]) as kept:
        if end == "the key is deleted":
            await run_sync(admin.call, "DELETE", f"/api-keys/{gone['id']}")
        elif end == "its maker is disabled":
            await run_sync(admin.ok, "PUT", f"/users/{maker_id}", {"status": "disabled"})
        else:
            await run_sync(admin.call, "DELETE", f"/users/{maker_id}")
        assert await is_cut_off(cut)
        assert (await kept.receive_json(timeout=10)) == {"missed": 0}
        assert not kept.closed


# ── What is kept ─────────────────────────────────────────────────────────────────────────────


def test_the_key_is_kept_nowhere_and_its_deeds_are_its_makers(own_admin: Admin, tmp_path: Path) -> None:
    admin = own_admin
    made = make(admin, "editor", by="admin")
    pipeline = admin.ok("POST", "/pipelines", {"name": "By a program"}, role=made["id"])
    admin.call("DELETE", f"/api-keys/{made['id']}")
    entries = admin.run(partial(audit_logs.list_audit_logs, admin.services, filters={}))["data"]
    told = {(one["action"], one["resource_id"]): one for one in entries}
    assert told["api_key.created", made["id"]]["changes"]["role"] == {"old": None, "new": "editor"}
    assert ("api_key.deleted", made["id"]) in told
    assert told["pipeline.created", pipeline["id"]]["user_id"] == admin.users["admin"].id
    assert made["key"] not in json.dumps(entries)
    assert made["key"].encode() not in bytes_on_disk(tmp_path / "data")
