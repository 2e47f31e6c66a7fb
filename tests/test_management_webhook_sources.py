"""Webhook sources over the management API: made, read, changed, deleted, and what the event path sees."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from datafly_lite.configuration import WebhookSource
from datafly_lite.management.webhook_sources import SOURCE_TYPES
from management_kit import Admin, error_of, running_admin

PLANTED = "whsec_planted-signing-secret-51c0"
KEYS = [
    *("id", "pipeline_id", "name", "source_type", "signing_secret", "signature_header"),
    *("signature_encoding", "event_type_path", "mappings", "enabled", "url", "created_at", "updated_at"),
]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_admin(folder, public_url="https://data.shop.test/") as running:
        yield running


@pytest.fixture(scope="module")
def pipeline_id(admin: Admin) -> str:
    return str(admin.ok("POST", "/pipelines", {"name": "Shop"})["id"])


def create(admin: Admin, pipeline_id: str, **fields: Any) -> dict[str, Any]:
    usual = {"pipeline_id": pipeline_id, "name": "Payments", "source_type": "stripe"}
    secret = {"signing_secret": PLANTED} if fields.get("source_type") != "custom" else {}
    made: dict[str, Any] = admin.ok("POST", "/webhook-sources", {**usual, **secret, **fields}, role="editor")
    return made


def live(admin: Admin, source_id: str) -> WebhookSource | None:
    """The source as the event path sees it now."""
    sources: dict[str, WebhookSource] = admin.services.configuration.current.webhook_sources
    return sources.get(source_id)


def test_a_name_a_type_a_pipeline_and_a_secret_are_enough(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id)
    assert list(made) == KEYS
    assert made["id"].startswith("wh_")
    assert made["url"] == f"https://data.shop.test/v1/webhook?source={made['id']}"
    assert made["signing_secret"] == "***"
    assert (made["signature_header"], made["signature_encoding"]) == ("Stripe-Signature", "hex")
    assert made["event_type_path"] == "$.type"
    assert made["mappings"]["properties.payment_id"] == "$.data.object.id"
    assert made["enabled"] is True
    assert admin.ok("GET", f"/webhook-sources/{made['id']}", role="viewer") == made
    assert made in admin.ok("GET", "/webhook-sources?limit=100", role="viewer")["data"]
    seen = live(admin, made["id"])
    assert seen is not None
    assert (seen.secret, seen.pipeline_id, seen.mappings) == (PLANTED, pipeline_id, made["mappings"])


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_what_each_type_has_from_the_start_can_be_sent_back(
    admin: Admin, pipeline_id: str, source_type: str
) -> None:
    made = create(admin, pipeline_id, source_type=source_type)
    before = live(admin, made["id"])
    after = admin.ok("PUT", f"/webhook-sources/{made['id']}", made, role="editor")
    assert {**after, "updated_at": ""} == {**made, "updated_at": ""}
    assert live(admin, made["id"]) == before


def test_a_custom_source_may_be_unsigned(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id, source_type="custom")
    assert (made["signing_secret"], made["signature_header"]) == ("", "X-Signature")
    signed = admin.ok("PUT", f"/webhook-sources/{made['id']}", {"signing_secret": PLANTED})
    assert signed["signing_secret"] == "***"
    unsigned = admin.ok("PUT", f"/webhook-sources/{made['id']}", {"signing_secret": ""})
    assert unsigned["signing_secret"] == ""
    seen = live(admin, made["id"])
    assert seen is not None
    assert seen.secret == ""


def test_a_change_reaches_the_event_path_at_once(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id)
    other = admin.ok("POST", "/pipelines", {"name": "Other"})["id"]
    changed = {
        "name": "Refunds",
        "pipeline_id": other,
        "enabled": False,
        "mappings": {"userId": "$.data.object.metadata.user", "type": "'track'"},
        "event_type_path": "",
        "signing_secret": "whsec_new",
    }
    after = admin.ok("PUT", f"/webhook-sources/{made['id']}", changed, role="editor")
    assert after == {**made, **changed, "signing_secret": "***", "updated_at": after["updated_at"]}
    seen = live(admin, made["id"])
    assert seen is not None
    assert (seen.pipeline_id, seen.enabled, seen.secret) == (other, False, "whsec_new")
    assert seen.mappings == changed["mappings"]
    kept = admin.ok("PUT", f"/webhook-sources/{made['id']}", {"signing_secret": "***", "enabled": True})
    assert kept["name"] == "Refunds"
    seen = live(admin, made["id"])
    assert seen is not None
    assert (seen.secret, seen.enabled) == ("whsec_new", True)


def test_a_deleted_source_is_gone_and_so_is_its_secret(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id)
    path = f"/webhook-sources/{made['id']}"
    assert admin.call("DELETE", path, role="admin").status == 204
    assert live(admin, made["id"]) is None
    assert admin.error("GET", path) == (404, "NOT_FOUND")
    assert admin.error("PUT", path, {"name": "x"}) == (404, "NOT_FOUND")
    assert admin.error("DELETE", path) == (404, "NOT_FOUND")
    assert made["id"] not in str(admin.ok("GET", "/webhook-sources?limit=100"))

    def left(connection: sqlite3.Connection) -> Any:
        sql = "SELECT secret_ciphertext FROM webhook_sources WHERE id = ?"
        return connection.execute(sql, (made["id"],)).fetchone()[0]

    assert admin.run(admin.services.store.read, left) == b""


def test_a_secret_goes_in_and_never_out(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id)
    path = f"/webhook-sources/{made['id']}"
    for answer in (
        admin.call("GET", path),
        admin.call("GET", "/webhook-sources?limit=100"),
        admin.call("PUT", path, {"name": "Again"}),
        admin.call("PUT", path, {"signing_secret": PLANTED, "name": ""}),
    ):
        assert PLANTED not in answer.body.decode()
    folder = admin.services.settings.data_dir
    for file in folder.glob("datafly.db*"):
        assert PLANTED.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"source_type": "paypal"}, "source_type"),
        ({"source_type": None}, "source_type"),
        ({"pipeline_id": "pip_nothing"}, "pipeline_id"),
        ({"pipeline_id": 5}, "pipeline_id"),
        ({"signing_secret": ""}, "signing_secret"),
        ({"signing_secret": "***"}, "signing_secret"),
        ({"signing_secret": "a\r\nb"}, "signing_secret"),
        ({"signature_header": "X-Other"}, "signature_header"),
        ({"signature_header": "no header"}, "signature_header"),
        ({"signature_encoding": "base64"}, "signature_encoding"),
        ({"signature_encoding": "utf-8"}, "signature_encoding"),
        ({"event_type_path": "type"}, "event_type_path"),
        ({"event_type_path": "$["}, "event_type_path"),
        ({"mappings": {"userId": "$.data["}}, "mappings.userId"),
        ({"mappings": {"userId": ""}}, "mappings.userId"),
        ({"mappings": {"userId": 5}}, "mappings.userId"),
        ({"mappings": {"properties.a": "$.a[?match(@.b, '(a+)+$')]"}}, "mappings.properties.a"),
        ({"mappings": {"properties.a": "$[?$..*]"}}, "mappings.properties.a"),
        ({"mappings": {"receivedAt": "$.a"}}, "mappings.receivedAt"),
        ({"mappings": {"userId.a": "$.a"}}, "mappings.userId.a"),
        ({"mappings": {"properties.": "$.a"}}, "mappings.properties."),
        ({"mappings": {"properties..a": "$.a"}}, "mappings.properties..a"),
        ({"mappings": {"properties.a b": "$.a"}}, "mappings.properties.a b"),
        ({"mappings": {"properties" + ".a" * 9: "$.a"}}, "mappings.properties" + ".a" * 9),
        ({"mappings": {f"properties.{number}": "$.a" for number in range(101)}}, "mappings"),
        ({"mappings": {f"properties.{number}": "$" + ".a" * 200 for number in range(30)}}, "mappings"),
        ({"mappings": []}, "mappings"),
        ({"enabled": "yes"}, "enabled"),
        ({"id": "wh_mine"}, "id"),
        ({"url": "https://example.com"}, "url"),
    ],
    ids=str,
)
def test_a_wrong_source_is_refused_at_its_field(
    admin: Admin, pipeline_id: str, fields: dict[str, Any], field: str
) -> None:
    usual = {"pipeline_id": pipeline_id, "name": "Shop", "source_type": "stripe", "signing_secret": PLANTED}
    before = admin.ok("GET", "/webhook-sources?limit=100")
    answer = admin.call("POST", "/webhook-sources", {**usual, **fields})
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert admin.ok("GET", "/webhook-sources?limit=100") == before


@pytest.mark.parametrize("missing", ["pipeline_id", "name", "source_type", "signing_secret"])
def test_these_fields_are_required(admin: Admin, pipeline_id: str, missing: str) -> None:
    usual = {"pipeline_id": pipeline_id, "name": "Shop", "source_type": "hubspot", "signing_secret": PLANTED}
    fields = {name: value for name, value in usual.items() if name != missing}
    answer = admin.call("POST", "/webhook-sources", fields)
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [missing]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"source_type": "shopify"}, "source_type"),
        ({"id": "wh_other"}, "id"),
        ({"url": "https://example.com"}, "url"),
        ({"created_at": "2026-01-01T00:00:00Z"}, "created_at"),
        ({"signing_secret": ""}, "signing_secret"),
        ({"pipeline_id": "pip_nothing"}, "pipeline_id"),
        ({"mappings": {"event": "$$"}}, "mappings.event"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
def test_a_wrong_change_is_refused_and_changes_nothing(
    admin: Admin, pipeline_id: str, fields: dict[str, Any], field: str
) -> None:
    made = create(admin, pipeline_id)
    answer = admin.call("PUT", f"/webhook-sources/{made['id']}", {"name": "Changed", **fields})
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert admin.ok("GET", f"/webhook-sources/{made['id']}") == made


def test_the_message_says_what_is_wrong_with_an_expression(admin: Admin, pipeline_id: str) -> None:
    made = create(admin, pipeline_id)
    answer = admin.call("PUT", f"/webhook-sources/{made['id']}", {"mappings": {"userId": "$.a["}})
    (detail,) = answer.json()["error"]["details"]
    assert detail["message"].startswith("is not JSONPath such as $.data.id: ")
    answer = admin.call("PUT", f"/webhook-sources/{made['id']}", {"mappings": {"user": "$.a"}})
    assert "userId" in answer.json()["error"]["message"]


def test_lists_are_paged_by_cursor(admin: Admin, pipeline_id: str) -> None:
    made = [create(admin, pipeline_id, name=f"Source {number}")["id"] for number in range(3)]
    found: list[str] = []
    cursor = ""
    while True:
        page = admin.ok("GET", f"/webhook-sources?limit=2&cursor={cursor}")
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert found[-3:] == made
    assert len(found) == len(set(found))
