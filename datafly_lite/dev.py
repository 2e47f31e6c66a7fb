"""What dev mode adds: vendor twins on a port of their own, and a demo pipeline that delivers to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from datafly_lite import server
from datafly_lite.management import integrations, pipelines
from datafly_lite.services import Services
from datafly_lite.settings import Settings
from datafly_lite.twins import DEMO_WEBHOOK_SECRET, twins_app

DEMO_OWNER = "owner@localhost"
DEMO_SLUG = "demo-shop"
DEMO_PIPELINE = {"name": "Demo shop", "slug": DEMO_SLUG, "type": "web", "labels": ["env:demo"]}


def twins_port(settings: Settings) -> int:
    """The twins' port: the setting, else the one after the listener's."""
    return settings.twins_port or settings.port + 1


@asynccontextmanager
async def twins(settings: Settings) -> AsyncIterator[None]:
    """Serve the vendor twins inside; they end after the deliveries that go to them."""
    if not settings.dev:
        yield
        return
    stop = anyio.Event()
    listener = server.Listener(server.config(f"127.0.0.1:{twins_port(settings)}", shutdown_timeout_s=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, twins_app(), stop.wait)
        try:
            yield
        finally:
            stop.set()


async def ensure_demo(services: Services) -> str:
    """The demo pipeline's key. What is missing of the demo is made, and what is there points at the twins.

    A person may have deleted the pipeline, or started on another port, since the last time.
    """
    base_url = f"http://127.0.0.1:{twins_port(services.settings)}"
    revisions = [await _ensure_integration(services, fields) for fields in _demo_integrations(base_url)]
    pipeline = await _demo_pipeline(services)
    if pipeline is not None:
        await _follow(services, str(pipeline["id"]), revisions)
        return str(pipeline["pipeline_key"])
    made = await pipelines.create_pipeline(services, dict(DEMO_PIPELINE))
    for revision in revisions:
        await integrations.attach(services, made["id"], {"integration_id": revision["integration_id"]})
    return str(made["pipeline_key"])


async def _demo_pipeline(services: Services) -> dict[str, Any] | None:
    found = await pipelines.list_pipelines(services, search=DEMO_SLUG)
    return next((one for one in found["pipelines"] if one["slug"] == DEMO_SLUG), None)


async def _ensure_integration(services: Services, fields: dict[str, Any]) -> dict[str, Any]:
    """The newest revision of a demo integration, which is made anew where its address is another."""
    known = {one["name"]: one for one in await integrations.list_integrations(services)}
    existing = known.get(fields["name"])
    if existing is None:
        existing = await integrations.create_integration(services, fields, None)
    newest = (await integrations.list_revisions(services, existing["id"]))[0]
    address = {name: fields["config"].get(name) for name in ("url", "endpoint")}
    if {name: newest["config"].get(name) for name in address} == address:
        return newest
    change = {"config": fields["config"], "change_summary": "The twins are on another port now."}
    return await integrations.create_revision(services, existing["id"], change, None)


async def _follow(services: Services, pipeline_id: str, revisions: list[dict[str, Any]]) -> None:
    newest = {one["integration_id"]: one["id"] for one in revisions}
    for attached in await integrations.list_attachments(services, pipeline_id):
        revision_id = newest.get(attached["integration_id"])
        if revision_id not in (None, attached["revision_id"]):
            change = {"revision_id": revision_id}
            await integrations.update_attachment(services, pipeline_id, attached["id"], change)


def _demo_integrations(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "Webhook twin",
            "vendor": "webhook",
            "description": "Delivers to the built-in webhook receiver, signed.",
            "config": {
                "url": f"{base_url}/webhook/demo",
                "authentication": "hmac",
                "secret": DEMO_WEBHOOK_SECRET,
            },
        },
        {
            "name": "GA4 twin",
            "vendor": "ga4",
            "description": "Delivers to the built-in twin of Google Analytics 4.",
            "config": {
                "measurement_id": "G-DEMO000001",
                "api_secret": "demo-secret",
                "endpoint": f"{base_url}/mp/collect",
            },
        },
    ]
