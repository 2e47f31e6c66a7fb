"""POST /v1/admin/dry-run: a change tried on events that came in, and nothing is changed by that."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datafly_lite.delivery.preview import Preview
from datafly_lite.dry_run import MOST_EVENTS
from datafly_lite.processor.dry_runner import DryRunner
from datafly_lite.processor.state import nowhere
from kit import wait_until
from management_kit import Admin, error_of, running_admin

TOKEN = "tok-of-the-hook-5150"
HOOK = {"url": "https://example.com/hook", "authentication": "bearer", "auth_token": TOKEN}
KEPT = {**HOOK, "auth_token": "***"}
NUMBERS = itertools.count(1)
FILTER = {"type": "filter", "condition": "properties.value > 2"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    with running_admin(
        tmp_path_factory.mktemp("dry") / "data", management_rate_limit_rpm=1_000_000
    ) as running:
        yield running


class Site:
    """A pipeline with one integration, and the ids of both."""

    def __init__(self, admin: Admin, config: dict[str, Any] | None = None, vendor: str = "webhook") -> None:
        self.admin = admin
        self.pipeline_id = admin.ok("POST", "/pipelines", {"name": f"Dry {next(NUMBERS)}"})["id"]
        made = {"name": f"Hook {next(NUMBERS)}", "vendor": vendor, "config": config or HOOK}
        self.integration_id = admin.ok("POST", "/integration-templates", made)["id"]
        attached = {"integration_id": self.integration_id}
        admin.ok("POST", f"/pipelines/{self.pipeline_id}/integrations", attached)

    def send(self, *bodies: dict[str, Any]) -> list[str]:
        """Process these as events of the pipeline; their messageIds."""
        named = [
            {"type": "track", "event": "Tested", "messageId": f"m-{next(NUMBERS)}", **body} for body in bodies
        ]
        self.admin.process(self.pipeline_id, *named)
        return [one["messageId"] for one in named]

    def fields(self, config: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Of a change of the integration."""
        return {
            "pipeline_id": self.pipeline_id,
            "integration_id": self.integration_id,
            "config": config,
            **more,
        }

    def try_config(self, config: dict[str, Any], **more: Any) -> Any:
        return self.admin.ok("POST", "/dry-run", self.fields(config, **more), role="editor")

    def try_rules(self, **more: Any) -> Any:
        return self.admin.ok("POST", "/dry-run", {"pipeline_id": self.pipeline_id, **more}, role="editor")


def counts(run: Any) -> dict[str, int]:
    """Of the summary, what is not 0."""
    return {name: number for name, number in run["summary"].items() if number}


def details(admin: Admin, method: str, path: str, body: Any) -> Any:
    answer = admin.call(method, path, body)
    assert answer.status == 422, answer.body
    return answer.json()["error"]["details"]


def checksums(admin: Admin) -> dict[str, str]:
    def read(connection: Any) -> dict[str, str]:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {
            name: repr([tuple(row) for row in connection.execute(f"SELECT * FROM {name}")]) for name in names
        }
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in rows.items()}

    found: dict[str, str] = admin.run(admin.services.store.read, read)
    return found


def recorded_words(admin: Admin, message_id: str) -> tuple[str, str]:
    """The steps of an event and of its delivery, as the processor wrote them."""

    def read(connection: Any) -> tuple[str, str]:
        row = connection.execute(
            "SELECT e.steps, d.steps FROM events AS e LEFT JOIN deliveries AS d ON d.offset = e.offset"
            " WHERE e.message_id = ?",
            (message_id,),
        ).fetchone()
        return row[0], row[1] or ""

    found: tuple[str, str] = admin.run(admin.services.store.read, read)
    return found


# ── What holds of every run ──────────────────────────────────────────────────────────────────


