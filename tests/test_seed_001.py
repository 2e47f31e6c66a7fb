"""Seed 001, Pipelines: each call as it is printed, then each rule that it states in words."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from datafly_lite.configuration import LiveConfiguration
from datafly_lite.keyring import Keyring
from datafly_lite.ui.pipelines import grouped, prefixes_of
from kit import (
    Management,
    RecordingVendor,
    Server,
    open_store,
    recording_vendor,
    request,
    running_server,
    wait_until,
)
from path_kit import insert_configuration
from seed_kit import EVENT, Api, Example, differences, examples, printed_object, run, text_of

EXAMPLES = examples("001")
CREATE = next(one for one in EXAMPLES if (one.method, one.path) == ("POST", "/v1/admin/pipelines"))
ROLES = ("viewer", "editor", "admin", "owner")

ALLOWED = {
    "001 GET /v1/admin/pipelines": {
        "$.available_labels": "the prose names it, without saying where it stands"
    },
    "001 GET /v1/admin/pipelines/{id}/collector/status": {
        f"$.{name}": "api.md, section 2"
        for name in ("gzip_size_bytes", "brotli_size_bytes", "integrity", "modules", "report", "error")
    },
}
"""What an answer has more than the seed prints, and why."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[RecordingVendor]:
    with recording_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {
        "DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "100000",
        "DATAFLY_DELIVERY_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    with running_server(tmp_path_factory.mktemp("seed-001") / "data", env=env) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Api:
    return Api(server, Management(server.base_url).token)


@pytest.fixture
def printed(api: Api) -> Iterator[dict[str, Any]]:
    """The pipeline that the seed creates, with its secret, under another slug; gone at the end."""
    made = api.ok("POST", "/pipelines", {**CREATE.body, "slug": "printed"})
    yield made
    api.call("DELETE", f"/pipelines/{made['id']}")


def new(api: Api, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = api.ok("POST", "/pipelines", {"name": "Some site", **fields})
    return made


def ready(api: Api, pipeline_id: str) -> dict[str, Any]:
    """Build the collector and wait; its status."""
    api.ok("POST", f"/pipelines/{pipeline_id}/collector/build")
    status = f"/pipelines/{pipeline_id}/collector/status"
    wait_until(lambda: api.ok("GET", status)["status"] == "ready", "the build is ready")
    found: dict[str, Any] = api.ok("GET", status)
    return found


# ── As printed ───────────────────────────────────────────────────────────────────────────────


def test_the_seed_was_read_whole() -> None:
    assert len(EXAMPLES) == text_of("001").count("/v1/admin/pipelines") - text_of("001").count("curl -X")
    assert sum(one.answer is not None for one in EXAMPLES) == 9


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_each_call_answers_as_printed(
    api: Api, printed: dict[str, Any], tmp_path: Path, example: Example
) -> None:
    """With the least role that the seed asks for."""
    if "/collector/" in example.path and example.method == "GET":
        ready(api, printed["id"])
    said = run(example, api.server, api.tokens[example.role], printed["id"], tmp_path)
    assert said.status == example.status, said.body
    if example.answer is None:
        assert said.headers["content-type"].split(";")[0] == "application/javascript"
        assert printed["pipeline_key"].encode() in said.body
        return
    answer = said.json()
    assert differences(example.answer, answer, ALLOWED.get(example.name, {})) == []
    assert list(answer)[: len(example.answer)] == list(example.answer), "another order"
    sent = example.body or {}
    assert {name: answer[name] for name in sent if name in answer} == {
        name: value for name, value in sent.items() if name in answer
    }
    if example is CREATE:
        api.call("DELETE", f"/pipelines/{answer['id']}")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_each_call_asks_for_its_role(
    api: Api, printed: dict[str, Any], tmp_path: Path, example: Example
) -> None:
    before = api.ok("GET", f"/pipelines/{printed['id']}")
    for role in ROLES[: ROLES.index(example.role)]:
        said = run(example, api.server, api.tokens[role], printed["id"], tmp_path)
        assert (said.status, said.json()["error"]["code"]) == (403, "FORBIDDEN"), role
    said = run(example, api.server, "nobody", printed["id"], tmp_path)
    assert (said.status, said.json()["error"]["code"]) == (401, "INVALID_TOKEN")
    assert api.ok("GET", f"/pipelines/{printed['id']}") == before


# ── The pipeline object ──────────────────────────────────────────────────────────────────────


def test_only_a_name_is_needed_and_the_rest_has_the_printed_defaults(api: Api) -> None:
    made = new(api, name="Defaults only")
    found, example = api.ok("GET", f"/pipelines/{made['id']}"), printed_object("001")
    assert found["js_builder_config"] == example["js_builder_config"]
    assert found["identity_config"] == example["identity_config"]
    assert (found["rate_limit_rps"], found["type"], found["enabled"]) == (1000, "web", True)
    assert (found["domain_allowlist"], found["labels"], found["parameters"]) == ([], [], {})
    assert (found["config"], found["challenge_token_required"]) == ({}, False)


def test_what_the_tables_default_and_the_object_does_not_print_can_be_written(api: Api) -> None:
    builder = {"vendor_syncs": {"ga4": {}}, "consent_config": {"provider": "x"}, "cross_domain": True}
    identity = {"vendor_sync": {"ga4": {"cookie": "_ga"}}}
    found = api.ok("GET", f"/pipelines/{new(api, js_builder_config=builder, identity_config=identity)['id']}")
    assert found["js_builder_config"] == {**printed_object("001")["js_builder_config"], **builder}
    assert found["identity_config"] == {**printed_object("001")["identity_config"], **identity}


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Grün & Weiß Shop", "grun-wei-shop"),
        ("  ---  ", "pipeline"),
        ("日本", "pipeline"),
        ("A" * 200, "a" * 90),
    ],
)
def test_a_slug_is_made_from_the_name(api: Api, name: str, slug: str) -> None:
    made = new(api, name=name)
    assert re.fullmatch(rf"{slug}(-\d+)?", made["slug"])
    assert new(api, name=name)["slug"] not in ("", made["slug"])


