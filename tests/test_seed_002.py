"""Seed 002, Sources: each call as it is printed, then each rule that it states in words."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.management.source_view import cookie_domain_of
from kit import Management, RecordingVendor, Server, recording_vendor, request, running_server, wait_until
from management_kit import running_admin
from seed_kit import Api, Example, differences, examples, printed_object, run, text_of

EXAMPLES = examples("002")
CREATE, UPDATE = (
    next(one for one in EXAMPLES if (one.method, one.body is not None) == (method, True))
    for method in ("POST", "PUT")
)
ROLES = ("viewer", "editor", "admin", "owner")
SITE = "https://shop.example.com"

ALLOWED = {
    "002 GET /v1/admin/sources": {"$.next_cursor": "where nothing follows (spec/datafly-signal.md, 1.3)"},
    "002 GET /v1/admin/sources/{id}": {"$.collector_build": "the prose has the source polled for it"},
}
"""What an answer has more or less than the seed prints, and why."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[RecordingVendor]:
    with recording_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seed-002") / "data"


@pytest.fixture(scope="module")
def server(data_folder: Path) -> Iterator[Server]:
    env = {
        "DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "100000",
        "DATAFLY_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
        "DATAFLY_PUBLIC_URL": "http://data.example.com",
    }
    with running_server(data_folder, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Api:
    return Api(server, Management(server.base_url).token)


@pytest.fixture
def printed(api: Api) -> Iterator[dict[str, Any]]:
    """The source that the seed creates; gone at the end."""
    made = api.ok("POST", "/sources", CREATE.body)
    yield made
    api.call("DELETE", f"/sources/{made['id']}")


def new(api: Api, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok(
        "POST", "/sources", {"name": "Some shop", "domain": "shop.example.com", **fields}
    )
    return made


def pipeline_of(api: Api, source: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.ok("GET", f"/pipelines/{source['id'].replace('src_', 'pip_')}")
    return found


def built(api: Api, source_id: str) -> dict[str, Any]:
    """Build, and poll the source, as the seed says; the source."""
    started = api.ok("POST", f"/sources/{source_id}/collector/build")

    def is_ready() -> bool:
        build = api.ok("GET", f"/sources/{source_id}")["collector_build"]
        return (build["build_id"], build["status"]) == (started["build_id"], "ready")

    wait_until(is_ready, "the source says that its build is ready")
    found: dict[str, Any] = api.ok("GET", f"/sources/{source_id}")
    return found


# ── As printed ───────────────────────────────────────────────────────────────────────────────


def test_the_seed_was_read_whole() -> None:
    assert len(EXAMPLES) == text_of("002").count("/v1/admin/sources") - text_of("002").count("curl -X")
    assert sum(one.answer is not None for one in EXAMPLES) == 5


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_each_call_answers_as_printed(
    api: Api, printed: dict[str, Any], tmp_path: Path, example: Example
) -> None:
    """With the least role that the seed asks for."""
    said = run(example, api.server, api.tokens[example.role], printed["id"], tmp_path)
    assert said.status == example.status, said.body
    if example.answer is None:
        _check_without_json(example, said.headers, said.body)
        return
    answer = said.json()
    assert differences(example.answer, answer, ALLOWED.get(example.name, {})) == []
    assert list(answer)[: len(example.answer)] == list(example.answer), "another order"
    sent = example.body or {}
    assert {name: answer[name] for name in sent} == sent
    if example is CREATE:
        api.call("DELETE", f"/sources/{answer['id']}")


def _check_without_json(example: Example, headers: Any, body: bytes) -> None:
    if example.method == "DELETE":
        assert body == b""
        return
    assert headers["content-type"].split(";")[0] == "application/javascript"
    assert headers["content-disposition"].startswith("attachment")
    assert b"_df" in body


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_each_call_asks_for_its_role(
    api: Api, printed: dict[str, Any], tmp_path: Path, example: Example
) -> None:
    before = api.ok("GET", f"/sources/{printed['id']}")
    for role in ROLES[: ROLES.index(example.role)]:
        said = run(example, api.server, api.tokens[role], printed["id"], tmp_path)
        assert (said.status, said.json()["error"]["code"]) == (403, "FORBIDDEN"), role
    said = run(example, api.server, "nobody", printed["id"], tmp_path)
    assert (said.status, said.json()["error"]["code"]) == (401, "INVALID_TOKEN")
    assert api.ok("GET", f"/sources/{printed['id']}") == before


# ── Two views of one record ──────────────────────────────────────────────────────────────────


def test_a_source_is_a_pipeline(api: Api, printed: dict[str, Any]) -> None:
    pipeline, config = pipeline_of(api, printed), CREATE.body["config"]
    assert (pipeline["name"], pipeline["type"]) == (printed["name"], "web")
    assert pipeline["pipeline_key"] == printed["pipeline_key"]
    assert pipeline["domain_allowlist"] == ["shop.example.com", "checkout.example.com"]
    assert pipeline["js_builder_config"] == {
        "script_filename": "d.js",
        "global_variable": "_df",
        "delivery_method": "cdn",
        "vendor_syncs": {"ga4": {}, "meta_capi": {}, "google_ads": {}},
        "consent_config": config["consent"],
        "cross_domain": True,
    }
    assert pipeline["identity_config"] == {
        "cross_domain_enabled": True,
        "cross_domain_domains": config["cross_domain"]["domains"],
    }


def test_a_pipeline_is_a_source(api: Api) -> None:
    made = api.ok(
        "POST",
        "/pipelines",
        {
            "name": "From the other side",
            "domain_allowlist": ["www.example.org", "example.org"],
            "js_builder_config": {
                "script_filename": "x.js",
                "vendor_syncs": {"ga4": {"cookie": "_ga"}},
                "consent_config": printed_object("002")["config"]["consent"],
            },
        },
    )
    source = api.ok("GET", f"/sources/{made['id'].replace('pip_', 'src_')}")
    assert (
        differences(printed_object("002"), {**source, "pipeline_key": "dk_live_x"}, {"$.collector_build": ""})
        == []
    )
    assert (source["pipeline_key"], source["domain"]) == (made["pipeline_key"], "www.example.org")
    assert (source["config"]["vendors"], source["config"]["collector"]["filename"]) == (["ga4"], "x.js")
    assert source["id"] in [one["id"] for one in everyone(api)]


def test_a_change_on_one_side_is_seen_on_the_other(api: Api, printed: dict[str, Any]) -> None:
    path = f"/pipelines/{pipeline_of(api, printed)['id']}"
    api.ok("PUT", path, {"name": "New name", "js_builder_config": {"global_variable": "_shop"}})
    source = api.ok("GET", f"/sources/{printed['id']}")
    assert (source["name"], source["config"]["collector"]["global_var"]) == ("New name", "_shop")
    api.ok("PUT", path, {"domain_allowlist": ["other.example.com"]})
    assert api.ok("GET", f"/sources/{printed['id']}")["domain"] == "other.example.com"


def test_putting_a_source_back_changes_nothing_of_the_pipeline(api: Api) -> None:
    made = api.ok(
        "POST",
        "/pipelines",
        {
            "name": "Kept",
            "domain_allowlist": ["a.example.com", "*.example.net"],
            "labels": ["env:test"],
            "parameters": {"a": "1"},
            "config": {"cookie_domain": ".example.com", "mine": [1]},
            "js_builder_config": {
                "batch_size": 5,
                "vendor_syncs": {"ga4": {"cookie": "_ga"}},
                "cross_domain": False,
            },
            "identity_config": {
                "vendor_sync": {"ga4": {}},
                "cross_domain_enabled": True,
                "cross_domain_domains": ["c.example.com"],
            },
        },
    )
    pipeline, path = f"/pipelines/{made['id']}", f"/sources/{made['id'].replace('pip_', 'src_')}"
    before = api.ok("GET", pipeline)
    api.ok("PUT", path, api.ok("GET", path))
    after = api.ok("GET", pipeline)
    assert after["js_builder_config"] == {**before["js_builder_config"], "consent_config": {}}
    same = [name for name in before if name not in ("updated_at", "js_builder_config")]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_what_a_pipeline_has_no_field_for_comes_back_as_written(api: Api) -> None:
    config = {
        "vendors": ["tiktok", "ga4"],
        "consent": {"enabled": False, "default_categories": [], "provider": "onetrust", "geo": {"EU": True}},
        "cross_domain": {"enabled": False, "domains": ["a.example.com"], "param": "_dfx"},
        "collector": {"filename": "shop.js", "global_var": "_shop", "minify": False},
        "notes": ["kept", None, 1.5],
    }
    made = new(api, config=config)
    path = f"/sources/{made['id']}"
    assert made["config"] == config
    assert api.ok("GET", path)["config"] == config
    api.ok("PUT", f"/pipelines/{pipeline_of(api, made)['id']}", {"config": {}, "labels": ["env:test"]})
    assert api.ok("GET", path)["config"] == config
    assert api.ok("PUT", path, {"name": "x", "domain": "", "config": config})["config"] == config


def test_the_key_is_generated_and_collects(api: Api, printed: dict[str, Any]) -> None:
    assert printed["pipeline_key"].startswith("dk_live_")
    assert new(api)["pipeline_key"] != new(api)["pipeline_key"]
    assert api.send(printed["pipeline_key"], origin=SITE) == 200


def test_the_domain_is_for_cors_and_cookies(api: Api) -> None:
    made = new(api, domain="example.com")
    assert api.send(made["pipeline_key"], origin="https://example.com") == 200
    assert api.send(made["pipeline_key"], origin="https://elsewhere.example") == 403
    assert "Domain=example.com" in api.visitor_cookie(made["pipeline_key"], "https://example.com")
    other = api.ok("PUT", f"/sources/{made['id']}", {"name": "x", "domain": "example.org"})
    assert api.send(made["pipeline_key"], origin="https://example.com") == 403
    assert "Domain=" not in api.visitor_cookie(other["pipeline_key"], "https://example.org")


@pytest.mark.parametrize(
    ("domain", "host", "cookie_domain"),
    [
        ("www.example.com", "data.example.com", "example.com"),
        ("example.com", "example.com", "example.com"),
        ("*.example.com", "data.example.com", "example.com"),
        ("shop.example.com", "data.shop.example.com", "shop.example.com"),
        ("shop.example.com", "data.example.com", ""),
        ("example.com", "badexample.com", ""),
        ("127.0.0.1", "127.0.0.1", ""),
        ("localhost", "localhost", ""),
        ("", "data.example.com", ""),
    ],
)
def test_a_cookie_is_never_for_a_domain_that_browsers_would_refuse(
    domain: str, host: str, cookie_domain: str
) -> None:
    assert cookie_domain_of(domain, host) == cookie_domain


def test_domains_of_an_enabled_cross_domain_may_send_too(api: Api, printed: dict[str, Any]) -> None:
    key, checkout = printed["pipeline_key"], "https://checkout.example.com"
    assert api.send(key, origin=checkout) == 200
    config = {
        **CREATE.body["config"],
        "cross_domain": {"enabled": False, "domains": ["checkout.example.com"]},
    }
    api.ok("PUT", f"/sources/{printed['id']}", {**CREATE.body, "config": config})
    assert (api.send(key, origin=checkout), api.send(key, origin=SITE)) == (403, 200)


# ── The list ─────────────────────────────────────────────────────────────────────────────────


def everyone(api: Api, limit: int = 100) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    found: list[dict[str, Any]] = []
    page = api.ok("GET", f"/sources?limit={limit}")
    while page["has_more"]:
        found += page["data"]
        page = api.ok("GET", f"/sources?limit={limit}&cursor={page['next_cursor']}")
    assert page["next_cursor"] is None
    return [*found, *page["data"]]


def test_the_list_goes_by_cursor_with_50_at_first_and_100_at_most(api: Api) -> None:
    made = [new(api, name="Many")["id"] for _ in range(101)]
    first = api.ok("GET", "/sources")
    assert (len(first["data"]), first["has_more"]) == (50, True)
    assert json.loads(base64.b64decode(first["next_cursor"]))["id"] == first["data"][-1]["id"]
    assert len(api.ok("GET", "/sources?limit=100")["data"]) == 100
    listed = [one["id"] for one in everyone(api, limit=40)]
    assert [one for one in listed if one in made] == made
    assert len(listed) == len(set(listed))
    for source_id in made:
        api.ok("DELETE", f"/sources/{source_id}")


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "limit=x", "cursor=x", "cursor=eyJpZCI6MTB9"])
def test_a_parameter_that_was_not_given_out_is_refused(api: Api, query: str) -> None:
    """The printed cursor holds a number; these here hold the id of the last row seen."""
    assert api.error("GET", f"/sources?{query}") == (422, "VALIDATION_ERROR")


# ── Full PUT ─────────────────────────────────────────────────────────────────────────────────


def test_all_fields_replace_the_current_values(api: Api, printed: dict[str, Any]) -> None:
    path = f"/sources/{printed['id']}"
    after = api.ok("PUT", path, UPDATE.body)
    assert {name: after[name] for name in UPDATE.body} == UPDATE.body
    emptied = api.ok("PUT", path, {"name": "Bare", "domain": "shop.example.com"})
    assert emptied["config"] == {
        "vendors": [],
        "consent": {"enabled": False, "default_categories": [], "provider": ""},
        "cross_domain": {"enabled": False, "domains": []},
        "collector": {"filename": "d.js", "global_var": "_df"},
    }
    assert pipeline_of(api, printed)["domain_allowlist"] == ["shop.example.com"]
    assert {**api.ok("GET", path), "collector_build": ""} == {**emptied, "collector_build": ""}


@pytest.mark.parametrize("missing", ["name", "domain"])
def test_a_put_without_a_field_is_refused(api: Api, printed: dict[str, Any], missing: str) -> None:
    fields = {name: value for name, value in UPDATE.body.items() if name != missing}
    before = api.ok("GET", f"/sources/{printed['id']}")
    assert api.refused_fields("PUT", f"/sources/{printed['id']}", fields) == [missing]
    assert api.refused_fields("POST", "/sources", fields) == [missing]
    assert api.ok("GET", f"/sources/{printed['id']}") == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\nb"),
        ("domain", None),
        ("domain", "https://shop.example.com/"),
        ("domain", ["shop.example.com"]),
        ("config", []),
        ("config.vendors", {"vendors": "ga4"}),
        ("config.vendors[1]", {"vendors": ["ga4", 7]}),
        ("config.consent.enabled", {"consent": {"enabled": "yes"}}),
        ("config.consent.default_categories[0]", {"consent": {"default_categories": [""]}}),
        ("config.consent.provider", {"consent": {"provider": 7}}),
        ("config.cross_domain", {"cross_domain": True}),
        ("config.cross_domain.domains[0]", {"cross_domain": {"domains": ["a b"]}}),
        ("config.collector.filename", {"collector": {"filename": "../d.js"}}),
        ("config.collector.filename", {"collector": {"filename": 7}}),
        ("config.collector.global_var", {"collector": {"global_var": "window"}}),
        ("pipeline_key", "dk_live_mine"),
        ("id", "src_other"),
        ("slug", "shop"),
    ],
)
def test_a_wrong_field_is_named(api: Api, printed: dict[str, Any], field: str, value: Any) -> None:
    name = field.split(".")[0]
    for method, path in (("POST", "/sources"), ("PUT", f"/sources/{printed['id']}")):
        assert api.refused_fields(method, path, {**UPDATE.body, name: value}) == [field]
    assert pipeline_of(api, printed)["name"] == CREATE.body["name"]