VISITORS = st.sampled_from(["v1", "v2", None])
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "userAgent": st.sampled_from(["curl/8.1", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"]),
        "page": st.just({"url": "https://www.example.com/a?utm_source=news"}),
        "consent": st.sampled_from([{"categories": {"marketing": False}}, {"marketing": True}]),
        "idempotencyKey": st.sampled_from(["k1", "k2"]),
    },
)
BODIES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["track", "page", "identify"]),
        "anonymousId": VISITORS,
        "properties": st.fixed_dictionaries({"value": st.integers(0, 5), "é": st.text(max_size=3)}),
        "context": CONTEXTS,
    },
    optional={"userId": st.sampled_from(["u1", "u2"]), "traits": st.just({"plan": "gold"})},
).map(lambda body: {**body, "userId": body.get("userId", "u0")} if body["type"] == "identify" else body)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(bodies=st.lists(BODIES, min_size=1, max_size=8))
def test_the_live_configuration_changes_nothing_and_says_what_was_recorded(
    admin: Admin, bodies: list[dict[str, Any]]
) -> None:
    site = Site(admin, {**HOOK, "steps": [FILTER]})
    ids = site.send(*bodies)
    before = checksums(admin)
    fields = site.fields({**KEPT, "steps": [FILTER]}, last=len(ids))
    first, second = (admin.call("POST", "/dry-run", fields) for _ in range(2))
    assert first.status == 200
    assert first.body == second.body
    run = first.json()
    assert counts(run) == {"events": len(ids), "unchanged": len(ids)}
    assert [one["message_id"] for one in run["events"]] == ids[::-1]
    for one in run["events"]:
        assert one["before"] == one["after"]
        assert one["difference"] == []
        assert one["before"]["steps"] == " ".join(filter(None, recorded_words(admin, one["message_id"])))
    live = admin.services.configuration.current.rules
    rules = site.try_rules(
        data_layer=msgspec.to_builtins(live.data_layer), consent_settings=msgspec.to_builtins(live.consent)
    )
    assert counts(rules) == {"events": len(ids), "unchanged": len(ids)}
    for one in rules["events"]:
        assert one["after"]["steps"] == recorded_words(admin, one["message_id"])[0]
    assert checksums(admin) == before


def test_given_events_give_the_same_bytes_and_leave_nothing(admin: Admin) -> None:
    site = Site(admin)
    before = checksums(admin)
    events = [{"type": "track", "event": "Bought"}, {"type": "identify", "userId": "u", "anonymousId": "a"}]
    first, second = (admin.call("POST", "/dry-run", site.fields(KEPT, events=events)) for _ in range(2))
    assert first.body == second.body
    assert counts(first.json()) == {"events": 2, "unchanged": 2}
    assert checksums(admin) == before


# ── An integration ───────────────────────────────────────────────────────────────────────────


def test_another_header_is_the_only_difference(admin: Admin) -> None:
    site = Site(admin)
    ids = site.send({}, {})
    run = site.try_config({**KEPT, "headers": {"X-Shop": "eu"}})
    assert counts(run) == {"events": 2, "changed": 2}
    assert [one["message_id"] for one in run["events"]] == ids[::-1]
    for one in run["events"]:
        assert one["difference"] == [{"path": "headers.X-Shop", "before": None, "after": "eu"}]
        assert json.loads(one["after"]["request"]["body"])["messageId"] == one["message_id"]


def test_a_mapping_shows_what_becomes_of_each_value(admin: Admin) -> None:
    site = Site(admin)
    site.send({"properties": {"total": 5}})
    step = {"type": "map", "mappings": {"sum": "properties.total * 2", "items[0].id": "'first'"}}
    [one] = site.try_config({**KEPT, "steps": [step]})["events"]
    assert one["difference"] == [
        {"path": "body.sum", "before": None, "after": 10},
        {"path": "body.items", "before": None, "after": [{"id": "first"}]},
    ]


def test_what_a_step_would_drop_is_said_with_the_step(admin: Admin) -> None:
    site = Site(admin)
    site.send(*({"properties": {"value": value}} for value in range(5)))
    run = site.try_config({**KEPT, "steps": [FILTER]})
    assert counts(run) == {"events": 5, "unchanged": 2, "newly_dropped": 3}
    dropped = [one["after"] for one in run["events"] if one["change"] == "newly_dropped"]
    assert {(one["outcome"], one["step"], one["reason"]) for one in dropped} == {
        ("dropped", "1_filter", "filter")
    }
    assert all(one["request"] is None for one in dropped)
    site.admin.ok(
        "POST",
        f"/integration-templates/{site.integration_id}/revisions",
        {"config": {**KEPT, "steps": [FILTER]}},
    )
    # The pipeline stays with its revision 1, and that is what a change is held against.
    assert counts(site.try_config(KEPT)) == {"events": 5, "unchanged": 5}


