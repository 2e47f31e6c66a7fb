"""The data layer over HTTP: all of it replaced, all mistakes told, each save a version that never changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.data_layer import DataLayer
from datafly_lite.management.typed import decoded, differing
from management_kit import Admin, error_of, running_admin

PATH = "/data-layer"
SPEC_EXAMPLE: dict[str, Any] = {
    "pii_rules": {
        "enabled": True,
        "hash_fields": ["traits.email", "traits.phone"],
        "redact_fields": ["traits.ssn", "properties.credit_card"],
        "hash_algorithm": "sha256",
    },
    "bot_filtering": {
        "enabled": True,
        "block_known_bots": True,
        "block_empty_user_agent": True,
        "custom_patterns": ["internal-monitor/*", "health-check/*"],
    },
    "session": {
        "timeout_minutes": 30,
        "max_duration_hours": 24,
        "track_session_start": True,
        "track_session_end": True,
    },
    "custom_js": {"enabled": False, "code": "", "description": ""},
    "routing_rules": [
        {"condition": "event == 'Internal Test'", "action": "drop"},
        {"condition": "context.page.url contains '/staging'", "action": "drop"},
        {"condition": "properties.environment == 'production'", "action": "pass"},
    ],
}
"""spec/datafly-signal.md, 9.6, word for word."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("layer") / "data"
    with running_admin(folder, management_rate_limit_rpm=1_000_000) as admin:
        yield admin


@pytest.fixture
def admin(running: Admin) -> Admin:
    """With the defaults in force, under whatever version."""
    running.ok("PUT", PATH, {"config": {}})
    return running


def put(admin: Admin, config: Any, **fields: Any) -> Any:
    return admin.ok("PUT", PATH, {"config": config, **fields}, role="admin")


def wrong(admin: Admin, config: Any) -> dict[str, str]:
    """Field -> message, of a configuration that must be refused."""
    answer = admin.call("PUT", PATH, {"config": config}, role="admin")
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    details = answer.json()["error"]["details"]
    assert len({one["field"] for one in details}) == len(details)
    return {one["field"]: one["message"] for one in details}


# ── Reading and replacing ────────────────────────────────────────────────────────────────────


