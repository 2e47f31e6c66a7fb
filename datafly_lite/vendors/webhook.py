"""Events to any HTTPS address, signed on demand as Standard Webhooks are.

Facts: standard-webhooks/spec/standard-webhooks.md, version 1.0.0. `webhook-id` is the idempotency
key: the event's messageId, the same on every attempt and every replay, so no second header says it.
`webhook-timestamp` is the time of the attempt. The id must not hold a full stop, or the signed text
`id.timestamp.body` could be read in two ways; messageIds come from clients, so one that is not plain
is sent as a digest of itself (the body has the messageId as it is).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from datafly_lite.errors import MappingError
from datafly_lite.events import encode_event
from datafly_lite.vendors.declaration import (
    EXAMPLE_NOW_MS,
    Example,
    Outgoing,
    Request,
    Setting,
    Vendor,
    outcome_of_status,
    with_payload,
)

PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
OWN_HEADERS = "host|content-length|content-type|transfer-encoding|connection|upgrade|te|trailer|expect"
"""Names that would break the request, or that the product sets itself."""

HEADER = rf"(?!(?i:{OWN_HEADERS}|webhook-[a-z]+):)[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*"
SIGNING_KEY_FORM = r"whsec_[A-Za-z0-9+/]{32,88}={0,2}"


def request_for(outgoing: Sequence[Outgoing], settings: Mapping[str, Any], now_ms: int) -> Request:
    """The canonical event as JSON. Raises MappingError for a secret that cannot sign."""
    body = body_of(outgoing[0])
    message_id = webhook_id(outgoing[0].event.message_id)
    headers = {
        "content-type": "application/json",
        **(settings.get("headers") or {}),
        "webhook-id": message_id,
        "webhook-timestamp": str(now_ms // 1000),
        **_authentication(settings, message_id, now_ms, body),
    }
    return Request(settings["method"], settings.get("endpoint") or settings["url"], headers, body)


def body_of(outgoing: Outgoing) -> bytes:
    """The event, with what the integration's steps put over it or in its place."""
    if not outgoing.payload and not outgoing.replaces:
        return encode_event(outgoing.event)
    event: dict[str, Any] = msgspec.to_builtins(outgoing.event)
    return msgspec.json.encode(with_payload(event, outgoing))


def webhook_id(message_id: str) -> str:
    """The messageId where it is plain, else `msg_` and a digest of it."""
    if PLAIN_ID.fullmatch(message_id):
        return message_id
    return f"msg_{hashlib.sha256(message_id.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _authentication(settings: Mapping[str, Any], message_id: str, now_ms: int, body: bytes) -> dict[str, str]:
    match settings["authentication"]:
        case "bearer":
            return {"authorization": f"Bearer {settings['auth_token']}"}
        case "basic":
            pair = f"{settings['username']}:{settings['password']}".encode()
            return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
        case "hmac":
            return {"webhook-signature": _signature(settings["secret"], message_id, now_ms, body)}
        case "none":
            return {}
        case other:
            raise MappingError(f"there is no authentication {other!r}")