def test_what_a_script_fails_on_is_said_with_its_line(admin: Admin) -> None:
    site = Site(admin)
    site.send({"properties": {"value": 1}}, {"properties": {"value": 2}})
    code = "function process(e) {\n  if (e.properties.value > 1) throw new Error('too much')\n  return e\n}"
    run = site.try_config({**KEPT, "steps": [{"type": "custom_js", "code": code}]})
    assert counts(run) == {"events": 2, "unchanged": 1, "newly_failed": 1}
    [failed] = [one["after"] for one in run["events"] if one["change"] == "newly_failed"]
    assert failed["outcome"] == "failed"
    assert failed["step"] == "1_custom_js"
    assert "line 2" in failed["detail"]
    assert "too much" in failed["detail"]


def test_an_integration_that_the_pipeline_does_not_have_has_no_before(admin: Admin) -> None:
    site, other = Site(admin), Site(admin)
    site.send({"properties": {"value": 1}}, {"properties": {"value": 9}})
    for target in ({"vendor": "webhook"}, {"integration_id": other.integration_id}):
        config = {"url": "https://example.com/new", "steps": [FILTER]}
        run = admin.ok(
            "POST", "/dry-run", {"pipeline_id": site.pipeline_id, "config": config, **target}, role="editor"
        )
        assert [one["before"] for one in run["events"]] == [None, None]
        assert counts(run) == {"events": 2, "newly_sent": 1, "newly_dropped": 1}


def test_a_pipelines_parameters_are_filled_in(admin: Admin) -> None:
    site = Site(admin)
    admin.ok("PUT", f"/pipelines/{site.pipeline_id}", {"parameters": {"path": "of-this-shop"}})
    site.send({})
    [one] = site.try_config({"url": "https://example.com/{{pipeline_param.path}}"})["events"]
    assert one["after"]["request"]["url"] == "https://example.com/of-this-shop"


def test_a_pipeline_without_events_gives_nothing_to_try(admin: Admin) -> None:
    run = Site(admin).try_config(KEPT)
    assert (counts(run), run["events"]) == ({}, [])


def test_no_more_events_are_tried_than_asked_for(admin: Admin) -> None:
    site = Site(admin)
    ids = site.send(*({} for _ in range(5)))
    assert [one["message_id"] for one in site.try_config(KEPT, last=2)["events"]] == ids[:2:-1]


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("authentication", ["bearer", "basic", "hmac"])
def test_no_secret_is_in_an_answer(admin: Admin, authentication: str) -> None:
    stored, typed = "stored-s3cret-4711", "typed-s3cret-0815"
    names = {"bearer": "auth_token", "basic": "password", "hmac": "secret"}
    own = {"authentication": authentication, **({"username": "u"} if authentication == "basic" else {})}
    name, secrets = names[authentication], (stored, typed)
    if authentication == "hmac":
        secrets = (
            "whsec_c3RvcmVkLXMzY3JldC00NzExLXN0b3JlZA==",
            "whsec_dHlwZWQtczNjcmV0LTA4MTUtdHlwZWQtdHlwZWQ=",
        )
    site = Site(admin, {"url": "https://example.com/hook", **own, name: secrets[0]})
    site.send({"properties": {"echo": secrets[0], "other": secrets[1]}})
    for value in ("***", secrets[1]):
        answer = admin.call(
            "POST", "/dry-run", site.fields({"url": "https://example.com/hook", **own, name: value})
        )
        assert answer.status == 200, answer.body
        assert answer.json()["events"][0]["after"]["outcome"] == "sent"
        assert secrets[0] not in answer.body.decode()
        if value != "***":
            assert secrets[1] not in answer.body.decode()


def test_a_secret_in_an_address_is_masked(admin: Admin) -> None:
    config = {"measurement_id": "G-ABCDEF1234", "api_secret": "ga4-s3cret-4711"}
    site = Site(admin, config, vendor="ga4")
    site.send({"anonymousId": "v"})
    answer = admin.call("POST", "/dry-run", site.fields({**config, "api_secret": "***"}))
    assert answer.json()["events"][0]["after"]["outcome"] == "sent"
    assert "api_secret=***" in answer.body.decode()
    assert "ga4-s3cret-4711" not in answer.body.decode()


