"""Integrations, their revisions and secrets, and what is attached to a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.vendors import VENDORS
from management_kit import Admin, error_of, running_admin

PLANTED = "planted-bearer-token-7f3a"
URL = "https://example.com/hook"
SECURED = {"url": URL, "authentication": "bearer", "auth_token": PLANTED}
LIST_KEYS = ["data", "next_cursor", "has_more"]


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    with running_admin(tmp_path / "data") as running:
        yield running


def create(admin: Admin, name: str = "Hook", config: dict[str, Any] | None = None) -> dict[str, Any]:
    fields = {"name": name, "vendor": "webhook", "config": config or {"url": URL}}
    made: dict[str, Any] = admin.ok("POST", "/integration-templates", fields, role="editor")
    return made


def attached(admin: Admin) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(path of a pipeline's integrations, the integration, the attachment)."""
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Site"})["id"]
    path, integration = f"/pipelines/{pipeline_id}/integrations", create(admin)
    return path, integration, admin.ok("POST", path, {"integration_id": integration["id"]}, role="editor")


def live(admin: Admin, attachment_id: str) -> Any:
    """The attachment as the event path sees it now."""
    return admin.services.configuration.current.attachments.get(attachment_id)


def test_the_catalogue_has_every_vendor_with_its_settings(admin: Admin) -> None:
    page = admin.ok("GET", "/catalog", role="viewer")
    assert list(page) == LIST_KEYS
    assert [vendor["key"] for vendor in page["data"]] == sorted(VENDORS)
    for vendor in page["data"]:
        assert {"name", "description", "category", "status", "website", "variants"} <= vendor.keys()
        settings = {field["key"]: field for field in vendor["config_fields"]}
        assert list(settings) == [one.name for one in VENDORS[vendor["key"]].settings]
        assert all({"label", "type", "required", "help_text"} <= field.keys() for field in settings.values())


def test_a_template_begins_with_revision_one(admin: Admin) -> None:
    made = create(admin)
    assert (made["id"][:5], made["latest_revision"]) == ("tmpl_", 1)
    assert made["org_id"].startswith("org_")
    revision = made["revision"]
    assert revision["id"].startswith("rev_")
    assert (revision["integration_id"], revision["revision_number"]) == (made["id"], 1)
    assert revision["config"] == {"url": URL}
    assert revision["created_by"] == admin.users["editor"].id
    assert admin.ok("GET", f"/integration-templates/{made['id']}") == made
    listed = admin.ok("GET", "/integration-templates")
    assert list(listed) == LIST_KEYS
    assert listed["data"] == [{name: value for name, value in made.items() if name != "revision"}]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\r\nb"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"vendor": "unknown"}, "vendor"),
        ({"vendor": None}, "vendor"),
        ({"config": None}, "config"),
        ({"config": {}}, "config.url"),
        ({"config": {"url": "ftp://example.com"}}, "config.url"),
        ({"config": {"url": "http://example.com"}}, "config.url"),
        ({"config": {"url": "https://127.0.0.1/"}}, "config.url"),
        ({"config": {"url": "https://user:pw@example.com/"}}, "config.url"),
        ({"config": {"url": URL, "unknown": 1}}, "config.unknown"),
        ({"config": {"url": URL, "timeout_ms": 2**70}}, "config"),
        ({"config": {"url": URL, "auth_token": "***"}}, "config.auth_token"),
        ({"org_id": "org_x"}, "org_id"),
    ],
)
def test_a_wrong_template_is_refused(admin: Admin, fields: dict[str, Any], field: str) -> None:
    answer = admin.call(
        "POST",
        "/integration-templates",
        {"name": "Hook", "vendor": "webhook", "config": {"url": URL}, **fields},
    )
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert admin.ok("GET", "/integration-templates")["data"] == []


def test_names_are_unique_until_deleted(admin: Admin) -> None:
    made = create(admin)
    assert admin.error(
        "POST", "/integration-templates", {"name": "Hook", "vendor": "webhook", "config": {"url": URL}}
    ) == (409, "CONFLICT")
    assert admin.call("DELETE", f"/integration-templates/{made['id']}", role="admin").status == 204
    assert admin.error("GET", f"/integration-templates/{made['id']}") == (404, "NOT_FOUND")
    assert admin.error("DELETE", f"/integration-templates/{made['id']}") == (404, "NOT_FOUND")
    assert create(admin)["id"] != made["id"]


