"""API keys: what programs call the management API with, each shown once."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from datafly_lite.auth import ROLES
from datafly_lite.clock import iso_s
from datafly_lite.errors import AdminError
from datafly_lite.management import api_keys
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.visit import Visit, with_query

PATH = "/api-keys"
PAGE_SIZE = 50
FIELDS = ("name", "role", "expires_at")
DAY_MS = 86_400_000
LIVES = (("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "no end"))
"""How many days a key may live, in words."""

LABELS = {"expires_at": "Ends after"}
ROLE_WORDS = {
    "viewer": "Viewer: reads, changes nothing",
    "editor": "Editor: makes and changes pipelines, integrations and sources",
    "admin": "Admin: also deletes, and reads people and the audit log",
    "owner": "Owner: whatever a program may do",
}


async def show_list(visit: Visit) -> Response:
    """Everybody's, oldest first."""
    cursor = visit.query("cursor")
    found = await api_keys.list_api_keys(visit.services, cursor=cursor or None, limit=PAGE_SIZE)
    now = iso_s(visit.services.clock())
    keys = [
        {**one, "has_expired": one["expires_at"] is not None and one["expires_at"] <= now}
        for one in found["data"]
    ]
    return visit.page(
        "api_keys.html",
        keys=keys,
        is_first=not cursor,
        more=with_query(PATH, {"cursor": found["next_cursor"] or ""}) if found["has_more"] else "",
    )


async def show_new(visit: Visit) -> Response:
    """The form of a new one."""
    return _form_page(visit, Form([("role", "viewer"), ("expires_at", "90")]), Problems())


async def create(visit: Visit) -> Response:
    """Make it, and show it this once."""
    form = await visit.form()
    fields = {"name": form.word("name"), "role": form.word("role"), "expires_at": _end_of(visit, form)}
    try:
        made = await api_keys.create_api_key(visit.services, visit.somebody.id, fields)
    except AdminError as error:
        return _form_page(visit, form, problems_of(error, FIELDS), error.status)
    return visit.page("api_key_made.html", made=made, base_url=visit.services.settings.base_url)


async def confirm_delete(visit: Visit) -> Response:
    """Say what deleting does, and ask."""
    key = await api_keys.get_api_key(visit.services, visit.path("key_id"))
    return visit.page(
        "confirm.html",
        heading="Delete the API key",
        text=f"Programs that use {key['name']} ({key['prefix']}…) are refused at once, and the key never "
        "comes back.",
        action=f"{PATH}/{key['id']}/delete",
        button="Delete the API key",
        back=PATH,
    )


async def delete(visit: Visit) -> Response:
    """Delete it."""
    await api_keys.delete_api_key(visit.services, visit.somebody.id, visit.path("key_id"))
    return visit.go(PATH, "key-deleted")


def _end_of(visit: Visit, form: Form) -> Any:
    """When the chosen life is over; what is no choice of the form is left to the checks."""
    days = form.word("expires_at")
    if days not in dict(LIVES):
        return days
    return iso_s(visit.services.clock() + int(days) * DAY_MS) if days else None


def _form_page(visit: Visit, form: Form, problems: Problems, status: int = 200) -> Response:
    roles = [(role, ROLE_WORDS[role]) for role in ROLES if visit.can(role)]
    return visit.page(
        "api_key_new.html", status, form=form, problems=problems, labels=LABELS, roles=roles, lives=LIVES
    )
