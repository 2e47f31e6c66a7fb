"""Commanders Act's paths over real HTTP: what is 200, 400 and 401, where the key is, the pixel's image."""

from __future__ import annotations

import copy
import gzip
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from commanders_act_kit import BATCH_BODY, CONTAINER_2, SEARCH, SEARCH_1_0
from gateway_kit import ORIGIN, Appliance, running_appliance
from kit import Answer, request

VISITOR = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
CAID = "20261121093015447120934"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("commanders-act")) as one:
        yield one


def with_id(body: dict[str, Any], message_id: str) -> dict[str, Any]:
    """The event under another id, wherever its version has it."""
    changed = copy.deepcopy(body)
    place = changed.get("context", changed)
    place["eventId" if "eventId" in place else "event_id"] = message_id
    return changed


def send(
    appliance: Appliance, body: Any, path: str = "/events", query: str | None = None, **headers: str
) -> Answer:
    """POST with the key as `token`, unless the query says otherwise."""
    query = f"tc_s=4321&token={appliance.pipeline.key}" if query is None else query
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(f"{appliance.server.base_url}{path}?{query}", "POST", raw, named)


def look(appliance: Appliance, query: str, path: str = "/events", **headers: str) -> Answer:
    """GET the pixel, with the key as `token`."""
    url = f"{appliance.server.base_url}{path}?tc_s=4321&token={appliance.pipeline.key}&{query}"
    return request(url, "GET", None, {name.replace("_", "-"): value for name, value in headers.items()})


def refusals(appliance: Appliance, code: str) -> list[dict[str, Any]]:
    """The list of refused events with this code. What is answered 200 was committed to it before."""
    query = f"pipeline_id={appliance.pipeline.id}&code={code}&limit=100"
    listed: list[dict[str, Any]] = appliance.management.call("GET", f"refused-events?{query}")["data"]
    return listed


@pytest.mark.parametrize(
    "path",
    ["/events", "/events/", "/cdp/events", "/cdp/events/", "//events"],
    ids=lambda path: quote(path, ""),
)
@pytest.mark.parametrize("body", [SEARCH, SEARCH_1_0, CONTAINER_2], ids=["2.0", "1.0", "container"])
def test_one_event_on_every_path(appliance: Appliance, path: str, body: dict[str, Any]) -> None:
    event = with_id(body, f"one-{path}-{id(body)}")
    answer = send(appliance, event, path)
    assert (answer.status, answer.body) == (200, b'{"success": true}')
    stored = appliance.stored(f"one-{path}-{id(body)}")
    assert stored["original"] == event
    assert stored["context"]["commandersAct"] == {"siteId": "4321"}


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("tc_s=1&token={key}", {}),
        ("tc_s=1&tc_skey={key}", {}),
        ("tc_s=1", {"Authorization": "Bearer {key}"}),
        ("tc_s=1&token={key}", {"Authorization": "Bearer other"}),
    ],
)
def test_where_the_key_may_stand(appliance: Appliance, query: str, headers: dict[str, str]) -> None:
    key = appliance.pipeline.key
    named = {name: value.format(key=key) for name, value in headers.items()}
    assert send(appliance, {"event_name": "x"}, query=query.format(key=key), **named).status == 200


@pytest.mark.parametrize("path", ["/events", "/events/batch"])
@pytest.mark.parametrize("query", ["", "tc_s=1", "token=", "token=dk_unknown", "tc_skey=dk_unknown"])
def test_an_unknown_key_is_401_whatever_the_body(appliance: Appliance, path: str, query: str) -> None:
    for body in (b'{"event_name":"x","batch":[]}', b'{"batch":[{}]}'):
        answer = send(appliance, body, path, query)
        assert (answer.status, answer.json()["code"]) == (401, "invalid_key")


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"]
)
def test_the_type_of_the_content_decides_nothing(appliance: Appliance, content_type: str) -> None:
    assert send(appliance, {"event_name": "x"}, Content_Type=content_type).json() == {"success": True}


def test_a_gzipped_event_is_taken(appliance: Appliance) -> None:
    body = gzip.compress(msgspec.json.encode(with_id(SEARCH, "gzipped")))
    assert send(appliance, body, Content_Encoding="gzip").json() == {"success": True}
    assert appliance.stored("gzipped")["event"] == "search"


