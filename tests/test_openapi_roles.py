"""The role matrix, drawn from the document: every operation as everybody, and what did not happen.

Also that every answer has exactly the fields that the document gives it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from datafly_lite.clock import new_id
from datafly_lite.management.openapi import document
from datafly_lite.management.routes import OPERATIONS, PREFIX
from datafly_lite.store import accounts
from kit import Answer
from management_kit import PASSWORD, PASSWORD_HASH, ROLES, Admin, error_of, running_admin
from test_management_roles import REFUSED_FOR_ANOTHER_REASON, Things

DOCUMENT = json.loads(json.dumps(document(PREFIX, OPERATIONS)))
LINES = {one.operation_id: one for one in OPERATIONS}
ALL = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]
GUARDED = [
    operation
    for path, methods in DOCUMENT["paths"].items()
    for operation in methods.values()
    if path.startswith(PREFIX) and operation["security"]
]
WITH_IDS = [one for one in GUARDED if any(p["in"] == "path" for p in one["parameters"])]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("matrix") / "data"
    with running_admin(folder, management_rate_limit_rpm=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def things(admin: Admin) -> Things:
    """For the calls that change nothing."""
    return Things(admin)


def role_of(operation: dict[str, Any]) -> str:
    [requirement] = operation["security"]
    [role] = requirement["token"]
    return str(role)


def checksums(admin: Admin) -> dict[str, str]:
    """Of every table that there is."""
    found: dict[str, str] = admin.run(admin.services.store.read, _checksums)
    return found


def _checksums(connection: Any) -> dict[str, str]:
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: hashlib.sha256(
            repr([tuple(row) for row in connection.execute(f"SELECT * FROM {name}")]).encode()
        ).hexdigest()
        for name in names
    }


def called(admin: Admin, operation: dict[str, Any], things: Things, role: str | None) -> Answer:
    line = LINES[operation["operationId"]]
    return admin.call(line.method, things.path(line), things.body(line), role=role)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one["operationId"])
def test_nobody_and_lesser_roles_change_nothing(
    admin: Admin, things: Things, operation: dict[str, Any]
) -> None:
    before = checksums(admin)
    answer = called(admin, operation, things, None)
    assert error_of(answer) == (401, "INVALID_TOKEN")
    assert_as_documented(operation, answer)
    for role in ROLES[: ROLES.index(role_of(operation))]:
        answer = called(admin, operation, things, role)
        assert error_of(answer) == (403, "FORBIDDEN"), role
        assert_as_documented(operation, answer)
    assert checksums(admin) == before


@pytest.mark.parametrize("operation", WITH_IDS, ids=lambda one: one["operationId"])
def test_an_id_that_is_not_there_changes_nothing(
    admin: Admin, things: Things, operation: dict[str, Any]
) -> None:
    line = LINES[operation["operationId"]]
    path = line.path.replace(":path}", "}")
    for name in line.path_parameters:
        path = path.replace(f"{{{name}}}", new_id("none"))
    before = checksums(admin)
    answer = admin.call(line.method, path, things.body(line))
    assert error_of(answer) == (404, "NOT_FOUND")
    assert_as_documented(operation, answer)
    assert checksums(admin) == before


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one["operationId"])
def test_somebody_disabled_is_nobody(admin: Admin, things: Things, operation: dict[str, Any]) -> None:
    if "disabled" not in admin.tokens:
        add_user(admin, "disabled", "admin")
        admin.ok("PUT", f"/users/{admin.users['disabled'].id}", {"status": "disabled"})
    before = checksums(admin)
    assert error_of(called(admin, operation, things, "disabled")) == (401, "INVALID_TOKEN")
    assert checksums(admin) == before


# ── What is allowed ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: one["operationId"])
def test_the_least_role_gets_what_the_document_says(admin: Admin, operation: dict[str, Any]) -> None:
    """As another user with this role: what one user made is there for all of them."""
    role, name = role_of(operation), f"another {role_of(operation)}"
    if name not in admin.tokens:
        add_user(admin, name, role)
    answer = called(admin, operation, Things(admin), name)
    others = REFUSED_FOR_ANOTHER_REASON.get(LINES[operation["operationId"]].path, ())
    assert answer.status in (200, 201, 204, *others), answer.body
    assert_as_documented(operation, answer)
    if operation["operationId"] == "logout":
        del admin.tokens[name]
    for one in ROLES:
        assert admin.call("GET", "/auth/me", role=one).status == 200, "another user's log-in ended"


def test_the_ways_in_answer_as_the_document_says(admin: Admin, tmp_path: Path) -> None:
    with running_admin(tmp_path / "empty", users=False) as empty:
        link = empty.run(empty.services.authority.new_setup_link, empty.base_url)
        owner = {"token": link.partition("token=")[2], "email": "ada@example.com", "password": PASSWORD}
        told(empty, "set_up", owner, 201)
        told(empty, "set_up", owner, 410)
        tokens = told(empty, "login", {"email": owner["email"], "password": PASSWORD}, 200)
        told(empty, "login", {"email": owner["email"], "password": "wrong"}, 401)
        told(empty, "refresh", {"refresh_token": tokens["refresh_token"]}, 200)
        told(empty, "refresh", {"refresh_token": tokens["refresh_token"]}, 401)
    invited = admin.ok("POST", "/users", {"email": "grace@example.com", "role": "viewer"})
    accepted = {"token": invited["invite_url"].partition("token=")[2], "password": PASSWORD}
    told(admin, "accept_invite", accepted, 200)
    told(admin, "accept_invite", accepted, 410)


def told(admin: Admin, operation_id: str, body: Any, status: int) -> Any:
    """The answer of somebody who is not logged in, which must have this status."""
    answer = admin.call("POST", LINES[operation_id].path, body, role=None)
    assert answer.status == status, answer.body
    [operation] = [one for one in ALL if one["operationId"] == operation_id]
    assert_as_documented(operation, answer)
    return answer.json()


def add_user(admin: Admin, name: str, role: str) -> None:
    """Somebody else with this role; `call(role=name)` is them."""

    async def add() -> None:
        email = f"{new_id('x')}@example.com"
        fields = {"id": new_id("usr"), "email": email, "name": name, "role": role}
        secret = {"password_hash": PASSWORD_HASH, "now_ms": admin.clock()}
        await admin.services.store.write(accounts.insert_user, {**fields, **secret})
        user = await admin.services.authority.login(email, PASSWORD, "127.0.0.1")
        admin.users[name] = user
        admin.tokens[name] = (await admin.services.authority.issue_tokens(user))["access_token"]

    admin.run(add)


# ── Answers against the document ─────────────────────────────────────────────────────────────


def assert_as_documented(operation: dict[str, Any], answer: Answer) -> None:
    """Status, headers, and a body of exactly the documented fields."""
    said = operation["responses"][str(answer.status)]
    if "$ref" in said:
        said = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]]
    assert all(answer.headers[name] for name in said.get("headers", {}))
    if "content" not in said:
        assert not answer.body
        return
    [(media_type, content)] = said["content"].items()
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    if media_type == "application/json":
        components = closed(DOCUMENT["components"])
        validator = jsonschema_rs.Draft202012Validator({**content["schema"], "components": components})
        assert [str(error) for error in validator.iter_errors(answer.json())] == []


def closed(components: dict[str, Any]) -> dict[str, Any]:
    """With no field but those that are told."""
    strict = copy.deepcopy(components)
    for schema in strict["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return strict