@pytest.mark.parametrize("id_", ["src_abc123", "pip_abc123", "src_", "wh_abc123", "x"])
@pytest.mark.parametrize("example", EXAMPLES[2:], ids=lambda one: f"{one.method} {one.path}")
def test_a_source_that_is_not_there(api: Api, example: Example, id_: str) -> None:
    path = example.path.removeprefix("/v1/admin").replace("{id}", id_)
    assert api.error(example.method, path, UPDATE.body) == (404, "NOT_FOUND")


def test_a_pipelines_own_id_is_not_a_sources(api: Api, printed: dict[str, Any]) -> None:
    pipeline_id = pipeline_of(api, printed)["id"]
    assert api.error("GET", f"/sources/{pipeline_id}") == (404, "NOT_FOUND")
    assert api.error("DELETE", f"/pipelines/{printed['id']}") == (404, "NOT_FOUND")


# ── Hard delete ──────────────────────────────────────────────────────────────────────────────


def attached(api: Api, source: dict[str, Any], receiver: RecordingVendor, secret: str = "") -> str:
    config = {"url": receiver.url, "authentication": "bearer", "auth_token": secret or "t"}
    template = api.ok(
        "POST", "/integration-templates", {"name": source["id"], "vendor": "webhook", "config": config}
    )
    path = f"/pipelines/{pipeline_of(api, source)['id']}/integrations"
    return str(api.ok("POST", path, {"integration_id": template["id"]})["id"])