# ── The data layer and consent ───────────────────────────────────────────────────────────────


def test_a_data_layer_is_tried_step_by_step(admin: Admin) -> None:
    site = Site(admin)
    site.send(
        {"context": {"userAgent": "curl/8.1"}},
        {"event": "Internal Test"},
        {"event": "Kept", "traits": {"email": "a@example.com", "plan": "gold"}},
    )
    layer = {
        "bot_filtering": {"custom_patterns": ["curl/*"]},
        "routing_rules": [{"condition": "event == 'Internal Test'", "action": "drop"}],
        "pii_rules": {"redact_fields": ["traits.email"]},
    }
    run = site.try_rules(data_layer=layer)
    assert counts(run) == {"events": 3, "changed": 1, "newly_dropped": 2}
    kept, internal, bot = run["events"]
    assert (internal["after"]["step"], internal["after"]["detail"]) == ("route", "rule 1: drop")
    assert (bot["after"]["step"], bot["after"]["reason"]) == ("mark_bots", "bot")
    assert [change["path"] for change in kept["difference"]] == ["traits.email"]
    assert kept["before"]["event"]["traits"]["email"] == "a@example.com"
    assert "a@example.com" not in json.dumps(kept["after"])


def test_a_duplicate_is_found_among_the_events_of_the_run(admin: Admin) -> None:
    site = Site(admin)
    ids = site.send(*({"event": "Purchase", "properties": {"order_id": order}} for order in "112"))
    layer = {"deduplication": {"keys": [{"event": "purchase", "path": "properties.order_id"}]}}
    run = site.try_rules(data_layer=layer)
    dropped = {one["message_id"]: one["after"]["step"] for one in run["events"] if one["after"]["step"]}
    assert dropped == {ids[1]: "drop_duplicates"}


def test_what_was_recorded_as_a_duplicate_stays_one_while_its_key_counts(admin: Admin) -> None:
    site = Site(admin)
    ids = site.send(*({"context": {"idempotencyKey": "once"}} for _ in range(2)))
    run = site.try_rules(data_layer={}, last=1)
    assert run["events"][0]["message_id"] == ids[1]
    assert run["events"][0]["after"]["reason"] == "duplicate"
    off = site.try_rules(data_layer={"deduplication": {"enabled": False}}, last=1)
    assert counts(off) == {"events": 1, "newly_sent": 1}


def test_the_line_of_a_script_that_throws_is_said(admin: Admin) -> None:
    site = Site(admin)
    site.send({})
    code = "function process(event) {\n\n  nothing.here()\n}"
    for on_error, kinds in (("fail", {"newly_dropped": 1}), ("skip", {"unchanged": 1})):
        layer = {"custom_js": {"enabled": True, "code": code, "on_error": on_error}}
        run = site.try_rules(data_layer=layer)
        assert counts(run) == {"events": 1, **kinds}
        after = run["events"][0]["after"]
        assert "line 3" in " ".join([after["detail"] or "", *after["remarks"]])


def test_consent_settings_say_who_would_still_get_an_event(admin: Admin) -> None:
    site = Site(admin, {**HOOK, "consent_categories": ["marketing"]})
    site.send({"anonymousId": "somebody"})
    name = admin.ok("GET", f"/integration-templates/{site.integration_id}")["name"]
    run = site.try_rules(consent_settings={"default_policy": {"marketing": False}})
    [one] = run["events"]
    assert one["change"] == "changed"
    assert {"path": "integrations", "before": [name], "after": []} in one["difference"]
    required = {"default_policy": {"marketing": False}, "required_categories": ["marketing"]}
    [one] = site.try_rules(consent_settings=required)["events"]
    assert (one["change"], one["after"]["step"]) == ("newly_dropped", "enforce_consent")


def test_session_events_that_would_be_made_are_named(admin: Admin) -> None:
    site = Site(admin)
    site.send({"anonymousId": "first-visit"}, {"anonymousId": "first-visit"})
    run = site.try_rules(data_layer={"session": {"track_session_start": True}})
    assert counts(run) == {"events": 2, "changed": 1, "unchanged": 1}
    assert run["events"][1]["difference"] == [{"path": "makes", "before": [], "after": ["session_start"]}]


