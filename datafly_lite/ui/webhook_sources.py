"""Webhook sources: whose webhooks become events, with the address to give to each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from datafly_lite.clock import new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import webhook_sources
from datafly_lite.management.webhook_sources import CUSTOM_HEADER, SOURCE_TYPES, SourceType, url_of
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.pipeline_fields import pairs
from datafly_lite.ui.visit import Visit
from datafly_lite.vendors.declaration import MASK

PATH = "/webhook-sources"
CUSTOM = "custom"
UNSIGNED, SIGNED = "none", "hmac"
FIELDS = (
    *("name", "pipeline_id", "signing_secret", "signature", "signature_header", "signature_encoding"),
    *("event_type_path", "mappings", "enabled"),
)
LABELS = {
    "pipeline_id": "Pipeline",
    "signature_encoding": "Encoding",
    "signature_header": "Header of the signature",
    "event_type_path": "Event name",
    "mappings": "Fields",
}
FRESH_ID = re.compile(r"wh_[0-9a-f]{32}")

DESCRIPTIONS = {
    "stripe": "Payments, subscriptions and refunds, as they happen at Stripe.",
    "shopify": "Orders, customers and products of a Shopify shop.",
    "hubspot": "Contacts, companies and deals that change in HubSpot.",
    "custom": "Any service that posts JSON, with or without a signature.",
}
SETTINGS_THERE = {
    "stripe": "In Stripe's dashboard open Developers, Webhooks, and add an endpoint with this address. "
    "Stripe then shows its signing secret, which begins with whsec_.",
    "shopify": "In Shopify's admin open Settings, Notifications, Webhooks, and create a webhook with this "
    "address in the format JSON. The secret stands below the list; for an app it is the client secret.",
    "hubspot": "In your HubSpot app open Webhooks and enter this address as the target URL. "
    "The secret is the app's client secret.",
    "custom": "Enter this address where the service asks for the URL of its webhook.",
}


async def show_list(visit: Visit) -> Response:
    """All of them, and the kinds that can be added."""
    pipelines = visit.services.configuration.current.by_id
    return visit.page(
        "webhook_sources.html",
        sources=await webhook_sources.list_webhook_sources(visit.services),
        pipelines=pipelines,
        types=SOURCE_TYPES,
        descriptions=DESCRIPTIONS,
        is_local=not visit.services.settings.public_url,
    )


# ── A new one ────────────────────────────────────────────────────────────────────────────────


def _kind(name: str) -> SourceType:
    if name not in SOURCE_TYPES:
        raise AdminError("NOT_FOUND", "there is no such kind of webhook source")
    return SOURCE_TYPES[name]


async def show_new(visit: Visit) -> Response:
    """The form of the kind that the query names, with the address that the source is going to have."""
    source_type = visit.query("type")
    kind, pipelines = _kind(source_type), list(visit.services.configuration.current.by_id)
    usual = {
        "name": kind.label if source_type != CUSTOM else "",
        "pipeline_id": pipelines[0] if len(pipelines) == 1 else "",
        "signing_secret": MASK,
        "signature_header": kind.signature_header or CUSTOM_HEADER,
        "signature_encoding": kind.signature_encoding,
        "event_type_path": kind.event_type_path,
        "mappings": kind.mappings,
        "enabled": True,
    }
    return _form_page(visit, source_type, new_id("wh"), form_of(usual), Problems())


async def create(visit: Visit) -> Response:
    """Make it under the address that the form showed."""
    form, problems = await visit.form(), Problems()
    source_type = form.word("source_type")
    _kind(source_type)
    source_id = form.word("id") if FRESH_ID.fullmatch(form.word("id")) else new_id("wh")
    fields = {**fields_of(source_type, form, problems), "source_type": source_type}
    if not problems:
        try:
            await webhook_sources.create_webhook_source(visit.services, fields, source_id)
        except AdminError as error:
            problems = problems_of(error, FIELDS)
        else:
            return visit.go(PATH, "source-made")
    return _form_page(visit, source_type, source_id, form, problems, 422)


# ── Changing and deleting one ────────────────────────────────────────────────────────────────


async def _find(visit: Visit) -> dict[str, Any]:
    return await webhook_sources.get_webhook_source(visit.services, visit.path("source_id"))


async def show_edit(visit: Visit) -> Response:
    """The form, filled by the source; its secret stays out."""
    source = await _find(visit)
    return _form_page(visit, source["source_type"], source["id"], form_of(source), Problems(), source=source)


async def save(visit: Visit) -> Response:
    """Change it."""
    source, form, problems = await _find(visit), await visit.form(), Problems()
    fields = fields_of(source["source_type"], form, problems, source)
    if not problems:
        try:
            await webhook_sources.update_webhook_source(visit.services, source["id"], fields)
        except AdminError as error:
            problems = problems_of(error, FIELDS)
        else:
            return visit.go(PATH, "saved")
    return _form_page(visit, source["source_type"], source["id"], form, problems, 422, source)


async def confirm_delete(visit: Visit) -> Response:
    """Say what deleting does, and ask."""
    source = await _find(visit)
    return visit.page(
        "confirm.html",
        heading="Delete the webhook source",
        text=f"What is posted to the address of {source['name']} is refused from now on, and the address "
        "never comes back. Events that were taken stay in the list. To stop for a while, disable it instead.",
        action=f"{PATH}/{source['id']}/delete",
        button="Delete the webhook source",
        back=PATH,
    )


async def delete(visit: Visit) -> Response:
    """Delete it."""
    await webhook_sources.delete_webhook_source(visit.services, visit.path("source_id"))
    return visit.go(PATH, "source-deleted")


# ── Between the source and its form ──────────────────────────────────────────────────────────


def form_of(source: Mapping[str, Any]) -> Form:
    """The form as the source fills it. Secrets stay out."""
    values = {
        "name": source["name"],
        "pipeline_id": source["pipeline_id"],
        "signature": SIGNED if source["signing_secret"] else UNSIGNED,
        "signature_header": source["signature_header"],
        "signature_encoding": source["signature_encoding"],
        "event_type_path": source["event_type_path"],
        "mappings": "\n".join(f"{target} = {path}" for target, path in source["mappings"].items()),
    }
    return Form([*values.items(), *([("enabled", "on")] if source["enabled"] else [])])


def fields_of(
    source_type: str, form: Form, problems: Problems, stored: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fields to save; an empty secret keeps the stored one. What is missing is added to `problems`."""
    fields: dict[str, Any] = {
        "name": form.word("name"),
        "pipeline_id": form.word("pipeline_id"),
        "signing_secret": form.word("signing_secret") or (stored or {}).get("signing_secret", ""),
        "event_type_path": form.word("event_type_path"),
        "mappings": pairs(form, "mappings", "=", problems),
        "enabled": form.ticked("enabled") or stored is None,
    }
    is_unsigned = source_type == CUSTOM and form.word("signature") == UNSIGNED
    if is_unsigned:
        fields["signing_secret"] = ""
    elif source_type == CUSTOM:
        fields["signature_header"] = form.word("signature_header")
        fields["signature_encoding"] = form.word("signature_encoding")
    if not fields["signing_secret"] and not is_unsigned:
        problems.add("signing_secret", "must not be empty")
    _check(fields, problems)
    return fields


def _check(fields: Mapping[str, Any], problems: Problems) -> None:
    """What the API would refuse, together with what the form finds itself: one round for all."""
    try:
        webhook_sources.check_fields(fields)
    except AdminError as error:
        for name, messages in problems_of(error, FIELDS).items():
            for message in messages:
                problems.add(name, message)


def _form_page(
    visit: Visit,
    source_type: str,
    source_id: str,
    form: Form,
    problems: Problems,
    status: int = 200,
    source: Mapping[str, Any] | None = None,
) -> Response:
    services = visit.services
    everyone = sorted(services.configuration.current.by_id.values(), key=lambda one: one.name.casefold())
    choices = [(one.id, one.name) for one in everyone]
    if form.word("pipeline_id") not in services.configuration.current.by_id:
        choices.insert(0, ("", "choose one"))
    return visit.page(
        "webhook_source_form.html",
        status,
        kind=SOURCE_TYPES[source_type],
        source_type=source_type,
        source=source,
        source_id=source_id,
        url=url_of(services, source_id),
        is_local=not services.settings.public_url,
        settings_there=SETTINGS_THERE[source_type],
        pipelines=choices,
        form=form,
        problems=problems,
        labels=LABELS,
    )
