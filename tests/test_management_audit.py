"""The audit log over HTTP: every change of the API leaves its entry, a refused one none, a secret never."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.store.audit_logs import KEPT_FOR_MS
from kit import request
from management_kit import PASSWORD, Admin, error_of, running_admin

MANAGEMENT = Path(__file__).parent.parent / "datafly_lite" / "management"
FIELDS = [
    *("id", "action", "user_id", "user_email", "resource_type", "resource_id"),
    *("changes", "ip_address", "user_agent", "timestamp"),
]
GA4 = {"measurement_id": "G-ABC1234567", "api_secret": "first-planted-secret"}
AGENT = {"User-Agent": "audit-test/1.0"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("audit") / "data"
    with running_admin(folder, management_rate_limit_rpm=100_000) as running:
        yield running


def entries(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    """Newest first."""
    found: list[dict[str, Any]] = admin.ok("GET", f"/audit-logs?limit=100{query}", role="admin")["data"]
    return found


def count(admin: Admin) -> int:
    """Of all entries that there are."""
    return int(admin.run(admin.services.store.read, _count))


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM audit_logs").fetchone()[0])


def told(admin: Admin, id_: str) -> list[tuple[str, dict[str, Any]]]:
    """(action, changes) of all entries about this thing, oldest first."""
    return [(one["action"], one["changes"]) for one in reversed(entries(admin, f"&resource_id={id_}"))]


def pipeline(admin: Admin, name: str = "Audited", **fields: Any) -> str:
    return str(admin.ok("POST", "/pipelines", {"name": name, **fields}, role="editor")["id"])


def integration(admin: Admin, name: str) -> dict[str, Any]:
    fields = {"name": name, "vendor": "ga4", "config": GA4}
    made: dict[str, Any] = admin.ok("POST", "/integration-templates", fields, role="editor")
    return made


# ── What is told ─────────────────────────────────────────────────────────────────────────────


def test_an_entry_has_the_documented_fields(admin: Admin) -> None:
    body = json.dumps({"name": "Fields"}).encode()
    made = admin.send("POST", "/pipelines", body, role="editor", headers=AGENT).json()
    entry = entries(admin)[0]
    assert list(entry) == FIELDS
    assert re.fullmatch(r"log_[0-9a-f]{32}", entry["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["timestamp"])
    editor = admin.users["editor"]
    assert {name: entry[name] for name in FIELDS[1:6]} == {
        "action": "pipeline.created",
        "user_id": editor.id,
        "user_email": editor.email,
        "resource_type": "pipeline",
        "resource_id": made["id"],
    }
    assert (entry["ip_address"], entry["user_agent"]) == ("127.0.0.1", "audit-test/1.0")


def test_the_life_of_a_pipeline(admin: Admin) -> None:
    id_ = pipeline(admin, "Life", labels=["env:test"])
    admin.ok("PUT", f"/pipelines/{id_}", {"name": "Renamed", "config": {"a": 1}}, role="editor")
    rotated = admin.ok("POST", f"/pipelines/{id_}/rotate-secret", role="admin")
    token = admin.ok("POST", f"/pipelines/{id_}/tokens", role="editor")
    admin.ok("POST", f"/pipelines/{id_}/collector/build", role="editor")
    admin.ok("DELETE", f"/pipelines/{id_}", role="admin")
    found = told(admin, id_)
    assert [action.removeprefix("pipeline.") for action, _ in found] == [
        *("created", "updated", "secret_rotated", "token_created", "collector_built", "deleted"),
    ]
    created, updated, rotation, token_created, built, deleted = (changes for _, changes in found)
    assert created["name"] == {"old": None, "new": "Life"}
    assert created["labels"] == {"old": None, "new": ["env:test"]}
    assert updated == {"name": {"old": "Life", "new": "Renamed"}, "config": {"old": {}, "new": {"a": 1}}}
    assert rotation["pipeline_key_secret"] == {"old": "***", "new": "*** (changed)"}
    assert rotation["pipeline_key_secret_prefix"]["new"] == rotated["pipeline_key_secret_prefix"]
    assert token_created == {"expires_at": {"old": None, "new": token["expires_at"]}}
    assert built == {}
    assert deleted["name"] == {"old": "Renamed", "new": None}
    log = json.dumps(found)
    assert rotated["pipeline_key_secret"] not in log
    assert token["token"] not in log


def test_the_life_of_an_integration(admin: Admin) -> None:
    made = integration(admin, "Life of one")
    revisions = f"/integration-templates/{made['id']}/revisions"
    kept = {**GA4, "api_secret": "***", "measurement_id": "G-ZZZ1234567"}
    second = admin.ok("POST", revisions, {"config": kept, "change_summary": "Moved"}, role="editor")
    other = {"config": {**kept, "api_secret": "second-planted-secret"}}
    third = admin.ok("POST", revisions, other, role="editor")
    admin.ok("DELETE", f"/integration-templates/{made['id']}", role="admin")

    created, deleted = told(admin, made["id"])
    assert (created[0], deleted[0]) == ("integration.created", "integration.deleted")
    assert created[1]["revision"]["new"]["config"]["api_secret"] == "***"
    [(action, changes)] = told(admin, second["id"])
    assert action == "revision.created"
    assert changes["integration_id"] == {"old": made["id"], "new": made["id"]}
    assert changes["revision_number"] == {"old": 1, "new": 2}
    assert changes["change_summary"] == {"old": "", "new": "Moved"}
    assert [changes["config"][side]["measurement_id"] for side in ("old", "new")] == [
        "G-ABC1234567",
        "G-ZZZ1234567",
    ]
    assert "config.api_secret" not in changes, "it was kept"
    [(_, changes)] = told(admin, third["id"])
    assert changes["config.api_secret"] == {"old": "***", "new": "*** (changed)"}
    assert "config" not in changes, "nothing else is another"


def test_the_life_of_an_attachment(admin: Admin) -> None:
    id_, made = pipeline(admin), integration(admin, "Attached")
    attachments = f"/pipelines/{id_}/integrations"
    attached = admin.ok("POST", attachments, {"integration_id": made["id"]}, role="editor")["id"]
    admin.ok("PUT", f"{attachments}/{attached}", {"mode": "paused"}, role="editor")
    admin.ok("DELETE", f"{attachments}/{attached}", role="editor")
    created, updated, deleted = told(admin, attached)
    assert (created[0], created[1]["pipeline_id"]) == ("attachment.created", {"old": None, "new": id_})
    assert updated == ("attachment.updated", {"mode": {"old": "live", "new": "paused"}})
    assert (deleted[0], deleted[1]["mode"]) == ("attachment.deleted", {"old": "paused", "new": None})


def test_the_life_of_a_webhook_source(admin: Admin) -> None:
    fields = {"pipeline_id": pipeline(admin), "name": "Till", "source_type": "custom"}
    id_ = admin.ok("POST", "/webhook-sources", fields, role="editor")["id"]
    for given in (
        {"signing_secret": "first-planted-secret"},
        {"signing_secret": "***"},
        {"signing_secret": "second-planted-secret", "name": "Till"},
        {"signing_secret": ""},
    ):
        admin.ok("PUT", f"/webhook-sources/{id_}", given, role="editor")
    admin.ok("DELETE", f"/webhook-sources/{id_}", role="admin")
    created, *updates, deleted = told(admin, id_)
    assert (created[0], created[1]["name"]["new"]) == ("webhook_source.created", "Till")
    assert updates == [
        ("webhook_source.updated", {"signing_secret": {"old": old, "new": new}})
        for old, new in (("", "***"), ("***", "*** (changed)"), ("***", ""))
    ]
    assert (deleted[0], deleted[1]["name"]["old"]) == ("webhook_source.deleted", "Till")


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [("POST", "/dead-letters/replay", "replayed"), ("DELETE", "/dead-letters", "discarded")],
)
def test_dead_letters_are_told_with_how_many_and_by_what(
    admin: Admin, method: str, path: str, action: str
) -> None:
    id_, made = pipeline(admin), integration(admin, f"Dead {action}")
    admin.ok("POST", f"/pipelines/{id_}/integrations", {"integration_id": made["id"]})
    admin.run(admin.services.configuration.reload)
    admin.process(id_, {"type": "track", "event": "Dead", "messageId": f"dead-{action}"})
    admin.run(admin.services.store.write, _give_up, id_)
    admin.ok(method, path, {"filter": {"pipeline_id": id_}}, role="editor")
    newest = entries(admin)[0]
    assert (newest["action"], newest["resource_type"], newest["resource_id"]) == (
        f"dead_letters.{action}",
        "dead_letters",
        None,
    )
    assert newest["changes"] == {
        "number": {"old": None, "new": 1},
        "selection": {"old": None, "new": {"pipeline_id": id_}},
    }


def _give_up(connection: sqlite3.Connection, pipeline_id: str) -> None:
    changed = connection.execute(
        "UPDATE deliveries SET status = 'dead', reason = 'gave_up', finished_at_ms = 1 WHERE pipeline_id = ?",
        (pipeline_id,),
    ).rowcount
    assert changed == 1


def test_log_ins_are_told_with_the_address(admin: Admin) -> None:
    good = {"email": "viewer@example.com", "password": PASSWORD}
    url = f"{admin.base_url}/v1/admin/auth/login"
    forged = {**AGENT, "X-Forwarded-For": "198.51.100.1"}
    for body in (good, {**good, "password": "a wrong password"}):
        request(url, "POST", json.dumps(body).encode(), forged)
    failed, login = entries(admin)[:2]
    viewer = admin.users["viewer"]
    assert [login[name] for name in ("action", "user_id", "resource_id")] == [
        "auth.login",
        viewer.id,
        viewer.id,
    ]
    assert [failed[name] for name in ("action", "user_id", "user_email", "resource_id")] == [
        *("auth.login_failed", None, "viewer@example.com", viewer.id),
    ]
    assert {one["ip_address"] for one in (failed, login)} == {"127.0.0.1"}, "no proxy is trusted here"
    assert {one["user_agent"] for one in (failed, login)} == {"audit-test/1.0"}


def test_no_secret_is_in_the_log(admin: Admin) -> None:
    integration(admin, "Secret")
    rows = admin.run(admin.services.store.read, _dump)
    assert "integration.created" in rows
    for secret in ("planted-secret", PASSWORD, *admin.tokens.values()):
        assert secret not in rows
    assert re.findall(r"(?:sk|at|rt|ct|se|st|li)_[a-z0-9]{20,}", rows) == []


def _dump(connection: sqlite3.Connection) -> str:
    return repr([tuple(row) for row in connection.execute("SELECT * FROM audit_logs")])


# ── What is not ──────────────────────────────────────────────────────────────────────────────


def test_the_values_of_parameters_are_not_told(admin: Admin) -> None:
    id_ = pipeline(admin, "Parametric", parameters={"ga4_api_secret": "planted-parameter"})
    admin.ok("PUT", f"/pipelines/{id_}", {"parameters": {"ga4_api_secret": "planted-again"}})
    newest, oldest = entries(admin, f"&resource_id={id_}")
    assert oldest["changes"]["parameters"]["new"] == {"ga4_api_secret": "***"}
    assert list(newest["changes"]) == ["parameters"]
    assert "planted" not in str((newest, oldest))


def test_refused_changes_leave_no_entry(admin: Admin) -> None:
    id_ = pipeline(admin, "Refused", slug="refused-slug")
    made = integration(admin, "Refused one")
    before = count(admin)
    for method, path, body, role in (
        ("POST", "/pipelines", {"name": "Refused", "slug": "refused-slug"}, "editor"),
        ("POST", "/pipelines", {"name": ""}, "editor"),
        ("POST", "/pipelines", {"name": "x"}, "viewer"),
        ("POST", "/pipelines", {"name": "x"}, None),
        ("PUT", f"/pipelines/{id_}", {"rate_limit_rps": -1}, "editor"),
        ("PUT", "/pipelines/pip_nothing", {"name": "x"}, "editor"),
        ("DELETE", f"/pipelines/{id_}", None, "editor"),
        ("DELETE", "/pipelines/pip_nothing", None, "admin"),
        ("POST", "/pipelines/pip_nothing/tokens", None, "editor"),
        ("POST", "/pipelines/pip_nothing/collector/build", None, "editor"),
        ("POST", "/integration-templates", {"name": "Refused one", "vendor": "ga4", "config": GA4}, "editor"),
        ("POST", f"/integration-templates/{made['id']}/revisions", {"config": {}}, "editor"),
        ("POST", f"/pipelines/{id_}/integrations", {"integration_id": "tmpl_nothing"}, "editor"),
        ("DELETE", "/webhook-sources/wh_nothing", None, "admin"),
        ("POST", "/auth/password", {"current_password": "wrong", "new_password": "x" * 20}, "viewer"),
        ("POST", "/auth/refresh", {"refresh_token": "rt_unknown"}, None),
    ):
        assert admin.call(method, path, body, role=role).status // 100 == 4, (method, path)
    assert count(admin) == before


def test_a_change_that_changes_nothing_leaves_no_entry(admin: Admin) -> None:
    id_ = pipeline(admin, "Same")
    whole = admin.ok("GET", f"/pipelines/{id_}")
    before = count(admin)
    admin.ok("PUT", f"/pipelines/{id_}", whole, role="editor")
    admin.ok("PUT", f"/pipelines/{id_}", {}, role="editor")
    admin.ok("POST", "/dead-letters/replay", {"filter": {"pipeline_id": "pip_nothing"}}, role="editor")
    admin.ok("DELETE", "/dead-letters", {"ids": [2**40]}, role="editor")
    assert count(admin) == before


def test_every_change_of_the_api_goes_through_the_audit_log() -> None:
    """What writes to the store beside auditing.py would leave no entry."""
    found = [
        f"{path.name}: {line.strip()}"
        for path in sorted(MANAGEMENT.glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"store\.write(_batched)?\b|services\.alone\b", line) and path.name != "auditing.py"
    ]
    assert found == []
    assert "audit.write(services.store" in (MANAGEMENT / "auditing.py").read_text(encoding="utf-8")


# ── The list ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_only_admins_and_the_owner_read_it(admin: Admin, role: str) -> None:
    assert admin.error("GET", "/audit-logs", role=role) == (403, "FORBIDDEN")
    assert admin.error("GET", "/audit-logs", role=None) == (401, "INVALID_TOKEN")
    for reader in ("admin", "owner"):
        assert admin.call("GET", "/audit-logs", role=reader).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_there_is_no_way_to_change_it(admin: Admin, method: str) -> None:
    assert admin.error(method, "/audit-logs") == (405, "METHOD_NOT_ALLOWED")


def test_filters_find_what_they_name(admin: Admin) -> None:
    id_ = pipeline(admin, "Filtered")
    admin.ok("PUT", f"/pipelines/{id_}", {"name": "Filtered again"}, role="admin")
    editor = admin.users["editor"].id
    for query, expected in (
        (f"resource_id={id_}", ["pipeline.updated", "pipeline.created"]),
        (f"resource_id={id_}&action=pipeline.updated", ["pipeline.updated"]),
        (f"resource_id={id_}&user_id={editor}", ["pipeline.created"]),
        (f"resource_id={id_}&resource_type=integration", []),
        (f"resource_id={id_}&action=&user_id=&cursor=", ["pipeline.updated", "pipeline.created"]),
        (f"resource_id={id_}&from=2001-01-01T00:00:00Z", ["pipeline.updated", "pipeline.created"]),
        (f"resource_id={id_}&to=2001-01-01T00:00:00Z", []),
        ("action=pipeline", []),
        ("resource_id=%27%20OR%201=1%20--", []),
    ):
        assert [one["action"] for one in entries(admin, f"&{query}")] == expected, query
    bounds = entries(admin, f"&resource_id={id_}")[0]["timestamp"]
    assert len(entries(admin, f"&resource_id={id_}&from={bounds}&to={bounds}")) >= 1


@pytest.mark.parametrize(
    "query", ["from=yesterday", "to=1e99", "cursor=zzz", "limit=0", "limit=101", f"user_id={'x' * 201}"]
)
def test_what_is_no_filter_is_refused(admin: Admin, query: str) -> None:
    answer = admin.call("GET", f"/audit-logs?{query}", role="admin")
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]


def test_pages_stay_in_place_while_entries_come(admin: Admin) -> None:
    id_ = pipeline(admin, "Paged")
    for number in range(6):
        admin.ok("PUT", f"/pipelines/{id_}", {"name": f"Paged {number}"})
    path, names, cursor = f"/audit-logs?limit=2&resource_id={id_}&action=pipeline.updated", [], ""
    for _ in range(3):
        page = admin.ok("GET", f"{path}&cursor={cursor}")
        assert list(page) == ["data", "next_cursor", "has_more"]
        names += [one["changes"]["name"]["new"] for one in page["data"]]
        admin.ok("PUT", f"/pipelines/{id_}", {"name": f"Meanwhile {len(names)}"})
        cursor = page["next_cursor"]
    assert names == [f"Paged {number}" for number in reversed(range(6))]
    assert (page["next_cursor"], page["has_more"]) == (None, False)


def test_entries_are_shown_for_ninety_days(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data") as own:
        id_ = str(own.ok("POST", "/pipelines", {"name": "Old"})["id"])
        assert len(own.ok("GET", f"/audit-logs?resource_id={id_}")["data"]) == 1
        own.clock.ahead_ms += KEPT_FOR_MS
        tokens = own.run(own.services.authority.issue_tokens, own.users["owner"])
        own.tokens["owner"] = tokens["access_token"]
        assert own.ok("GET", f"/audit-logs?resource_id={id_}")["data"] == []
        assert own.run(own.services.store.read, _count) > 1
        own.ok("PUT", f"/pipelines/{id_}", {"name": "New"})
        assert own.run(own.services.store.read, _count) == 1
