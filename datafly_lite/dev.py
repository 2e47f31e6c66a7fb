"""What dev mode adds: vendor twins on a port of their own, and a demo pipeline that delivers to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    """The demo pipeline's key; on the first start it is made, with both vendors attached."""
    found = await pipelines.list_pipelines(services, search=DEMO_SLUG)
    for pipeline in found["pipelines"]:
        if pipeline["slug"] == DEMO_SLUG:
            return str(pipeline["pipeline_key"])
    made = await pipelines.create_pipeline(services, dict(DEMO_PIPELINE))
    base_url = f"http://127.0.0.1:{twins_port(services.settings)}"
    for fields in _demo_integrations(base_url):
        integration = await integrations.create_integration(services, fields, None)
        await integrations.attach(services, made["id"], {"integration_id": integration["id"]})
    return str(made["pipeline_key"])


def _demo_integrations(base_url: str) -> list[dict[str, object]]:
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