def test_before_the_first_save_the_defaults_are_version_0(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_admin(tmp_path_factory.mktemp("empty") / "data") as admin:
        found = admin.ok("GET", PATH, role="viewer")
        assert list(found) == ["org_id", "version", "config", "updated_at", "updated_by"]
        assert (found["version"], found["updated_at"], found["updated_by"]) == (0, None, None)
        assert msgspec.convert(found["config"], DataLayer) == DataLayer()
        assert admin.ok("GET", f"{PATH}/versions") == {"data": [], "next_cursor": None, "has_more": False}
        saved = admin.ok("PUT", PATH, {"config": {}}, role="admin")
        assert saved["version"] == 0, "the defaults, saved, are nothing new"


def test_the_documented_example_is_taken_as_it_stands(admin: Admin) -> None:
    saved = put(admin, SPEC_EXAMPLE)
    for part in ("pii_rules", "bot_filtering", "session", "custom_js"):
        assert SPEC_EXAMPLE[part].items() <= saved["config"][part].items()
    assert saved["config"]["routing_rules"] == SPEC_EXAMPLE["routing_rules"]
    assert saved["updated_by"] == admin.users["admin"].id
    assert admin.ok("GET", PATH, role="viewer") == saved


def test_what_is_left_out_has_its_default_again(admin: Admin) -> None:
    put(admin, {"session": {"timeout_minutes": 45}, "bot_filtering": {"block_known_bots": True}})
    saved = put(admin, {"session": {"track_session_end": True}})
    assert saved["config"]["session"]["timeout_minutes"] == 30
    assert saved["config"]["session"]["track_session_end"] is True
    assert saved["config"]["bot_filtering"]["block_known_bots"] is False


def test_a_save_is_in_force_at_once(admin: Admin) -> None:
    pipeline_id = admin.ok("POST", "/pipelines", {"name": "At once"})["id"]
    for action, expected in (("drop", "routing"), ("pass", None)):
        put(admin, {"routing_rules": [{"condition": "event = 'Secret'", "action": action}]})
        event = {"type": "track", "event": "Secret", "anonymousId": "a", "messageId": f"at-once-{action}"}
        admin.process(pipeline_id, event)
        newest = admin.ok("GET", f"/events?pipeline_id={pipeline_id}&limit=1")["data"][0]
        assert newest["drop_reason"] == expected


# ── Versions ─────────────────────────────────────────────────────────────────────────────────


def test_versions_are_listed_newest_first_and_never_change(admin: Admin) -> None:
    first = put(admin, {"session": {"timeout_minutes": 41}})
    second = put(admin, {"session": {"timeout_minutes": 42, "track_session_end": True}})
    assert second["version"] == first["version"] + 1
    listed = admin.ok("GET", f"{PATH}/versions?limit=2", role="viewer")["data"]
    assert [(one["version"], one["changed"]) for one in listed] == [
        (second["version"], ["session.timeout_minutes", "session.track_session_end"]),
        (first["version"], ["session.timeout_minutes"]),
    ]
    assert admin.ok("GET", f"{PATH}/versions/{first['version']}", role="viewer") == first
    defaults = admin.ok("GET", f"{PATH}/versions/0")
    assert msgspec.convert(defaults["config"], DataLayer) == DataLayer()


def test_saving_the_same_again_makes_no_version(admin: Admin) -> None:
    saved = put(admin, SPEC_EXAMPLE)
    entries = admin.ok("GET", "/audit-logs?action=data_layer.updated&limit=100")["data"]
    assert put(admin, SPEC_EXAMPLE) == saved
    assert put(admin, saved["config"]) == saved
    assert admin.ok("PUT", PATH, saved, role="admin") == saved, "the whole object, as it was read"
    assert admin.ok("GET", "/audit-logs?action=data_layer.updated&limit=100")["data"] == entries


@pytest.mark.parametrize("number", ["99999", "-1", "1.0", "abc", "9" * 30, "%20"])
def test_a_version_that_is_not_there_is_not_found(admin: Admin, number: str) -> None:
    assert admin.error("GET", f"{PATH}/versions/{number}") == (404, "NOT_FOUND")


def test_who_overtakes_somebody_is_told(admin: Admin) -> None:
    read = admin.ok("GET", PATH)
    theirs = put(admin, {"session": {"timeout_minutes": 51}}, version=read["version"])
    mine = {"config": {"session": {"timeout_minutes": 52}}, "version": read["version"]}
    assert admin.error("PUT", PATH, mine, role="admin") == (409, "CONFLICT")
    assert admin.ok("GET", PATH) == theirs
    assert admin.error("PUT", PATH, {**mine, "version": theirs["version"] + 1}) == (409, "CONFLICT")
    assert admin.ok("PUT", PATH, {**mine, "version": theirs["version"]})["version"] == theirs["version"] + 1


def test_the_audit_log_tells_each_part_before_and_after(admin: Admin) -> None:
    before = put(admin, {"session": {"timeout_minutes": 61}})
    after = put(admin, {"session": {"timeout_minutes": 62}, "custom_js": {"description": "Told"}})
    entry = admin.ok("GET", "/audit-logs?action=data_layer.updated&limit=1")["data"][0]
    assert (entry["resource_type"], entry["resource_id"]) == ("data_layer", after["org_id"])
    assert entry["user_id"] == admin.users["admin"].id
    assert entry["changes"] == {
        "version": {"old": before["version"], "new": after["version"]},
        "session": {"old": before["config"]["session"], "new": after["config"]["session"]},
        "custom_js": {"old": before["config"]["custom_js"], "new": after["config"]["custom_js"]},
    }


# ── Mistakes ─────────────────────────────────────────────────────────────────────────────────


def test_every_mistake_is_told_at_once(admin: Admin) -> None:
    found = wrong(
        admin,
        {
            "unknown": 1,
            "pii_rules": {"hash_fields": ["traits.email", "nothing.here"], "ip_address": "maybe"},
            "session": {"timeout_minutes": 0, "max_duration_hours": "24", "colour": "red"},
            "deduplication": {"keys": [{"event": "purchase"}, {"event": "x", "path": "a..b"}]},
            "custom_js": {"code": "function process(event) {\n  return event\n"},
            "bot_filtering": [],
            "routing_rules": [
                {"condition": "event = 'fine'", "action": "drop"},
                {"condition": "event = 'x' AND", "action": "keep"},
                {"condition": "event == 'x' & 1", "action": "drop"},
                "not a rule",
            ],
        },
    )
    assert found.keys() == {
        "config.unknown",
        "config.pii_rules.hash_fields[1]",
        "config.pii_rules.ip_address",
        "config.session.timeout_minutes",
        "config.session.max_duration_hours",
        "config.session.colour",
        "config.deduplication.keys[0].path",
        "config.deduplication.keys[1].path",
        "config.custom_js.code",
        "config.bot_filtering",
        "config.routing_rules[1].condition",
        "config.routing_rules[1].action",
        "config.routing_rules[2].condition",
        "config.routing_rules[3]",
    }
    assert found["config.session.timeout_minutes"] == "must be a whole number from 1 to 1,440"
    assert found["config.pii_rules.ip_address"] == "must be one of drop, keep, truncate"


SLOW = " OR ".join([f"REPLACE('{'a' * 300}', 'a', 'bbbb') MATCHES '(x|[ab]{{1,40}}){{12}}c'"] * 8)
"""Would take seconds to work out."""


@pytest.mark.parametrize(
    ("condition", "position"),
    [("event == 'x' & 1", 14), ("event = 'x", 9), ("event = 'x' AND", 16), ("LOWER(event", 12), (SLOW, 1)],
)
def test_a_condition_is_told_with_its_place(admin: Admin, condition: str, position: int) -> None:
    rules = [{"condition": condition, "action": "drop"}]
    [(field, message)] = wrong(admin, {"routing_rules": rules}).items()
    assert field == "config.routing_rules[0].condition"
    assert message.endswith(f", at character {position}")
    checked = admin.ok("POST", "/expressions/check", {"expression": condition}, role="viewer")
    assert (checked["valid"], checked["position"]) == (False, position)
    assert checked["message"] in message


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("value = 1", "value stands for nothing in a routing rule"),
        ("event = 'x' OR payload.a = 1", "payload stands for nothing in a routing rule"),
        ("5", "it holds for no event: a condition needs true or false, not a number"),
        ("'event'", "it holds for no event: a condition needs true or false, not text"),
        ("NOW()", "it holds for no event: a condition needs true or false, not a number"),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(admin: Admin, condition: str, words: str) -> None:
    rules = [{"condition": "TRUE", "action": "pass"}, {"condition": condition, "action": "drop"}]
    [(field, message)] = wrong(admin, {"routing_rules": rules}).items()
    assert field == "config.routing_rules[1].condition"
    assert words in message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("order_id", "an event has no field order_id"),
        ("payload.order_id", "an event has no field payload"),
        ("event.properties.order_id", "event of an event has nothing below it"),
        ("userId.x", "userId of an event has nothing below it"),
        ("properties", "properties is an object"),
    ],
)
def test_a_key_that_can_never_be_found_is_refused(admin: Admin, path: str, words: str) -> None:
    good = [{"event": "purchase", "path": one} for one in ("properties.order_id", "userId", "vendorIds.a")]
    keys = [*good, {"event": "purchase", "path": path}]
    [(field, message)] = wrong(admin, {"deduplication": {"keys": keys}}).items()
    assert field == "config.deduplication.keys[3].path"
    assert words in message


