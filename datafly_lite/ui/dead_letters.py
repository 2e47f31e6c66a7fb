"""Dead letters: looked through, sent again, discarded."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import dead_letters, integrations, pipelines
from datafly_lite.store.attachment_health import held_letters
from datafly_lite.ui import dlq_events
from datafly_lite.ui.forms import Form
from datafly_lite.ui.visit import Visit, with_query

PATH = "/dead-letters"
FILTERS = ("pipeline_id", "pipeline_integration_id", "reason")
PAGE_SIZE = 50
MOST_CHOICES = 100


async def show_list(visit: Visit) -> Response:
    """Newest first; filters and place are in the address."""
    filters = visit.filters(*FILTERS)
    found = await dead_letters.list_dead_letters(
        visit.services, filters=filters, cursor=visit.query("cursor") or None, limit=PAGE_SIZE
    )
    known = (await pipelines.list_pipelines(visit.services, limit=MOST_CHOICES))["pipelines"]
    older = {**filters, "cursor": found["next_cursor"] or ""}
    return visit.page(
        "dead_letters.html",
        filters=filters,
        is_filtered=any(filters.values()),
        letters=found["data"],
        is_newest=not visit.query("cursor"),
        newest=with_query(PATH, filters),
        older=with_query(PATH, older) if found["next_cursor"] else None,
        pipelines=known,
        attached=await _attached(visit, filters["pipeline_id"]),
        said=_said(visit),
        failed_events=await dlq_events.counted(visit),
    )


async def _attached(visit: Visit, pipeline_id: str) -> list[dict[str, Any]]:
    """The integrations to choose from, once a pipeline is chosen."""
    if not pipeline_id:
        return []
    try:
        return await integrations.list_attachments(visit.services, pipeline_id)
    except AdminError:
        return []


def _said(visit: Visit) -> str:
    """What the last button did, from the numbers that its redirect carries."""
    for name, words in (("replayed", "queued again"), ("discarded", "discarded")):
        count = visit.query(name)
        if count.isascii() and count.isdecimal() and len(count) < 10:
            done = f"{int(count):,} {'delivery was' if count == '1' else 'deliveries were'} {words}."
            return f"{done} {_held(count, visit.query('held'))}".strip()
    return ""


def _held(count: str, held: str) -> str:
    """That those which were queued again for an integration that sends nothing now wait for a person."""
    if not held.isascii() or not held.isdecimal() or len(held) > 10 or held == "0":
        return ""
    until = "until the integration is enabled and live: it is paused or disabled now."
    if held == count:
        return f"{'It waits' if held == '1' else 'They wait'} {until}"
    return f"{int(held):,} of them {'waits' if held == '1' else 'wait'} {until}"


async def replay(visit: Visit) -> Response:
    """Send again what is selected, or all that the filters match."""
    form = await visit.form()
    filters, selection = _selection(form)
    if selection is None:
        return visit.go(PATH, "none-selected", **filters)
    held = await visit.services.store.read(held_letters, selection.get("filter", selection))
    count = await dead_letters.replay(visit.services, **selection)
    return visit.go(PATH, replayed=str(count), held=str(min(held, count) or ""), **filters)


async def discard(visit: Visit) -> Response:
    """Ask first; with the answer, drop what is selected or all that the filters match."""
    form = await visit.form()
    filters, selection = _selection(form)
    if selection is None:
        return visit.go(PATH, "none-selected", **filters)
    if form.word("confirmed") != "yes":
        return _confirm(visit, form, filters, selection)
    count = await dead_letters.discard(visit.services, **selection)
    return visit.go(PATH, discarded=str(count), **filters)


def _selection(form: Form) -> tuple[dict[str, str], dict[str, Any] | None]:
    """(the list's filters, what to pass to the operation); None where nothing is selected."""
    filters = {name: form.word(name) for name in FILTERS}
    if form.word("which") == "all":
        return filters, {"filter": {name: value for name, value in filters.items() if value}}
    ids = [int(one) for one in form.every("id") if one.isascii() and one.isdecimal() and len(one) < 16]
    return filters, {"ids": ids} if ids else None


def _confirm(visit: Visit, form: Form, filters: dict[str, str], selection: dict[str, Any]) -> Response:
    ids = [str(one) for one in selection.get("ids", [])]
    what = f"{len(ids):,} selected" if ids else "all that the filters match"
    kept = [*filters.items(), ("which", form.word("which")), ("confirmed", "yes")]
    return visit.page(
        "confirm.html",
        heading="Discard dead letters",
        text=f"Discarding {what}: they will never be sent. Their events stay in the list, and the deliveries "
        "count as dropped.",
        action=f"{PATH}/discard",
        button="Discard",
        back=with_query(PATH, filters),
        hidden=[*kept, *(("id", one) for one in ids)],
    )