def test_a_slug_is_nobody_elses(api: Api) -> None:
    first, second = new(api, slug="taken-one"), new(api, slug="free-one")
    assert api.error("POST", "/pipelines", {"name": "x", "slug": "taken-one"}) == (409, "CONFLICT")
    assert api.error("PUT", f"/pipelines/{second['id']}", {"slug": "taken-one"}) == (409, "CONFLICT")
    assert api.ok("PUT", f"/pipelines/{first['id']}", {"slug": "taken-one"})["slug"] == "taken-one"


@pytest.mark.parametrize("kind", ["web", "app", "server"])
def test_the_types_are_three(api: Api, kind: str) -> None:
    assert new(api, type=kind)["type"] == kind
    assert api.refused_fields("POST", "/pipelines", {"name": "x", "type": kind.upper()}) == ["type"]


@pytest.mark.parametrize("method", ["download", "cdn", "cluster"])
def test_the_delivery_methods_are_three(api: Api, method: str) -> None:
    made = new(api, js_builder_config={"delivery_method": method})
    assert api.ok("GET", f"/pipelines/{made['id']}")["js_builder_config"]["delivery_method"] == method


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 7),
        ("name", ""),
        ("slug", "Not A Slug"),
        ("domain_allowlist", "www.example.com"),
        ("domain_allowlist[0]", ["https://www.example.com/"]),
        ("labels[0]", [7]),
        ("rate_limit_rps", 0),
        ("rate_limit_rps", "1000"),
        ("challenge_token_required", 1),
        ("parameters.ga4_api_secret", {"ga4_api_secret": 7}),
        ("config", []),
        ("js_builder_config.script_filename", {"script_filename": "../d.js"}),
        ("js_builder_config.global_variable", {"global_variable": "not a name"}),
        ("js_builder_config.delivery_method", {"delivery_method": "post"}),
        ("identity_config.cross_domain_domains[0]", {"cross_domain_domains": ["a b"]}),
        ("enabled", "yes"),
        ("pipeline_key", "dk_mine"),
        ("org_id", "org_other"),
        ("colour", "green"),
    ],
)
def test_a_wrong_field_is_named(api: Api, field: str, value: Any) -> None:
    name, made = re.split(r"[.\[]", field)[0], new(api)
    assert api.refused_fields("POST", "/pipelines", {"name": "x", name: value}) == [field]
    assert api.refused_fields("PUT", f"/pipelines/{made['id']}", {name: value}) == [field]