def _signature(secret: str, message_id: str, now_ms: int, body: bytes) -> str:
    try:
        return Webhook(secret).sign(message_id, datetime.fromtimestamp(now_ms // 1000, UTC), body.decode())
    except (binascii.Error, EmptyWebhookSecretError, RuntimeError, ValueError):
        raise MappingError("the signing secret is not whsec_ and base64") from None


SETTINGS = (
    Setting(
        name="url",
        label="URL",
        type="url",
        required=True,
        placeholder="https://example.com/hooks/datafly",
        help="Where each event is sent.",
    ),
    Setting(name="method", label="Method", type="choice", choices=("POST", "PUT"), default="POST"),
    Setting(
        name="headers",
        label="Headers",
        type="object",
        default={},
        pattern=HEADER,
        placeholder="X-Name: value",
        help="Sent with each request. They are not kept as secrets; use the authentication for those.",
    ),
    Setting(
        name="authentication",
        label="Authentication",
        type="choice",
        choices=("none", "bearer", "basic", "hmac"),
        default="none",
        help="hmac signs each request as Standard Webhooks says.",
    ),
    Setting(
        name="auth_token",
        label="Bearer token",
        type="secret",
        required_if=("authentication", "bearer"),
        pattern=r"[\x21-\x7e]+",
    ),
    Setting(
        name="username",
        label="User name",
        required_if=("authentication", "basic"),
        pattern=r"[^:\x00-\x1f\x7f]+",
    ),
    Setting(
        name="password",
        label="Password",
        type="secret",
        required_if=("authentication", "basic"),
        pattern=r"[^\x00-\x1f\x7f]+",
    ),
    Setting(
        name="secret",
        label="Signing secret",
        type="secret",
        required_if=("authentication", "hmac"),
        pattern=SIGNING_KEY_FORM,
        placeholder="whsec_ and base64 of 24 to 64 bytes",
        help="The receiver verifies the webhook-signature header with it.",
    ),
    Setting(
        name="payload_format",
        label="Payload",
        type="choice",
        choices=("canonical",),
        default="canonical",
        help="The event as the product keeps it. No other format is offered yet.",
    ),
    Setting(
        name="timeout_ms",
        label="Timeout in ms",
        type="integer",
        default=30_000,
        pattern=r"[1-9][0-9]{2,4}",
        placeholder="100 to 99999",
        help="Longest attempt; the operator's own limit may be lower.",
    ),
    Setting(
        name="max_retries",
        label="Retries",
        type="integer",
        pattern=r"[0-9]|[1-4][0-9]|50",
        placeholder="0 to 50",
        help="Attempts after the first; empty = the operator's own limit.",
    ),
)

_EVENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "0195cafe-0000-7000-8000-000000000001",
    "anonymousId": "8f7b7a2e-6f0d-4c53-9d0b-0c1a2b3c4d5e",
    "timestamp": "2026-03-01T10:00:00.000Z",
    "receivedAt": "2026-03-01T10:00:01.000Z",
    "properties": {"order_id": "O-1", "total": 50},
}
_BODY = (
    b'{"type":"track","messageId":"0195cafe-0000-7000-8000-000000000001",'
    b'"timestamp":"2026-03-01T10:00:00.000Z","receivedAt":"2026-03-01T10:00:01.000Z",'
    b'"event":"Order Completed","anonymousId":"8f7b7a2e-6f0d-4c53-9d0b-0c1a2b3c4d5e",'
    b'"properties":{"order_id":"O-1","total":50}}'
)
_HEADERS = {
    "content-type": "application/json",
    "webhook-id": "0195cafe-0000-7000-8000-000000000001",
    "webhook-timestamp": str(EXAMPLE_NOW_MS // 1000),
}
_URL = "https://example.com/hooks/datafly"

EXAMPLES = (
    Example("an event as it is", {"url": _URL}, _EVENT, Request("POST", _URL, _HEADERS, _BODY)),
    Example(
        "with a bearer token and a header of its own",
        {
            "url": _URL,
            "method": "PUT",
            "headers": {"X-Shop": "uk"},
            "authentication": "bearer",
            "auth_token": "t0ken",
        },
        _EVENT,
        Request("PUT", _URL, {**_HEADERS, "X-Shop": "uk", "authorization": "Bearer t0ken"}, _BODY),
    ),
    Example(
        "with a user name and a password",
        {"url": _URL, "authentication": "basic", "username": "shop", "password": "s3cret"},
        _EVENT,
        Request("POST", _URL, {**_HEADERS, "authorization": "Basic c2hvcDpzM2NyZXQ="}, _BODY),
    ),
    Example(
        "signed",
        {"url": _URL, "authentication": "hmac", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        _EVENT,
        Request(
            "POST",
            _URL,
            {**_HEADERS, "webhook-signature": "v1,eFGZ/K8Cx1xD71mK7WYFLnXjNd2hf6zj8uGzTGBy3mE="},
            _BODY,
        ),
    ),
)

WEBHOOK = Vendor(
    name="webhook",
    label="Webhook",
    description="Each event as JSON to an address of your own.",
    category="custom",
    documentation="https://www.standardwebhooks.com/",
    settings=SETTINGS,
    consent_categories=(),
    request_for=request_for,
    read_answer=outcome_of_status,
    examples=EXAMPLES,
)
