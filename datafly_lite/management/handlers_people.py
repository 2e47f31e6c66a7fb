"""From a request to an operation and back, for people and keys: a line or two a route."""

from __future__ import annotations

from starlette.responses import Response

from datafly_lite.management import api_keys, users
from datafly_lite.management import fields as f
from datafly_lite.management.http import Call, answer, no_content

ACCEPT_CHECKS = {"token": f.text(200), "password": f.text(1024 * 1024), "name": f.text(200)}


async def accept_invite(call: Call) -> Response:
    given = f.checked(await call.fields(), ACCEPT_CHECKS, required=("token", "password"))
    return answer(await call.services.authority.accept_invitation(**given))


# ── users ────────────────────────────────────────────────────────────────────────────────────


async def list_users(call: Call) -> Response:
    cursor, limit = call.query("cursor"), call.whole("limit", 50)
    return answer(await users.list_users(call.services, cursor=cursor, limit=limit))


async def invite(call: Call) -> Response:
    return answer(await users.invite(call.services, call.user.id, await call.fields()), 201)


async def invite_again(call: Call) -> Response:
    return answer(await users.invite_again(call.services, call.user.id, call.path("user_id")))


async def get_user(call: Call) -> Response:
    return answer(await users.get_user(call.services, call.path("user_id")))


async def update_user(call: Call) -> Response:
    fields, user_id = await call.fields(), call.path("user_id")
    return answer(await users.update_user(call.services, call.user.id, user_id, fields))


async def delete_user(call: Call) -> Response:
    await users.delete_user(call.services, call.user.id, call.path("user_id"))
    return no_content()


# ── API keys ─────────────────────────────────────────────────────────────────────────────────


async def list_api_keys(call: Call) -> Response:
    cursor, limit = call.query("cursor"), call.whole("limit", 50)
    return answer(await api_keys.list_api_keys(call.services, cursor=cursor, limit=limit))


async def create_api_key(call: Call) -> Response:
    return answer(await api_keys.create_api_key(call.services, call.user.id, await call.fields()), 201)


async def delete_api_key(call: Call) -> Response:
    await api_keys.delete_api_key(call.services, call.user.id, call.path("key_id"))
    return no_content()
