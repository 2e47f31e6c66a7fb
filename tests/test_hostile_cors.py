"""Foreign pages, forged cookies, and proxies that vouch for others (reliability.md, C4, cases 37, 53 to 62).

docs/hostile-input.md says which case is held where, and where the product's own rule differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPMessage

import pytest

from gateway_kit import ORIGIN
from hostile_kit import Hostile, hostile, read_to_end, refused, replies_of
from kit import Answer

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
VISITOR = "0e3f1a3e-7a3b-4c3d-8e3f-1a2b3c4d5e6f"
ALLOWED = ["shop.example.com", "*.shop.example.org"]
PUBLIC_URL = "https://data.shop.example.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """Behind a proxy on this machine, whose word counts."""
    env = {
        "DATAFLY_BODY_TIMEOUT_S": "0.5",
        "DATAFLY_TRUSTED_PROXIES": "127.0.0.1/32, 10.0.0.0/8",
        "DATAFLY_PUBLIC_URL": PUBLIC_URL,
    }
    with hostile(tmp_path_factory.mktemp("cors"), env, domain_allowlist=ALLOWED) as running:
        yield running


def event(message_id: str, **fields: object) -> bytes:
    return json.dumps({"type": "track", "event": "x", "messageId": message_id, **fields}).encode()


def cors(headers: HTTPMessage | dict[str, str]) -> dict[str, str]:
    """All that says who may read the answer."""
    names = ("vary", "timing-allow-origin", "cross-origin-resource-policy")
    given = {name.lower(): value for name, value in headers.items()}
    return {
        name: value for name, value in given.items() if name.startswith("access-control-") or name in names
    }


UNREAD = {
    "vary": "Origin",
    "access-control-allow-methods": "POST, OPTIONS",
    "access-control-allow-headers": "Content-Type, Authorization",
}


def readable_by(origin: str) -> dict[str, str]:
    return UNREAD | {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Retry-After, X-RateLimit-Reset, X-Request-ID",
    }


# ── 53 to 57: who may read an answer ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "status"),
    [
        ("POST", "/v1/t", event("cors-ok"), None, 200),
        ("POST", "/v1/batch", b'{"batch":[]}', None, 200),
        ("POST", "/events", b'{"event_name":"x"}', None, 200),
        ("GET", "/v1/pixel/track?e=x", None, None, 200),
        ("POST", "/v1/m", b"{}", None, 200),
        ("POST", "/v1/t", b"{", None, 400),
        ("POST", "/v1/t", event("cors-no"), "dk_nobody", 401),
        ("POST", "/v1/events", event("cors-no"), None, 401),
        ("POST", "/v1/webhook?source=wh_nobody", b"{}", None, 401),
        ("POST", "/v1/challenge", b'{"pipeline_key":"dk_nobody"}', None, 401),
        ("POST", "/v1/nothing", b"{}", None, 404),
        ("PUT", "/v1/t", b"{}", None, 405),
        ("POST", "/v1/t", b"x" * 600_000, None, 413),
    ],
)
def test_every_answer_can_be_read_by_the_page_that_asked(
    server: Hostile, method: str, path: str, body: bytes | None, key: str | None, status: int
) -> None:
    answer = server.send(body, path, method, key=key, Origin=ORIGIN)
    assert (answer.status, cors(answer.headers)) == (status, readable_by(ORIGIN))
    without = server.send(body, path, method, key=key)
    assert cors(without.headers) == UNREAD, "no Origin is no page: nobody is named"


def test_a_body_that_is_too_slow_is_told_so_in_a_way_that_can_be_read(server: Hostile) -> None:
    head = server.head("POST /v1/t HTTP/1.1", f"Origin: {ORIGIN}", "Content-Length: 100")
    with server.connection() as connection:
        connection.sendall(head + b"{")
        (reply,) = replies_of(read_to_end(connection))
    refused(reply, 408, "request_timeout")
    assert cors(reply.headers) == readable_by(ORIGIN)
    server.serves()


def test_beyond_the_rate_limit_and_disabled_can_be_read(server: Hostile) -> None:
    slow = server.management.create_pipeline("Slow", rate_limit_rps=1)
    answers = [server.send(event(f"slow-{number}"), key=slow.key, Origin=ORIGIN) for number in range(20)]
    late = next(answer for answer in answers if answer.status == 429)
    refused(late, 429, "rate_limited")
    assert (late.headers["Retry-After"], cors(late.headers)) == ("1", readable_by(ORIGIN))
    server.management.call("PUT", f"pipelines/{slow.id}", {"enabled": False})
    disabled = server.send(event("slow"), key=slow.key, Origin=ORIGIN)
    refused(disabled, 403, "pipeline_disabled")
    assert cors(disabled.headers) == readable_by(ORIGIN)


def test_a_full_disk_can_be_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    env = {"DATAFLY_MIN_FREE_DISK_BYTES": str(1 << 60)}
    with hostile(tmp_path_factory.mktemp("full"), env, up="/healthz") as full:
        for path in ("/v1/t", "/v1/track", "/events"):
            answer = full.send_only(event("full", event_name="x"), path, Origin=ORIGIN)
            refused(answer, 503, "storage_unavailable")
            assert (answer.headers["Retry-After"], cors(answer.headers)) == ("30", readable_by(ORIGIN))


ORIGINS = {
    ORIGIN: True,
    "http://shop.example.com": True,
    "https://shop.example.com:8443": True,
    "HTTPS://SHOP.EXAMPLE.COM": True,
    "https://www.shop.example.org": True,
    "https://shop.example.org": False,
    "https://www.shop.example.com": False,
    "https://evil-shop.example.com": False,
    "https://shop.example.com.evil.example": False,
    "https://evilshop.example.org": False,
    "https://shop.example.com.": False,
    "https://shop.example.com@evil.example": False,
    "https://shop.example.com/": False,
    "https://shop.example.com:0": False,
    "https://shop.example.com:x": False,
    "https://xn--shp-example-vgb.com": False,
    "https://shop.example.com, https://evil.example": False,
    "https://evil.example https://shop.example.com": False,
    "https://[::1": False,
    "null": False,
    "*": False,
    "file://": False,
    "ftp://shop.example.com": False,
    "chrome-extension://shop.example.com": False,
    "shop.example.com": False,
    "https://localhost": False,
    "é": False,
    f"https://{'a' * 5_000}.example": False,
}


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin[:40])
def test_which_pages_may_send(server: Hostile, origin: str) -> None:
    message_id = f"from-{abs(hash(origin))}"
    for path, method in (("/v1/t", "POST"), (f"/v1/pixel/track?e=x&mid={message_id}-p", "GET")):
        answer = server.send(event(message_id) if method == "POST" else None, path, method, Origin=origin)
        if ORIGINS[origin]:
            assert (answer.status, cors(answer.headers)) == (200, readable_by(origin))
        else:
            refused(answer, 403, "origin_not_allowed")
            assert cors(answer.headers) == UNREAD
            assert "Set-Cookie" not in answer.headers
    assert server.is_new(message_id) is not ORIGINS[origin]


def test_an_empty_list_allows_every_page_and_names_it(server: Hostile) -> None:
    """With credentials, as the SDKs of browsers need: the cookie names a visitor, it opens nothing."""
    anyone = server.management.create_pipeline("Anyone")
    for origin in ("https://anything.example", "null"):
        answer = server.send(event(f"any-{origin}"), key=anyone.key, Origin=origin)
        assert (answer.status, cors(answer.headers)) == (200, readable_by(origin))


@pytest.mark.parametrize(
    "path", ["/v1/t", "/v1/batch", "/events", "/v1/events", "/v1/challenge", "/v1/nothing"]
)
@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example", "null"])
def test_a_preflight_is_answered_before_any_key_is_known(server: Hostile, path: str, origin: str) -> None:
    """It comes without the key, so it cannot know whose list counts: the request itself is refused."""
    for asked in ("content-type", "authorization,x-retry-count", "x" * 5_000):
        headers = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": asked}
        answer = server.send(None, path, "OPTIONS", key="", Origin=origin, **headers)
        expected = readable_by(origin) | {
            "access-control-allow-headers": asked,
            "access-control-max-age": "7200",
        }
        assert (answer.status, answer.body, cors(answer.headers)) == (204, b"", expected)


def test_a_preflight_for_another_method_lists_what_is_taken(server: Hostile) -> None:
    answer = server.send(None, "/v1/t", "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="DELETE")
    assert answer.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type, Authorization"


# ── 58 and 59: the visitor's cookie ──────────────────────────────────────────────────────────


def cookies(answer: Answer) -> list[str]:
    return answer.headers.get_all("Set-Cookie") or []


@pytest.mark.parametrize(
    "cookie",
    [
        *("_dfid=", "_dfid=admin", "_dfid=" + "a" * 20_000, '_dfid={"id":1}', f"_dfid={VISITOR.upper()}"),
        *(f"_dfid={VISITOR}%0d%0aSet-Cookie:x=1", f"_dfid={VISITOR}x", "_dfid=é", f'_dfid="{VISITOR}"'),
        *("_dfid=0e3f1a3e-7a3b-1c3d-8e3f-1a2b3c4d5e6f", "_dfid", "=", ";" * 1_000, f"x_dfid={VISITOR}"),
    ],
    ids=lambda cookie: cookie[:30],
)
def test_a_forged_cookie_is_replaced(server: Hostile, cookie: str) -> None:
    message_id = f"forged-{abs(hash(cookie))}"
    answer = server.send(event(message_id), Origin=ORIGIN, Cookie=cookie)
    (line,) = cookies(answer)
    visitor = line.partition(";")[0].removeprefix("_dfid=")
    assert re.fullmatch(UUID4, visitor)
    assert visitor != VISITOR
    assert server.stored(message_id)["anonymousId"] == visitor


def test_a_well_formed_cookie_is_believed_whoever_sends_it(server: Hostile) -> None:
    """It names a visitor and opens nothing; who has another's id can only add to what is known of them."""
    answer = server.send(event("taken"), Origin=ORIGIN, Cookie=f"a=b; _dfid={VISITOR}; _dfid=second")
    assert cookies(answer) == []
    assert server.stored("taken")["anonymousId"] == VISITOR


