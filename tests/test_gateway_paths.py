"""The paths beside seed 000's: Segment's, signed events, the pixel, and what clients ask for first."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_kit import ORIGIN, Appliance, running_appliance
from kit import Answer, request, wait_until

GIF = b"GIF89a"


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("paths"), domain_allowlist=["shop.example.com"]) as one:
        yield one


@pytest.fixture(scope="module")
def secret(appliance: Appliance) -> str:
    made = appliance.management.call("POST", f"pipelines/{appliance.pipeline.id}/rotate-secret")
    found: str = made["pipeline_key_secret"]
    return found


def ids_of(appliance: Appliance, event: str) -> list[str]:
    """The messageIds of the events of this name, once there are some."""
    found: list[str] = []

    def look() -> bool:
        listed = appliance.management.call("GET", f"events?event={event}")["data"]
        found[:] = [one["message_id"] for one in listed]
        return bool(found)

    wait_until(look, event)
    return found


# ── Segment's paths ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "kind", "fields"),
    [
        ("/v1/track", "track", {"event": "Report Exported"}),
        ("/v1/page", "page", {"name": "Home", "category": "Docs"}),
        ("/v1/identify", "identify", {"traits": {"plan": "pro"}}),
        ("/v1/group", "group", {"groupId": "org-1", "traits": {"name": "Acme"}}),
        ("/v1/screen", "screen", {"name": "Cart", "properties": {"items": 2}}),
        ("/v1/alias", "alias", {"previousId": "anon-1"}),
        ("/v1/s", "screen", {"name": "Cart"}),
        ("/v1/a", "alias", {"previousId": "anon-2"}),
    ],
)
def test_each_path_takes_its_type(appliance: Appliance, path: str, kind: str, fields: dict[str, Any]) -> None:
    message_id = f"path{path}"
    event = {"type": kind, "userId": "usr-1", "messageId": message_id, **fields}
    assert appliance.post(json.dumps(event).encode(), path).json() == {"success": True}
    stored = appliance.stored(message_id)
    assert stored.items() >= {"type": kind, "userId": "usr-1", **fields}.items()


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch", "//v1/b/"])
def test_each_batch_path_takes_a_batch(appliance: Appliance, path: str) -> None:
    message_id = f"batch{path}"
    body = {
        "writeKey": appliance.pipeline.key,
        "context": {"library": {"name": "analytics-go"}, "ip": "192.0.2.1"},
        "batch": [
            {
                "type": "track",
                "event": "Sent",
                "userId": "usr-2",
                "anonymousId": None,
                "messageId": message_id,
                "context": {"ip": "192.0.2.7"},
                "integrations": {"GA4": False},
                "channel": "server",
                "_metadata": {"bundled": []},
            }
        ],
    }
    answer = request(f"{appliance.server.base_url}{path}", "POST", json.dumps(body).encode())
    assert (answer.status, answer.json()) == (200, {"success": True, "accepted": 1})
    stored = appliance.stored(message_id)
    assert stored["context"] == {"library": {"name": "analytics-go"}, "ip": "192.0.2.7"}
    assert stored["integrations"] == {"GA4": False}
    assert stored["original"] == {"channel": "server", "_metadata": {"bundled": []}}
    assert "anonymousId" not in stored


@pytest.mark.parametrize(
    ("headers", "query", "body"),
    [
        ({"Authorization": "Basic {basic_colon}"}, "", {}),
        ({"Authorization": "Basic {basic}"}, "", {}),
        ({"Authorization": "Bearer {key}"}, "", {}),
        ({"X-Write-Key": "{key}"}, "", {}),
        ({"X-Pipeline-Key": "{key}"}, "", {}),
        ({}, "?writeKey={key}", {}),
        ({}, "", {"writeKey": "{key}"}),
        ({"Authorization": "Bearer an-oauth-token"}, "", {"writeKey": "{key}"}),
    ],
)
def test_the_key_is_found_wherever_clients_put_it(
    appliance: Appliance, headers: dict[str, str], query: str, body: dict[str, str]
) -> None:
    key = appliance.pipeline.key
    known = {
        "key": key,
        "basic": base64.b64encode(key.encode()).decode(),
        "basic_colon": base64.b64encode(f"{key}:".encode()).decode(),
    }
    event = {
        "type": "track",
        "event": "Keyed",
        "userId": "u",
        **{k: v.format(**known) for k, v in body.items()},
    }
    answer = request(
        f"{appliance.server.base_url}/v1/track{query.format(**known)}",
        "POST",
        json.dumps(event).encode(),
        {name: value.format(**known) for name, value in headers.items()},
    )
    assert (answer.status, answer.json()) == (200, {"success": True})


def test_the_first_event_of_a_batch_may_hold_the_key(appliance: Appliance) -> None:
    items = [{"type": "page", "userId": "u", "writeKey": appliance.pipeline.key}, {"type": "nothing"}]
    answer = request(f"{appliance.server.base_url}/v1/b", "POST", json.dumps({"batch": items}).encode())
    assert (answer.status, answer.json()["accepted"], answer.json()["rejected"]) == (200, 1, 1)


@pytest.mark.parametrize(
    ("path", "event", "words"),
    [
        ("/v1/alias", {"userId": "u"}, "previousId"),
        ("/v1/alias", {"previousId": "a"}, "userId"),
        ("/v1/identify", {"traits": {}}, "userId is required"),
        ("/v1/track", {"type": "page"}, "this path takes 'track'"),
    ],
)
def test_what_an_event_lacks_is_named(
    appliance: Appliance, path: str, event: dict[str, Any], words: str
) -> None:
    answer = appliance.post(json.dumps(event).encode(), path)
    assert (answer.status, answer.json()["code"]) == (400, "invalid_payload")
    assert words in answer.json()["message"]


def test_traits_of_somebody_who_is_not_logged_in_are_taken(appliance: Appliance) -> None:
    event = {
        "type": "identify",
        "anonymousId": "anon-9",
        "traits": {"plan": "free"},
        "messageId": "anon-traits",
    }
    assert appliance.post(json.dumps(event).encode(), "/v1/i").status == 200
    assert appliance.stored("anon-traits")["anonymousId"] == "anon-9"


def test_rudderstacks_header_says_when_a_single_event_was_sent(appliance: Appliance) -> None:
    an_hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 3600))
    event = {"userId": "u", "event": "Late", "messageId": "late", "originalTimestamp": an_hour_ago}
    appliance.post(json.dumps(event).encode(), "/v1/track", SentAt=an_hour_ago)
    stored = appliance.stored("late")
    assert stored["sentAt"] == stored["originalTimestamp"] == an_hour_ago
    assert stored["timestamp"][:16] == stored["receivedAt"][:16]


def test_what_a_batch_says_of_itself_is_kept_with_each_event(appliance: Appliance) -> None:
    event = {"type": "page", "userId": "u", "messageId": "rooted"}
    batch = {"messageId": "b-0d2c", "timestamp": "2026-02-25T14:30:00.000Z", "more": [1], "batch": [event]}
    assert appliance.post(json.dumps(batch).encode(), "/v1/batch").json()["accepted"] == 1
    root = {"messageId": "b-0d2c", "timestamp": "2026-02-25T14:30:00.000Z", "more": [1]}
    assert appliance.stored("rooted")["original"] == {"batch": root}


def test_ids_that_name_nothing_count_as_none(appliance: Appliance) -> None:
    events = [
        {"type": "track", "event": "A", "messageId": "undefined", "anonymousId": "undefined"},
        {"type": "track", "event": "B", "messageId": "undefined", "anonymousId": "null", "userId": "b"},
    ]
    answer = appliance.post(json.dumps({"batch": events}).encode(), "/v1/b").json()
    assert answer == {"success": True, "accepted": 2}, "the second one is no duplicate of the first"
    stored = appliance.stored(ids_of(appliance, "B")[0])
    assert stored["original"] == {"messageId": "undefined", "anonymousId": "null"}
    assert "anonymousId" not in stored


@pytest.mark.parametrize("path", ["/v1/track", "/v1/identify"])
def test_a_server_without_an_origin_is_given_no_cookie(appliance: Appliance, path: str) -> None:
    visitor = "1e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
    event = {"event": "S", "userId": "s-1", "messageId": f"server{path}"}
    answer = appliance.post(json.dumps(event).encode(), path, Cookie=f"_dfid={visitor}")
    assert "Set-Cookie" not in answer.headers
    assert "anonymousId" not in appliance.stored(f"server{path}")


def test_a_form_on_somebodys_page_sets_no_cookie(appliance: Appliance) -> None:
    event = {"event": "Forged", "anonymousId": "deadbeef-dead-4eef-8eef-deadbeefdead"}
    body = json.dumps(event).encode()
    brought = appliance.post(body, "/v1/t", Origin=ORIGIN, Sec_Fetch_Dest="document")
    asked = appliance.post(body, "/v1/t", Origin=ORIGIN, Sec_Fetch_Dest="empty")
    assert (brought.status, "Set-Cookie" in brought.headers) == (200, False)
    assert (asked.status, "Set-Cookie" in asked.headers) == (200, True)


def test_of_two_cookies_the_good_one_names_the_visitor(appliance: Appliance) -> None:
    visitor = "2e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
    cookies = f"_dfid=forged; other=1; _dfid={visitor}"
    appliance.post(b'{"event": "Two", "messageId": "two-cookies"}', "/v1/t", Origin=ORIGIN, Cookie=cookies)
    assert appliance.stored("two-cookies")["anonymousId"] == visitor


def test_what_the_product_goes_another_way_about_is_kept(appliance: Appliance) -> None:
    visitor = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
    event = {
        "event": "Both",
        "anonymousId": "their-own",
        "messageId": "both",
        "timestamp": "2026-02-25T14:30:00.000Z",
        "originalTimestamp": "2026-02-25T14:29:00.000Z",
    }
    answer = appliance.post(json.dumps(event).encode(), "/v1/t", Origin=ORIGIN, Cookie=f"_dfid={visitor}")
    assert answer.status == 200
    stored = appliance.stored("both")
    assert stored["anonymousId"] == visitor
    assert stored["original"] == {
        "anonymousId": "their-own",
        "originalTimestamp": "2026-02-25T14:29:00.000Z",
    }


# ── Signed events ────────────────────────────────────────────────────────────────────────────


def signature(secret: str, body: bytes, off_s: int = 0) -> dict[str, str]:
    """The two headers, as the documentation of server-side events has them."""
    at_ms = str(int((time.time() + off_s) * 1000))
    digest = hmac.new(secret.encode(), at_ms.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X_Timestamp": at_ms, "X_Signature": f"sha256={digest}"}


def signed(
    appliance: Appliance, secret: str, body: bytes, path: str = "/v1/events", off_s: int = 0
) -> Answer:
    return appliance.post(body, path, **signature(secret, body, off_s))


def test_a_signed_event_is_taken_with_the_visitors_own_address(appliance: Appliance, secret: str) -> None:
    event = {
        "type": "track",
        "event": "Order Completed",
        "userId": "u-1",
        "messageId": "signed-1",
        "context": {"ip": "198.51.100.7", "userAgent": "UA"},
    }
    answer = signed(appliance, secret, json.dumps(event).encode())
    assert (answer.status, answer.json()) == (200, {"success": True})
    assert "Set-Cookie" not in answer.headers
    stored = appliance.stored("signed-1")
    assert stored["context"] == {"ip": "198.51.100.7", "userAgent": "UA"}
    assert "anonymousId" not in stored


def test_events_without_a_signature_are_not_taken_there(appliance: Appliance) -> None:
    answer = appliance.post(b'{"type": "track", "event": "Unsigned"}', "/v1/events")
    assert (answer.status, answer.json()["code"]) == (401, "invalid_signature")


def test_a_batch_may_be_signed_and_then_must_be_right(appliance: Appliance, secret: str) -> None:
    body = b'{"batch": [{"type": "track", "event": "A", "userId": "u"}]}'
    assert signed(appliance, secret, body, "/v1/batch").json() == {"success": True, "accepted": 1}
    assert signed(appliance, "sk_wrong", body, "/v1/batch").json()["code"] == "invalid_signature"
    assert signed(appliance, secret, body, "/v1/batch", off_s=-310).json()["code"] == "timestamp_expired"


def test_a_signed_request_that_is_sent_again_is_known_again(appliance: Appliance, secret: str) -> None:
    body = b'{"batch": [{"type": "page", "userId": "u"}, {"type": "page", "userId": "u"}]}'
    headers = signature(secret, body)
    assert appliance.post(body, "/v1/batch", **headers).json() == {"success": True, "accepted": 2}
    again = appliance.post(body, "/v1/batch", **headers).json()
    assert again == {"success": True, "accepted": 2, "deduplicated": 2}


def test_a_signature_on_a_pixel_signs_nothing(appliance: Appliance, secret: str) -> None:
    headers = {name.replace("_", "-"): value for name, value in signature(secret, b"").items()}
    for name in ("px-signed-1", "px-signed-2"):
        url = f"{appliance.server.base_url}/v1/pixel/track?wk={appliance.pipeline.key}&e={name}"
        assert request(url, headers=headers).status == 200
    assert len(ids_of(appliance, "px-signed-2")) == 1, "neither is a duplicate of the other"


# ── The pixel ────────────────────────────────────────────────────────────────────────────────


def pixel(appliance: Appliance, kind: str, query: str) -> Answer:
    return request(f"{appliance.server.base_url}/v1/pixel/{kind}?wk={appliance.pipeline.key}&{query}")


def test_the_pixel_takes_an_event_and_gives_an_image(appliance: Appliance) -> None:
    query = (
        "e=Email+Opened&uid=u-1&p.campaign_id=c1&p.a.b=1&t.email=x%40y.example&ts=1772020800000&mid=px-1&cb=7"
    )
    answer = pixel(appliance, "track", query)
    assert answer.status == 200
    assert answer.body.startswith(GIF)
    assert answer.headers["Content-Type"] == "image/gif"
    assert answer.headers["Cache-Control"] == "no-store, no-cache, must-revalidate"
    assert (answer.headers["Pragma"], answer.headers["Expires"]) == ("no-cache", "0")
    stored = appliance.stored("px-1")
    assert (stored["event"], stored["userId"]) == ("Email Opened", "u-1")
    assert stored["properties"] == {"campaign_id": "c1", "a": {"b": "1"}}
    assert stored["traits"] == {"email": "x@y.example"}
    assert stored["timestamp"] == "2026-02-25T12:00:00.000Z"
    assert appliance.pipeline.key not in json.dumps(stored)


def test_the_pixel_of_each_type(appliance: Appliance) -> None:
    assert (
        pixel(appliance, "page", "n=Home&p.url=https%3A%2F%2Fa.example%2Fx%3Fq&mid=px-page&aid=a-1").status
        == 200
    )
    assert pixel(appliance, "identify", "uid=u-7&t.plan=pro&mid=px-identify&aid=a-1").status == 200
    assert pixel(appliance, "group", "gid=g-1&mid=px-group&aid=a-1&more=1").status == 200
    assert appliance.stored("px-page")["properties"] == {"url": "https://a.example/x?q"}
    assert appliance.stored("px-identify")["traits"] == {"plan": "pro"}
    group = appliance.stored("px-group")
    assert (group["groupId"], group["original"]) == ("g-1", {"more": "1"})


def test_what_the_pixel_refuses(appliance: Appliance) -> None:
    nameless = pixel(appliance, "track", "p.x=1")
    assert (nameless.status, nameless.headers["Content-Type"]) == (200, "image/gif")
    listed = appliance.management.call("GET", "refused-events?dialect=datafly_pixel")["data"]
    assert (listed[0]["code"], listed[0]["body"]) == ("invalid_payload", "p.x=1"), "and no key in it"
    assert pixel(appliance, "nothing", "e=A").status == 404
    assert request(f"{appliance.server.base_url}/v1/pixel/track?wk=dk_nobody&e=A").status == 401
    posted = appliance.post(b"{}", "/v1/pixel/track")
    assert (posted.status, posted.headers["Allow"]) == (405, "GET, OPTIONS")


# ── What clients ask for first ───────────────────────────────────────────────────────────────


def test_a_challenge_is_given_to_an_allowed_origin_and_opens_the_door(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("challenge")
    with running_appliance(
        folder, domain_allowlist=["shop.example.com"], challenge_token_required=True
    ) as appliance:
        asked = json.dumps({"pipeline_key": appliance.pipeline.key}).encode()
        answer = appliance.post(asked, "/v1/challenge", Origin=ORIGIN)
        given = answer.json()
        assert (answer.status, given["success"]) == (200, True)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        event = {"event": "Beacon", "messageId": "beacon-1", "challengeToken": given["token"]}
        assert appliance.post(json.dumps(event).encode(), "/v1/t", Origin=ORIGIN).status == 200
        batch = {"batch": [{**event, "type": "track", "messageId": "beacon-2"}]}
        assert appliance.post(json.dumps(batch).encode(), "/v1/b", Origin=ORIGIN).status == 200
        refused = appliance.post(b'{"event": "Beacon"}', "/v1/t", Origin=ORIGIN).json()
        assert refused["code"] == "challenge_required"
        assert given["token"] not in json.dumps(appliance.stored("beacon-1"))
        assert appliance.post(asked, "/v1/challenge", Origin="https://evil.example").status == 403
        assert appliance.post(b'{"pipeline_key": "dk_x"}', "/v1/challenge").json()["code"] == "invalid_key"
        assert appliance.post(b"{", "/v1/challenge").json()["code"] == "invalid_json"
        assert appliance.post(b"{}", "/v1/challenge").json()["code"] == "invalid_payload"
        again = appliance.post(asked, "/v1/challenge", Origin=ORIGIN).json()
        assert again["token"] == given["token"], "a flood of requests is no flood of rows"


def test_segments_settings_document_names_this_server(appliance: Appliance) -> None:
    key = appliance.pipeline.key
    url = f"{appliance.server.base_url}/v1/projects/{key}/settings"
    answer = request(url, headers={"Origin": ORIGIN})
    host = appliance.server.base_url.removeprefix("http://")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.json()["integrations"] == {
        "Segment.io": {"apiKey": key, "apiHost": f"{host}/v1", "protocol": "http"}
    }
    junk = request(url, headers={"Host": "a/@evil.example?x"})
    assert junk.status == 400 or "evil" not in junk.body.decode()
    assert request(url.replace(key, "dk_nobody")).json()["code"] == "invalid_key"
    assert request(url, headers={"Origin": "https://evil.example"}).status == 403
    assert request(url, "POST", b"").headers["Allow"] == "GET, OPTIONS"


def test_sdk_metrics_are_answered_and_are_no_events(appliance: Appliance) -> None:
    answer = request(f"{appliance.server.base_url}/v1/m", "POST", b'{"series": []}', {"Origin": ORIGIN})
    assert (answer.status, answer.json()) == (200, {"success": True})
