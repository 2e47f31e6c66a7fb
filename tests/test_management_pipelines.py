"""Seed 001 to the letter: its requests are sent as printed, its answers compared key by key."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from kit import request, wait_until
from management_kit import Admin, error_of, running_admin, seed_curls, seed_json

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ASSIGNED = ("id", "org_id", "pipeline_key", "pipeline_key_secret_prefix", "created_at", "updated_at")
LISTED = {"total", "limit", "offset"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(tmp_path_factory.mktemp("pipelines") / "data") as running:
        yield running


def create(admin: Admin, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = admin.ok("POST", "/pipelines", {"name": "Some site", **fields})
    return made


def read(admin: Admin, pipeline_id: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.ok("GET", f"/pipelines/{pipeline_id}")
    return found


# ── What the seed prints ─────────────────────────────────────────────────────────────────────


def test_create_answers_as_printed(admin: Admin) -> None:
    admin.clock.fixed_ms = 1_772_013_600_123  # 2026-02-25T10:00:00.123Z
    answer = admin.call("POST", "/pipelines", seed_json("Create Pipeline", "Request:"), role="editor")
    admin.clock.fixed_ms = None
    printed, made = seed_json("Create Pipeline", "Response (201 Created)"), answer.json()
    assert answer.status == 201
    assert list(made) == list(printed)
    own = ("id", "org_id", "pipeline_key", "pipeline_key_secret", "pipeline_key_secret_prefix")
    assert {**made, **{name: printed[name] for name in own}} == printed
    assert [made[name][:3] for name in ("id", "org_id", "pipeline_key")] == ["pip", "org", "dk_"]
    assert made["pipeline_key"] == "dk_" + made["id"]
    assert made["pipeline_key_secret"].startswith(made["pipeline_key_secret_prefix"])
    assert re.fullmatch(r"sk_[a-z0-9]{43}", made["pipeline_key_secret"])
    assert re.fullmatch(r"sk_[a-z0-9]{4}", made["pipeline_key_secret_prefix"])


def test_get_answers_as_printed(admin: Admin) -> None:
    asked = {**seed_json("Create Pipeline", "Request:"), "slug": "printed", "name": "Printed"}
    made = create(admin, **asked)
    printed = seed_json("Pipeline Object", "Object")
    found = read(admin, made["id"])
    assert list(found) == list(printed)
    same = [name for name in printed if name not in ASSIGNED and name not in ("name", "slug")]
    assert {name: found[name] for name in same} == {name: printed[name] for name in same}
    assert made["pipeline_key_secret"] not in json.dumps(found)


def test_the_list_answers_as_printed(admin: Admin) -> None:
    made = create(admin, name="Listed", labels=["team:listed"])
    printed = seed_json("List Pipelines", "Response:")
    found = admin.ok("GET", "/pipelines?type=web&label=team:listed")
    assert list(found) == [*printed, "available_labels"]
    assert list(found["pipelines"][0]) == list(printed["pipelines"][0])
    assert {name: found[name] for name in LISTED} == {"total": 1, "limit": 50, "offset": 0}
    assert found["pipelines"][0]["id"] == made["id"]
    assert "team:listed" in found["available_labels"]


def test_update_takes_the_printed_request(admin: Admin) -> None:
    made, asked = create(admin), seed_json("Update Pipeline", "Request:")
    admin.clock.ahead_ms += 5_000
    updated = admin.ok("PUT", f"/pipelines/{made['id']}", asked, role="editor")
    assert {name: updated[name] for name in asked} == asked
    assert updated["slug"] == made["slug"]
    assert updated["updated_at"] > made["updated_at"] == updated["created_at"]
    assert updated == read(admin, made["id"])


def test_every_curl_command_works_as_printed(admin: Admin) -> None:
    """All seven, in an order in which the pipeline is still there."""
    printed = {
        "GET /v1/admin/pipelines": ("pipelines", "total", "limit", "offset", "available_labels"),
        "GET /v1/admin/pipelines/pip_abc123": tuple(seed_json("Pipeline Object", "Object")),
        "POST /v1/admin/pipelines/pip_abc123/rotate-secret": tuple(
            seed_json("Rotate Pipeline Key Secret", "Response:")
        ),
        "POST /v1/admin/pipelines/pip_abc123/tokens": tuple(
            seed_json("Generate Challenge Token", "Response:")
        ),
        "POST /v1/admin/pipelines/pip_abc123/collector/build": tuple(
            seed_json("Collector Build", "Response:")
        ),
        "DELETE /v1/admin/pipelines/pip_abc123": tuple(seed_json("Delete Pipeline", "Response:")),
    }
    pipeline_id = create(admin)["id"]
    curls = sorted(seed_curls(), key=lambda curl: curl[0] == "DELETE")
    assert len(curls) == len(printed)
    for method, url, headers in curls:
        parts = urlsplit(url)
        assert parts.netloc == "localhost:8084"
        sent = {
            name: value.replace("{access_token}", admin.tokens["owner"]) for name, value in headers.items()
        }
        target = f"{admin.base_url}{parts.path.replace('pip_abc123', pipeline_id)}?{parts.query}"
        answer = request(target, method, None, sent)
        assert (answer.status, tuple(answer.json())) == (200, printed[f"{method} {parts.path}"])


def test_delete_is_soft_and_at_once(admin: Admin) -> None:
    made = create(admin, slug="to-be-deleted")
    path = f"/pipelines/{made['id']}"
    assert made["pipeline_key"] in admin.services.configuration.current.by_key
    assert admin.ok("DELETE", path, role="admin") == {"status": "deleted"}
    assert made["pipeline_key"] not in admin.services.configuration.current.by_key
    for method, rest in (
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/tokens"),
        ("POST", "/rotate-secret"),
    ):
        assert admin.error(method, path + rest, {}) == (404, "NOT_FOUND")
    assert made["id"] not in [one["id"] for one in admin.ok("GET", "/pipelines?limit=100")["pipelines"]]
    assert create(admin, slug="to-be-deleted")["id"] != made["id"]
    with closing(sqlite3.connect(admin.services.store.path)) as connection:
        kept = connection.execute(
            "SELECT deleted_at_ms FROM pipelines WHERE id = ?", (made["id"],)
        ).fetchone()
    assert kept[0] is not None


def test_rotating_replaces_the_secret(admin: Admin) -> None:
    made = create(admin)
    rotated = admin.ok("POST", f"/pipelines/{made['id']}/rotate-secret", role="admin")
    assert rotated["pipeline_key"] == made["pipeline_key"]
    assert rotated["pipeline_key_secret"] != made["pipeline_key_secret"]
    assert rotated["pipeline_key_secret"].startswith(rotated["pipeline_key_secret_prefix"])
    assert read(admin, made["id"])["pipeline_key_secret_prefix"] == rotated["pipeline_key_secret_prefix"]


def test_a_challenge_token_lasts_fifteen_minutes(admin: Admin) -> None:
    pipeline_id = create(admin)["id"]
    admin.clock.fixed_ms = 1_772_016_300_000  # 2026-02-25T10:45:00Z
    token = admin.ok("POST", f"/pipelines/{pipeline_id}/tokens", role="editor")
    admin.clock.fixed_ms = None
    assert token["expires_at"] == seed_json("Generate Challenge Token", "Response:")["expires_at"]
    assert re.fullmatch(r"ct_[a-z0-9]{43}", token["token"])


# ── Lists ────────────────────────────────────────────────────────────────────────────────────


def test_search_filters_and_pages(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data") as admin:
        create(admin, name="Café Zürich", labels=["env:production", "plain"])
        create(admin, name="App", type="app", labels=["env:test"], enabled=False)
        create(admin, name="100% _server_", type="server", slug="api-backend")

        def names(query: str) -> list[str]:
            return [one["name"] for one in admin.ok("GET", f"/pipelines?{query}")["pipelines"]]

        everyone = ["Café Zürich", "App", "100% _server_"]
        assert names("") == everyone
        assert names(f"search={quote('CAFÉ')}") == everyone[:1]
        assert names("search=BACKEND") == everyone[2:]
        assert names(f"search={quote('% _')}") == everyone[2:]
        assert names(f"search={quote('%')}") == everyone[2:]
        assert names("search=" + "x" * 10_000) == []
        assert names("type=app") == everyone[1:2]
        assert names("label=env:test") == everyone[1:2]
        assert names("label=env") == []
        assert names("enabled=true") == [everyone[0], everyone[2]]
        assert names("enabled=false") == everyone[1:2]
        assert names("limit=1&offset=1") == everyone[1:2]
        page = admin.ok("GET", "/pipelines?limit=2&offset=2")
        assert {name: page[name] for name in LISTED} == {"total": 3, "limit": 2, "offset": 2}
        assert page["available_labels"] == ["env:production", "env:test", "plain"]


@pytest.mark.parametrize(
    "query",
    [
        *(
            "limit=0",
            "limit=-1",
            "limit=101",
            "limit=1e9",
            "limit=abc",
            "limit=1.5",
            f"limit={2**70}",
            "limit=٣",
        ),
        *("offset=-1", f"offset={2**63}", "offset=abc", "type=sort", "enabled=maybe", "enabled=1"),
    ],
)
def test_a_wrong_query_is_refused(admin: Admin, query: str) -> None:
    name, _, value = query.partition("=")
    answer = admin.call("GET", f"/pipelines?{name}={quote(value)}")
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert answer.json()["error"]["details"][0]["field"] == name


# ── The collector ────────────────────────────────────────────────────────────────────────────


def test_a_build_from_none_to_download(admin: Admin) -> None:
    printed = seed_json("Collector Build", "Check the build status")
    path = f"/pipelines/{create(admin, js_builder_config={'script_filename': 'shop.js'})['id']}"
    status = admin.ok("GET", f"{path}/collector/status", role="viewer")
    assert status["status"] == "no_builds"
    assert error_of(admin.call("GET", f"{path}/collector/download")) == (404, "NOT_FOUND")
    started = admin.ok("POST", f"{path}/collector/build", role="editor")
    assert started == {"status": "building", "pipeline_id": status["pipeline_id"]}
    wait_until(lambda: admin.ok("GET", f"{path}/collector/status")["status"] == "ready", "the build is ready")
    ready = admin.ok("GET", f"{path}/collector/status", role="viewer")
    assert list(ready)[: len(printed)] == list(printed)
    assert re.fullmatch(r"bld_[0-9a-f]+", ready["build_id"])
    assert re.fullmatch(r"[0-9a-f]{8}", ready["version_hash"])
    assert INSTANT.fullmatch(ready["built_at"])
    assert sum(module["gzip_size_bytes"] for module in ready["modules"]) == ready["gzip_size_bytes"]
    assert 0 < ready["brotli_size_bytes"] < ready["gzip_size_bytes"] < ready["file_size_bytes"]
    assert ready["error"] is None
    script = admin.call("GET", f"{path}/collector/download", role="viewer")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert script.headers["Content-Disposition"] == 'attachment; filename="shop.js"'
    assert len(script.body) == ready["file_size_bytes"]
