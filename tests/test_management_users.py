"""People over the management API: invited, let in, changed, removed; who may do it to whom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from auth_kit import bytes_on_disk, token_of
from datafly_lite.auth import INVITATION_TTL_MS
from datafly_lite.clock import iso_s, new_id
from datafly_lite.errors import AdminError
from datafly_lite.management import audit_logs, users
from datafly_lite.store import accounts
from management_kit import PASSWORD, PASSWORD_HASH, Admin, error_of, running_admin

KEYS = ["id", "email", "name", "role", "status", "last_login_at", "created_at", "updated_at"]
OTHER_PASSWORD = "another horse, another battery"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_admin(
        folder, public_url="https://data.shop.test/", management_rate_limit_rpm=9999
    ) as running:
        yield running


@pytest.fixture
def own_admin(tmp_path: Path) -> Iterator[Admin]:
    """For what changes the owner or the time."""
    with running_admin(tmp_path / "data") as running:
        yield running


def address(word: str = "somebody") -> str:
    return f"{word}-{new_id('x')[-20:]}@example.com"


def add(admin: Admin, role: str, name: str = "") -> str:
    """Somebody active, whom `admin.call(..., role=<their id>)` calls as."""
    fields = {
        "id": new_id("usr"),
        "email": address(role),
        "name": name,
        "role": role,
        "now_ms": admin.clock(),
    }
    row = admin.run(
        admin.services.store.write, accounts.insert_user, {**fields, "password_hash": PASSWORD_HASH}
    )
    user = admin.run(admin.services.authority.login, row["email"], PASSWORD, "127.0.0.1")
    tokens = admin.run(admin.services.authority.issue_tokens, user)
    admin.tokens[user.id] = tokens["access_token"]
    return str(user.id)


def invite(admin: Admin, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = admin.ok("POST", "/users", {"email": address(), "role": "editor", **fields})
    return made


def accept(admin: Admin, invited: dict[str, Any], **fields: Any) -> Any:
    body = {"token": token_of(invited["invite_url"]), "password": PASSWORD, **fields}
    return admin.call("POST", "/auth/accept-invite", body, role=None)


def log_in(admin: Admin, email: str, password: str = PASSWORD) -> Any:
    return admin.call("POST", "/auth/login", {"email": email, "password": password}, role=None)


def entries(admin: Admin, user_id: str) -> list[tuple[str, dict[str, Any]]]:
    """What the audit log says of somebody, oldest first."""
    filters = {"resource_id": user_id, "resource_type": "user"}
    found = admin.run(partial(audit_logs.list_audit_logs, admin.services, filters=filters))["data"]
    return [(one["action"], one["changes"]) for one in reversed(found)]


# ── Invitations ──────────────────────────────────────────────────────────────────────────────


def test_who_is_invited_chooses_a_password_and_comes_in(admin: Admin) -> None:
    email = address("Ann")
    made = invite(admin, email=f" {email.upper()} ", name="Ann", role="viewer")
    assert list(made) == [*KEYS, "invite_url", "expires_at"]
    assert (made["email"], made["name"], made["role"], made["status"]) == (
        email.lower(),
        "Ann",
        "viewer",
        "invited",
    )
    assert re.fullmatch(r"https://data\.shop\.test/accept-invite\?token=iv_[a-z0-9]{50}", made["invite_url"])
    assert error_of(log_in(admin, email)) == (401, "INVALID_CREDENTIALS")

    assert error_of(accept(admin, made, password="short")) == (422, "VALIDATION_ERROR")
    answer = accept(admin, made)
    assert answer.status == 200
    shown = admin.ok("GET", f"/users/{made['id']}")
    assert answer.json() == shown == {**shown, "status": "active", "name": "Ann", "last_login_at": None}
    assert error_of(accept(admin, made, password=OTHER_PASSWORD)) == (410, "GONE")

    admin.tokens["ann"] = log_in(admin, email).json()["access_token"]
    assert admin.ok("GET", "/auth/me", role="ann")["id"] == made["id"]
    assert admin.error("POST", "/pipelines", {"name": "x"}, role="ann") == (403, "FORBIDDEN")


def test_the_invited_person_may_choose_another_name(admin: Admin) -> None:
    assert accept(admin, invite(admin, name="given"), name="").json()["name"] == "given"
    assert accept(admin, invite(admin, name="given"), name=" chosen ").json()["name"] == "chosen"
    assert error_of(accept(admin, invite(admin), name="x" * 201)) == (422, "VALIDATION_ERROR")


def test_a_link_is_good_for_three_days(own_admin: Admin) -> None:
    admin, start_ms = own_admin, own_admin.clock() // 1000 * 1000
    admin.clock.fixed_ms = start_ms
    made, other = invite(admin), invite(admin)
    assert made["expires_at"] == iso_s(start_ms + INVITATION_TTL_MS)
    admin.clock.fixed_ms = start_ms + INVITATION_TTL_MS - 1
    assert accept(admin, made).status == 200
    admin.clock.fixed_ms += 1
    assert error_of(accept(admin, other)) == (401, "EXPIRED_TOKEN")


def test_a_new_link_ends_the_one_before(admin: Admin) -> None:
    made = invite(admin)
    again = admin.ok("POST", f"/users/{made['id']}/invite-link")
    assert list(again) == list(made)
    assert again["invite_url"] != made["invite_url"]
    assert error_of(accept(admin, made)) == (401, "INVALID_TOKEN")
    assert accept(admin, again).status == 200
    assert admin.error("POST", f"/users/{made['id']}/invite-link") == (409, "CONFLICT")
    assert admin.error("POST", "/users/usr_nobody/invite-link") == (404, "NOT_FOUND")


def test_another_role_leaves_the_link_good(admin: Admin) -> None:
    made = invite(admin)
    admin.ok("PUT", f"/users/{made['id']}", {"role": "viewer", "name": "Ann"})
    shown = accept(admin, made).json()
    assert (shown["role"], shown["name"], shown["status"]) == ("viewer", "Ann", "active")


@pytest.mark.parametrize("token", ["", "iv_", "x" * 200, "\x00"])
def test_another_token_is_no_invitation(admin: Admin, token: str) -> None:
    status, code = admin.error(
        "POST", "/auth/accept-invite", {"token": token, "password": PASSWORD}, role=None
    )
    assert (status, code) == (401, "INVALID_TOKEN")


def test_a_token_of_another_kind_is_no_invitation(admin: Admin) -> None:
    link = admin.run(admin.services.authority.new_sign_in_link, "http://x", admin.users["viewer"].id)
    assert error_of(accept(admin, {"invite_url": link})) == (401, "INVALID_TOKEN")
    assert error_of(accept(admin, {"invite_url": f"/?token={admin.tokens['viewer']}"})) == (
        401,
        "INVALID_TOKEN",
    )


def test_the_link_of_somebody_removed_is_dead_and_the_address_free(admin: Admin) -> None:
    made = invite(admin)
    assert admin.call("DELETE", f"/users/{made['id']}").status == 204
    assert error_of(accept(admin, made)) == (401, "INVALID_TOKEN")
    assert accept(admin, invite(admin, email=made["email"])).status == 200


def test_one_address_is_one_person(admin: Admin) -> None:
    made = invite(admin)
    body = {"email": made["email"].upper(), "role": "viewer"}
    assert admin.error("POST", "/users", body) == (409, "CONFLICT")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@example.com"},
        {"role": "editor"},
        {"email": "nobody", "role": "editor"},
        {"email": "a@b\nc", "role": "editor"},
        {"email": "a" * 300 + "@example.com", "role": "editor"},
        {"email": "a@example.com", "role": "owner"},
        {"email": "a@example.com", "role": "org_admin"},
        {"email": "a@example.com", "role": None},
        {"email": "a@example.com", "role": "editor", "name": "x" * 201},
        {"email": "a@example.com", "role": "editor", "name": "a\nb"},
        {"email": "a@example.com", "role": "editor", "status": "active"},
        {"email": "a@example.com", "role": "editor", "id": "usr_1"},
        {"email": "a@example.com", "role": "editor", "password": PASSWORD},
        {"email": "a@example.com", "role": "editor", "org_id": "org_1"},
    ],
)
def test_what_is_no_invitation_is_refused(admin: Admin, body: Any) -> None:
    assert admin.error("POST", "/users", body) == (422, "VALIDATION_ERROR")


# ── Who may change whom ──────────────────────────────────────────────────────────────────────

FORBIDDEN, CONFLICT, DONE = (403, "FORBIDDEN"), (409, "CONFLICT"), (200, "")


@pytest.mark.parametrize(
    ("by", "target", "change", "expected"),
    [
        ("admin", "viewer", {"role": "editor"}, DONE),
        ("admin", "editor", {"role": "viewer", "name": "New"}, DONE),
        ("admin", "editor", {"status": "disabled"}, DONE),
        ("admin", "editor", {"role": "admin"}, FORBIDDEN),
        ("admin", "editor", {"role": "owner"}, FORBIDDEN),
        ("admin", "admin", {"name": "New"}, FORBIDDEN),
        ("admin", "admin", {"role": "editor"}, FORBIDDEN),
        ("admin", "admin", {"status": "disabled"}, FORBIDDEN),
        ("admin", "itself", {"name": "New"}, DONE),
        ("admin", "itself", {"role": "admin"}, DONE),
        ("admin", "itself", {"role": "viewer"}, DONE),
        ("admin", "itself", {"role": "owner"}, FORBIDDEN),
        ("admin", "owner", {"name": "New"}, FORBIDDEN),
        ("admin", "owner", {"role": "viewer"}, FORBIDDEN),
        ("admin", "owner", {"status": "disabled"}, FORBIDDEN),
        ("owner", "editor", {"role": "admin"}, DONE),
        ("owner", "admin", {"role": "editor"}, DONE),
        ("owner", "admin", {"status": "disabled"}, DONE),
        ("owner", "owner", {"name": "Olivia"}, DONE),
        ("owner", "owner", {"role": "admin"}, CONFLICT),
        ("owner", "owner", {"status": "disabled"}, CONFLICT),
        ("owner", "viewer", {"role": "owner", "status": "disabled"}, CONFLICT),
        ("owner", "invited", {"role": "owner"}, CONFLICT),
        ("owner", "invited", {"status": "active"}, CONFLICT),
        ("owner", "invited", {"status": "disabled"}, CONFLICT),
        ("owner", "invited", {"role": "admin", "status": "invited"}, DONE),
        ("owner", "viewer", {"status": "invited"}, CONFLICT),
        ("editor", "viewer", {"name": "New"}, FORBIDDEN),
        ("viewer", "itself", {"name": "New"}, FORBIDDEN),
    ],
)
def test_who_may_change_whom(
    admin: Admin, by: str, target: str, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    caller = "owner" if by == "owner" else add(admin, by)
    target_id = {"itself": caller, "owner": admin.users["owner"].id}.get(target)
    if target_id is None:
        target_id = invite(admin)["id"] if target == "invited" else add(admin, target)
    before = admin.ok("GET", f"/users/{target_id}")
    answer = admin.call("PUT", f"/users/{target_id}", change, role=caller)
    if expected is DONE:
        assert answer.json() == {**before, **change, "updated_at": answer.json()["updated_at"]}
        assert admin.ok("GET", f"/users/{target_id}") == answer.json()
    else:
        assert error_of(answer) == expected
        assert admin.ok("GET", f"/users/{target_id}") == before


@pytest.mark.parametrize(
    ("by", "target", "expected"),
    [
        ("admin", "viewer", (204, "")),
        ("admin", "admin", FORBIDDEN),
        ("admin", "itself", (204, "")),
        ("admin", "owner", FORBIDDEN),
        ("owner", "admin", (204, "")),
        ("owner", "owner", CONFLICT),
        ("editor", "viewer", FORBIDDEN),
    ],
)
def test_who_may_remove_whom(admin: Admin, by: str, target: str, expected: tuple[int, str]) -> None:
    caller = "owner" if by == "owner" else add(admin, by)
    target_id = {"itself": caller, "owner": admin.users["owner"].id}.get(target) or add(admin, target)
    answer = admin.call("DELETE", f"/users/{target_id}", role=caller)
    is_gone = admin.call("GET", f"/users/{target_id}").status == 404
    assert is_gone is (answer.status == 204)
    assert (answer.status, "" if is_gone else error_of(answer)[1]) == expected


def test_only_the_owner_invites_admins(admin: Admin) -> None:
    body = {"email": address(), "role": "admin"}
    assert admin.error("POST", "/users", body, role="admin") == FORBIDDEN
    made = admin.ok("POST", "/users", body)
    assert admin.error("POST", f"/users/{made['id']}/invite-link", role="admin") == FORBIDDEN
    admin.ok("POST", "/users", {"email": address(), "role": "editor"}, role="admin")


def test_who_was_lowered_while_the_request_was_under_way_changes_nothing(admin: Admin) -> None:
    """The route let them pass as an admin; the transaction looks again."""
    target_id, lowered_id = add(admin, "viewer"), add(admin, "editor")
    with pytest.raises(AdminError) as caught:
        admin.run(users.update_user, admin.services, lowered_id, target_id, {"name": "New"})
    assert caught.value.code == "FORBIDDEN"
    assert admin.ok("GET", f"/users/{target_id}")["name"] == ""


def test_the_owner_hands_over_and_becomes_an_admin(own_admin: Admin) -> None:
    admin, old = own_admin, own_admin.users["owner"]
    heir_id = add(admin, "viewer")
    answer = admin.call("PUT", f"/users/{heir_id}", {"role": "owner"})
    assert (answer.status, answer.json()["role"]) == (200, "owner")
    assert admin.error("GET", "/auth/me") == (401, "INVALID_TOKEN")
    assert admin.error("GET", "/auth/me", role=heir_id) == (401, "INVALID_TOKEN")

    admin.tokens["heir"] = log_in(admin, answer.json()["email"]).json()["access_token"]
    everybody = admin.ok("GET", "/users", role="heir")["data"]
    assert [one["id"] for one in everybody if one["role"] == "owner"] == [heir_id]
    assert [one["role"] for one in everybody if one["id"] == old.id] == ["admin"]
    admin.tokens["owner"] = admin.tokens["heir"]
    assert (
        "user.updated",
        {"role": {"old": "viewer", "new": "owner"}, "previous_owner": {"old": None, "new": old.email}},
    ) in entries(admin, heir_id)


def test_fields_that_never_change(admin: Admin) -> None:
    user_id = add(admin, "editor")
    before = admin.ok("GET", f"/users/{user_id}")
    assert {**admin.ok("PUT", f"/users/{user_id}", before), "updated_at": ""} == {**before, "updated_at": ""}
    for wrong in (
        {"email": "other@example.com"},
        {"id": "usr_other"},
        {"created_at": "2020-01-01T00:00:00Z"},
        {"password": PASSWORD},
        {"password_hash": PASSWORD_HASH},
        {"role": "superuser"},
        {"status": "gone"},
        {"name": None},
    ):
        assert admin.error("PUT", f"/users/{user_id}", wrong) == (422, "VALIDATION_ERROR"), wrong
    assert admin.error("PUT", "/users/usr_nobody", {"name": "x"}) == (404, "NOT_FOUND")


# ── What ends ────────────────────────────────────────────────────────────────────────────────


def ways_in(admin: Admin, user_id: str) -> dict[str, bool]:
    """Which ways in still work: of those that `open_ways` opened."""
    access, refresh, session, key = WAYS[user_id]
    admin.tokens["way"] = access
    by_token = admin.call("GET", "/pipelines", role="way").status == 200
    admin.tokens["way"] = key
    by_key = admin.call("GET", "/pipelines", role="way").status == 200
    by_session = admin.run(admin.services.authority.user_of_session, session) is not None
    by_refresh = admin.call("POST", "/auth/refresh", {"refresh_token": refresh}, role=None).status == 200
    return {"token": by_token, "session": by_session, "refresh": by_refresh, "key": by_key}


WAYS: dict[str, tuple[str, str, str, str]] = {}


def open_ways(admin: Admin, role: str) -> str:
    user_id = add(admin, "admin")
    key = admin.ok("POST", "/api-keys", {"name": "k", "role": "viewer"}, role=user_id)["key"]
    if role != "admin":
        admin.ok("PUT", f"/users/{user_id}", {"role": role})
    user = admin.run(admin.services.store.read, accounts.user, user_id)
    known = admin.run(admin.services.authority.login, user["email"], PASSWORD, "127.0.0.1")
    tokens = admin.run(admin.services.authority.issue_tokens, known)
    session = admin.run(admin.services.authority.open_session, known)
    WAYS[user_id] = (tokens["access_token"], tokens["refresh_token"], session, key)
    return user_id


def test_a_new_name_ends_nothing(admin: Admin) -> None:
    user_id = open_ways(admin, "editor")
    admin.ok("PUT", f"/users/{user_id}", {"name": "New", "role": "editor", "status": "active"})
    assert all(ways_in(admin, user_id).values())


def test_a_new_role_ends_sessions_and_tokens_and_leaves_keys(admin: Admin) -> None:
    user_id = open_ways(admin, "editor")
    admin.ok("PUT", f"/users/{user_id}", {"role": "viewer"})
    assert ways_in(admin, user_id) == {"token": False, "session": False, "refresh": False, "key": True}


def test_who_is_disabled_is_out_at_once_and_for_good(admin: Admin) -> None:
    user_id = open_ways(admin, "editor")
    email = admin.ok("PUT", f"/users/{user_id}", {"status": "disabled"})["email"]
    assert not any(ways_in(admin, user_id).values())
    assert error_of(log_in(admin, email)) == (401, "INVALID_CREDENTIALS")
    admin.ok("PUT", f"/users/{user_id}", {"status": "active"})
    assert not any(ways_in(admin, user_id).values()), "what was ended came back"
    assert log_in(admin, email).status == 200


def test_who_is_removed_is_out_at_once(admin: Admin) -> None:
    user_id = open_ways(admin, "editor")
    assert admin.call("DELETE", f"/users/{user_id}").status == 204
    assert not any(ways_in(admin, user_id).values())
    assert admin.error("DELETE", f"/users/{user_id}") == (404, "NOT_FOUND")
    left = admin.run(admin.services.store.read, _left_of, user_id)
    assert left == 0


def _left_of(connection: Any, user_id: str) -> int:
    tables = (("users", "id"), ("tokens", "subject"), ("api_keys", "user_id"))
    texts = [f"SELECT count(*) FROM {table} WHERE {column} = ?" for table, column in tables]
    return sum(connection.execute(text, (user_id,)).fetchone()[0] for text in texts)


# ── Lists, and the audit log ─────────────────────────────────────────────────────────────────


def test_pages_stay_while_people_come_and_go(own_admin: Admin) -> None:
    admin = own_admin
    made = [invite(admin)["id"] for _ in range(6)]
    first = admin.ok("GET", "/users?limit=6")
    seen = [one["id"] for one in first["data"]]
    assert (len(seen), first["has_more"]) == (6, True)
    admin.call("DELETE", f"/users/{seen[-1]}")
    admin.call("DELETE", f"/users/{made[-1]}")
    added = invite(admin)["id"]
    rest = admin.ok("GET", f"/users?limit=100&cursor={first['next_cursor']}")
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
    assert [one["id"] for one in rest["data"]] == [*made[2:-1], added]
    assert [one["email"] for one in first["data"][:4]] == [
        f"{role}@example.com" for role in ("viewer", "editor", "admin", "owner")
    ]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=eyJpZCI6LTF9"])
def test_a_page_that_is_none(admin: Admin, query: str) -> None:
    assert admin.error("GET", f"/users?{query}") == (422, "VALIDATION_ERROR")
    assert admin.error("GET", f"/api-keys?{query}") == (422, "VALIDATION_ERROR")


def test_each_change_is_in_the_audit_log_and_no_secret(own_admin: Admin, tmp_path: Path) -> None:
    admin = own_admin
    made = invite(admin, name="Ann")
    again = admin.ok("POST", f"/users/{made['id']}/invite-link")
    accept(admin, again, password=OTHER_PASSWORD)
    admin.ok("PUT", f"/users/{made['id']}", {"role": "viewer"})
    admin.ok("PUT", f"/users/{made['id']}", {"role": "viewer"})
    admin.call("DELETE", f"/users/{made['id']}")
    told = entries(admin, made["id"])
    actions = ["invited", "invited", "updated", "updated", "deleted"]
    assert [action for action, _ in told] == [f"user.{action}" for action in actions]
    assert told[2][1]["status"] == {"old": "invited", "new": "active"}
    assert told[3][1] == {"role": {"old": "editor", "new": "viewer"}}
    secrets = [token_of(made["invite_url"]), token_of(again["invite_url"]), OTHER_PASSWORD]
    kept = bytes_on_disk(tmp_path / "data")
    for secret in secrets:
        assert secret not in json.dumps(told)
        assert secret.encode() not in kept
