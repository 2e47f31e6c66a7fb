"""Visitors: found by their ids, with all that is known of each, and unlinked from a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from datafly_lite.clock import iso
from datafly_lite.errors import AdminError
from datafly_lite.management import identities
from datafly_lite.management.schemas_identities import ConsentChangeOfIdentity, IdentityDetail
from datafly_lite.store.identities import MOST_CONSENT_CHANGES, MOST_LINKS
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.refused_events import visible
from datafly_lite.ui.templating import path_part
from datafly_lite.ui.visit import Visit, with_query

PATH = "/identities"
FILTERS = ("user_id", "anonymous_id", "group_id")
PAGE_SIZE = 50
BY_ID = "id"
"""In `order`: all visitors, page by page; else those of the newest events."""

FEW_ROWS = 10
"""So many are shown at once; more are folded."""

WORDS = {True: "granted", False: "denied", None: "unknown"}


class ChoiceChange(NamedTuple):
    """A category whose choice became another one, in words."""

    category: str
    before: str
    after: str


async def show_list(visit: Visit) -> Response:
    """Who was there last; with filters, or asked for in order, all there are, by their ids."""
    filters, problems = visit.filters(*FILTERS), Problems()
    is_filtered, cursor = any(filters.values()), visit.query("cursor")
    is_walk = is_filtered or bool(cursor) or visit.query("order") == BY_ID
    recent = [] if is_walk else await identities.recent_identities(visit.services, PAGE_SIZE)
    is_walk = not recent  # the newest events may be nobody's
    found: dict[str, Any] = {"data": recent, "next_cursor": None}
    try:
        found = await _find(visit, filters) if is_walk else found
    except AdminError as error:
        problems = problems_of(error, FILTERS)
    asked = {**filters, "order": BY_ID if is_walk and not is_filtered else ""}
    return visit.page(
        "identities.html",
        422 if problems else 200,
        filters=filters,
        is_filtered=is_filtered,
        is_walk=is_walk,
        is_asked=is_filtered or bool(cursor),
        is_first=not cursor,
        problems=problems,
        visible=visible,
        visitors=msgspec.to_builtins(found["data"]),
        first=with_query(PATH, asked),
        more=with_query(PATH, {**asked, "cursor": found["next_cursor"]}) if found["next_cursor"] else "",
        everybody=with_query(PATH, {"order": BY_ID}),
    )


async def _find(visit: Visit, filters: Mapping[str, str]) -> dict[str, Any]:
    cursor = visit.query("cursor") or None
    return await identities.list_identities(visit.services, filters=filters, cursor=cursor, limit=PAGE_SIZE)


# ── One visitor ──────────────────────────────────────────────────────────────────────────────


async def show(visit: Visit) -> Response:
    """All that is known of a visitor."""
    found = await identities.get_identity(visit.services, visit.path("anonymous_id"))
    now = iso(visit.services.clock())
    return visit.page(
        "identity.html",
        visitor=_shown(found),
        expired={name for name, one in found.vendor_ids.items() if one.expires_at and one.expires_at <= now},
        events=with_query("/live", {"anonymous_id": found.anonymous_id}),
        same_user=with_query(PATH, {"user_id": found.user_id or ""}),
        same_group=with_query(PATH, {"group_id": found.group_id or ""}),
        words=WORDS,
        visible=visible,
        few=FEW_ROWS,
        most_links=MOST_LINKS,
        most_changes=MOST_CONSENT_CHANGES,
    )


def _shown(found: IdentityDetail) -> dict[str, Any]:
    """Each change of consent with what is another choice after it, each link with where it is undone."""
    shown: dict[str, Any] = msgspec.to_builtins(found)
    for change, one in zip(shown["consent_changes"], found.consent_changes, strict=True):
        change["choices"] = choice_changes(one)
    for link in shown["links"]:
        link["unlink"] = _unlink_path(found.anonymous_id, link["user_id"])
    return shown


def choice_changes(change: ConsentChangeOfIdentity) -> list[ChoiceChange]:
    """What is another choice after it, by category."""
    names = sorted({**change.before, **change.after})
    words = [(name, WORDS[change.before.get(name)], WORDS[change.after.get(name)]) for name in names]
    return [ChoiceChange(*one) for one in words if one[1] != one[2]]


def _unlink_path(anonymous_id: str, user_id: str) -> str:
    return with_query(f"{PATH}/{path_part(anonymous_id)}/unlink", {"user_id": user_id})


async def confirm_unlink(visit: Visit) -> Response:
    """Say what it does and what not, and ask."""
    user_id = visit.query("user_id")
    found = await identities.get_identity(visit.services, visit.path("anonymous_id"))
    link = next((one for one in found.links if one.user_id == user_id and one.unlinked_at is None), None)
    if link is None:
        raise AdminError("NOT_FOUND", "there is no such link")
    return visit.page(
        "confirm.html",
        heading="Undo this link",
        text=visible(_consequences(found, user_id, is_current=link.is_current)),
        action=f"{PATH}/{path_part(found.anonymous_id)}/unlink",
        button="Undo the link",
        back=f"{PATH}/{path_part(found.anonymous_id)}",
        hidden=[("user_id", user_id)],
    )


def _consequences(visitor: IdentityDetail, user_id: str, *, is_current: bool) -> str:
    if not is_current:
        return (
            f"The visitor was the user {user_id} once. The link is marked as undone; who the visitor is now, "
            f"{visitor.user_id or 'nobody known'}, stays. Events that were taken keep what they say."
        )
    group = f" and not the group {visitor.group_id}" if visitor.group_id else ""
    return (
        f"The visitor's next events no longer get the user {user_id}{group}, until one identifies the "
        "visitor again. An event that names a user itself keeps it; the collector does, until its page "
        "calls reset(). Events that were taken stay as they are, also those that wait to be sent, and "
        "vendors keep what they got. The user's traits and other visitors stay."
    )


async def unlink(visit: Visit) -> Response:
    """Undo it."""
    form, anonymous_id = await visit.form(), visit.path("anonymous_id")
    await identities.unlink(visit.services, anonymous_id, form.text("user_id"))
    return visit.go(f"{PATH}/{path_part(anonymous_id)}", "unlinked")
