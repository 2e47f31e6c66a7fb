"""Webhooks over HTTP, from the third party's request to the stored event (reliability.md, cases 43 to 46)."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from kit import Answer, Management, Pipeline, Server, request, running_server, wait_until

PUBLIC_URL = "https://data.shop.test"
SECRET = "whsec_test-secret-3d1f"
NUMBERS = itertools.count()
STRIPE = {"type": "charge.refunded", "data": {"object": {"id": "ch_1", "amount": 500, "customer": "cus_9"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("webhooks") / "data"
    with running_server(data_dir, env={"DATAFLY_PUBLIC_URL": PUBLIC_URL}) as running:
        yield running


@pytest.fixture
def pipeline(management: Management) -> Pipeline:
    return management.create_pipeline("Shop", slug=f"shop-{next(NUMBERS)}")


def add(management: Management, pipeline: Pipeline, source_type: str, **fields: Any) -> str:
    """The new source's id."""
    usual = {"pipeline_id": pipeline.id, "name": "Hook", "source_type": source_type}
    secret = {"signing_secret": SECRET} if source_type != "custom" else {}
    return str(management.call("POST", "webhook-sources", {**usual, **secret, **fields})["id"])


def post(server: Server, source_id: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    url = f"{server.base_url}/v1/webhook?source={source_id}"
    return request(url, "POST", body, {"Content-Type": "application/json", **(headers or {})})


def digest(message: bytes, secret: str = SECRET) -> bytes:
    return hmac.digest(secret.encode(), message, hashlib.sha256)


def stripe_headers(body: bytes, off_s: int = 0, *secrets: str) -> dict[str, str]:
    at = str(int(time.time()) + off_s)
    signatures = [digest(f"{at}.".encode() + body, one).hex() for one in secrets or (SECRET,)]
    return {"Stripe-Signature": ",".join([f"t={at}", *(f"v1={one}" for one in signatures)])}


def hubspot_headers(body: bytes, source_id: str, url: str = PUBLIC_URL, off_ms: int = 0) -> dict[str, str]:
    at = str(int(time.time() * 1000) + off_ms)
    message = f"POST{url}/v1/webhook?source={source_id}".encode() + body + at.encode()
    return {
        "X-HubSpot-Signature-v3": base64.b64encode(digest(message)).decode(),
        "X-HubSpot-Request-Timestamp": at,
    }


def stripe_body(**fields: Any) -> bytes:
    return json.dumps(
        {"id": f"evt_{next(NUMBERS)}", "created": int(time.time()), **STRIPE, **fields}
    ).encode()


def stored(management: Management, pipeline: Pipeline, number: int) -> list[dict[str, Any]]:
    """The pipeline's events when there are so many, newest first."""

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = management.call("GET", f"events?pipeline_id={pipeline.id}&limit=100")[
            "data"
        ]
        return found

    wait_until(lambda: len(listed()) >= number, f"{number} events in the list")
    return listed()


def trace(management: Management, pipeline: Pipeline, message_id: str) -> Any:
    return management.call("GET", f"events/{pipeline.id}/{quote(message_id, safe='')}")


def refusal(answer: Answer) -> tuple[int, str]:
    told = answer.json()
    assert set(told) == {"success", "code", "message"}
    assert told["success"] is False
    return answer.status, told["code"]


def test_a_stripe_event_arrives_once(server: Server, management: Management, pipeline: Pipeline) -> None:
    source_id, body = add(management, pipeline, "stripe"), stripe_body()
    assert post(server, source_id, body, stripe_headers(body)).body == b'{"success": true}'
    again = post(server, source_id, body, stripe_headers(body, -20))
    assert again.json() == {"success": True, "deduplicated": True}
    (event,) = stored(management, pipeline, 1)
    message_id = f"{source_id}:{json.loads(body)['id']}"
    assert (event["message_id"], event["event"], event["user_id"]) == (message_id, "charge.refunded", "cus_9")
    assert json.dumps(json.loads(body)["data"]) in json.dumps(trace(management, pipeline, message_id))
    answer = post(server, source_id, body, stripe_headers(body))
    assert "Set-Cookie" not in answer.headers


def test_what_the_signature_does_not_fit_is_refused_and_listed(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    source_id, body = add(management, pipeline, "stripe"), stripe_body()
    good = stripe_headers(body)
    for headers, sent in (
        ({}, body),
        (good, body + b" "),
        (stripe_headers(body, 0, "whsec_other"), body),
        ({"Stripe-Signature": good["Stripe-Signature"].replace("v1=", "v0=")}, body),
    ):
        assert refusal(post(server, source_id, sent, headers)) == (401, "invalid_signature")
    for off_s in (-310, 310):
        assert refusal(post(server, source_id, body, stripe_headers(body, off_s))) == (
            401,
            "timestamp_expired",
        )
    path = f"refused-events?pipeline_id={pipeline.id}"
    wait_until(lambda: len(management.call("GET", path)["data"]) == 6, "the refused webhooks")
    listed = management.call("GET", path)["data"]
    assert sorted({one["code"] for one in listed}) == ["invalid_signature", "timestamp_expired"]
    assert SECRET not in json.dumps(listed)
    assert SECRET not in server.output()
    assert management.call("GET", f"events?pipeline_id={pipeline.id}")["data"] == []


def test_a_new_secret_is_taken_at_once_and_the_old_one_no_more(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    source_id = add(management, pipeline, "stripe")
    management.call("PUT", f"webhook-sources/{source_id}", {"signing_secret": "whsec_new"})
    body = stripe_body()
    assert refusal(post(server, source_id, body, stripe_headers(body))) == (401, "invalid_signature")
    both = stripe_headers(body, 0, SECRET, "whsec_new")
    assert post(server, source_id, body, both).json() == {"success": True}


def test_shopify_with_its_topic(server: Server, management: Management, pipeline: Pipeline) -> None:
    source_id = add(management, pipeline, "shopify")
    body = json.dumps(
        {"id": 1, "total_price": "40.00", "customer": {"id": 42}, "note": "é" * 50_000}
    ).encode()
    headers = {
        "X-Shopify-Hmac-Sha256": base64.b64encode(digest(body)).decode(),
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "b54557e4",
    }
    assert len(body) > 65_536
    assert post(server, source_id, body, headers).json() == {"success": True}
    assert post(server, source_id, body, headers).json() == {"success": True, "deduplicated": True}
    (event,) = stored(management, pipeline, 1)
    assert (event["event"], event["user_id"]) == ("orders/create", "42")


def test_hubspot_signs_the_public_address_and_sends_several(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    source_id = add(management, pipeline, "hubspot")
    events: list[Any] = [
        {"eventId": number, "subscriptionType": "contact.creation", "objectId": number, "occurredAt": 1}
        for number in range(3)
    ]
    body = json.dumps([*events, 5]).encode()
    answer = post(server, source_id, body, hubspot_headers(body, source_id)).json()
    assert (answer["success"], answer["accepted"], answer["rejected"]) == (True, 3, 1)
    assert [(one["index"], one["code"]) for one in answer["errors"]] == [(3, "invalid_payload")]
    assert {one["event"] for one in stored(management, pipeline, 3)} == {"contact.creation"}
    elsewhere = hubspot_headers(body, source_id, url="http://127.0.0.1")
    assert refusal(post(server, source_id, body, elsewhere)) == (401, "invalid_signature")
    late = hubspot_headers(body, source_id, off_ms=-310_000)
    assert refusal(post(server, source_id, body, late)) == (401, "timestamp_expired")


def test_a_custom_source_signed_and_not(server: Server, management: Management, pipeline: Pipeline) -> None:
    unsigned = add(management, pipeline, "custom")
    body = b'{"event": "Form Sent", "userId": 7, "properties": {"form": "contact"}}'
    assert post(server, unsigned, body).json() == {"success": True}
    assert post(server, unsigned, body).json() == {"success": True}
    fields = {"signing_secret": SECRET, "signature_header": "X-Hook", "signature_encoding": "base64"}
    signed = add(management, pipeline, "custom", **fields)
    assert refusal(post(server, signed, body)) == (401, "invalid_signature")
    compressed = gzip.compress(body)
    headers = {"X-Hook": base64.b64encode(digest(compressed)).decode(), "Content-Encoding": "gzip"}
    assert post(server, signed, compressed, headers).json() == {"success": True}
    events = stored(management, pipeline, 3)
    assert {(one["event"], one["user_id"]) for one in events} == {("Form Sent", "7")}


def test_an_event_stays_what_it_was_when_the_mapping_changes(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    source_id = add(management, pipeline, "custom", mappings={"messageId": "$.id", "userId": "$.user"})
    assert post(server, source_id, b'{"id": 1, "user": "u-1", "event": "A"}').status == 200
    stored(management, pipeline, 1)
    before = trace(management, pipeline, f"{source_id}:1")
    management.call("PUT", f"webhook-sources/{source_id}", {"mappings": {"userId": "$.other"}})
    assert trace(management, pipeline, f"{source_id}:1") == before
    management.call("DELETE", f"webhook-sources/{source_id}")
    assert trace(management, pipeline, f"{source_id}:1") == before


def test_a_source_that_takes_nothing(server: Server, management: Management, pipeline: Pipeline) -> None:
    disabled = add(management, pipeline, "custom", enabled=False)
    deleted = add(management, pipeline, "custom")
    management.call("DELETE", f"webhook-sources/{deleted}")
    answers = [post(server, one, b"{}") for one in (disabled, deleted, "wh_unknown", "", "%00", "x" * 5_000)]
    assert [refusal(one) for one in answers] == [(403, "pipeline_disabled"), *[(401, "invalid_key")] * 5]
    assert len({one.body for one in answers[1:]}) == 1
    other = management.create_pipeline("Off", slug=f"off-{next(NUMBERS)}")
    orphan = add(management, other, "custom")
    management.call("PUT", f"pipelines/{other.id}", {"enabled": False})
    assert post(server, orphan, b"{}").status == 403
    management.call("DELETE", f"pipelines/{other.id}")
    assert refusal(post(server, orphan, b"{}")) == (401, "invalid_key")


def test_a_pipeline_key_opens_no_source(server: Server, management: Management, pipeline: Pipeline) -> None:
    source_id = add(management, pipeline, "stripe")
    headers = {"Authorization": f"Bearer {pipeline.key}"}
    assert refusal(post(server, source_id, b"{}", headers)) == (401, "invalid_signature")
    assert refusal(post(server, "", b"{}", headers)) == (401, "invalid_key")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json")),
        (b"a=1&b=2", (400, "invalid_json")),
        (b"\xff\xfe", (400, "invalid_json")),
        (b"5", (400, "invalid_payload")),
        (b"\x1f\x8b\x00", (400, "invalid_json")),
        (b"[" * 100_000, (400, "invalid_json")),
        (b'"' + b"x" * 600_000 + b'"', (413, "body_too_large")),
    ],
    ids=lambda one: str(one)[:30],
)
def test_a_body_that_is_no_webhook(
    server: Server, management: Management, pipeline: Pipeline, body: bytes, expected: tuple[int, str]
) -> None:
    assert refusal(post(server, add(management, pipeline, "custom"), body)) == expected


def test_the_path_takes_post_alone_and_slashes(
    server: Server, management: Management, pipeline: Pipeline
) -> None:
    source_id = add(management, pipeline, "custom")
    url = f"{server.base_url}/v1/webhook"
    assert refusal(request(f"{url}?source={source_id}")) == (405, "method_not_allowed")
    assert request(f"{url}/?source={source_id}", "POST", b"{}").status == 200