def test_a_retry_is_known_again(appliance: Appliance) -> None:
    event = with_id(CONTAINER_2, "952286789064281734002199")
    assert send(appliance, event).json() == {"success": True}
    assert send(appliance, event).json() == {"success": True, "deduplicated": True}


def test_a_batch_says_what_became_of_each(appliance: Appliance) -> None:
    first, second = (with_id(one, f"batch-{number}") for number, one in enumerate(BATCH_BODY["batch"]))
    large = {"event_name": "large", "filler": "x" * 32_768}
    answer = send(appliance, {"batch": [first, {"no": "name"}, second, 5, large]}, "/events/batch")
    told = answer.json()
    assert (answer.status, told["success"], told["accepted"], told["rejected"]) == (200, True, 2, 3)
    assert [(one["index"], one["code"]) for one in told["errors"]] == [
        (1, "invalid_payload"),
        (3, "invalid_payload"),
        (4, "event_too_large"),
    ]
    assert told["errors"][0]["message"].startswith("event_name is required")
    assert appliance.stored("batch-0")["properties"]["revenue"] == 41.5
    assert appliance.stored("batch-1")["anonymousId"] == "ca-2"
    again = send(appliance, {"batch": [first, second]}, "/cdp/events/batch").json()
    assert again == {"success": True, "accepted": 2, "deduplicated": 2}


@pytest.mark.parametrize("path", ["/events", "/cdp/events", "/events/batch"])
@pytest.mark.parametrize("body", [b"", b"{", b'{"event_name":"x",}', b"\xff", b"x=1"])
def test_what_is_no_json_is_400(appliance: Appliance, path: str, body: bytes) -> None:
    answer = send(appliance, body, path)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_json")
    appliance.still_serves()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"event_name":5}', b'{"event_name":"","user":7}'])
def test_an_event_that_cannot_be_used_is_200_and_listed(appliance: Appliance, body: bytes) -> None:
    answer = send(appliance, body)
    told = answer.json()
    assert (answer.status, told["success"], told["accepted"], told["rejected"]) == (200, True, 0, 1)
    assert (told["errors"][0]["index"], told["errors"][0]["code"]) == (0, "invalid_payload")
    assert any(one["body"] == body.decode() for one in refusals(appliance, "invalid_payload"))
    appliance.still_serves()


def padded(body: bytes, size_bytes: int) -> bytes:
    """The event with as much white space before its last brace as makes it this large."""
    return body[:-1] + b" " * (size_bytes - len(body)) + b"}"


@pytest.mark.parametrize(
    ("path", "size_bytes", "status", "code"),
    [
        ("/events", 32_768, 200, None),
        ("/events", 32_769, 400, "event_too_large"),
        ("/events", 600_000, 400, "event_too_large"),
        ("/events/batch", 512_000, 200, None),
        ("/events/batch", 512_001, 400, "batch_too_large"),
    ],
)
def test_how_large_a_body_may_be(
    appliance: Appliance, path: str, size_bytes: int, status: int, code: str | None
) -> None:
    """What the request says beside the event is not counted."""
    answer = send(
        appliance, padded(b'{"event_name":"x","batch":[]}', size_bytes), path, Cookie=f"CAID={CAID}"
    )
    assert (answer.status, answer.json().get("code")) == (status, code)


def test_too_many_events_are_400(appliance: Appliance) -> None:
    answer = send(appliance, [{}] * 2_501, "/events/batch")
    assert (answer.status, answer.json()["code"]) == (400, "batch_too_large")


def test_what_the_event_names_goes_before_the_cookies(appliance: Appliance) -> None:
    cookies = f"_dfid={VISITOR}; CAID={CAID}"
    cases = {
        "named": (SEARCH, CAID),
        "by-caid": (SEARCH_1_0, CAID),
    }
    for message_id, (body, visitor) in cases.items():
        send(appliance, with_id(body, message_id), Origin=ORIGIN, Cookie=cookies)
        assert appliance.stored(message_id)["anonymousId"] == visitor
    query = f"token={appliance.pipeline.key}&tc_do_not_track=true"
    send(appliance, with_id(SEARCH_1_0, "cookieless"), query=query, Origin=ORIGIN, Cookie=cookies)
    stored = appliance.stored("cookieless")
    assert stored["anonymousId"] != CAID
    assert stored["context"]["commandersAct"] == {"caid": CAID, "doNotTrack": True}