@pytest.mark.parametrize("anonymous_id", ["x\r\nSet-Cookie: a=b", "x; Domain=evil.example", "x\0", "é" * 200])
def test_what_an_event_says_never_becomes_a_header(server: Hostile, anonymous_id: str) -> None:
    message_id = f"header-{abs(hash(anonymous_id))}"
    answer = server.send(event(message_id, anonymousId=anonymous_id))
    assert (answer.status, cookies(answer)) == (200, [])
    assert server.stored(message_id)["anonymousId"] == anonymous_id


@pytest.mark.parametrize(
    ("scheme", "host", "is_secure"),
    [
        ("https", "data.shop.example.com", True),
        ("http", "data.shop.example.com", True),
        ("http", "localhost:8084", False),
        ("HTTPS", "localhost:8084", True),
        ("http", "localhost.evil.example", True),
    ],
)
def test_what_the_cookie_says(server: Hostile, scheme: str, host: str, is_secure: bool) -> None:
    own = server.management.create_pipeline("Own domain", slug="", config={"cookie_domain": ".example.com"})
    inside = "Domain=.example.com" if host.endswith(".example.com") else None
    for key, domain in ((server.key, None), (own.key, inside)):
        answer = server.send(event(""), key=key, Origin=ORIGIN, X_Forwarded_Proto=scheme, Host=host)
        (line,) = cookies(answer)
        name, *attributes = line.split("; ")
        assert re.fullmatch(f"_dfid={UUID4}", name)
        expected = {"Path=/", "Max-Age=34560000", "HttpOnly", "SameSite=Lax"}
        assert set(attributes) == expected | ({"Secure"} if is_secure else set()) | (
            {domain} if domain else set()
        )


