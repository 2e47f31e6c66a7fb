"""Handlers of the organisation's rules: its data layer, its consent settings, their versions."""

from __future__ import annotations

import re
from typing import Any

import anyio.to_thread
from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import consent_settings, data_layer, versioned
from datafly_lite.management.http import Call, answer
from datafly_lite.management.versioned import Rules

VERSION = re.compile(r"[0-9]{1,15}")


async def get_data_layer(call: Call) -> Response:
    return answer(await versioned.newest(call.services, data_layer.RULES))


async def replace_data_layer(call: Call) -> Response:
    return answer(await _replace(call, data_layer.RULES))


async def list_data_layer_versions(call: Call) -> Response:
    return answer(await _versions(call, data_layer.RULES))


async def get_data_layer_version(call: Call) -> Response:
    return answer(await versioned.at(call.services, data_layer.RULES, _version(call)))


async def check_expression(call: Call) -> Response:
    # Reading an expression, and working out what is constant in it, takes its time.
    return answer(await anyio.to_thread.run_sync(data_layer.check_expression, await call.fields()))


async def get_consent_settings(call: Call) -> Response:
    return answer(await versioned.newest(call.services, consent_settings.RULES))


async def replace_consent_settings(call: Call) -> Response:
    return answer(await _replace(call, consent_settings.RULES))


async def list_consent_settings_versions(call: Call) -> Response:
    return answer(await _versions(call, consent_settings.RULES))


async def get_consent_settings_version(call: Call) -> Response:
    return answer(await versioned.at(call.services, consent_settings.RULES, _version(call)))


async def _replace(call: Call, rules: Rules) -> dict[str, Any]:
    return await versioned.replace(call.services, rules, await call.fields(), call.user.id)


async def _versions(call: Call, rules: Rules) -> dict[str, Any]:
    limit = call.whole("limit", 50)
    return await versioned.versions(call.services, rules, cursor=call.query("cursor"), limit=limit)


def _version(call: Call) -> int:
    text = call.path("version")
    if not VERSION.fullmatch(text):
        raise AdminError("NOT_FOUND", "there is no such version")
    return int(text)