def test_consent_reaches_the_steps(appliance: Appliance) -> None:
    event = {"event_name": "x", "user": {"consent_categories": []}, "context": {"event_id": "no-consent"}}
    send(appliance, event)
    assert appliance.stored("no-consent")["context"]["consent"]["canonical"]["marketing"] is False


# ── The pixel ────────────────────────────────────────────────────────────────────────────────


def test_the_pixel_is_an_image(appliance: Appliance) -> None:
    query = "event_name=purchase&id=O1&items[0][id]=A&user[consent_categories][]=1&context[event_id]=pixel-1"
    for path in ("/events", "/cdp/events", "/events/"):
        answer = look(appliance, query, path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/gif")
        assert answer.body.startswith(b"GIF89a")
        assert "no-store" in answer.headers["Cache-Control"]
    stored = appliance.stored("pixel-1")
    assert stored["properties"] == {"id": "O1", "items": [{"id": "A"}]}
    assert stored["context"]["consent"]["categories"] == {"1": True}
    assert "token" not in stored["original"]


def test_the_pixels_key_is_not_in_the_log(appliance: Appliance) -> None:
    look(appliance, "event_name=x&context[event_id]=pixel-2")
    appliance.stored("pixel-2")
    with sqlite3.connect(f"file:{appliance.database}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT envelope, raw FROM raw_events WHERE CAST(raw AS TEXT) LIKE '%=pixel-2'"
        ).fetchall()
    connection.close()
    [(envelope, raw)] = rows
    assert raw == b"tc_s=4321&event_name=x&context[event_id]=pixel-2"
    assert appliance.pipeline.key.encode() not in envelope


def test_a_pixel_that_cannot_be_used_is_an_image_all_the_same_and_listed(appliance: Appliance) -> None:
    answer = look(appliance, "nothing=here")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/gif")
    assert any(one["dialect"] == "commanders_act_pixel" for one in refusals(appliance, "invalid_payload"))


def test_a_pixel_with_an_unknown_key_is_401(appliance: Appliance) -> None:
    answer = request(f"{appliance.server.base_url}/events?token=dk_unknown&event_name=x", "GET")
    assert (answer.status, answer.json()["code"]) == (401, "invalid_key")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/events", {"GET", "POST", "OPTIONS"}), ("GET", "/events/batch", {"POST", "OPTIONS"})],
)
def test_other_methods_are_405(appliance: Appliance, method: str, path: str, allowed: set[str]) -> None:
    answer = request(f"{appliance.server.base_url}{path}", method)
    assert (answer.status, answer.json()["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("body", [b"[]", b'{"user": {}}'])
def test_what_cannot_be_used_counts_against_the_rate_too(appliance: Appliance, body: bytes) -> None:
    slow = appliance.management.create_pipeline(f"slow-{len(body)}", rate_limit_rps=2)
    url = f"{appliance.server.base_url}/events?tc_s=1&token={slow.key}"
    assert {request(url, "POST", body).status for _ in range(12)} == {200, 429}


def test_what_a_batch_refuses_is_listed_when_the_answer_comes(appliance: Appliance) -> None:
    """All of it: nobody reads the answer, and after a crash it would be too late to list it."""
    pipeline = appliance.management.create_pipeline("refusing-batch")
    body = b'{"batch": [%s]}' % b",".join([b"{}"] * 150)
    url = f"{appliance.server.base_url}/events/batch?tc_s=1&token={pipeline.key}"
    assert request(url, "POST", body).json()["rejected"] == 150
    query = f"refused-events?pipeline_id={pipeline.id}&limit=100"
    first = appliance.management.call("GET", query)
    rest = appliance.management.call("GET", f"{query}&cursor={first['next_cursor']}")
    assert [len(page["data"]) for page in (first, rest)] == [100, 50]