def test_lists_are_paged_by_cursor(admin: Admin) -> None:
    made = [create(admin, f"Hook {number}")["id"] for number in range(3)]
    first = admin.ok("GET", "/integration-templates?limit=2")
    assert first["has_more"]
    last = admin.ok("GET", f"/integration-templates?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["data"] + last["data"]] == made
    assert (last["next_cursor"], last["has_more"]) == (None, False)
    for cursor in ("x", "%00", "e30=", "eyJpZCI6LTF9", "eyJpZCI6MTAwMDAwMDAwMDAwMDAwMDAwMDAwfQ=="):
        assert admin.error("GET", f"/integration-templates?cursor={cursor}") == (422, "VALIDATION_ERROR")


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────


def test_a_secret_goes_in_and_never_comes_out(admin: Admin, capfd: pytest.CaptureFixture[str]) -> None:
    path, integration, _ = attached(admin)
    revisions = f"/integration-templates/{integration['id']}/revisions"
    shown = admin.ok("POST", revisions, {"config": SECURED, "change_summary": "With a token"})
    assert shown["config"] == {**SECURED, "auth_token": "***"}
    pipeline = admin.ok("POST", "/pipelines", {"name": "Secret"})
    key_secret = pipeline["pipeline_key_secret"]
    answers = [
        admin.call("GET", one)
        for one in (
            *(
                revisions,
                f"{revisions}/2",
                "/integration-templates",
                f"/integration-templates/{integration['id']}",
            ),
            *(path, "/pipelines", f"/pipelines/{pipeline['id']}", "/catalog", "/events", "/dead-letters"),
        )
    ]
    wrong = {**SECURED, "timeout_ms": "soon"}
    answers.append(admin.call("POST", revisions, {"config": wrong}))
    database = admin.services.store.path
    on_disk = b"".join(one.read_bytes() for one in database.parent.iterdir() if one.is_file())
    assert b"With a token" in on_disk
    printed = "".join(capfd.readouterr())
    for secret in (PLANTED, key_secret, admin.tokens["owner"]):
        assert secret.encode() not in on_disk
        assert secret not in printed
        assert [one.body for one in answers if secret.encode() in one.body] == []


def test_the_mask_keeps_the_secret_and_a_new_value_replaces_it(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Site"})["id"]
    path, integration = f"/pipelines/{pipeline_id}/integrations", create(admin, config=SECURED)
    attachment = admin.ok("POST", path, {"integration_id": integration["id"]})
    revisions = f"/integration-templates/{integration['id']}/revisions"
    for token, kept in (("***", PLANTED), ("another-token", "another-token"), ("***", "another-token")):
        config = {**SECURED, "url": f"{URL}?{kept}", "auth_token": token}
        revision = admin.ok("POST", revisions, {"config": config})
        admin.ok("PUT", f"{path}/{attachment['id']}", {"revision_id": revision["id"]})
        assert live(admin, attachment["id"]).config["auth_token"] == kept
        assert live(admin, attachment["id"]).config["url"] == f"{URL}?{kept}"


def test_the_mask_keeps_the_secret_of_the_revision_that_was_edited(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Site"})["id"]
    path, integration = f"/pipelines/{pipeline_id}/integrations", create(admin, config=SECURED)
    attachment = admin.ok("POST", path, {"integration_id": integration["id"]})
    revisions = f"/integration-templates/{integration['id']}/revisions"
    admin.ok("POST", revisions, {"config": {**SECURED, "auth_token": "another-token"}})
    masked = {**SECURED, "auth_token": "***"}
    for base, kept in ({"base_revision": 1}, PLANTED), ({"base_revision": 2}, "another-token"), ({}, PLANTED):
        if not base:
            admin.ok("POST", revisions, {"config": SECURED})
        revision = admin.ok("POST", revisions, {"config": masked, **base})
        admin.ok("PUT", f"{path}/{attachment['id']}", {"revision_id": revision["id"]})
        assert live(admin, attachment["id"]).config["auth_token"] == kept
    for wrong in (0, 99, -1, "1", None, True, 2**40):
        answer = admin.call("POST", revisions, {"config": masked, "base_revision": wrong})
        assert error_of(answer) == (422, "VALIDATION_ERROR")
        assert [one["field"] for one in answer.json()["error"]["details"]] == ["base_revision"]


def test_the_mask_sends_no_secret_to_another_address(admin: Admin) -> None:
    revisions = f"/integration-templates/{create(admin, config=SECURED)['id']}/revisions"
    masked = {**SECURED, "auth_token": "***"}
    for change in ({"url": "https://example.org/hook"}, {"endpoint": "https://example.org/"}):
        moved = {"config": {**masked, **change}, "base_revision": 1}
        answer = admin.call("POST", revisions, moved)
        assert error_of(answer) == (422, "VALIDATION_ERROR")
        assert answer.json()["error"]["details"] == [
            {"field": "config.auth_token", "message": "the address changed: type the secret again"}
        ]
        # Nor by two steps: the address first, and then the older revision's secret.
        admin.ok("POST", revisions, {"config": {"url": URL, **change}})
        assert admin.error("POST", revisions, moved) == (422, "VALIDATION_ERROR")
    admin.ok("POST", revisions, {"config": {**SECURED, "url": "https://example.org/hook"}})
    assert len(admin.ok("GET", revisions)["data"]) == 4


def test_a_stored_secret_goes_to_no_host_that_a_parameter_names(admin: Admin) -> None:
    config = {"url": "https://{{pipeline_param.host}}/x", "authentication": "bearer", "auth_token": "planted"}
    fields = {"name": "Anywhere", "vendor": "webhook", "config": config}
    answer = admin.call("POST", "/integration-templates", fields, role="editor")
    assert answer.status == 422
    assert [one["field"] for one in answer.json()["error"]["details"]] == ["config.url"]
    config["url"] = "https://hooks.example.com/{{pipeline_param.path}}"
    assert admin.call("POST", "/integration-templates", fields, role="editor").status == 201


def test_parameters_of_the_pipeline_fill_a_config(admin: Admin) -> None:
    parameters = {"host": "shop.example", "token": PLANTED}
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "Site", "parameters": parameters})["id"]
    config = {
        "url": "https://{{pipeline_param.host}}/x",
        "authentication": "bearer",
        "auth_token": "{{pipeline_param.token}}",
    }
    integration = create(admin, config=config)
    attachment = admin.ok(
        "POST", f"/pipelines/{pipeline_id}/integrations", {"integration_id": integration["id"]}
    )
    assert live(admin, attachment["id"]).config["url"] == "https://shop.example/x"
    assert live(admin, attachment["id"]).config["auth_token"] == PLANTED
    admin.ok("PUT", f"/pipelines/{pipeline_id}", {"parameters": {**parameters, "host": "new.example"}})
    assert live(admin, attachment["id"]).config["url"] == "https://new.example/x"


# ── Revisions ────────────────────────────────────────────────────────────────────────────────


def test_revisions_are_added_and_never_changed(admin: Admin) -> None:
    made = create(admin)
    revisions = f"/integration-templates/{made['id']}/revisions"
    second = admin.ok(
        "POST", revisions, {"config": {"url": URL + "/2"}, "change_summary": "Moved"}, role="editor"
    )
    assert (second["revision_number"], second["change_summary"]) == (2, "Moved")
    assert [one["revision_number"] for one in admin.ok("GET", revisions)["data"]] == [2, 1]
    assert admin.ok("GET", f"{revisions}/1") == made["revision"]
    assert admin.ok("GET", f"/integration-templates/{made['id']}")["latest_revision"] == 2
    for wrong in ("0", "3", "-1", "x", "1.0", "99999999999999999999", "%C2%B2"):
        assert admin.error("GET", f"{revisions}/{wrong}") == (404, "NOT_FOUND")
    assert admin.error("POST", revisions, {"config": {}}) == (422, "VALIDATION_ERROR")
    assert admin.error("GET", "/integration-templates/tmpl_x/revisions") == (404, "NOT_FOUND")
    assert admin.error("POST", "/integration-templates/tmpl_x/revisions", {"config": {}}) == (
        404,
        "NOT_FOUND",
    )


# ── Attachments ──────────────────────────────────────────────────────────────────────────────


def test_an_attachment_pins_its_revision(admin: Admin) -> None:
    path, integration, attachment = attached(admin)
    assert list(attachment)[:5] == ["id", "pipeline_id", "integration_id", "integration_name", "vendor"]
    assert attachment["id"].startswith("pi_")
    pinned = ("revision_number", "latest_revision", "enabled", "mode", "trouble")
    assert [attachment[name] for name in pinned] == [1, 1, True, "live", None]
    assert live(admin, attachment["id"]).revision_number == 1
    admin.ok("POST", f"/integration-templates/{integration['id']}/revisions", {"config": {"url": URL + "/2"}})
    found = admin.ok("GET", path, role="viewer")["data"]
    assert [(one["revision_number"], one["latest_revision"]) for one in found] == [(1, 2)]
    assert live(admin, attachment["id"]).config["url"] == URL


def test_an_attachment_is_changed_field_by_field(admin: Admin) -> None:
    path, _, attachment = attached(admin)
    one = f"{path}/{attachment['id']}"
    assert admin.ok("PUT", one, {"mode": "shadow"}, role="editor")["mode"] == "shadow"
    assert admin.ok("PUT", one, {"enabled": False})["enabled"] is False
    assert live(admin, attachment["id"]).mode == "shadow"
    assert not live(admin, attachment["id"]).enabled
    assert admin.woken == [attachment["id"]] * 2
    for fields, field in (
        ({"mode": "fast"}, "mode"),
        ({"enabled": 1}, "enabled"),
        ({"revision_id": "rev_x"}, "revision_id"),
        ({"revision_id": create(admin, "Other")["revision"]["id"]}, "revision_id"),
        ({"integration_id": "tmpl_x"}, "integration_id"),
        ({"trouble": None}, "trouble"),
    ):
        answer = admin.call("PUT", one, fields)
        assert error_of(answer) == (422, "VALIDATION_ERROR")
        assert answer.json()["error"]["details"][0]["field"] == field


def test_trouble_stays_until_it_sends_again(admin: Admin) -> None:
    path, integration, attachment = attached(admin)
    admin.run(admin.services.store.write, _trouble, attachment["id"])
    one = f"{path}/{attachment['id']}"
    fixed = admin.ok(
        "POST", f"/integration-templates/{integration['id']}/revisions", {"config": {"url": URL + "/2"}}
    )
    assert admin.ok("PUT", one, {"revision_id": fixed["id"]})["trouble"] == "401 from the vendor"
    assert admin.ok("PUT", one, {"mode": "live"})["trouble"] is None


def _trouble(connection: Any, attachment_id: str) -> None:
    connection.execute(
        "UPDATE pipeline_integrations SET mode = 'paused', trouble = '401 from the vendor' WHERE id = ?",
        (attachment_id,),
    )


def test_what_cannot_be_attached(admin: Admin) -> None:
    path, integration, _ = attached(admin)
    assert admin.error("POST", path, {"integration_id": integration["id"]}) == (409, "CONFLICT")
    assert admin.error("POST", path, {"integration_id": "tmpl_x"}) == (422, "VALIDATION_ERROR")
    assert admin.error("POST", path, {}) == (422, "VALIDATION_ERROR")
    other = create(admin, "Other")
    wrong = {"integration_id": other["id"], "revision_id": integration["revision"]["id"]}
    assert admin.error("POST", path, wrong) == (422, "VALIDATION_ERROR")
    right = {"integration_id": other["id"]}
    assert admin.error("POST", "/pipelines/pip_x/integrations", right) == (404, "NOT_FOUND")
    assert admin.error("GET", "/pipelines/pip_x/integrations") == (404, "NOT_FOUND")


def test_another_pipelines_attachment_is_not_found(admin: Admin) -> None:
    _, _, attachment = attached(admin)
    other = admin.ok("POST", "/pipelines", {"name": "Other"})["id"]
    for method, body in (("PUT", {"mode": "paused"}), ("DELETE", None)):
        assert admin.error(method, f"/pipelines/{other}/integrations/{attachment['id']}", body) == (
            404,
            "NOT_FOUND",
        )
    assert live(admin, attachment["id"]).mode == "live"


def test_detaching_drops_what_waits_and_attaching_again_takes_it_up(admin: Admin) -> None:
    path, integration, attachment = attached(admin)
    pipeline_id = attachment["pipeline_id"]
    admin.process(pipeline_id, {"type": "track", "event": "Seen", "messageId": "m-1"})
    assert deliveries(admin) == {"delivered": 0, "pending": 1, "dropped": 0, "dead": 0}
    assert admin.error("DELETE", f"/integration-templates/{integration['id']}") == (409, "CONFLICT")
    assert admin.call("DELETE", f"{path}/{attachment['id']}").status == 204
    assert deliveries(admin) == {"delivered": 0, "pending": 0, "dropped": 1, "dead": 0}
    assert live(admin, attachment["id"]) is None
    assert admin.ok("GET", path)["data"] == []
    assert admin.error("DELETE", f"{path}/{attachment['id']}") == (404, "NOT_FOUND")
    again = admin.ok("POST", path, {"integration_id": integration["id"]})
    assert again["id"] == attachment["id"]
    assert live(admin, again["id"]).mode == "live"


def test_deleting_a_pipeline_drops_what_waits_for_it(admin: Admin) -> None:
    _, integration, attachment = attached(admin)
    admin.process(attachment["pipeline_id"], {"type": "track", "event": "Seen", "messageId": "m-1"})
    admin.ok("DELETE", f"/pipelines/{attachment['pipeline_id']}")
    assert deliveries(admin) == {"delivered": 0, "pending": 0, "dropped": 1, "dead": 0}
    assert live(admin, attachment["id"]) is None
    assert admin.call("DELETE", f"/integration-templates/{integration['id']}").status == 204
    traced = admin.ok("GET", f"/events/{attachment['pipeline_id']}/m-1")
    assert traced["deliveries"][0]["integration_name"] == "Hook"


def deliveries(admin: Admin) -> Any:
    return admin.ok("GET", "/events")["data"][0]["deliveries"]