def test_a_good_expression_is_called_valid(admin: Admin) -> None:
    found = admin.ok("POST", "/expressions/check", {"expression": "LOWER(event) = 'x'"}, role="viewer")
    assert found == {"valid": True, "message": None, "position": None}
    too_long = admin.ok("POST", "/expressions/check", {"expression": "a" * 5_000})
    assert (too_long["valid"], too_long["position"]) == (False, 4_097)


def test_a_script_is_told_with_its_line(admin: Admin) -> None:
    code = "function process(event) {\n  return event\n}\nlet x = ;\n"
    [(field, message)] = wrong(admin, {"custom_js": {"code": code}}).items()
    assert field == "config.custom_js.code"
    assert message.endswith(", in line 4")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "config"),
        ({"config": {}, "name": "x"}, "name"),
        ({"config": {}, "version": "1"}, "version"),
        ({"config": {}, "version": True}, "version"),
        ({"config": {}, "updated_by": "somebody"}, "updated_by"),
        ({"config": []}, "config"),
        ({"config": None}, "config"),
    ],
)
def test_a_body_of_another_shape_is_refused(admin: Admin, body: Any, field: str) -> None:
    answer = admin.call("PUT", PATH, body)
    assert error_of(answer) == (422, "VALIDATION_ERROR")
    assert [one["field"] for one in answer.json()["error"]["details"]] == [field]


def test_a_mistake_changes_nothing(admin: Admin) -> None:
    before = admin.ok("GET", PATH)
    wrong(admin, {"session": {"timeout_minutes": 0}})
    for role in ("viewer", "editor"):
        assert admin.error("PUT", PATH, {"config": SPEC_EXAMPLE}, role=role) == (403, "FORBIDDEN")
    assert admin.ok("GET", PATH) == before


def test_long_lists_are_refused_by_their_length(admin: Admin) -> None:
    rules = [{"condition": "TRUE", "action": "pass"}] * 201
    assert wrong(admin, {"routing_rules": rules}) == {"config.routing_rules": "must have at most 200 entries"}


# ── Against the types themselves ─────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=("Z", "C")), max_size=5)
"""Not of white space alone: where a type asks for a character, the API asks for one that is seen."""


def json_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    )


SOMETHING = st.booleans() | st.integers(-5, 2000) | TEXTS | st.sampled_from(["drop", "x"])
VALUES = json_of(SOMETHING | st.none())
CONFIGS = json_of(SOMETHING)
"""No configuration holds a null."""


def parts_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all that is inside."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield from parts_of(one, (*path, name))


def put_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same with another value at the path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put_at(value[path[0]], path[1:], new)
    return copy


@given(st.lists(st.tuples(st.sampled_from(list(parts_of(SPEC_EXAMPLE))), VALUES), max_size=3))
def test_what_is_found_wrong_is_what_the_type_refuses(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    config: Any = json.loads(json.dumps(SPEC_EXAMPLE))
    for path, value in changes:
        if path in set(parts_of(config)):
            config = put_at(config, path, value)
    harmless, found = decoded(config, DataLayer, "config")
    assert isinstance(harmless, DataLayer)
    try:
        expected = msgspec.convert(config, DataLayer)
    except msgspec.ValidationError:
        assert found
    else:
        assert (found, harmless) == ([], expected)


@given(CONFIGS, CONFIGS)
def test_a_difference_is_told_where_there_is_one(one: Any, other: Any) -> None:
    assert bool(list(differing({"x": one}, {"x": other}))) is (one != other)
    assert list(differing({"x": one}, {"x": one})) == []
