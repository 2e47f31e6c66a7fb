"""Who really sent it: Datafly's own signature on server-side events, and those of inbound webhooks.

All are HMAC-SHA256 over the body as it was sent, before anything is inflated or decoded.

- Datafly: `X-Signature: sha256=<lower-case hex>` over `X-Timestamp + "." + body`, unix ms
  (spec/datafly-signal.md, 3.2).
- Stripe: `Stripe-Signature: t=<unix s>,v1=<hex>[,v1=<hex>…]` over `t + "." + body`. While a secret is
  rolled there is one v1 for each; other schemes (v0) are no proof. Tolerance 300 s
  (docs.stripe.com/webhooks/signatures).
- Shopify: `X-Shopify-Hmac-Sha256`, base64, over the body; no time
  (shopify.dev/docs/apps/build/webhooks/subscribe/https).
- HubSpot: `X-HubSpot-Signature-v3`, base64, over method + URI + body + `X-HubSpot-Request-Timestamp` in
  unix ms, not older than 5 minutes; some escapes of the URI are decoded first
  (developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation).
- custom: a header that the source names, hex or base64 over the body, `sha256=` before it or not.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence

from datafly_lite.configuration import WebhookSource
from datafly_lite.errors import Refused

RawHeaders = Sequence[tuple[bytes, bytes]]
"""As ASGI gives them: lower-case names, and a header that came twice stands there twice."""

TOLERANCE_MS = 300_000
PREFIX = b"sha256="
DIGITS = re.compile(rb"[0-9]{1,16}")
HUBSPOT_ESCAPES = re.compile(rb"%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""The escapes of : / ? @ ! $ ' ( ) * , ; and no others, as HubSpot's page lists them."""


def verify_datafly(secret: str, headers: RawHeaders, body: bytes, now_ms: int) -> None:
    """A request of the pipeline's own servers; `secret` is its sk_…, `body` as it was sent.

    Raises Refused `invalid_signature` or, where all but the time is right, `timestamp_expired`.
    """
    timestamp = _digits(_the_one(headers, b"x-timestamp"), "X-Timestamp", "unix milliseconds")
    given = _the_one(headers, b"x-signature")
    if not given.startswith(PREFIX):
        raise Refused("invalid_signature", "X-Signature must be sha256= and the signature in hex")
    _check([given.removeprefix(PREFIX)], _hex(secret, timestamp + b"." + body), "X-Signature")
    _check_time(int(timestamp), now_ms, "X-Timestamp")


def verify_source(
    source: WebhookSource, headers: RawHeaders, body: bytes, *, method: str, uri: str, now_ms: int
) -> None:
    """A webhook of this source; `uri` is the whole public address that was posted to, with its query.

    A custom source without a secret is unsigned. Raises Refused as `verify_datafly` does.
    """
    if source.source_type == "stripe":
        _verify_stripe(source.secret, headers, body, now_ms)
    elif source.source_type == "shopify":
        given = _the_one(headers, b"x-shopify-hmac-sha256")
        _check([given], _base64(source.secret, body), "X-Shopify-Hmac-Sha256")
    elif source.source_type == "hubspot":
        _verify_hubspot(source.secret, headers, body, f"{method}{uri}".encode(), now_ms)
    elif source.secret:
        _verify_custom(source, headers, body)


def _verify_stripe(secret: str, headers: RawHeaders, body: bytes, now_ms: int) -> None:
    parts = [part.strip().partition(b"=") for part in _the_one(headers, b"stripe-signature").split(b",")]
    times = [value for name, _, value in parts if name == b"t"]
    if len(times) != 1:
        raise Refused("invalid_signature", "Stripe-Signature must hold one t")
    timestamp = _digits(times[0], "t of Stripe-Signature", "unix seconds")
    given = [value for name, _, value in parts if name == b"v1"]
    _check(given, _hex(secret, timestamp + b"." + body), "Stripe-Signature")
    _check_time(int(timestamp) * 1000, now_ms, "t of Stripe-Signature")


def _verify_hubspot(secret: str, headers: RawHeaders, body: bytes, request: bytes, now_ms: int) -> None:
    name = "X-HubSpot-Request-Timestamp"
    timestamp = _digits(_the_one(headers, name.lower().encode()), name, "unix milliseconds")
    given = _the_one(headers, b"x-hubspot-signature-v3")
    plain = HUBSPOT_ESCAPES.sub(lambda found: bytes.fromhex(found[0][1:].decode()), request)
    _check([given], _base64(secret, plain + body + timestamp), "X-HubSpot-Signature-v3")
    _check_time(int(timestamp), now_ms, name)


def _verify_custom(source: WebhookSource, headers: RawHeaders, body: bytes) -> None:
    """Upper-case hex passes: what others write is not ours to choose."""
    given = _the_one(headers, source.signature_header.lower().encode()).removeprefix(PREFIX)
    if source.signature_encoding == "hex":
        _check([given.lower()], _hex(source.secret, body), source.signature_header)
    else:
        _check([given], _base64(source.secret, body), source.signature_header)


# ── The parts ────────────────────────────────────────────────────────────────────────────────


def _the_one(headers: RawHeaders, name: bytes) -> bytes:
    """The header's value. Two of them could mean one thing here and another elsewhere."""
    found = [value for one, value in headers if one == name]
    if len(found) != 1:
        wrong = "is missing" if not found else "was sent more than once"
        raise Refused("invalid_signature", f"the header {name.decode()} {wrong}")
    return found[0].strip()


def _digits(value: bytes, name: str, unit: str) -> bytes:
    if not DIGITS.fullmatch(value):
        raise Refused("invalid_signature", f"{name} must be {unit} in digits")
    return value


def _digest(secret: str, message: bytes) -> bytes:
    if not secret:
        raise Refused("invalid_signature", "there is no secret to verify the signature with")
    return hmac.digest(secret.encode(), message, "sha256")


def _hex(secret: str, message: bytes) -> bytes:
    return _digest(secret, message).hex().encode()


def _base64(secret: str, message: bytes) -> bytes:
    return base64.b64encode(_digest(secret, message))


def _check(given: list[bytes], expected: bytes, name: str) -> None:
    if not any([hmac.compare_digest(one, expected) for one in given]):
        raise Refused("invalid_signature", f"{name} is not the signature of this body under the secret")


def _check_time(at_ms: int, now_ms: int, name: str) -> None:
    off_ms = abs(now_ms - at_ms)
    if off_ms > TOLERANCE_MS:
        words = f"{name} is {off_ms // 1000:,} s off, at most {TOLERANCE_MS // 1000} s are allowed"
        raise Refused("timestamp_expired", f"{words}: check its unit and both clocks")