def test_a_pipeline_without_a_name_is_refused(api: Api) -> None:
    assert api.refused_fields("POST", "/pipelines", {}) == ["name"]
    said = request(
        f"{api.server.base_url}/v1/admin/pipelines",
        "POST",
        b"{",
        {"Authorization": f"Bearer {api.tokens['owner']}"},
    )
    assert (said.status, said.json()["error"]["code"]) == (400, "INVALID_JSON")


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/rotate-secret"),
        ("POST", "/tokens"),
        ("POST", "/collector/build"),
        ("GET", "/collector/status"),
        ("GET", "/collector/download"),
    ],
)
def test_a_pipeline_that_is_not_there(api: Api, method: str, rest: str) -> None:
    assert api.error(method, f"/pipelines/pip_abc123{rest}", {}) == (404, "NOT_FOUND")


def test_the_key_is_the_publics_and_the_prefix_tells_the_secret(api: Api) -> None:
    """The example has `sk_` and four characters, the words say the first four: the example is followed."""
    made = new(api)
    assert made["pipeline_key"] == f"dk_{made['id']}"
    assert made["pipeline_key_secret"][: len("sk_a1b2")] == made["pipeline_key_secret_prefix"]
    assert api.send(made["pipeline_key"]) == 200


# ── What collection makes of it ──────────────────────────────────────────────────────────────


def test_an_empty_allowlist_allows_all_and_a_full_one_its_domains(api: Api) -> None:
    made = new(api)
    assert api.send(made["pipeline_key"], origin="https://anywhere.example") == 200
    api.ok("PUT", f"/pipelines/{made['id']}", {"domain_allowlist": ["www.example.com"]})
    assert api.send(made["pipeline_key"], origin="https://www.example.com") == 200
    assert api.send(made["pipeline_key"], origin="https://anywhere.example") == 403


def test_the_rate_limit_is_events_a_second(api: Api) -> None:
    made = new(api, rate_limit_rps=1)
    assert 429 in [api.send(made["pipeline_key"]) for _ in range(10)]


def test_a_disabled_pipeline_takes_nothing(api: Api) -> None:
    made = new(api)
    api.ok("PUT", f"/pipelines/{made['id']}", {"enabled": False})
    assert api.send(made["pipeline_key"]) == 403
    api.ok("PUT", f"/pipelines/{made['id']}", {"enabled": True})
    assert api.send(made["pipeline_key"]) == 200


def test_a_challenge_token_is_needed_where_it_is_required(api: Api) -> None:
    made = new(api, challenge_token_required=True)
    assert api.send(made["pipeline_key"]) == 401
    token = api.ok("POST", f"/pipelines/{made['id']}/tokens")["token"]
    assert api.send(made["pipeline_key"], headers={"X-Challenge-Token": token}) == 200
    assert api.send(made["pipeline_key"], headers={"X-Challenge-Token": token + "x"}) == 401


