"""The door's small decisions, each as a table: timestamps, keys, origins, cookies, addresses, rates."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from datafly_lite.configuration import Pipeline
from datafly_lite.errors import Refused
from datafly_lite.gateway import callers, cookies, origins
from datafly_lite.gateway.cookies import Setting
from datafly_lite.gateway.rates import RateLimit
from datafly_lite.gateway.timestamps import parse_ms, settled
from datafly_lite.settings import networks

RECEIVED_MS = 1_772_029_800_000  # 2026-02-25T14:30:00.000Z
RECEIVED = "2026-02-25T14:30:00.000Z"


@pytest.mark.parametrize(
    ("original", "sent_at", "expected"),
    [
        (None, None, RECEIVED),
        ("2026-02-25T14:29:58.000Z", None, "2026-02-25T14:29:58.000Z"),
        ("2026-02-25T14:29:58.123456789Z", None, "2026-02-25T14:29:58.123Z"),
        ("2026-02-25T15:29:58+01:00", None, "2026-02-25T14:29:58.000Z"),
        ("2026-02-25T14:29:58", None, "2026-02-25T14:29:58.000Z"),
        (1_772_029_798_000, None, "2026-02-25T14:29:58.000Z"),
        ("1772029798000", None, "2026-02-25T14:29:58.000Z"),
        ("1795120122359", None, "2026-11-19T20:28:42.359Z"),
        ("2015-2-02T00:30:08.276Z", None, "2015-02-02T00:30:08.276Z"),
        ("2026-02-25t14:29:58z", None, "2026-02-25T14:29:58.000Z"),
        ("20260225", None, RECEIVED),
        ("yesterday", None, RECEIVED),
        ("2026-02-30T00:00:00.000Z", None, RECEIVED),
        ("", None, RECEIVED),
        (1e300, None, RECEIVED),
        # Two seconds of difference are the network; an hour is a wrong clock; two days are a queue.
        ("2026-02-25T14:29:50.000Z", "2026-02-25T14:29:58.000Z", "2026-02-25T14:29:50.000Z"),
        ("2026-02-25T13:29:50.000Z", "2026-02-25T13:30:00.000Z", "2026-02-25T14:29:50.000Z"),
        ("2026-02-25T15:29:50.000Z", "2026-02-25T15:30:00.000Z", "2026-02-25T14:29:50.000Z"),
        ("2026-02-23T14:00:00.000Z", "2026-02-23T14:00:05.000Z", "2026-02-23T14:00:00.000Z"),
    ],
)
def test_the_time_of_an_event(original: Any, sent_at: str | None, expected: str) -> None:
    assert settled(original, sent_at, RECEIVED_MS) == expected


def test_what_is_no_time() -> None:
    assert [parse_ms(one) for one in ("", "x", None, -1e20, 1e20, float("nan"))] == [None] * 6


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({b"authorization": b"Bearer dk_1"}, b"", ["dk_1"]),
        ({b"authorization": b"bearer  dk_1 "}, b"", ["dk_1"]),
        ({b"authorization": basic("dk_1:")}, b"", ["dk_1"]),
        ({b"authorization": basic("dk_1")}, b"", ["dk_1"]),
        ({b"authorization": b"Basic !!"}, b"", [""]),
        ({b"authorization": b"Digest x"}, b"", []),
        ({b"x-write-key": b"dk_1"}, b"", ["dk_1"]),
        ({}, b"writeKey=dk_1&x=y", ["dk_1"]),
        ({b"authorization": b"Bearer other"}, b"wk=dk_1", ["dk_1", "other"]),
        ({}, b"", []),
    ],
)
def test_where_the_key_may_stand(headers: dict[bytes, bytes], query: bytes, expected: list[str]) -> None:
    assert list(callers.keys(headers, query)) == expected


def pipeline(*allowed: str) -> Pipeline:
    return Pipeline(
        id="pip_1",
        key="dk_1",
        secret="sk_1",
        name="",
        enabled=True,
        domain_allowlist=allowed,
        rate_limit_rps=1,
        challenge_token_required=False,
        cookie_domain="",
        js_builder_config={},
        attachments=(),
    )


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://example.com", True),
        ("http://example.com:8080", True),
        ("https://EXAMPLE.com", True),
        ("https://shop.example.org", True),
        ("https://a.b.example.org", True),
        ("https://example.org", False),
        ("https://www.example.com", False),
        ("https://evil-example.com", False),
        ("https://example.com.evil.net", False),
        ("https://example.com@evil.net", False),
        ("https://example.com/path", False),
        ("https://example.com.", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("chrome-extension://example.com", False),
        ("https://example.com:0", False),
        ("https://[::1", False),
        ("http://localhost:3000", False),
    ],
)
def test_which_origins_may_send(origin: str | None, allowed: bool) -> None:
    assert origins.is_allowed(pipeline("example.com", "*.example.org"), origin, dev=False) is allowed


def test_an_empty_list_allows_all_and_dev_mode_this_machine() -> None:
    assert origins.is_allowed(pipeline(), "https://anything.example", dev=False)
    assert origins.is_allowed(pipeline("example.com"), "http://localhost:3000", dev=True)
    assert origins.is_allowed(pipeline("example.com"), "http://127.0.0.1:3000", dev=True)
    assert not origins.is_allowed(pipeline("example.com"), "http://localhost.evil.net", dev=True)


VISITOR = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (f"_dfid={VISITOR}", VISITOR),
        (f"a=b; _dfid={VISITOR}; c=d", VISITOR),
        (f"x_dfid={VISITOR}", None),
        ("_dfid=", None),
        ("_dfid=admin", None),
        (f"_dfid={VISITOR}extra", None),
        ("_dfid=0e3f1a3e-7a3b-1c3d-8e3f-1a2b3c4d5e6f", None),
        ("_dfid=" + "9" * 10_000, None),
        (None, None),
    ],
)
def test_a_malformed_visitor_is_none(cookie: str | None, expected: str | None) -> None:
    assert callers.visitor_of(cookie.encode() if cookie is not None else None) == expected


@pytest.mark.parametrize(
    ("scheme", "host", "secure"),
    [
        ("https", "shop.example.com", True),
        ("http", "shop.example.com", True),
        ("http", "127.0.0.1:8084", False),
        ("http", "localhost", False),
        ("https", "localhost", True),
        ("http", "localhost.evil.net", True),
    ],
)
def test_the_visitor_cookie(scheme: str, host: str, secure: bool) -> None:
    caller = callers.caller(
        {"scheme": scheme, "client": None}, {b"host": host.encode()}, networks("", setting="trusted_proxies")
    )
    cookie = cookies.line(Setting(cookies.VISITOR, VISITOR), caller, ".example.com").decode()
    parts = cookie.split("; ")
    assert parts[0] == f"_dfid={VISITOR}"
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=34560000"} <= set(parts)
    assert ("Domain=.example.com" in parts) == host.endswith("example.com")
    assert ("Secure" in parts) is secure


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not our proxy: what it says counts for nothing
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "<script>, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", ", ".join(["198.51.100.1"] * 1_000), "198.51.100.1"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: str, expected: str) -> None:
    scope = {"client": (peer, 1), "scheme": "http"}
    headers = {b"x-forwarded-for": forwarded.encode()}
    trusted = networks("10.0.0.0/8", setting="trusted_proxies")
    assert callers.caller(scope, headers, trusted).ip == expected


def passes(rates: RateLimit, name: str, limit: int, events: int = 1) -> bool:
    try:
        rates.admit(name, limit, events)
    except Refused as refused:
        return refused.code != "rate_limited"
    return True


def wait_of(rates: RateLimit, name: str, limit: int) -> int | None:
    with pytest.raises(Refused) as told:
        rates.admit(name, limit)
    return told.value.retry_after_s


def test_the_limit_passes_exactly_its_number_a_second() -> None:
    now = [100.0]
    rates = RateLimit(lambda: now[0])
    assert [passes(rates, "a", 1_000) for _ in range(1_001)] == [True] * 1_000 + [False]
    assert passes(rates, "b", 1_000)
    now[0] = 101.0
    assert passes(rates, "a", 1_000)


def test_a_batch_counts_its_events_and_owes_what_is_beyond_the_limit() -> None:
    now = [5.0]
    rates = RateLimit(lambda: now[0])
    assert passes(rates, "a", 100, 99)
    assert passes(rates, "a", 100, 500), "among single events a large batch finds its place"
    assert wait_of(rates, "a", 100) == 5
    now[0] = 9.9
    assert wait_of(rates, "a", 100) == 1
    now[0] = 10.0
    assert passes(rates, "a", 100)
    assert passes(rates, "b", 100, 1)


def test_in_the_long_run_batches_keep_the_limit() -> None:
    now, stored = [0.0], 0
    rates = RateLimit(lambda: now[0])
    for tenth in range(10_000):
        now[0] = tenth / 10
        stored += 2_500 * passes(rates, "a", 1_000, 2_500)
    assert abs(stored - 1_000_000) <= 2_500


def test_a_limit_of_nothing_passes_nothing() -> None:
    assert wait_of(RateLimit(lambda: 5.0), "a", 0) == 1