def test_without_a_pipeline_the_events_of_all_are_tried(admin: Admin) -> None:
    first, second = Site(admin), Site(admin)
    ids = [*first.send({}), *second.send({})]
    run = admin.ok("POST", "/dry-run", {"data_layer": {}, "last": 2}, role="editor")
    assert [one["message_id"] for one in run["events"]] == ids[::-1]
    assert [one["pipeline_id"] for one in run["events"]] == [second.pipeline_id, first.pipeline_id]


# ── Given events ─────────────────────────────────────────────────────────────────────────────


def test_given_events_follow_one_another_like_real_ones(admin: Admin) -> None:
    site = Site(admin)
    events = [
        {"type": "identify", "userId": "u-7", "anonymousId": "given", "traits": {"plan": "gold"}},
        {"type": "track", "event": "Bought", "anonymousId": "given"},
    ]
    run = site.try_rules(data_layer={}, events=events)
    assert [one["is_real"] for one in run["events"]] == [False, False]
    bought = run["events"][1]["after"]["event"]
    assert bought["userId"] == "u-7"
    assert bought["context"]["traits"] == {"plan": "gold"}


def test_what_is_known_of_a_visitor_counts_unless_the_run_is_fresh(admin: Admin) -> None:
    site = Site(admin)
    site.send({"type": "identify", "userId": "u-known", "anonymousId": "known-one"})
    event = {"type": "track", "event": "Bought", "anonymousId": "known-one"}
    known = site.try_rules(data_layer={}, events=[event])["events"][0]["after"]["event"]
    fresh = site.try_rules(data_layer={}, events=[event], fresh=True)["events"][0]["after"]["event"]
    assert (known.get("userId"), fresh.get("userId")) == ("u-known", None)


def test_a_real_event_that_is_tried_again_is_no_duplicate(admin: Admin) -> None:
    site = Site(admin)
    event = {"type": "track", "event": "Bought", "messageId": "again", "context": {"idempotencyKey": "key-1"}}
    site.send(event)
    [one] = site.try_rules(data_layer={}, events=[event])["events"]
    assert one["after"]["outcome"] == "passed"


@pytest.mark.parametrize(
    ("now", "timestamp", "received"),
    [
        (None, None, "2026-01-01T00:00:00.000Z"),
        (None, "2025-05-05T10:00:00.000Z", "2026-01-01T00:00:00.000Z"),
        (None, "2026-05-05T10:00:00.000Z", "2026-05-05T10:00:00.000Z"),
        ("2027-01-01T01:00:00+01:00", None, "2027-01-01T00:00:00.000Z"),
    ],
)
def test_given_events_arrive_when_it_is_said(
    admin: Admin, now: str | None, timestamp: str | None, received: str
) -> None:
    event = {"type": "track", "event": "Bought", **({"timestamp": timestamp} if timestamp else {})}
    more = {"now": now} if now else {}
    [one] = Site(admin).try_rules(data_layer={}, events=[event], **more)["events"]
    assert one["received_at"] == one["after"]["event"]["receivedAt"] == received
    assert one["after"]["event"]["timestamp"] == (timestamp or received)


def test_what_the_door_would_not_read_says_so(admin: Admin) -> None:
    run = Site(admin).try_rules(data_layer={}, events=[{"type": "track"}, {"type": "dance"}, {}])
    assert [one["after"]["step"] for one in run["events"]] == ["read"] * 3
    assert "event" in run["events"][0]["after"]["detail"]


# ── What is refused ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "config",
    [
        {},
        {**KEPT, "url": "https://elsewhere.example/hook"},
        {**KEPT, "url": "http://10.0.0.1/"},
        {**KEPT, "surprise": 1},
        {**KEPT, "steps": [{"type": "filter", "condition": "(("}]},
        {**KEPT, "steps": [{"type": "custom_js", "code": "function process( {"}]},
        {**KEPT, "authentication": "basic", "username": "u", "password": "***"},
    ],
)
def test_a_configuration_is_refused_as_saving_refuses_it(admin: Admin, config: dict[str, Any]) -> None:
    site = Site(admin)
    saved = details(
        admin, "POST", f"/integration-templates/{site.integration_id}/revisions", {"config": config}
    )
    assert details(admin, "POST", "/dry-run", site.fields(config)) == saved


