"""The audit log for people: who did what and when, and each changed value before and after."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from datafly_lite.audit import Change
from datafly_lite.errors import AdminError
from datafly_lite.management import audit_logs
from datafly_lite.management.source_view import pipeline_id_of
from datafly_lite.store.audit_logs import KEPT_FOR_MS
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.refused_events import visible
from datafly_lite.ui.templating import compact, path_part
from datafly_lite.ui.visit import Visit, with_query

PATH = "/audit-logs"
FILTERS = ("action", "user_id", "resource_type", "resource_id", "from", "to")
PAGE_SIZE = 25
FEW_VALUES = 6
"""So many changed values are shown at once; more are folded."""

LONG_VALUE = 200
"""Characters: the rest of a longer value is folded."""

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

ACTIONS = {
    "pipeline.created": "Pipeline made",
    "pipeline.updated": "Pipeline changed",
    "pipeline.deleted": "Pipeline deleted",
    "pipeline.secret_rotated": "Secret of a pipeline rotated",
    "pipeline.token_created": "Challenge token made",
    "pipeline.collector_built": "Collector built",
    "source.created": "Source made",
    "source.updated": "Source changed",
    "source.deleted": "Source deleted",
    "source.secret_rotated": "Secret of a source rotated",
    "source.collector_built": "Collector of a source built",
    "integration.created": "Integration made",
    "integration.updated": "Integration changed",
    "integration.deleted": "Integration deleted",
    "revision.created": "Integration configured anew",
    "attachment.created": "Integration attached",
    "attachment.updated": "Attached integration changed",
    "attachment.deleted": "Integration detached",
    "webhook_source.created": "Webhook source made",
    "webhook_source.updated": "Webhook source changed",
    "webhook_source.deleted": "Webhook source deleted",
    "data_layer.updated": "Data layer changed",
    "consent_settings.updated": "Consent settings changed",
    "dead_letters.replayed": "Dead letters sent again",
    "dead_letters.discarded": "Dead letters discarded",
    "identity.unlinked": "Visitor unlinked from a user",
    "user.invited": "User invited",
    "user.updated": "User changed",
    "user.deleted": "User removed",
    "api_key.created": "API key made",
    "api_key.deleted": "API key deleted",
    "auth.set_up": "Owner made",
    "auth.login": "Logged in",
    "auth.login_failed": "Log-in failed",
    "auth.logout": "Logged out",
    "auth.password_changed": "Password changed",
    "auth.refresh_reused": "Refresh token used twice",
}

PAGES = {
    "pipeline": "/pipelines/{}",
    "source": "/pipelines/{}",
    "webhook_source": "/webhook-sources/{}",
    "user": "/users/{}",
    "identity": "/identities/{}",
    "data_layer": "/data-layer",
    "consent_settings": "/consent-settings",
}
"""Where a thing has a page of its own."""


class Value(NamedTuple):
    """One value of one field, `None` where it was not there. A field inside another is `outer.inner`."""

    field: str
    old: str | None
    new: str | None


async def show_list(visit: Visit) -> Response:
    """Newest first; filters and place are in the address."""
    filters, problems = visit.filters(*FILTERS), Problems()
    found: dict[str, Any] = {"data": [], "next_cursor": None}
    try:
        found = await audit_logs.list_audit_logs(
            visit.services,
            filters={**filters, "to": end_of_day(filters["to"])},
            cursor=visit.query("cursor") or None,
            limit=PAGE_SIZE,
        )
    except AdminError as error:
        problems = problems_of(error, FILTERS)
    older = {**filters, "cursor": found["next_cursor"] or ""}
    return visit.page(
        "audit_logs.html",
        422 if problems else 200,
        filters=filters,
        is_filtered=any(filters.values()),
        field_types={name: _field_type(filters[name]) for name in ("from", "to")},
        problems=problems,
        entries=[_shown(one) for one in found["data"]],
        is_newest=not visit.query("cursor"),
        newest=with_query(PATH, filters),
        older=with_query(PATH, older) if found["next_cursor"] else None,
        people=await audit_logs.list_people(visit.services),
        actions=ACTIONS,
        kept_days=KEPT_FOR_MS // 86_400_000,
        long_value=LONG_VALUE,
        few_values=FEW_VALUES,
    )


def end_of_day(text: str) -> str:
    """A day is meant as a whole: `2026-02-25` -> `2026-02-25T23:59:59.999Z`."""
    return f"{text}T23:59:59.999Z" if DAY.fullmatch(text) else text


def _field_type(text: str) -> str:
    """A browser shows nothing in a field for days that holds anything else."""
    return "date" if not text or DAY.fullmatch(text) else "text"


def words_of(action: str) -> str:
    """The action in words; one that this version does not know is its own words."""
    return ACTIONS.get(action) or re.sub(r"[._]", " ", action).capitalize()


def values_of(changes: Mapping[str, Change]) -> list[Value]:
    """Each value that is another one after it; those of an object one by one."""
    return [
        value for name, change in changes.items() for value in _values(name, change["old"], change["new"])
    ]


def _values(field: str, old: Any, new: Any) -> Iterator[Value]:
    if isinstance(old, dict | None) and isinstance(new, dict | None) and (old or new):
        before, after = old or {}, new or {}
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                yield from _values(f"{field}.{name}", before.get(name), after.get(name))
    else:
        yield Value(visible(field), _text(old), _text(new))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return visible(value if isinstance(value, str) and value else compact(value))


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    """With what strangers wrote made visible, the action's words, and where to look further."""
    texts = {name: visible(value) if isinstance(value, str) else value for name, value in one.items()}
    id_, kind = one["resource_id"], one["resource_type"]
    return {
        **texts,
        "words": words_of(one["action"]),
        "values": values_of(one["changes"]),
        "of_thing": with_query(PATH, {"resource_id": id_}) if id_ else None,
        "of_person": with_query(PATH, {"user_id": one["user_id"]}) if one["user_id"] else None,
        "page": _page_of(kind, id_) if id_ and not str(one["action"]).endswith(".deleted") else None,
        "kind": kind.replace("_", " "),
    }


def _page_of(kind: str, id_: str) -> str | None:
    inside = pipeline_id_of(id_) if kind == "source" else id_
    return PAGES[kind].format(path_part(inside)) if kind in PAGES else None
