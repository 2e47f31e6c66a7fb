"""Consent settings over HTTP: replaced whole, versioned, in force at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from datafly_lite.consent import ConsentSettings
from management_kit import Admin, error_of, running_admin

PATH = "/consent-settings"
STRICT: dict[str, Any] = {
    "mapping": {"C9": "marketing", "X1": "ignore"},
    "default_policy": {"functional": False, "analytics": False, "marketing": False, "personalization": False},
    "required_categories": ["analytics"],
    "on_refused": "drop",
    "respect_gpc": True,
    "google_consent_mode": False,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("consent") / "data"
    with running_admin(folder, management_rate_limit_rpm=1_000_000) as admin:
        yield admin


@pytest.fixture
def admin(running: Admin) -> Admin:
    running.ok("PUT", PATH, {"config": {}})
    return running


def test_it_is_read_and_replaced(admin: Admin) -> None:
    found = admin.ok("GET", PATH, role="viewer")
    assert msgspec.convert(found["config"], ConsentSettings) == ConsentSettings()
    saved = admin.ok("PUT", PATH, {"config": STRICT, "version": found["version"]}, role="admin")
    assert saved["config"] == STRICT
    assert saved["updated_by"] == admin.users["admin"].id
    assert admin.ok("GET", PATH, role="viewer") == saved
    assert admin.ok("GET", f"{PATH}/versions/{saved['version']}", role="viewer") == saved


def test_versions_tell_what_changed(admin: Admin) -> None:
    admin.ok("PUT", PATH, {"config": {"mapping": {"A": "marketing"}}})
    other = {"mapping": {"A": "analytics", "B": "marketing"}, "respect_gpc": False}
    saved = admin.ok("PUT", PATH, {"config": other})
    [newest] = admin.ok("GET", f"{PATH}/versions?limit=1")["data"]
    assert newest["version"] == saved["version"]
    assert newest["changed"] == ["mapping.A", "mapping.B", "respect_gpc"]
    assert admin.ok("PUT", PATH, {"config": other}) == saved, "the same again makes no version"


def test_the_order_of_codes_is_no_change(admin: Admin) -> None:
    saved = admin.ok("PUT", PATH, {"config": {"mapping": {"A": "marketing", "B": "analytics"}}})
    assert admin.ok("PUT", PATH, {"config": {"mapping": {"B": "analytics", "A": "marketing"}}}) == saved


def test_the_audit_log_tells_it(admin: Admin) -> None:
    saved = admin.ok("PUT", PATH, {"config": STRICT}, role="admin")
    entry = admin.ok("GET", "/audit-logs?limit=1")["data"][0]
    assert (entry["action"], entry["resource_type"]) == ("consent_settings.updated", "consent_settings")
    assert entry["resource_id"] == saved["org_id"]
    assert entry["changes"]["required_categories"] == {"old": [], "new": ["analytics"]}


def test_every_mistake_is_told_at_once(admin: Admin) -> None:
    config = {
        "mapping": {"C1": "shopping", "c2": "marketing", "C2": "analytics", "": "marketing", "C3": 5},
        "default_policy": {"essential": False, "marketing": "no"},
        "required_categories": ["essential", "shopping"],
        "on_refused": "shrug",
        "gpc": True,
    }
    answer = admin.call("PUT", PATH, {"config": config})
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert {one["field"] for one in answer.json()["error"]["details"]} == {
        "config.mapping.C1",
        "config.mapping.C2",
        "config.mapping.",
        "config.mapping.C3",
        "config.default_policy.essential",
        "config.default_policy.marketing",
        "config.required_categories[0]",
        "config.required_categories[1]",
        "config.on_refused",
        "config.gpc",
    }


def test_only_admins_replace_it_and_nobody_overtakes(admin: Admin) -> None:
    read = admin.ok("GET", PATH)
    for role in ("viewer", "editor"):
        assert admin.error("PUT", PATH, {"config": STRICT}, role=role) == (403, "FORBIDDEN")
    assert admin.ok("GET", PATH) == read
    admin.ok("PUT", PATH, {"config": STRICT})
    stale = {"config": {"respect_gpc": False}, "version": read["version"]}
    assert admin.error("PUT", PATH, stale) == (409, "CONFLICT")


def test_a_save_is_in_force_at_once(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "At once"})["id"]
    for number, (required, expected) in enumerate(((["marketing"], "consent"), ([], None))):
        admin.ok("PUT", PATH, {"config": {"required_categories": required, "mapping": {"Z9": "marketing"}}})
        consent = {"categories": {"Z9": False}}
        body = {"type": "track", "event": "A", "anonymousId": "a", "messageId": f"consent-{number}"}
        admin.process(pipeline_id, {**body, "context": {"consent": consent}})
        newest = admin.ok("GET", f"/events?pipeline_id={pipeline_id}&limit=1")["data"][0]
        assert newest["drop_reason"] == expected