def signed(secret: str) -> dict[str, str]:
    stamp = str(time.time_ns() // 1_000_000)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + EVENT, hashlib.sha256).hexdigest()
    return {"X-Timestamp": stamp, "X-Signature": f"sha256={digest}"}


def test_the_secret_is_told_once_and_a_new_one_ends_the_old_at_once(api: Api) -> None:
    made = new(api, type="server")
    key, old = made["pipeline_key"], made["pipeline_key_secret"]
    assert api.send(key, headers=signed(old)) == 200
    path = f"/pipelines/{made['id']}"
    rotated = api.ok("POST", f"{path}/rotate-secret")
    secret = rotated["pipeline_key_secret"]
    assert api.send(key, headers=signed(old)) == 401
    assert api.send(key, headers=signed(secret)) == 200
    assert rotated["pipeline_key"] == key
    assert api.ok("GET", path)["pipeline_key_secret_prefix"] == rotated["pipeline_key_secret_prefix"]
    later = (
        api.call("GET", path).body,
        api.call("GET", "/pipelines?limit=100").body,
        api.call("PUT", path, {"name": "Once"}).body,
        api.call("GET", "/audit-logs?limit=100").body,
        api.server.output().encode(),
    )
    for one in (old, secret):
        assert not any(one.encode() in body for body in later)


def test_deleting_is_soft_and_stops_ingestion_at_once(api: Api, server: Server, tmp_path: Path) -> None:
    made = new(api, name="Going", slug="going")
    path = f"/pipelines/{made['id']}"
    assert api.send(made["pipeline_key"]) == 200
    assert api.ok("DELETE", path) == {"status": "deleted"}
    assert api.send(made["pipeline_key"]) == 401
    assert api.error("GET", path) == (404, "NOT_FOUND")
    assert api.error("DELETE", path) == (404, "NOT_FOUND")
    assert made["id"] not in str(api.ok("GET", "/pipelines?limit=100&search=going"))
    assert new(api, slug="going")["id"] != made["id"]
    database = next(Path(_data_dir(server)).glob("*.db"))
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        query = "SELECT name, deleted_at_ms > 0, length(secret_ciphertext) > 0 FROM pipelines WHERE id = ?"
        assert connection.execute(query, (made["id"],)).fetchone() == ("Going", 1, 1)


def _data_dir(server: Server) -> str:
    command = Path(f"/proc/{server.pid}/cmdline").read_text(encoding="utf-8").split("\0")
    return command[command.index("--data-dir") + 1]


# ── Partial PUT ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("field", list(next(one.body for one in EXAMPLES if one.method == "PUT")))
def test_only_the_fields_to_change_are_included(api: Api, printed: dict[str, Any], field: str) -> None:
    path, sent = f"/pipelines/{printed['id']}", next(one.body for one in EXAMPLES if one.method == "PUT")
    before = api.ok("GET", path)
    after = api.ok("PUT", path, {field: sent[field]})
    assert after == {**before, field: sent[field], "updated_at": after["updated_at"]}
    assert api.ok("GET", path) == after


def test_an_object_of_fixed_fields_changes_in_those_that_are_named(api: Api) -> None:
    made = new(api, js_builder_config={"script_filename": "shop.js"}, parameters={"a": "1", "b": "2"})
    path = f"/pipelines/{made['id']}"
    after = api.ok("PUT", path, {"js_builder_config": {"global_variable": "_shop"}, "parameters": {"a": "3"}})
    assert after["js_builder_config"] == {
        "script_filename": "shop.js",
        "global_variable": "_shop",
        "delivery_method": "cdn",
    }
    assert after["parameters"] == {"a": "3"}, "a map is replaced, or nothing could be taken out of it"


def test_an_object_may_be_put_back_as_it_was_read(api: Api, printed: dict[str, Any]) -> None:
    path = f"/pipelines/{printed['id']}"
    before = api.ok("GET", path)
    assert {**api.ok("PUT", path, before), "updated_at": ""} == {**before, "updated_at": ""}


# ── The list ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def shelf(api: Api) -> list[dict[str, Any]]:
    """Three whose names no other test uses."""
    return [
        new(api, name="Shelf Ängström", slug="shelf-one", labels=["shelf:a", "shelf:b", "shelf-plain"]),
        new(api, name="Shelf two", type="app", labels=["shelf:b"], enabled=False),
        new(api, name="third", slug="on-the-shelf", type="server"),
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search=SHELF", [0, 1, 2]),
        ("search=%C3%84NGSTR%C3%96M", [0]),
        ("search=shelf&type=app", [1]),
        ("search=shelf&type=web", [0]),
        ("label=shelf:b", [0, 1]),
        ("label=shelf:a", [0]),
        ("label=shelf", []),
        ("label=shelf-plain", [0]),
        ("search=shelf&enabled=false", [1]),
        ("search=shelf&enabled=true", [0, 2]),
        ("search=shelf&limit=2", [0, 1]),
        ("search=shelf&limit=2&offset=2", [2]),
        ("search=shelf&offset=9", []),
        ("search=shelf&label=shelf:b&enabled=false&type=app", [1]),
    ],
)
def test_the_list_by_each_parameter(
    api: Api, shelf: list[dict[str, Any]], query: str, found: list[int]
) -> None:
    answer = api.ok("GET", f"/pipelines?{query}")
    assert [one["id"] for one in answer["pipelines"]] == [shelf[index]["id"] for index in found]
    if "limit" not in query and "offset" not in query:
        assert (answer["total"], answer["limit"], answer["offset"]) == (len(found), 50, 0)


def test_available_labels_are_those_of_all_pipelines(api: Api, shelf: list[dict[str, Any]]) -> None:
    """So that the prefixes to group by are found on every page and under every filter."""
    for query in ("", "?limit=1", "?label=shelf:a", "?search=nothing+at+all"):
        labels = api.ok("GET", f"/pipelines{query}")["available_labels"]
        assert {"shelf:a", "shelf:b", "shelf-plain"} <= set(labels)
        assert len(labels) == len(set(labels))


def test_a_page_has_50_at_first_and_100_at_most(api: Api) -> None:
    made = [new(api, name="Many", labels=["many"])["id"] for _ in range(101)]
    first = api.ok("GET", "/pipelines?label=many")
    assert (len(first["pipelines"]), first["limit"], first["total"]) == (50, 50, 101)
    most = api.ok("GET", "/pipelines?label=many&limit=100")
    assert [one["id"] for one in most["pipelines"]] == made[:100]
    assert api.error("GET", "/pipelines?limit=101") == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "type=sms", "enabled=maybe"])
