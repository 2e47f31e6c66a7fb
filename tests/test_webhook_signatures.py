"""Signatures: Datafly's own (spec/datafly-signal.md, 3.2) and each kind of webhook's (3.5).

The expected signatures are made without the library that the program verifies them with.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from datafly_lite.configuration import WebhookSource
from datafly_lite.errors import Refused
from datafly_lite.gateway.signatures import verify_datafly, verify_source

NOW_MS = 1_772_355_600_000
SECRET = "sk_0123456789abcdef"
BODY = b'{"type":"track","event":"Order \xc3\xa9"}'
URI = "https://data.shop.test/v1/webhook?source=wh_1"


def signed(secret: str, message: bytes) -> bytes:
    """HMAC-SHA256 as RFC 2104 writes it; every key here is shorter than a block of 64 bytes."""
    key = secret.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(one ^ 0x36 for one in key) + message).digest()
    return hashlib.sha256(bytes(one ^ 0x5C for one in key) + inner).digest()


def hexed(secret: str, message: bytes) -> bytes:
    return signed(secret, message).hex().encode()


def based(secret: str, message: bytes) -> bytes:
    return base64.b64encode(signed(secret, message))


def code_of(call: Any, *arguments: Any, **named: Any) -> str:
    """The code of the refusal, or "accepted"."""
    try:
        call(*arguments, **named)
    except Refused as refused:
        return refused.code
    return "accepted"


def test_the_hmac_of_these_tests_is_that_of_rfc_4231() -> None:
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert signed("Jefe", b"what do ya want for nothing?").hex() == expected


# ── Datafly's own ────────────────────────────────────────────────────────────────────────────


def own_headers(at_ms: int = NOW_MS, body: bytes = BODY, secret: str = SECRET) -> list[tuple[bytes, bytes]]:
    timestamp = str(at_ms).encode()
    signature = b"sha256=" + hexed(secret, timestamp + b"." + body)
    return [(b"x-timestamp", timestamp), (b"x-signature", signature)]


def test_a_right_signature_is_accepted() -> None:
    assert code_of(verify_datafly, SECRET, own_headers(), BODY, NOW_MS) == "accepted"


def test_a_changed_body_or_another_secret_is_refused() -> None:
    assert code_of(verify_datafly, SECRET, own_headers(), BODY + b" ", NOW_MS) == "invalid_signature"
    other = own_headers(secret="sk_other")
    assert code_of(verify_datafly, SECRET, other, BODY, NOW_MS) == "invalid_signature"


@pytest.mark.parametrize(
    ("off_ms", "code"),
    [
        (-300_001, "timestamp_expired"),
        (-300_000, "accepted"),
        (300_000, "accepted"),
        (300_001, "timestamp_expired"),
    ],
)
def test_five_minutes_both_ways(off_ms: int, code: str) -> None:
    assert code_of(verify_datafly, SECRET, own_headers(NOW_MS + off_ms), BODY, NOW_MS) == code


def test_a_timestamp_moved_after_signing_is_no_signature() -> None:
    (_, _), signature = own_headers(NOW_MS - 600_000)
    moved = [(b"x-timestamp", str(NOW_MS).encode()), signature]
    assert code_of(verify_datafly, SECRET, moved, BODY, NOW_MS) == "invalid_signature"


def changed(name: bytes, change: Any) -> list[tuple[bytes, bytes]]:
    return [(one, change(value) if one == name else value) for one, value in own_headers()]


def test_upper_case_hex_another_scheme_and_no_scheme_are_refused() -> None:
    for change in (
        lambda value: b"sha256=" + value.removeprefix(b"sha256=").upper(),
        lambda value: value.replace(b"sha256=", b"sha1="),
        lambda value: value.replace(b"sha256=", b"SHA256="),
        lambda value: value.removeprefix(b"sha256="),
        lambda value: b"sha256=" + base64.b64encode(bytes.fromhex(value[7:].decode())),
        lambda value: b"sha256=",
        lambda value: value[:-1],
        lambda value: value + b"\xff",
    ):
        headers = changed(b"x-signature", change)
        assert code_of(verify_datafly, SECRET, headers, BODY, NOW_MS) == "invalid_signature", headers


@pytest.mark.parametrize("name", [b"x-timestamp", b"x-signature"])
def test_a_missing_and_a_doubled_header_are_refused(name: bytes) -> None:
    missing = [one for one in own_headers() if one[0] != name]
    doubled = own_headers() + [one for one in own_headers() if one[0] == name]
    assert code_of(verify_datafly, SECRET, missing, BODY, NOW_MS) == "invalid_signature"
    assert code_of(verify_datafly, SECRET, doubled, BODY, NOW_MS) == "invalid_signature"


@pytest.mark.parametrize(
    "timestamp",
    [b"", b"-1", b"+1", b"1e12", b"1.5", b"0x1", b"2026-03-01", "١٢٣".encode(), b"1" * 5000, b"1_0", b"1 0"],
)
def test_a_timestamp_that_is_no_number_is_refused(timestamp: bytes) -> None:
    signature = b"sha256=" + hexed(SECRET, timestamp + b"." + BODY)
    headers = [(b"x-timestamp", timestamp), (b"x-signature", signature)]
    assert code_of(verify_datafly, SECRET, headers, BODY, NOW_MS) == "invalid_signature"


def test_seconds_in_place_of_milliseconds_are_said_to_be_expired() -> None:
    assert code_of(verify_datafly, SECRET, own_headers(NOW_MS // 1000), BODY, NOW_MS) == "timestamp_expired"


def test_an_empty_secret_verifies_nothing() -> None:
    headers = [(b"x-timestamp", str(NOW_MS).encode()), (b"x-signature", b"sha256=" + b"0" * 64)]
    assert code_of(verify_datafly, "", headers, BODY, NOW_MS) == "invalid_signature"


# ── Webhook sources ──────────────────────────────────────────────────────────────────────────


def source(source_type: Any, secret: str = SECRET, **fields: Any) -> WebhookSource:
    plain = {"signature_header": "X-Hub-Signature", "signature_encoding": "hex", "event_type_path": ""}
    return WebhookSource(
        id="wh_1",
        pipeline_id="pip_1",
        source_type=source_type,
        enabled=True,
        secret=secret,
        mappings={},
        **{**plain, **fields},
    )


def verified(
    one: WebhookSource,
    headers: list[tuple[bytes, bytes]],
    body: bytes = BODY,
    uri: str = URI,
    now_ms: int = NOW_MS,
) -> str:
    return code_of(verify_source, one, headers, body, method="POST", uri=uri, now_ms=now_ms)


def stripe_headers(*secrets: str, at_s: int = NOW_MS // 1000) -> list[tuple[bytes, bytes]]:
    parts = [b"t=%d" % at_s]
    parts += [b"v1=" + hexed(secret, b"%d." % at_s + BODY) for secret in secrets]
    return [(b"stripe-signature", b",".join([*parts, b"v0=" + b"6" * 64]))]


def test_stripe() -> None:
    assert verified(source("stripe"), stripe_headers(SECRET)) == "accepted"
    assert verified(source("stripe"), stripe_headers(SECRET), BODY + b"\n") == "invalid_signature"
    assert verified(source("stripe", "whsec_other"), stripe_headers(SECRET)) == "invalid_signature"
    assert verified(source("stripe"), []) == "invalid_signature"


def test_stripe_signs_twice_while_its_secret_is_rolled() -> None:
    headers = stripe_headers("whsec_old", "whsec_new")
    assert verified(source("stripe", "whsec_old"), headers) == "accepted"
    assert verified(source("stripe", "whsec_new"), headers) == "accepted"
    assert verified(source("stripe", "whsec_third"), headers) == "invalid_signature"


@pytest.mark.parametrize(
    ("off_s", "code"),
    [
        (-301, "timestamp_expired"),
        (-300, "accepted"),
        (300, "accepted"),
        (301, "timestamp_expired"),
    ],
)
def test_stripe_is_given_three_hundred_seconds(off_s: int, code: str) -> None:
    headers = stripe_headers(SECRET, at_s=NOW_MS // 1000 + off_s)
    assert verified(source("stripe"), headers) == code


def test_a_damaged_stripe_header_is_refused() -> None:
    good = stripe_headers(SECRET)[0][1]
    for value in (
        b"",
        b",,,",
        b"=",
        good.replace(b"v1=", b"v0="),
        good.replace(b"t=", b"T="),
        good + b",t=1",
        b"t=abc,v1=" + b"0" * 64,
        b"t=%d" % (NOW_MS // 1000),
        good.replace(b"v1=", b"v1=\xff"),
    ):
        assert verified(source("stripe"), [(b"stripe-signature", value)]) == "invalid_signature", value
    assert verified(source("stripe"), stripe_headers(SECRET) * 2) == "invalid_signature"


def test_shopify_signs_the_body_in_base64() -> None:
    good = [(b"x-shopify-hmac-sha256", based(SECRET, BODY))]
    assert verified(source("shopify"), good) == "accepted"
    assert verified(source("shopify"), good, BODY[:-1]) == "invalid_signature"
    assert verified(source("shopify"), good * 2) == "invalid_signature"
    as_hex = [(b"x-shopify-hmac-sha256", hexed(SECRET, BODY))]
    assert verified(source("shopify"), as_hex) == "invalid_signature"


def hubspot_headers(
    at_ms: int = NOW_MS, signed_uri: str = URI, method: str = "POST"
) -> list[tuple[bytes, bytes]]:
    timestamp = str(at_ms).encode()
    message = method.encode() + signed_uri.encode() + BODY + timestamp
    return [(b"x-hubspot-request-timestamp", timestamp), (b"x-hubspot-signature-v3", based(SECRET, message))]


def test_hubspot_signs_the_method_the_address_the_body_and_the_time() -> None:
    hubspot = source("hubspot")
    assert verified(hubspot, hubspot_headers()) == "accepted"
    assert verified(hubspot, hubspot_headers(), BODY + b" ") == "invalid_signature"
    assert verified(hubspot, hubspot_headers(), uri=URI + "&a=1") == "invalid_signature"
    assert verified(hubspot, hubspot_headers(method="PUT")) == "invalid_signature"
    assert verified(hubspot, hubspot_headers()[1:]) == "invalid_signature"
    assert verified(hubspot, hubspot_headers()[:1]) == "invalid_signature"


def test_hubspot_decodes_these_escapes_of_the_address_and_no_others() -> None:
    escaped = URI + "&a=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B%20%26%C3%A9"
    plain = URI + "&a=:/?@!$'()*,;%20%26%C3%A9"
    assert verified(source("hubspot"), hubspot_headers(signed_uri=plain), uri=escaped) == "accepted"
    assert (
        verified(source("hubspot"), hubspot_headers(signed_uri=escaped), uri=escaped) == "invalid_signature"
    )


@pytest.mark.parametrize(("off_ms", "code"), [(-300_001, "timestamp_expired"), (-300_000, "accepted")])
def test_hubspot_is_given_five_minutes(off_ms: int, code: str) -> None:
    assert verified(source("hubspot"), hubspot_headers(NOW_MS + off_ms)) == code


@pytest.mark.parametrize("prefix", [b"", b"sha256="])
def test_a_custom_source_names_its_header_and_encoding(prefix: bytes) -> None:
    in_hex, in_base64 = source("custom"), source("custom", signature_encoding="base64")
    as_hex = [(b"x-hub-signature", prefix + hexed(SECRET, BODY))]
    as_base64 = [(b"x-hub-signature", prefix + based(SECRET, BODY))]
    assert verified(in_hex, as_hex) == "accepted"
    assert verified(in_base64, as_base64) == "accepted"
    assert verified(in_hex, as_base64) == "invalid_signature"
    assert verified(in_base64, as_hex) == "invalid_signature"
    assert verified(in_hex, as_hex, BODY + b" ") == "invalid_signature"
    assert verified(in_hex, []) == "invalid_signature"


def test_only_a_custom_source_can_be_unsigned() -> None:
    assert verified(source("custom", ""), []) == "accepted"
    assert verified(source("shopify", ""), [(b"x-shopify-hmac-sha256", b"")]) == "invalid_signature"
    assert verified(source("stripe", ""), stripe_headers(SECRET)) == "invalid_signature"
    assert verified(source("hubspot", ""), hubspot_headers()) == "invalid_signature"