@pytest.mark.parametrize(
    "layer",
    [
        [],
        {"surprise": {}},
        {"routing_rules": [{"condition": "((", "action": "drop"}, {"condition": "TRUE", "action": "fly"}]},
        {"custom_js": {"enabled": True, "code": "function process( {"}},
        {"session": {"timeout_minutes": 0}},
    ],
)
def test_a_data_layer_is_refused_as_saving_refuses_it(admin: Admin, layer: Any) -> None:
    saved = details(admin, "PUT", "/data-layer", {"config": layer})
    moved = [{**one, "field": "data_layer" + one["field"].removeprefix("config")} for one in saved]
    assert details(admin, "POST", "/dry-run", {"data_layer": layer}) == moved


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"integration_id": None, "config": None, "pipeline_id": None}, ["config"]),
        ({"pipeline_id": None}, ["pipeline_id"]),
        ({"integration_id": None}, ["integration_id"]),
        ({"vendor": "webhook"}, ["integration_id"]),
        ({"data_layer": {}}, ["data_layer"]),
        ({"last": 3, "events": [{}]}, ["events"]),
        ({"last": 0}, ["last"]),
        ({"last": 1001}, ["last"]),
        ({"events": []}, ["events"]),
        ({"events": [{}] * 1001}, ["events"]),
        ({"events": [1]}, ["events[0]"]),
        ({"events": [{}], "now": "yesterday"}, ["now"]),
        ({"events": [{}], "now": "9999-12-31T23:59:59-12:00"}, ["now"]),
        ({"pipeline_id": "pip_none"}, ["pipeline_id"]),
        ({"integration_id": "tmpl_none"}, ["integration_id"]),
        ({"base_revision": 7}, ["base_revision"]),
        ({"surprise": 1}, ["surprise"]),
    ],
)
def test_what_does_not_go_together_is_said(admin: Admin, change: dict[str, Any], fields: list[str]) -> None:
    given_fields = {**Site(admin).fields(KEPT), **change}
    body = {name: value for name, value in given_fields.items() if value is not None}
    assert [one["field"] for one in details(admin, "POST", "/dry-run", body)] == fields


# ── Nobody waits any more ────────────────────────────────────────────────────────────────────


class SlowClock:
    """Each look takes 10 ms: there is one an event."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        time.sleep(0.01)
        return 0.0


@contextlib.contextmanager
def slow_runs(data_dir: Path) -> Iterator[tuple[Admin, SlowClock, bytes]]:
    """An appliance whose dry runs are slow, and a request of one with as many events as there may be."""
    body = json.dumps({"data_layer": {}, "events": [{"type": "track", "event": "E"}] * MOST_EVENTS}).encode()
    with running_admin(data_dir) as admin:
        clock, of = SlowClock(), admin.services
        runner = DryRunner(of.store, of.configuration, admin.log.record, Preview, nowhere, clock)
        msgspec.structs.force_setattr(of, "dry_run", runner.run)
        yield admin, clock, body


def test_a_run_ends_when_its_client_leaves(tmp_path: Path) -> None:
    with slow_runs(tmp_path / "data") as (admin, clock, body):
        address = urlsplit(admin.base_url)
        head = (
            f"POST /v1/admin/dry-run HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {admin.tokens['editor']}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((str(address.hostname), address.port)) as client:
            client.sendall(head.encode() + body)
            wait_until(lambda: clock.looks > 2, "it runs")
        one = {"data_layer": {}, "events": [{"type": "track", "event": "E"}]}
        assert admin.ok("POST", "/dry-run", one)["summary"]["events"] == 1
        assert clock.looks < MOST_EVENTS


def test_a_run_gives_way_to_the_end_of_the_program(tmp_path: Path) -> None:
    with slow_runs(tmp_path / "data") as (admin, clock, body), ThreadPoolExecutor(1) as client:
        answer = client.submit(admin.send, "POST", "/dry-run", body, role="editor")
        wait_until(lambda: clock.looks > 2, "it runs")
        admin.run(admin.services.live.close)
        assert error_of(answer.result()) == (503, "STORAGE_UNAVAILABLE")
        assert int(answer.result().headers["Retry-After"]) > 0
        assert clock.looks < MOST_EVENTS
