"""What a pipeline's fields may hold, and that everything else is refused and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from datafly_lite.management import fields
from management_kit import SEED, Admin, error_of, running_admin


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


# ── Fields ───────────────────────────────────────────────────────────────────────────────────

CONTROL = ("\n", "\r\n", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028")
WRONG_COOKIE_DOMAINS = (
    *("https://example.com", "example.com; Secure", "a.example\r\nX: y", "..example.com", ".", "a_b.example"),
    *("*.example.com", " ", "example.com:80", None, 5, ["example.com"], "x" * 300),
)

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": " \t"}, "name"),
    ({"name": 1}, "name"),
    ({"name": None}, "name"),
    ({"name": ["x"]}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"slug": "Upper"}, "slug"),
    ({"slug": "../etc"}, "slug"),
    ({"slug": "a--b"}, "slug"),
    ({"slug": "-a"}, "slug"),
    ({"slug": "a" * 101}, "slug"),
    ({"type": "desktop"}, "type"),
    ({"type": {}}, "type"),
    ({"domain_allowlist": "example.com"}, "domain_allowlist"),
    ({"domain_allowlist": ["ok.example", "https://example.com"]}, "domain_allowlist[1]"),
    ({"domain_allowlist": ["example.com/path"]}, "domain_allowlist[0]"),
    ({"domain_allowlist": ["*"]}, "domain_allowlist[0]"),
    ({"domain_allowlist": ["a..b"]}, "domain_allowlist[0]"),
    ({"domain_allowlist": [None]}, "domain_allowlist[0]"),
    ({"domain_allowlist": ["x" * 300]}, "domain_allowlist[0]"),
    ({"labels": {"env": "x"}}, "labels"),
    ({"labels": [""]}, "labels[0]"),
    ({"labels": [["x"]]}, "labels[0]"),
    ({"labels": [str(n) for n in range(101)]}, "labels"),
    ({"rate_limit_rps": 0}, "rate_limit_rps"),
    ({"rate_limit_rps": -1}, "rate_limit_rps"),
    ({"rate_limit_rps": 2**70}, "rate_limit_rps"),
    ({"rate_limit_rps": 1000.5}, "rate_limit_rps"),
    ({"rate_limit_rps": "1000"}, "rate_limit_rps"),
    ({"rate_limit_rps": True}, "rate_limit_rps"),
    ({"challenge_token_required": 1}, "challenge_token_required"),
    ({"enabled": "yes"}, "enabled"),
    ({"parameters": {"k": 1}}, "parameters.k"),
    ({"parameters": {"k": {"deep": "x"}}}, "parameters.k"),
    ({"parameters": {"no spaces": "x"}}, "parameters.no spaces"),
    ({"parameters": {"k": "x" * 4097}}, "parameters.k"),
    *[({"name": f"a{one}b"}, "name") for one in CONTROL],
    *[({"labels": ["ok", f"a{one}b"]}, "labels[1]") for one in CONTROL],
    *[({"parameters": {"k": f"a{one}b"}}, "parameters.k") for one in CONTROL],
    *[({"config": {"cookie_domain": one}}, "config.cookie_domain") for one in WRONG_COOKIE_DOMAINS],
    ({"parameters": {"a\n": "x"}}, "parameters.a\n"),
    ({"config": []}, "config"),
    ({"config": {"huge": 2**70}}, "config"),
    ({"config": {"big": "x" * 70_000}}, "config"),
    ({"js_builder_config": "d.js"}, "js_builder_config"),
    ({"js_builder_config": {"script_filename": "../x.js"}}, "js_builder_config.script_filename"),
    ({"js_builder_config": {"global_variable": "alert(1)//"}}, "js_builder_config.global_variable"),
    ({"js_builder_config": {"global_variable": "__proto__"}}, "js_builder_config.global_variable"),
    ({"identity_config": {"cross_domain_enabled": 1}}, "identity_config.cross_domain_enabled"),
    ({"identity_config": {"cross_domain_domains": ["//evil"]}}, "identity_config.cross_domain_domains[0]"),
    ({"identity_config": {"other": 1}}, "identity_config.other"),
    ({"unknown": 1}, "unknown"),
    ({"role": "owner"}, "role"),
    ({"id": "pip_mine"}, "id"),
    ({"org_id": "org_other"}, "org_id"),
    ({"pipeline_key": "dk_mine"}, "pipeline_key"),
    ({"pipeline_key_secret": "sk_mine"}, "pipeline_key_secret"),
    ({"created_at": "2020-01-01T00:00:00Z"}, "created_at"),
]


@pytest.mark.parametrize(
    ("fields", "field"), WRONG, ids=[f"{field} {n}" for n, (_, field) in enumerate(WRONG)]
)
def test_a_wrong_field_is_refused_by_create_and_update(
    admin: Admin, existing: dict[str, Any], fields: dict[str, Any], field: str
) -> None:
    before, total = read(admin, existing["id"]), admin.ok("GET", "/pipelines")["total"]
    for method, path, body in (
        ("POST", "/pipelines", {"name": "Never made", **fields}),
        ("PUT", f"/pipelines/{existing['id']}", fields),
    ):
        answer = admin.call(method, path, body)
        assert error_of(answer) == (422, "VALIDATION_ERROR")
        assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert read(admin, existing["id"]) == before
    assert admin.ok("GET", "/pipelines")["total"] == total


@pytest.fixture(scope="module")
def existing(admin: Admin) -> dict[str, Any]:
    return create(admin, name="Existing")


def test_all_that_is_wrong_is_told_at_once(admin: Admin) -> None:
    details = admin.call("POST", "/pipelines", {"type": "x", "labels": 1, "z": 0}).json()["error"]["details"]
    assert sorted(detail["field"] for detail in details) == ["labels", "name", "type", "z"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("Example.com", "example.com"),
        (".shop.example", ".shop.example"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_cookie_domain_is_a_host_name_and_other_keys_are_free(admin: Admin, given: str, kept: str) -> None:
    made = create(admin, config={"cookie_domain": given, "x": ["\n"]})
    assert read(admin, made["id"])["config"] == {"cookie_domain": kept, "x": ["\n"]}


def test_deep_nesting_is_refused(admin: Admin) -> None:
    for depth in (40, 900):
        body = b'{"name":"x","config":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        assert error_of(admin.send("POST", "/pipelines", body))[0] in (400, 422)


def test_a_client_may_put_back_what_it_got(admin: Admin) -> None:
    found = read(admin, create(admin, labels=["a"], parameters={"k": "v"})["id"])
    again = admin.ok("PUT", f"/pipelines/{found['id']}", found)
    assert {**again, "updated_at": found["updated_at"]} == found


def test_fixed_objects_are_merged_and_free_ones_replaced(admin: Admin) -> None:
    made = create(
        admin,
        parameters={"a": "1", "b": "2"},
        config={"cookie_domain": "example.com", "x": 1},
        js_builder_config={"script_filename": "shop.js", "auto_page": False},
    )
    changed = {
        "parameters": {"b": "3"},
        "config": {},
        "js_builder_config": {"global_variable": "shop"},
        "identity_config": {"cross_domain_enabled": True},
    }
    updated = admin.ok("PUT", f"/pipelines/{made['id']}", changed)
    assert updated["parameters"] == {"b": "3"}
    assert updated["config"] == {}
    assert updated["js_builder_config"] == {
        "script_filename": "shop.js",
        "global_variable": "shop",
        "delivery_method": "cdn",
        "auto_page": False,
    }
    assert updated["identity_config"] == {"cross_domain_enabled": True, "cross_domain_domains": []}


def test_domains_are_kept_in_the_form_that_browsers_send(admin: Admin) -> None:
    made = create(
        admin, domain_allowlist=["WWW.Example.com", "bücher.example", "*.shop.example", "localhost"]
    )
    assert made["domain_allowlist"] == [
        "www.example.com",
        "xn--bcher-kva.example",
        "*.shop.example",
        "localhost",
    ]


# ── Slugs ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Große Bücher & Café!", "groe-bucher-cafe"),
        ("  --  x  --  ", "x"),
        ("日本", "pipeline"),
        ("'; DROP TABLE pipelines; --", "drop-table-pipelines"),
        ("y" * 200, "y" * 90),
    ],
)
def test_a_slug_is_made_from_the_name(admin: Admin, name: str, slug: str) -> None:
    assert create(admin, name=name)["slug"] == slug


def test_slugs_are_unique(admin: Admin) -> None:
    made = [create(admin, name="Twice the same") for _ in range(3)]
    assert [one["slug"] for one in made] == ["twice-the-same", "twice-the-same-2", "twice-the-same-3"]
    taken = {"name": "Other", "slug": "twice-the-same"}
    assert admin.error("POST", "/pipelines", taken) == (409, "CONFLICT")
    assert admin.error("PUT", f"/pipelines/{made[1]['id']}", taken) == (409, "CONFLICT")
    assert read(admin, made[1]["id"])["name"] == "Twice the same"
    assert admin.ok("PUT", f"/pipelines/{made[1]['id']}", {"slug": "its-own"})["slug"] == "its-own"
    assert create(admin, name="Empty slug", slug="")["slug"] == "empty-slug"


# ── Words of any kind ────────────────────────────────────────────────────────────────────────


def test_naughty_strings_come_back_as_they_went(tmp_path: Path) -> None:
    naughty = json.loads((SEED.parents[1] / "data" / "blns.json").read_text(encoding="utf-8"))
    wanted = [
        text for text in naughty if text.strip() and len(text) <= 100 and not fields.CONTROL.search(text)
    ]
    assert len(wanted) > 300
    with running_admin(tmp_path / "data", management_rate_limit_rpm=10_000) as admin:
        pipeline_id = create(admin, config={"naughty": naughty})["id"]
        assert read(admin, pipeline_id)["config"]["naughty"] == naughty
        for start in range(0, len(wanted), 100):
            labels = list(dict.fromkeys(wanted[start : start + 100]))
            name, config = labels[0], {"script": labels[-1]}
            updated = admin.ok(
                "PUT", f"/pipelines/{pipeline_id}", {"labels": labels, "name": name, "config": config}
            )
            assert (updated["labels"], updated["name"], updated["config"]) == (labels, name, config)
            for text in labels[::10]:
                found = admin.ok("GET", f"/pipelines?label={quote(text)}&search={quote(name)}")
                assert found["total"] == 1
