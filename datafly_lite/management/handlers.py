"""From a request to an operation and back: a line or two a route. What they do is in the resources' files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import (
    audit_logs,
    collector,
    dead_letters,
    dry_run,
    events,
    integrations,
    pipelines,
    refused_events,
    revision_diff,
    webhook_sources,
)
from datafly_lite.management import catalog as vendors
from datafly_lite.management import fields as f
from datafly_lite.management.http import Call, answer, bearer_of, no_content
from datafly_lite.management.paging import slice_page, slice_page_down

SECRET_TEXT = f.text(1024 * 1024)
SETUP_CHECKS = {"token": f.text(200), "email": f.text(300), "password": SECRET_TEXT, "name": f.text(200)}
LOGIN_CHECKS = {"email": f.text(300), "password": SECRET_TEXT}
REFRESH_CHECKS = {"refresh_token": f.text(200)}
PASSWORD_CHECKS = {"current_password": SECRET_TEXT, "new_password": SECRET_TEXT}
SELECTION_NAMES = ("ids", "filter")


# ── auth ─────────────────────────────────────────────────────────────────────────────────────


async def set_up(call: Call) -> Response:
    given = f.checked(await call.fields(), SETUP_CHECKS, required=("token", "email", "password"))
    return answer(await call.services.authority.set_up(**given), 201)


async def login(call: Call) -> Response:
    given = f.checked(await call.fields(), LOGIN_CHECKS, required=LOGIN_CHECKS)
    authority = call.services.authority
    user = await authority.login(given["email"], given["password"], call.address)
    return answer(await authority.issue_tokens(user))


async def refresh(call: Call) -> Response:
    given = f.checked(await call.fields(), REFRESH_CHECKS, required=REFRESH_CHECKS)
    return answer(await call.services.authority.refresh(given["refresh_token"]))


async def logout(call: Call) -> Response:
    await call.services.authority.logout(bearer_of(call.request) or "")
    return no_content()


async def me(call: Call) -> Response:
    return answer(call.user)


async def change_password(call: Call) -> Response:
    given = f.checked(await call.fields(), PASSWORD_CHECKS, required=PASSWORD_CHECKS)
    authority = call.services.authority
    current, new = given["current_password"], given["new_password"]
    user = await authority.change_password(call.user, current, new, call.address)
    return answer(await authority.issue_tokens(user))


# ── pipelines ────────────────────────────────────────────────────────────────────────────────


async def list_pipelines(call: Call) -> Response:
    return answer(
        await pipelines.list_pipelines(
            call.services,
            search=call.query("search") or "",
            type=call.query("type"),
            label=call.query("label"),
            enabled=call.boolean("enabled"),
            limit=call.whole("limit", 50),
            offset=call.whole("offset", 0),
        )
    )


async def create_pipeline(call: Call) -> Response:
    return answer(await pipelines.create_pipeline(call.services, await call.fields()), 201)


async def get_pipeline(call: Call) -> Response:
    return answer(await pipelines.get_pipeline(call.services, call.path("pipeline_id")))


async def update_pipeline(call: Call) -> Response:
    fields = await call.fields()
    return answer(await pipelines.update_pipeline(call.services, call.path("pipeline_id"), fields))


async def delete_pipeline(call: Call) -> Response:
    return answer(await pipelines.delete_pipeline(call.services, call.path("pipeline_id")))


async def rotate_secret(call: Call) -> Response:
    return answer(await pipelines.rotate_secret(call.services, call.path("pipeline_id")))


async def create_token(call: Call) -> Response:
    return answer(await pipelines.create_token(call.services, call.path("pipeline_id")))


async def start_build(call: Call) -> Response:
    return answer(await collector.start_build(call.services, call.path("pipeline_id")))


async def build_status(call: Call) -> Response:
    return answer(await collector.build_status(call.services, call.path("pipeline_id")))


async def download_collector(call: Call) -> Response:
    filename, script = await collector.download(call.services, call.path("pipeline_id"))
    headers = {"content-disposition": f'attachment; filename="{filename}"'}
    return Response(script, headers=headers, media_type="application/javascript")


# ── integrations ─────────────────────────────────────────────────────────────────────────────


async def catalog(call: Call) -> Response:
    return answer(_page(call, vendors.catalog(), "key"))


async def get_vendor(call: Call) -> Response:
    return answer(vendors.get_vendor(call.path("vendor")))


async def install_vendor(call: Call) -> Response:
    vendor, fields = call.path("vendor"), await call.fields()
    return answer(await vendors.install(call.services, vendor, fields, call.user.id), 201)


async def list_integrations(call: Call) -> Response:
    return answer(_page(call, await integrations.list_integrations(call.services)))


async def create_integration(call: Call) -> Response:
    fields = await call.fields()
    return answer(await integrations.create_integration(call.services, fields, call.user.id), 201)


async def get_integration(call: Call) -> Response:
    return answer(await integrations.get_integration(call.services, call.path("integration_id")))


async def update_integration(call: Call) -> Response:
    fields, integration_id = await call.fields(), call.path("integration_id")
    return answer(await integrations.update_integration(call.services, integration_id, fields))


async def delete_integration(call: Call) -> Response:
    await integrations.delete_integration(call.services, call.path("integration_id"))
    return no_content()


async def list_revisions(call: Call) -> Response:
    rows = await integrations.list_revisions(call.services, call.path("integration_id"))
    cursor, limit = call.query("cursor"), call.whole("limit", 50)
    return answer(slice_page_down(rows, cursor, limit, "revision_number"))


async def create_revision(call: Call) -> Response:
    fields, id_ = await call.fields(), call.path("integration_id")
    return answer(await integrations.create_revision(call.services, id_, fields, call.user.id), 201)


async def get_revision(call: Call) -> Response:
    integration_id, number = call.path("integration_id"), _revision_number(call, "number")
    return answer(await integrations.get_revision(call.services, integration_id, number))


async def diff_revisions(call: Call) -> Response:
    integration_id = call.path("integration_id")
    old, new = _revision_number(call, "old"), _revision_number(call, "new")
    return answer(await revision_diff.diff(call.services, integration_id, old, new))


def _revision_number(call: Call, name: str) -> int:
    number = call.path(name)
    if not number.isdecimal() or not number.isascii() or len(number) > 10:
        raise AdminError("NOT_FOUND", "there is no such revision")
    return int(number)


async def list_attachments(call: Call) -> Response:
    return answer(_page(call, await integrations.list_attachments(call.services, call.path("pipeline_id"))))


async def attach(call: Call) -> Response:
    return answer(
        await integrations.attach(call.services, call.path("pipeline_id"), await call.fields()), 201
    )


async def update_attachment(call: Call) -> Response:
    fields, pipeline_id, attachment_id = await call.fields(), call.path("pipeline_id"), call.path("pi_id")
    return answer(await integrations.update_attachment(call.services, pipeline_id, attachment_id, fields))


async def detach(call: Call) -> Response:
    await integrations.detach(call.services, call.path("pipeline_id"), call.path("pi_id"))
    return no_content()


# ── dry run ──────────────────────────────────────────────────────────────────────────────────


async def try_change(call: Call) -> Response:
    return answer(await dry_run.dry_run(call.services, await call.fields(), call.request))


# ── webhook sources ──────────────────────────────────────────────────────────────────────────


async def list_webhook_sources(call: Call) -> Response:
    return answer(_page(call, await webhook_sources.list_webhook_sources(call.services)))


async def create_webhook_source(call: Call) -> Response:
    return answer(await webhook_sources.create_webhook_source(call.services, await call.fields()), 201)


async def get_webhook_source(call: Call) -> Response:
    return answer(await webhook_sources.get_webhook_source(call.services, call.path("source_id")))


async def update_webhook_source(call: Call) -> Response:
    fields, source_id = await call.fields(), call.path("source_id")
    return answer(await webhook_sources.update_webhook_source(call.services, source_id, fields))


async def delete_webhook_source(call: Call) -> Response:
    await webhook_sources.delete_webhook_source(call.services, call.path("source_id"))
    return no_content()


# ── events ───────────────────────────────────────────────────────────────────────────────────


async def list_events(call: Call) -> Response:
    filters = {name: call.query(name) for name in events.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await events.list_events(call.services, filters=filters, cursor=call.query("cursor"), limit=limit)
    )


async def get_event(call: Call) -> Response:
    return answer(await events.get_event(call.services, call.path("pipeline_id"), call.path("message_id")))


async def list_dead_letters(call: Call) -> Response:
    filters = {name: call.query(name) for name in dead_letters.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await dead_letters.list_dead_letters(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )


async def replay_dead_letters(call: Call) -> Response:
    return answer({"replayed": await dead_letters.replay(call.services, **await _selection(call))})


async def discard_dead_letters(call: Call) -> Response:
    return answer({"discarded": await dead_letters.discard(call.services, **await _selection(call))})


async def list_refused_events(call: Call) -> Response:
    filters = {name: call.query(name) for name in refused_events.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await refused_events.list_refused_events(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )


async def count_refused_events(call: Call) -> Response:
    filters = {name: call.query(name) for name in refused_events.COUNT_CHECKS}
    return answer(await refused_events.count_refused_events(call.services, filters=filters))


async def list_audit_logs(call: Call) -> Response:
    filters = {name: call.query(name) for name in audit_logs.FILTER_CHECKS}
    limit = call.whole("limit", 50)
    return answer(
        await audit_logs.list_audit_logs(
            call.services, filters=filters, cursor=call.query("cursor"), limit=limit
        )
    )


async def _selection(call: Call) -> dict[str, Any]:
    fields = await call.fields()
    return f.checked(fields, {name: _as_it_is for name in SELECTION_NAMES})


def _as_it_is(value: Any) -> Any:
    return value


def _page(call: Call, rows: Sequence[Any], key: str = "id") -> dict[str, Any]:
    return slice_page(msgspec.to_builtins(rows), call.query("cursor"), call.whole("limit", 50), key)