def test_deleting_cannot_be_taken_back(api: Api, data_folder: Path, receiver: RecordingVendor) -> None:
    """Key, settings, secrets, builds, webhook sources and the place at integrations: all gone at once."""
    made = new(api, name="Gone", config={**CREATE.body["config"], "notes": "planted-note"})
    pipeline_id, attachment_id = pipeline_of(api, made)["id"], attached(api, made, receiver)
    api.ok("PUT", f"/pipelines/{pipeline_id}", {"parameters": {"secret": "planted-parameter"}})
    hook = {"pipeline_id": pipeline_id, "name": "Hook", "source_type": "custom", "signing_secret": "x" * 20}
    hook_id = api.ok("POST", "/webhook-sources", hook)["id"]
    built(api, made["id"])
    said = api.call("DELETE", f"/sources/{made['id']}")
    assert (said.status, said.body) == (204, b"")
    assert api.send(made["pipeline_key"], origin=SITE) == 401
    for path in (f"/sources/{made['id']}", f"/pipelines/{pipeline_id}", f"/webhook-sources/{hook_id}"):
        assert api.error("GET", path) == (404, "NOT_FOUND")
    assert api.error("DELETE", f"/sources/{made['id']}") == (404, "NOT_FOUND")
    assert made["id"] not in [one["id"] for one in everyone(api)]
    script = request(f"{api.server.base_url}/c/{made['pipeline_key']}/d.js")
    assert script.status == 404
    with closing(sqlite3.connect(f"file:{data_folder / 'datafly.db'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT * FROM pipelines WHERE id = ?", (pipeline_id,)).fetchone()
        queries = {
            "SELECT count(*) FROM collector_builds WHERE pipeline_id = ?": pipeline_id,
            "SELECT count(*) - count(detached_at_ms) FROM pipeline_integrations WHERE id = ?": attachment_id,
            "SELECT length(secret_ciphertext) FROM webhook_sources WHERE id = ?": hook_id,
            "SELECT length(secret_ciphertext) FROM pipelines WHERE id = ?": pipeline_id,
        }
        left = [database.execute(query, (id_,)).fetchone()[0] for query, id_ in queries.items()]
    assert "planted" not in str(row)
    assert left == [0, 0, 0, 0]


def test_its_name_is_free_again(api: Api) -> None:
    first = new(api, name="Phoenix")
    slug = pipeline_of(api, first)["slug"]
    api.ok("DELETE", f"/sources/{first['id']}")
    assert pipeline_of(api, new(api, name="Phoenix"))["slug"] == slug


def test_a_deletion_stops_what_waits_for_its_integrations(api: Api, receiver: RecordingVendor) -> None:
    made = new(api)
    pipeline_id, attachment_id = pipeline_of(api, made)["id"], attached(api, made, receiver)
    api.ok("PUT", f"/pipelines/{pipeline_id}/integrations/{attachment_id}", {"mode": "paused"})
    assert api.send(made["pipeline_key"]) == 200
    path = f"/deliveries?pipeline_id={pipeline_id}"
    wait_until(lambda: api.ok("GET", path)["data"], "the delivery waits")
    api.ok("DELETE", f"/sources/{made['id']}")
    assert [one["status"] for one in api.ok("GET", path)["data"]] == ["dropped"]


def test_events_in_flight_are_still_processed(tmp_path: Path) -> None:
    """Accepted before the deletion, read from the log after it."""
    with running_admin(tmp_path / "data") as admin:
        made = admin.ok("POST", "/sources", CREATE.body)
        admin.ok("DELETE", f"/sources/{made['id']}")
        pipeline_id = made["id"].replace("src_", "pip_")
        admin.process(pipeline_id, {"type": "track", "event": "Late", "messageId": "late-1"})
        trace = admin.ok("GET", f"/events/{pipeline_id}/late-1")
    assert (trace["processed"], trace["drop_reason"], trace["deliveries"]) == (True, None, [])
    assert trace["final"]["event"] == "Late"


# ── The collector ────────────────────────────────────────────────────────────────────────────


def test_without_a_build_the_default_one_is_downloaded(api: Api) -> None:
    made = new(api, config={"collector": {"filename": "shop.js", "global_var": "_shop"}})
    said = api.call("GET", f"/sources/{made['id']}/collector/download", role="editor")
    assert said.headers["content-disposition"] == 'attachment; filename="shop.js"'
    assert said.body == request(f"{api.server.base_url}/datafly.js").body
    assert api.ok("GET", f"/sources/{made['id']}")["collector_build"]["status"] == "no_builds"


def test_a_change_of_the_source_needs_a_new_build_to_be_served(api: Api) -> None:
    made = new(api, config={"vendors": ["ga4"], "collector": {"global_var": "_first"}})
    source, download = f"/sources/{made['id']}", f"/sources/{made['id']}/collector/download"
    served = f"{api.server.base_url}/c/{made['pipeline_key']}/d.js"
    assert built(api, made["id"])["collector_build"]["error"] is None
    first = api.call("GET", download).body
    assert b"_first" in first
    config = {"vendors": ["ga4", "tiktok"], "collector": {"global_var": "_second"}}
    api.ok("PUT", source, {"name": "x", "domain": "shop.example.com", "config": config})
    assert request(served).body == api.call("GET", download).body == first
    built(api, made["id"])
    second = request(served).body
    assert b"_second" in second
    assert api.call("GET", download).body == second


def test_a_build_is_the_pipelines_too(api: Api) -> None:
    made = new(api)
    started = api.ok("POST", f"/sources/{made['id']}/collector/build")
    status = f"/pipelines/{pipeline_of(api, made)['id']}/collector/status"
    wait_until(lambda: api.ok("GET", status)["status"] == "ready", "the build is ready")
    assert api.ok("GET", status)["build_id"] == started["build_id"]


# ── The audit log ────────────────────────────────────────────────────────────────────────────


def test_every_change_of_a_source_is_in_the_audit_log(api: Api) -> None:
    made = new(api)
    api.ok("PUT", f"/sources/{made['id']}", {"name": "Renamed", "domain": "shop.example.com"})
    api.ok("POST", f"/sources/{made['id']}/collector/build")
    api.ok("DELETE", f"/sources/{made['id']}")
    entries = api.ok("GET", f"/audit-logs?resource_id={made['id']}")["data"]
    assert [one["action"] for one in entries] == [
        "source.deleted",
        "source.collector_built",
        "source.updated",
        "source.created",
    ]
    assert entries[2]["changes"] == {"name": {"old": "Some shop", "new": "Renamed"}}