# ── 36 and 37: behind a proxy ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("<script>, 10.0.0.2", "10.0.0.2"),
        ("198.51.100.7:1234", "127.0.0.1"),
        ("unknown", "127.0.0.1"),
        ("", "127.0.0.1"),
        (", ".join(["10.0.0.9"] * 1_000), "10.0.0.9"),
        (", ".join(["1.1.1.1"] * 999 + ["198.51.100.7"]), "198.51.100.7"),
    ],
    ids=lambda value: value[:30],
)
def test_a_trusted_proxy_names_the_caller(server: Hostile, forwarded: str, expected: str) -> None:
    message_id = f"ip-{abs(hash(forwarded))}"
    assert server.send(event(message_id), X_Forwarded_For=forwarded).status == 200
    assert server.trace(message_id)["envelope"]["ip"] == expected


def test_with_a_public_address_no_host_of_a_request_gets_into_a_document(server: Hostile) -> None:
    for host in ("evil.example", "a/@evil.example?x"):
        answer = server.send(None, f"/v1/projects/{server.key}/settings", "GET", Host=host)
        segment = answer.json()["integrations"]["Segment.io"]
        assert (segment["protocol"], segment["apiHost"]) == ("https", "data.shop.example.com/v1")


# ── 60 to 62: what the gateway has to do with consent ────────────────────────────────────────


@pytest.mark.parametrize(
    "consent",
    [
        {"marketing": False, "analytics": True},
        {"tcf": "CP" + "A" * 20_000},
        {"tcf": "garbage \0 é", "version": -1},
        {"categories": []},
        "no",
        7,
        [],
        None,
    ],
    ids=lambda consent: str(consent)[:20],
)
def test_what_a_visitor_agreed_to_is_kept_as_it_was_said(server: Hostile, consent: object) -> None:
    """To decide by it is the processor's: nothing that it cannot read is a yes or a no (consent.py)."""
    message_id = f"consent-{abs(hash(str(consent)))}"
    assert server.send(event(message_id, context={"consent": consent})).json() == {"success": True}
    assert server.trace(message_id)["canonical"]["context"]["consent"] == consent


def test_global_privacy_control_is_a_no_to_marketing_and_nothing_else_is(server: Hostile) -> None:
    for signal, expected in (
        ("1", {"marketing": False, "personalization": False}),
        ("0", {}),
        ("nonsense", {}),
    ):
        assert server.send(event(f"gpc-{signal}"), Origin=ORIGIN, Sec_GPC=signal, DNT="1").json() == {
            "success": True
        }
        final = server.trace(f"gpc-{signal}")["final"]
        assert final["context"].get("consent", {}).get("canonical", {}) == expected
