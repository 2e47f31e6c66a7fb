"""People: who may come in, with what role; their invitations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from datafly_lite.auth import INVITATION_TTL_MS, ROLES, User
from datafly_lite.auth_passwords import SHORTEST
from datafly_lite.errors import AdminError
from datafly_lite.management import users
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.sessions import LINK_CODES, bad_link, let_in
from datafly_lite.ui.visit import Visit, with_query

PATH = "/users"
PAGE_SIZE = 50
FIELDS = ("email", "name", "role", "status")
LABELS = {"email": "E-mail address"}

ROLE_WORDS = {
    "viewer": "Viewer: sees everything, changes nothing",
    "editor": "Editor: makes and changes pipelines, integrations and sources",
    "admin": "Admin: also deletes, and manages people and API keys",
    "owner": "Owner",
}


async def show_list(visit: Visit) -> Response:
    """All of them, in the order they were invited."""
    cursor = visit.query("cursor")
    found = await users.list_users(visit.services, cursor=cursor or None, limit=PAGE_SIZE)
    return visit.page(
        "users.html",
        people=[{**one, "can_change": _can_change(visit.somebody, one)} for one in found["data"]],
        is_first=not cursor,
        more=with_query(PATH, {"cursor": found["next_cursor"] or ""}) if found["has_more"] else "",
    )


def _can_change(visitor: User, person: Mapping[str, Any]) -> bool:
    return users.is_within_reach(visitor.role, visitor.id, person["role"], person["id"])


# ── Invitations ──────────────────────────────────────────────────────────────────────────────


async def show_invite(visit: Visit) -> Response:
    """The form for somebody new."""
    return _invite_page(visit, Form([("role", "viewer")]), Problems())


async def invite(visit: Visit) -> Response:
    """Invite them, and show the link."""
    form = await visit.form()
    fields = {name: form.word(name) for name in ("email", "name", "role")}
    try:
        made = await users.invite(visit.services, visit.somebody.id, fields)
    except AdminError as error:
        return _invite_page(visit, form, problems_of(error, FIELDS), error.status)
    return _link_page(visit, made)


async def invite_again(visit: Visit) -> Response:
    """A new link for somebody who has not come yet."""
    return _link_page(
        visit, await users.invite_again(visit.services, visit.somebody.id, visit.path("user_id"))
    )


def _invite_page(visit: Visit, form: Form, problems: Problems, status: int = 200) -> Response:
    below = [role for role in users.GIVEN if visit.can("owner") or ROLES.index(role) < ROLES.index("admin")]
    choices = [(role, ROLE_WORDS[role]) for role in below]
    return visit.page("user_invite.html", status, form=form, problems=problems, labels=LABELS, roles=choices)


def _link_page(visit: Visit, made: Mapping[str, Any]) -> Response:
    return visit.page(
        "user_invited.html",
        person=made,
        hours=INVITATION_TTL_MS // 3_600_000,
        is_local=not visit.services.settings.public_url,
    )


async def show_invitation(visit: Visit) -> Response:
    """The form of who was invited, or why the link is no good and what to do."""
    token = visit.query("token")
    try:
        person = await visit.services.authority.check_invitation(token)
    except AdminError as error:
        return bad_link(visit, error)
    return _acceptance_page(visit, person, Form([("token", token), ("name", person.name)]), Problems())


async def accept_invitation(visit: Visit) -> Response:
    """Take the password and let them in."""
    form, authority = await visit.form(), visit.services.authority
    token = form.word("token")
    try:
        person = await authority.check_invitation(token)
    except AdminError as error:
        return bad_link(visit, error)
    try:
        user = await authority.accept_invitation(token, form.text("password"), form.word("name"))
    except AdminError as error:
        if error.code in LINK_CODES:
            return bad_link(visit, error)
        problems = problems_of(error, ("password", "name"))
        return _acceptance_page(visit, person, form, problems, error.status)
    return await let_in(visit, user, "/")


def _acceptance_page(
    visit: Visit, person: User, form: Form, problems: Problems, status: int = 200
) -> Response:
    return visit.page(
        "accept_invite.html", status, person=person, form=form, problems=problems, shortest=SHORTEST
    )


# ── Changing and removing somebody ───────────────────────────────────────────────────────────


async def _find(visit: Visit) -> dict[str, Any]:
    """Raises FORBIDDEN for somebody whom the visitor may not change."""
    person = await users.get_user(visit.services, visit.path("user_id"))
    if not _can_change(visit.somebody, person):
        raise AdminError("FORBIDDEN", f"somebody with the role {person['role']} is changed by the owner only")
    return person


async def show_edit(visit: Visit) -> Response:
    """The form, filled by the person."""
    person = await _find(visit)
    return _edit_page(visit, person, _form_of(person), Problems())


async def save(visit: Visit) -> Response:
    """Change them."""
    person, form = await _find(visit), await visit.form()
    fields: dict[str, Any] = {"name": form.word("name")}
    if person["role"] != "owner":
        fields["role"] = form.word("role")
    if _has_switch(visit.somebody, person):
        fields["status"] = "active" if form.ticked("active") else "disabled"
    try:
        await users.update_user(visit.services, visit.somebody.id, person["id"], fields)
    except AdminError as error:
        return _edit_page(visit, person, form, problems_of(error, FIELDS), error.status)
    return visit.go(PATH, "saved")


async def confirm_delete(visit: Visit) -> Response:
    """Say what removing does, and ask."""
    person = await _find(visit)
    is_self = person["id"] == visit.somebody.id
    return visit.page(
        "confirm.html",
        heading="Remove yourself" if is_self else f"Remove {person['name'] or person['email']}",
        text="All sessions, tokens and API keys of this person end at once, and the programs that use the "
        "keys stop working. What they made stays, and so does what the audit log says of them. "
        + ("" if person["status"] == "invited" else "To shut them out for a while, disable them instead."),
        action=f"{PATH}/{person['id']}/delete",
        button="Remove",
        back=PATH,
    )


async def delete(visit: Visit) -> Response:
    """Remove them."""
    await users.delete_user(visit.services, visit.somebody.id, visit.path("user_id"))
    return visit.go(PATH, "person-removed")


async def confirm_hand_over(visit: Visit) -> Response:
    """Say what handing over does, and ask."""
    person = await _find(visit)
    return visit.page(
        "confirm.html",
        heading=f"Make {person['name'] or person['email']} the owner",
        text=f"There is one owner: you become an admin, and only {person['email']} can give this back. "
        "Both of you are signed out and log in again.",
        action=f"{PATH}/{person['id']}/owner",
        button="Hand over",
        back=f"{PATH}/{person['id']}",
    )


async def hand_over(visit: Visit) -> Response:
    """Make them the owner, which signs the visitor out."""
    user_id = visit.path("user_id")
    await users.update_user(visit.services, visit.somebody.id, user_id, {"role": "owner"})
    return visit.go("/login", "handed-over")


def _form_of(person: Mapping[str, Any]) -> Form:
    values = [("name", person["name"]), ("role", person["role"])]
    return Form([*values, *([("active", "on")] if person["status"] == "active" else [])])


def _has_switch(visitor: User, person: Mapping[str, Any]) -> bool:
    """Whether it makes sense to shut them out: not oneself, the owner, or who has not come yet."""
    return (
        person["id"] != visitor.id
        and person["role"] != "owner"
        and person["status"] in ("active", "disabled")
    )


def _roles_for(visitor: User, person: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the visitor may make of them; the owner is made by handing over."""
    given = [role for role in users.GIVEN if users.can_give(visitor.role, role) or role == person["role"]]
    return [(role, ROLE_WORDS[role]) for role in given]


def _edit_page(
    visit: Visit, person: Mapping[str, Any], form: Form, problems: Problems, status: int = 200
) -> Response:
    return visit.page(
        "user_form.html",
        status,
        person=person,
        form=form,
        problems=problems,
        roles=_roles_for(visit.somebody, person),
        has_switch=_has_switch(visit.somebody, person),
        is_self=person["id"] == visit.somebody.id,
    )
