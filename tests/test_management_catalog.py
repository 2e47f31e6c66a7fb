"""The catalogue, what is installed from it, names, and what is different between revisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from datafly_lite.vendors import VENDORS
from management_kit import Admin, error_of, running_admin

PLANTED = "planted-secret-5c1d"
URL = "https://example.com/hook"
TEMPLATES = "/integration-templates"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("catalog") / "data"
    with running_admin(folder, management_rate_limit_rpm=100_000) as running:
        yield running


def create(admin: Admin, name: str, config: dict[str, Any] | None = None) -> str:
    fields = {"name": name, "vendor": "webhook", "config": config or {"url": URL}}
    return str(admin.ok("POST", TEMPLATES, fields, role="editor")["id"])


# ── The catalogue ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendor_is_the_lists_with_its_examples(admin: Admin, name: str) -> None:
    listed = {one["key"]: one for one in admin.ok("GET", "/catalog", role="viewer")["data"]}
    vendor = admin.ok("GET", f"/catalog/{name}", role="viewer")
    examples = vendor.pop("examples")
    assert vendor == listed[name]
    assert vendor["name"] == VENDORS[name].label
    assert [one["title"] for one in examples] == [one.title for one in VENDORS[name].examples]
    sent = next(one for one in examples if one["request"])
    assert sent["request"].keys() == {"method", "url", "headers", "body"}


@pytest.mark.parametrize("name", ["", "nobody", "GA4", "webhook%00", "..", "%2e%2e", "x" * 1000])
def test_a_vendor_that_is_not_there_is_a_404(admin: Admin, name: str) -> None:
    if name:
        assert admin.error("GET", f"/catalog/{name}") == (404, "NOT_FOUND")
    body = {"name": "x", "config": {}}
    assert admin.error("POST", f"/catalog/{name}/install", body) == (404, "NOT_FOUND")


def test_what_is_installed_is_an_integration_that_can_be_attached(admin: Admin) -> None:
    config = {"url": URL, "authentication": "bearer", "auth_token": PLANTED, "timeout_ms": 2000}
    fields = {"name": "Installed", "variant": "default", "config": config}
    answer = admin.call("POST", "/catalog/webhook/install", fields, role="editor")
    assert answer.status == 201
    assert PLANTED.encode() not in answer.body
    made = answer.json()
    assert (made["vendor"], made["latest_revision"]) == ("webhook", 1)
    assert (made["catalog_vendor_key"], made["catalog_variant_key"]) == ("webhook", "default")
    variant = admin.ok("GET", "/catalog/webhook")["variants"][0]
    given = {**variant["default_config"], **config, "auth_token": "***"}
    assert made["revision"]["config"] == given
    assert made["revision"]["created_by"] == admin.users["editor"].id
    assert admin.ok("GET", f"{TEMPLATES}/{made['id']}") == made
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Installed"})["id"]
    admin.ok("POST", f"/pipelines/{pipeline_id}/integrations", {"integration_id": made["id"]})
    entry = admin.ok("GET", f"/audit-logs?resource_id={made['id']}")["data"][0]
    assert (entry["action"], entry["user_email"]) == ("integration.created", "editor@example.com")


def test_what_was_made_by_hand_came_from_no_catalogue(admin: Admin) -> None:
    made = admin.ok("GET", f"{TEMPLATES}/{create(admin, 'By hand')}")
    assert (made["catalog_vendor_key"], made["catalog_variant_key"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "x"}, "config"),
        ({"config": {"url": URL}}, "name"),
        ({"name": "x", "config": {}}, "config.url"),
        ({"name": "x", "config": {"url": URL}, "variant": "retail"}, "variant"),
        ({"name": "x", "config": {"url": URL}, "variant": 1}, "variant"),
        ({"name": "x", "config": {"url": URL}, "vendor": "ga4"}, "vendor"),
        ({"name": "x", "config": {"url": URL, "auth_token": "***"}}, "config.auth_token"),
        ({"name": "x", "config": {"url": "http://169.254.169.254/"}}, "config.url"),
    ],
)
def test_what_cannot_be_installed_is_said(admin: Admin, fields: dict[str, Any], named: str) -> None:
    answer = admin.call("POST", "/catalog/webhook/install", fields)
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert named in [detail["field"] for detail in answer.json()["error"]["details"]]


def test_a_name_is_given_once(admin: Admin) -> None:
    create(admin, "Taken")
    body = {"name": "Taken", "config": {"url": URL}}
    assert admin.error("POST", "/catalog/webhook/install", body) == (409, "CONFLICT")


# ── Another name ─────────────────────────────────────────────────────────────────────────────


def test_name_and_description_change_and_nothing_else(admin: Admin) -> None:
    path = f"{TEMPLATES}/{create(admin, 'Before')}"
    before = admin.ok("GET", path)
    admin.clock.ahead_ms += 2000
    after = admin.ok("PUT", path, {"name": "After", "description": "Why"}, role="editor")
    assert after["updated_at"] > before["updated_at"]
    assert after == {**before, "name": "After", "description": "Why", "updated_at": after["updated_at"]}
    assert admin.ok("PUT", path, {"description": ""})["name"] == "After"
    assert admin.ok("GET", path)["description"] == ""
    changes = admin.ok("GET", f"/audit-logs?resource_id={before['id']}&action=integration.updated")["data"]
    assert [one["changes"] for one in changes] == [
        {"description": {"old": "Why", "new": ""}},
        {"description": {"old": "", "new": "Why"}, "name": {"old": "Before", "new": "After"}},
    ]


def test_a_new_name_is_known_to_the_event_path_at_once(admin: Admin) -> None:
    integration_id = create(admin, "Old name")
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Renaming"})["id"]
    path = f"/pipelines/{pipeline_id}/integrations"
    attached = admin.ok("POST", path, {"integration_id": integration_id})
    admin.ok("PUT", f"{TEMPLATES}/{integration_id}", {"name": "New name"})
    live = admin.services.configuration.current.attachments[attached["id"]]
    assert live.integration_name == "New name"
    assert admin.ok("GET", path)["data"][0]["integration_name"] == "New name"


def test_its_own_name_can_be_kept_and_anothers_not_taken(admin: Admin) -> None:
    create(admin, "Somebody else's")
    path = f"{TEMPLATES}/{create(admin, 'Mine')}"
    before = admin.ok("GET", path)
    assert admin.ok("PUT", path, {"name": "Mine"}) == before
    assert admin.ok("PUT", path, {}) == before
    answer = admin.call("PUT", path, {"name": "Somebody else's", "description": "lost"})
    assert error_of(answer) == (409, "CONFLICT")
    assert answer.json()["error"]["details"][0]["field"] == "name"
    assert admin.ok("GET", path) == before


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": ""}, {"name": "a\nb"}, {"name": 1}, {"vendor": "ga4"}, {"config": {}}, {"id": "tmpl_x"}),
        {"description": "x" * 2001},
    ],
)
def test_other_changes_are_refused(admin: Admin, fields: dict[str, Any]) -> None:
    path = f"{TEMPLATES}/{admin.ok('GET', TEMPLATES)['data'][0]['id']}"
    assert admin.error("PUT", path, fields) == (422, "VALIDATION_ERROR")


def test_what_is_not_there_or_deleted_has_no_new_name(admin: Admin) -> None:
    assert admin.error("PUT", f"{TEMPLATES}/tmpl_x", {"name": "x"}) == (404, "NOT_FOUND")
    path = f"{TEMPLATES}/{create(admin, 'Short-lived')}"
    admin.ok("DELETE", path)
    assert admin.error("PUT", path, {"name": "x"}) == (404, "NOT_FOUND")


# ── Differences ──────────────────────────────────────────────────────────────────────────────


def revise(admin: Admin, integration_id: str, *configs: dict[str, Any]) -> str:
    """Make these revisions; the path of its revisions."""
    path = f"{TEMPLATES}/{integration_id}/revisions"
    for config in configs:
        admin.ok("POST", path, {"config": config})
    return path


def test_every_field_that_differs_is_told_with_old_and_new(admin: Admin) -> None:
    first = {"url": URL, "timeout_ms": 1000, "headers": {"X-A": "1", "X-B": "2"}, "consent_categories": ["a"]}
    second = {"url": f"{URL}/2", "method": "PUT", "headers": {"X-A": "1", "X-B": "3", "X-C": "4"}}
    path = revise(admin, create(admin, "Differs", first), second)
    found = admin.ok("GET", f"{path}/1/diff/2", role="viewer")
    assert (found["integration_id"], found["old_revision"], found["new_revision"]) == (
        path.split("/")[2],
        1,
        2,
    )
    told = [(one["field"], one["change"], one["old"], one["new"]) for one in found["changes"]]
    assert told == [
        ("consent_categories", "removed", ["a"], None),
        ("headers.X-B", "changed", "2", "3"),
        ("headers.X-C", "added", None, "4"),
        ("method", "added", None, "PUT"),
        ("timeout_ms", "removed", 1000, None),
        ("url", "changed", URL, f"{URL}/2"),
    ]
    back = admin.ok("GET", f"{path}/2/diff/1")["changes"]
    assert [(one["field"], one["old"], one["new"]) for one in back] == [
        (field, new, old) for field, _, old, new in told
    ]
    assert admin.ok("GET", f"{path}/2/diff/2")["changes"] == []


def test_a_secret_is_told_to_be_another_and_never_shown(admin: Admin) -> None:
    secured = {"url": URL, "authentication": "bearer", "auth_token": PLANTED}
    path = revise(
        admin,
        create(admin, "Secured", secured),
        {**secured, "auth_token": "***"},
        {**secured, "auth_token": f"{PLANTED}-2"},
        {"url": URL},
    )
    expected: dict[str, list[tuple[str, str, str | None, str | None]]] = {
        "1/diff/2": [],
        "1/diff/3": [("auth_token", "changed", "***", "***")],
        "3/diff/4": [("auth_token", "removed", "***", None), ("authentication", "removed", "bearer", None)],
        "4/diff/1": [("auth_token", "added", None, "***"), ("authentication", "added", None, "bearer")],
    }
    for pair, changes in expected.items():
        answer = admin.call("GET", f"{path}/{pair}")
        assert PLANTED.encode() not in answer.body
        told = [tuple(one.values()) for one in answer.json()["changes"]]
        assert told == changes, pair


@pytest.mark.parametrize(
    "pair", ["1/diff/2", "0/diff/1", "1/diff/x", "-1/diff/1", "1/diff/99999999999", "%D9%A1/diff/1"]
)
def test_a_revision_that_is_not_there_has_no_difference(admin: Admin, pair: str) -> None:
    name = f"Alone {pair}"
    assert admin.error("GET", f"{TEMPLATES}/{create(admin, name)}/revisions/{pair}") == (404, "NOT_FOUND")


def test_no_template_has_anothers_revisions(admin: Admin) -> None:
    assert admin.error("GET", f"{TEMPLATES}/tmpl_x/revisions/1/diff/1") == (404, "NOT_FOUND")