def test_a_parameter_that_cannot_be_meant_is_refused(api: Api, query: str) -> None:
    assert api.error("GET", f"/pipelines?{query}") == (422, "VALIDATION_ERROR")


# ── Parameters ───────────────────────────────────────────────────────────────────────────────


def test_parameters_fill_the_placeholders_of_a_template_that_pipelines_share(
    api: Api, receiver: RecordingVendor
) -> None:
    """Also after a change; one that is missing stays as it is, with a warning in the log."""
    config = {"url": receiver.url + "{{pipeline_param.shop}}/{{pipeline_param.absent}}"}
    template = api.ok(
        "POST", "/integration-templates", {"name": "Shared", "vendor": "webhook", "config": config}
    )
    first, second = (new(api, parameters={"shop": shop}) for shop in ("north", "south"))
    for one in (first, second):
        api.ok("POST", f"/pipelines/{one['id']}/integrations", {"integration_id": template["id"]})
        assert api.send(one["pipeline_key"]) == 200
    wait_until(lambda: len(receiver.received) == 2, "both were delivered")
    paths = {one.path.split("/")[1]: one.path for one in receiver.received}
    assert set(paths) == {"north", "south"}
    assert all("pipeline_param.absent" in path for path in paths.values())
    warnings = [line for line in api.server.output().splitlines() if "parameters are missing" in line]
    assert any('"absent"' in line for line in warnings)
    api.ok("PUT", f"/pipelines/{first['id']}", {"parameters": {"shop": "west", "absent": "here"}})
    assert api.send(first["pipeline_key"]) == 200
    wait_until(lambda: len(receiver.received) == 3, "the third was delivered")
    assert receiver.received[2].path == "/west/here"


class Stop(Exception):
    """Ends a loop that has no end."""


@pytest.mark.anyio
async def test_the_configuration_is_read_again_every_five_seconds(tmp_path: Path) -> None:
    """Without a change that was made here: another process may have written."""
    waits: list[float] = []
    keyring = Keyring.open(tmp_path / "secret.key", create=True)
    async with open_store(tmp_path / "datafly.db") as store:
        configuration = LiveConfiguration(store, keyring)
        await configuration.reload()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                raise Stop
            await store.write(insert_configuration, keyring)

        with pytest.raises(Stop):
            await configuration.run(sleep)
    assert waits == [5.0, 5.0]
    assert "dk_1" in configuration.current.by_key


def test_a_pipeline_stands_in_each_group_of_its_labels_prefix() -> None:
    labels = {"both": ["brand:acme", "brand:widgets"], "one": ["brand:acme", "env:test"], "plain": ["acme"]}
    found = [{"name": name, "labels": own} for name, own in labels.items()]
    groups = {heading: [one["name"] for one in inside] for heading, inside in grouped(found, "brand")}
    assert (groups["brand: acme"], groups["brand: widgets"]) == (["both", "one"], ["both"])
    assert sum("plain" in inside for inside in groups.values()) == 1
    assert prefixes_of(label for own in labels.values() for label in own) == ["brand", "env"]


# ── The collector ────────────────────────────────────────────────────────────────────────────


def test_the_states_of_a_build(api: Api) -> None:
    made = new(api, js_builder_config={"script_filename": "shop.js", "global_variable": "_shop"})
    path = f"/pipelines/{made['id']}/collector"
    assert api.ok("GET", f"{path}/status")["status"] == "no_builds"
    assert api.error("GET", f"{path}/download") == (404, "NOT_FOUND")
    status = ready(api, made["id"])
    script = api.call("GET", f"{path}/download")
    assert len(script.body) == status["file_size_bytes"]
    assert hashlib.sha256(script.body).hexdigest()[:8] == status["version_hash"]
    assert b"_shop" in script.body
    served = request(f"{api.server.base_url}/c/{made['pipeline_key']}/shop.js")
    assert served.body == script.body


def test_a_build_names_what_was_asked_of_it_and_is_not_in_it(api: Api) -> None:
    """The seed has vendor syncs and consent in the build; what the collector lacks it must not hide."""
    made = new(api, js_builder_config={"vendor_syncs": {"ga4": {}}, "consent_config": {"provider": "x"}})
    report = json.dumps(ready(api, made["id"])["report"])
    assert ("vendor_syncs" in report, "consent_config" in report) == (True, True)
