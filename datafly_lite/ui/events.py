"""The list of events, live where the browser runs scripts, and one event's whole way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.events import DeliveryStatus, EventType
from datafly_lite.management import events, pipelines
from datafly_lite.store.page_paths import LONGEST_PATH, page_paths
from datafly_lite.trace import DeliveryTrace, Trace
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.pipeline import curl
from datafly_lite.ui.visit import Visit, with_query

FILTERS = ("pipeline_id", "type", "event", "user_id", "anonymous_id", "message_id", "status")
PAGE_SIZE = 50
MOST_CHOICES = 100


async def show_list(visit: Visit) -> Response:
    """Newest first; filters and place are in the address."""
    filters, problems = visit.filters(*FILTERS), Problems()
    found: dict[str, Any] = {"data": [], "next_cursor": None}
    try:
        found = await _find(visit, filters)
    except AdminError as error:
        problems = problems_of(error, FILTERS)
    known = await pipelines.list_pipelines(visit.services, limit=MOST_CHOICES)
    older = {**filters, "cursor": found["next_cursor"] or ""}
    return visit.page(
        "events.html",
        422 if problems else 200,
        filters=filters,
        is_filtered=any(filters.values()),
        problems=problems,
        events=found["data"],
        is_newest=not visit.query("cursor"),
        newest=with_query("/live", filters),
        older=with_query("/live", older) if found["next_cursor"] else None,
        data_url=with_query("/live/data", filters),
        pipelines=known["pipelines"],
        types=get_args(EventType),
        statuses=[status.value for status in DeliveryStatus],
        curl=_example(visit, known["pipelines"], filters["pipeline_id"]),
    )


async def data(visit: Visit) -> Response:
    """The same list as JSON, for the page's own module when it connects."""
    return visit.data(await _find(visit, visit.filters(*FILTERS)))


async def _find(visit: Visit, filters: dict[str, str]) -> dict[str, Any]:
    """As the API's list; each page view without a name has its `path` too, else None."""
    found = await events.list_events(
        visit.services, filters=filters, cursor=visit.query("cursor") or None, limit=PAGE_SIZE
    )
    unnamed = [one["offset"] for one in found["data"] if one["type"] == "page" and not one["event"]]
    paths = await visit.services.store.read(page_paths, unnamed)
    return {**found, "data": [{**one, "path": paths.get(one["offset"])} for one in found["data"]]}


def _example(visit: Visit, known: list[dict[str, Any]], pipeline_id: str) -> str | None:
    """A command that makes the first event, for the pipeline that is asked for or the oldest."""
    wanted = [one for one in known if one["id"] == pipeline_id] or known
    return curl(visit.services.settings.base_url, wanted[0]["pipeline_key"]) if wanted else None


# ── One event ────────────────────────────────────────────────────────────────────────────────


async def show_trace(visit: Visit) -> Response:
    """From the raw body to the vendor's answer."""
    trace = await visit.services.trace(visit.path("pipeline_id"), visit.path("message_id"))
    if trace is None:
        raise AdminError("NOT_FOUND", "there is no such event")
    return visit.page(
        "trace.html",
        trace=trace,
        title=title_of(trace),
        canonical=trace.canonical or {},
        envelope=msgspec.to_builtins(trace.envelope),
        pipeline_name=await _pipeline_name(visit, trace.pipeline_id),
        correction_s=correction_s(trace.canonical or {}),
        held={one.delivery_id: held_words(visit, one) for one in trace.deliveries},
        is_moving=is_moving(trace),
    )


def title_of(trace: Trace) -> str:
    """What a person would call the event: its name, else a page's path, else its type."""
    event = trace.canonical or {}
    name = event.get("event") or event.get("name")
    return str(name or path_of(event) or event.get("type") or "Event")


def path_of(event: Mapping[str, Any]) -> str:
    """Of a page view, from its properties or else from its context; empty where there is none."""
    if event.get("type") != "page":
        return ""
    places = (event.get("properties"), (event.get("context") or {}).get("page"))
    paths = [place.get("path") for place in places if isinstance(place, Mapping)]
    return next((path[:LONGEST_PATH] for path in paths if isinstance(path, str) and path), "")


def correction_s(event: Mapping[str, Any]) -> float:
    """By how many seconds the sender's time was shifted, because its clock is wrong; 0 where it was not."""
    try:
        claimed, used = (datetime.fromisoformat(event[name]) for name in ("originalTimestamp", "timestamp"))
        return round((used - claimed.replace(tzinfo=claimed.tzinfo or UTC)).total_seconds(), 3)
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def held_words(visit: Visit, delivery: DeliveryTrace) -> str:
    """Why a pending delivery waits for a person, not for a time; empty where it does not."""
    if delivery.status != DeliveryStatus.PENDING:
        return ""
    attachments = visit.services.configuration.current.attachments
    attachment = attachments.get(delivery.pipeline_integration_id)
    if attachment is None:
        return "the integration is detached, so it is not sent"
    if not attachment.enabled:
        return "it waits until the integration is enabled"
    return "it waits until the integration is set live" if attachment.mode == "paused" else ""


def is_moving(trace: Trace) -> bool:
    """Whether more is about to be known: worth looking again by itself."""
    return not trace.processed or any(
        one.status == DeliveryStatus.PENDING and not one.history for one in trace.deliveries
    )


async def _pipeline_name(visit: Visit, pipeline_id: str) -> str:
    try:
        return str((await pipelines.get_pipeline(visit.services, pipeline_id))["name"])
    except AdminError:
        return "(deleted)"
