"""From one site to another over HTTP (reliability.md, cases 109 to 112; spec/datafly-signal.md, 6.5)."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from datafly_lite.store.handovers import REPEAT_MS
from gateway_kit import Appliance, running_appliance
from kit import Answer, Pipeline, request, wait_until
from test_cross_domain import EVIL
from test_gateway_paths import signature

SITE_A, SITE_B = "https://www.site-a.example", "https://site-b.example"
LISTED = ["site-b.example", "*.site-b.example", "www.site-a.example"]
IDENTITY = {"cross_domain_enabled": True, "cross_domain_domains": LISTED}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"
DFID = re.compile(r"_dfid=([0-9a-f-]{36});")


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(
        tmp_path_factory.mktemp("crossing") / "data",
        domain_allowlist=["*.site-a.example", "site-b.example"],
        identity_config=IDENTITY,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def site_b(appliance: Appliance) -> Pipeline:
    """The other site's own pipeline."""
    return appliance.management.create_pipeline(
        "Site B", slug="site-b", domain_allowlist=["site-b.example"], identity_config=IDENTITY
    )


@pytest.fixture
def visitor(appliance: Appliance) -> str:
    """Somebody who was on site A: the value of their cookie."""
    return visit(appliance, appliance.pipeline, SITE_A, f"{SITE_A}/")[0]


def event(url: str, message_id: str | None = None) -> dict[str, Any]:
    named = {} if message_id is None else {"messageId": message_id}
    return {"type": "page", "name": "Landing", "context": {"page": {"url": url}}, **named}


def send(appliance: Appliance, pipeline: Pipeline, body: Any, path: str = "/v1/p", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(
        f"{appliance.server.base_url}{path}",
        "POST",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {pipeline.key}", "User-Agent": BROWSER, **named},
    )


def cookie_of(answer: Answer) -> str | None:
    found = [DFID.match(one) for one in answer.headers.get_all("Set-Cookie") or []]
    return next((one[1] for one in found if one), None)


def set_by(answer: Answer) -> set[str]:
    return {one.partition("=")[0] for one in answer.headers.get_all("Set-Cookie") or []}


def visit(
    appliance: Appliance, pipeline: Pipeline, origin: str, url: str, **headers: str
) -> tuple[str, dict[str, Any]]:
    """A page view: (the cookie that is set or "", the event as it is kept)."""
    message_id = f"m-{visit.__dict__.setdefault('count', 0)}"
    visit.__dict__["count"] += 1
    answer = send(appliance, pipeline, event(url, message_id), Origin=origin, **headers)
    assert (answer.status, answer.body) == (200, b'{"success": true}')
    return cookie_of(answer) or "", appliance.stored(message_id)


def sync(appliance: Appliance, to: str, key: str = "", method: str = "GET", **headers: str) -> Answer:
    key = key or appliance.pipeline.key
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(
        f"{appliance.server.base_url}/v1/sync?wk={key}&to={quote(to, safe='')}",
        method,
        headers={"User-Agent": BROWSER, "Sec-Fetch-Dest": "document", **named},
    )


def decorated(appliance: Appliance, visitor: str, to: str = f"{SITE_B}/landing?a=1#part") -> str:
    """Where the link takes a visitor of site A."""
    answer = sync(appliance, to, Cookie=f"_dfid={visitor}")
    assert (answer.status, answer.body) == (302, b"")
    location: str = answer.headers["Location"]
    assert "_dfx=" in location
    return location


def refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert (answer.json()["success"], answer.json()["code"]) == (False, code)
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


# ── Leaving ──────────────────────────────────────────────────────────────────────────────────


def test_a_link_takes_the_visitor_to_the_other_site(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    location = decorated(appliance, visitor)
    assert re.fullmatch(rf"{SITE_B}/landing\?a=1&_dfx=[A-Za-z0-9_-]{{100,511}}#part", location)
    cookie, kept = visit(appliance, site_b, SITE_B, location)
    assert (cookie, kept["anonymousId"]) == (visitor, visitor)


def test_the_answer_is_kept_by_no_cache_and_sets_no_cookie(appliance: Appliance, visitor: str) -> None:
    answer = sync(appliance, SITE_B, Cookie=f"_dfid={visitor}")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/sync", "/sync/", "/v1/sync/"])
def test_its_other_paths(appliance: Appliance, visitor: str, path: str) -> None:
    url = f"{appliance.server.base_url}{path}?wk={appliance.pipeline.key}&to={SITE_B}/"
    answer = request(url, headers={"Cookie": f"_dfid={visitor}"})
    assert answer.status == 302
    assert answer.headers["Location"].startswith(f"{SITE_B}/?_dfx=")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Cookie": "_dfid=nobody"}, {"Cookie": "other=1"}, {"Sec_GPC": "1"}],
    ids=["no cookie", "a bad one", "another", "GPC"],
)
def test_who_has_nothing_to_hand_over_goes_on_all_the_same(
    appliance: Appliance, visitor: str, headers: dict[str, str]
) -> None:
    if "Sec_GPC" in headers:
        headers = {**headers, "Cookie": f"_dfid={visitor}"}
    answer = sync(appliance, f"{SITE_B}/x?y#z", **headers)
    assert (answer.status, answer.headers["Location"]) == (302, f"{SITE_B}/x?y#z")
    assert "Set-Cookie" not in answer.headers


def test_who_only_looks_where_a_link_leads_gets_no_token(appliance: Appliance, visitor: str) -> None:
    cookie = f"_dfid={visitor}"
    for to in (f"{SITE_B}/x?y#z", f"{SITE_B}/x?y&_dfx=old#z"):
        answer = sync(appliance, to, method="HEAD", Cookie=cookie)
        assert (answer.status, answer.headers["Location"], answer.body) == (302, f"{SITE_B}/x?y#z", b"")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers
    for to in ("https://evil.example/", "//site-b.example"):
        answer = sync(appliance, to, method="HEAD", Cookie=cookie)
        assert (answer.status, answer.body) == (400, b"")
        assert "Location" not in answer.headers
    assert sync(appliance, SITE_B, "dk_nobody", method="HEAD", Cookie=cookie).status == 401
    post = sync(appliance, SITE_B, method="POST")
    refused(post, 405, "method_not_allowed")
    assert post.headers["Allow"] == "GET, HEAD, OPTIONS"


UNLISTED = (
    "https://evilsite-b.example",
    "https://site-b.example.evil.example",
    "https://site-a.example",
    "https://evil.example/?https://site-b.example",
    "https://site-b.example%00.evil.example/",
    "https://site-b.example,evil.example/",
)


@pytest.mark.parametrize("to", [*EVIL, *UNLISTED], ids=lambda one: repr(one[:40]))
def test_nobody_is_sent_elsewhere(appliance: Appliance, visitor: str, to: str) -> None:
    """Case 110, with the listed host in place of the good one."""
    listed = to.replace("a.example", "site-b.example")
    refused(sync(appliance, listed, Cookie=f"_dfid={visitor}"), 400, "invalid_payload")


def test_a_listed_host_may_have_any_port_path_and_letters(appliance: Appliance, visitor: str) -> None:
    for to in (
        f"{SITE_B}:8443/x",
        "http://SITE-B.example",
        "https://shop.site-b.example/käse",
        f"{SITE_B}/?next=https://evil.example",
    ):
        location = sync(appliance, to, Cookie=f"_dfid={visitor}").headers["Location"]
        assert urlsplit(location).netloc == urlsplit(to).netloc
        assert location.isascii()


def test_the_link_says_where_it_stands(appliance: Appliance, visitor: str) -> None:
    for given, is_good in {
        "www.site-a.example": True,
        "https://shop.site-a.example/cart?x=1": True,
        "site-b.example": True,
        "evil.example": False,
        "https://evil.example/www.site-a.example": False,
        "javascript://www.site-a.example": False,
        "": False,
    }.items():
        answer = sync(appliance, f"{SITE_B}/&from={given}".replace("&", "%26"), Cookie=f"_dfid={visitor}")
        assert answer.status == 302, "inside `to` it is not ours"
        url = f"/v1/sync?wk={appliance.pipeline.key}&to={SITE_B}/&from={quote(given, safe='')}"
        answer = request(f"{appliance.server.base_url}{url}", headers={"Cookie": f"_dfid={visitor}"})
        assert answer.status == (302 if is_good else 400), given


def test_it_is_off_unless_the_pipeline_asks_for_it(appliance: Appliance, visitor: str) -> None:
    off = appliance.management.create_pipeline(
        "Off", identity_config={"cross_domain_enabled": False, "cross_domain_domains": LISTED}
    )
    refused(sync(appliance, SITE_B, off.key, Cookie=f"_dfid={visitor}"), 400, "invalid_payload")
    nowhere = appliance.management.create_pipeline("Nowhere", identity_config={"cross_domain_enabled": True})
    refused(sync(appliance, SITE_B, nowhere.key, Cookie=f"_dfid={visitor}"), 400, "invalid_payload")
    refused(sync(appliance, SITE_B, "dk_nobody", Cookie=f"_dfid={visitor}"), 401, "invalid_key")


def test_it_has_a_rate_of_its_own(appliance: Appliance, visitor: str) -> None:
    slow = appliance.management.create_pipeline("Slow", rate_limit_rps=1, identity_config=IDENTITY)
    answers = [sync(appliance, SITE_B, slow.key, Cookie=f"_dfid={visitor}") for _ in range(20)]
    limited = [one for one in answers if one.status == 429]
    assert limited
    assert all("Retry-After" in one.headers for one in limited)


def test_who_refused_functional_cookies_is_not_handed_over(appliance: Appliance, site_b: Pipeline) -> None:
    body = {**event(f"{SITE_A}/", "refuser"), "userId": "u-9"}
    body["context"]["consent"] = {"functional": False}
    visitor = cookie_of(send(appliance, appliance.pipeline, body, Origin=SITE_A))
    assert visitor
    appliance.stored("refuser")

    def is_known() -> bool:
        with sqlite3.connect(appliance.database) as connection:
            row = connection.execute(
                "SELECT consent FROM identities WHERE anonymous_id = ?", (visitor,)
            ).fetchone()
        connection.close()
        return bool(row and json.loads(row[0]).get("choices"))

    wait_until(is_known, "the choice is kept")
    answer = sync(appliance, f"{SITE_B}/", Cookie=f"_dfid={visitor}")
    assert (answer.status, answer.headers["Location"]) == (302, f"{SITE_B}/")


# ── The collector's way ──────────────────────────────────────────────────────────────────────


def ask(appliance: Appliance, to: str = f"{SITE_B}/", **headers: str) -> Answer:
    body = {"pipeline_key": appliance.pipeline.key, "to": to}
    return send(appliance, appliance.pipeline, body, "/v1/cross-domain", **headers)


def test_a_page_asks_for_a_token_and_decorates_its_link(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    answer = ask(appliance, Origin=SITE_A, Cookie=f"_dfid={visitor}")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SITE_A
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Cache-Control"] == "no-store"
    said = answer.json()
    assert said.keys() == {"success", "token", "expires_at", "parameter"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["expires_at"])
    link = f"{SITE_B}/?{said['parameter']}={said['token']}"
    assert visit(appliance, site_b, SITE_B, link)[0] == visitor


def test_a_page_is_told_where_there_is_nobody(appliance: Appliance, visitor: str) -> None:
    for headers in ({}, {"Cookie": f"_dfid={visitor}", "Sec_GPC": "1"}):
        answer = ask(appliance, Origin=SITE_A, **headers)
        nobody = {"success": True, "token": None, "expires_at": None, "parameter": "_dfx"}
        assert (answer.status, answer.json()) == (200, nobody)


def test_what_a_page_may_not_ask(appliance: Appliance, visitor: str) -> None:
    cookie = f"_dfid={visitor}"
    refused(ask(appliance, Origin="https://evil.example", Cookie=cookie), 403, "origin_not_allowed")
    refused(ask(appliance, "https://evil.example/", Origin=SITE_A, Cookie=cookie), 400, "invalid_payload")
    refused(ask(appliance, "//site-b.example", Origin=SITE_A, Cookie=cookie), 400, "invalid_payload")
    answer = send(appliance, appliance.pipeline, {"to": SITE_B}, "/v1/cross-domain", Origin=SITE_A)
    refused(answer, 400, "invalid_payload")
    get = request(f"{appliance.server.base_url}/v1/cross-domain")
    refused(get, 405, "method_not_allowed")
    assert get.headers["Allow"] == "POST, OPTIONS"


# ── Arriving ─────────────────────────────────────────────────────────────────────────────────


def test_the_token_goes_before_a_cookie_of_nobody(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    before, _ = visit(appliance, site_b, SITE_B, f"{SITE_B}/")
    location = decorated(appliance, visitor)
    cookie, kept = visit(appliance, site_b, SITE_B, location, Cookie=f"_dfid={before}")
    assert before != visitor
    assert (cookie, kept["anonymousId"]) == (visitor, visitor)


def test_who_is_known_as_a_user_stays_who_they_are(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    """Or anybody could make somebody share an id, by a link of their own."""
    before, _ = visit(appliance, site_b, SITE_B, f"{SITE_B}/")
    identify = {"type": "identify", "userId": "jane", "messageId": "jane-is"}
    answer = send(appliance, site_b, identify, "/v1/i", Origin=SITE_B, Cookie=f"_dfid={before}")
    assert answer.status == 200
    appliance.stored("jane-is")
    cookie, kept = visit(appliance, site_b, SITE_B, decorated(appliance, visitor), Cookie=f"_dfid={before}")
    assert (cookie, kept["anonymousId"]) == ("", before)


def pass_time(appliance: Appliance, ms: int) -> None:
    """As if the tokens that were redeemed so far had been so long ago."""
    with sqlite3.connect(appliance.database, timeout=30) as connection:
        connection.execute(
            "UPDATE tokens SET created_at_ms = created_at_ms - ? WHERE kind = 'cross_domain'", (ms,)
        )
    connection.close()


def test_the_first_events_of_a_page_may_leave_at_once(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    """As Segment's SDK sends page and track; whichever is answered last sets the cookie."""
    for turn in range(20):
        location, together = decorated(appliance, visitor), threading.Barrier(2)
        mine = str(uuid.uuid4())
        bodies = [
            {**event(location, f"once-{turn}-page"), "anonymousId": mine},
            {**event(location, f"once-{turn}-track"), "anonymousId": mine, "type": "track", "event": "Seen"},
        ]

        def leave(path: str, body: Any, together: threading.Barrier = together) -> Answer:
            together.wait(timeout=10)
            return send(appliance, site_b, body, path, Origin=SITE_B)

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(leave, ("/v1/p", "/v1/t"), bodies))
        assert [cookie_of(one) for one in answers] == [visitor, visitor]
        assert {appliance.stored(one["messageId"])["anonymousId"] for one in bodies} == {visitor}


def test_a_link_that_somebody_else_opens_is_used_up(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    """Case 111. No cookie is set: it could take the place of the one that another answer sets."""
    location = decorated(appliance, visitor)
    assert visit(appliance, site_b, SITE_B, location)[0] == visitor
    other, kept = visit(appliance, site_b, SITE_B, location, User_Agent="Mozilla/5.0 Firefox/140.0")
    assert other == kept["anonymousId"] != visitor, "in another browser it never was any good"
    pass_time(appliance, REPEAT_MS)
    cookie, kept = visit(appliance, site_b, SITE_B, location)
    assert cookie == ""
    assert kept["anonymousId"] != visitor
    assert visit(appliance, site_b, SITE_B, f"{SITE_B}/next")[0] not in ("", visitor)


@pytest.mark.parametrize("has_gpc", [False, True], ids=["consent", "GPC"])
def test_no_token_is_redeemed_against_the_word_of_its_own_event(
    appliance: Appliance, site_b: Pipeline, visitor: str, has_gpc: bool
) -> None:
    location = decorated(appliance, visitor)
    body, head = event(location), {"Sec_GPC": "1"} if has_gpc else {}
    body["context"] |= {} if has_gpc else {"consent": {"functional": False}}
    assert cookie_of(send(appliance, site_b, body, Origin=SITE_B, **head)) not in (None, visitor)
    assert visit(appliance, site_b, SITE_B, location)[0] == visitor, "and it is not used up"


def test_an_event_that_is_sent_again_brings_the_same_visitor(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    location = decorated(appliance, visitor)
    first = send(appliance, site_b, event(location, "again"), Origin=SITE_B)
    pass_time(appliance, REPEAT_MS)
    answers = [first, send(appliance, site_b, event(location, "again"), Origin=SITE_B)]
    assert [cookie_of(one) for one in answers] == [visitor, visitor]
    assert answers[1].json() == {"success": True, "deduplicated": True}


def test_later_events_of_the_page_keep_the_visitor_and_set_no_cookie(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    location = decorated(appliance, visitor)
    visit(appliance, site_b, SITE_B, location)
    cookie, kept = visit(appliance, site_b, SITE_B, location, Cookie=f"_dfid={visitor}")
    assert (cookie, kept["anonymousId"]) == ("", visitor)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: ("A" if token[0] != "A" else "B") + token[1:],
        lambda token: "A" * 10_000,
        lambda token: "%00%ff",
        lambda token: token + "&x=y#" + token,
    ],
    ids=["empty", "cut", "changed", "10 KB", "bytes", "good"],
)
def test_a_bad_token_is_ignored_and_the_event_is_kept(
    appliance: Appliance, site_b: Pipeline, visitor: str, change: Any
) -> None:
    """Case 109."""
    token = decorated(appliance, visitor, f"{SITE_B}/").partition("_dfx=")[2]
    given = change(token)
    cookie, kept = visit(appliance, site_b, SITE_B, f"{SITE_B}/?_dfx={given}")
    assert (cookie == visitor) is (token in given)
    assert kept["anonymousId"] == cookie


def test_a_token_is_for_the_host_that_it_was_made_for(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    elsewhere = decorated(appliance, visitor, "https://shop.site-b.example/")
    assert visit(appliance, site_b, SITE_B, elsewhere)[0] not in ("", visitor)
    here = decorated(appliance, visitor)
    assert visit(appliance, site_b, SITE_B, here, User_Agent="Mozilla/5.0 Firefox/140.0")[0] != visitor


def test_a_pipeline_without_it_takes_nobody_over(appliance: Appliance, visitor: str) -> None:
    for name, identity in (("Plain", {}), ("Devices", {"device_recognition": True})):
        plain = appliance.management.create_pipeline(name, identity_config=identity)
        assert visit(appliance, plain, SITE_B, decorated(appliance, visitor))[0] not in ("", visitor)


def test_only_a_browsers_own_events_redeem(appliance: Appliance, site_b: Pipeline, visitor: str) -> None:
    location = decorated(appliance, visitor)
    form = send(appliance, site_b, event(location), Origin=SITE_B, Sec_Fetch_Dest="document")
    server = send(appliance, site_b, event(location))
    pixel = request(
        f"{appliance.server.base_url}/v1/pixel/page?wk={site_b.key}&p.url={quote(location, safe='')}",
        headers={"User-Agent": BROWSER},
    )
    assert [one.status for one in (form, server, pixel)] == [200, 200, 200]
    assert visitor not in [cookie_of(one) for one in (form, server, pixel)]
    assert visit(appliance, site_b, SITE_B, location)[0] == visitor, "and none of them used it up"


def test_a_signed_request_does_not_either(appliance: Appliance, visitor: str) -> None:
    """Whatever stands in its head: a server sends it, for whom it likes."""
    made = appliance.management.call(
        "POST", "pipelines", {"name": "Signed", "slug": "signed", "identity_config": IDENTITY}
    )
    pipeline = Pipeline(made["id"], made["pipeline_key"], appliance.management.token)
    location = decorated(appliance, visitor)
    body = json.dumps({"batch": [event(location)]}).encode()
    head = signature(made["pipeline_key_secret"], body)
    named = {name.replace("_", "-"): value for name, value in head.items()}
    answer = request(
        f"{appliance.server.base_url}/v1/batch",
        "POST",
        body,
        {"Authorization": f"Bearer {pipeline.key}", "User-Agent": BROWSER, "Origin": SITE_B, **named},
    )
    assert (answer.status, answer.json()) == (200, {"success": True, "accepted": 1})
    assert cookie_of(answer) != visitor
    assert visit(appliance, pipeline, SITE_B, location)[0] == visitor


def test_who_was_handed_over_gets_no_new_ids_of_vendors(appliance: Appliance, visitor: str) -> None:
    vendors: dict[str, Any] = {"ga4": {}, "tiktok": {}}
    pipeline = appliance.management.create_pipeline(
        "Vendors", identity_config=IDENTITY, js_builder_config={"vendor_syncs": vendors}
    )
    fresh = send(appliance, pipeline, event(f"{SITE_B}/"), Origin=SITE_B)
    assert set_by(fresh) == {"_dfid", "_ga", "_ttp"}
    location = decorated(appliance, visitor)
    answer = send(appliance, pipeline, event(location), Origin=SITE_B, Cookie="_ga=GA1.2.1.2")
    assert cookie_of(answer) == visitor
    assert set_by(answer) == {"_dfid", "_ga"}


def test_the_device_of_who_was_handed_over_is_theirs(appliance: Appliance, visitor: str) -> None:
    pipeline = appliance.management.create_pipeline(
        "Both", identity_config={**IDENTITY, "device_recognition": True}
    )
    answer = send(appliance, pipeline, event(decorated(appliance, visitor)), Origin=SITE_B)
    [device] = [
        one.partition(";")[0] for one in answer.headers.get_all("Set-Cookie") or [] if "_dfdid" in one
    ]
    again = send(appliance, pipeline, event(f"{SITE_B}/"), Origin=SITE_B, Cookie=device)
    assert cookie_of(again) == visitor


def test_a_batch_goes_by_its_first_token(appliance: Appliance, site_b: Pipeline, visitor: str) -> None:
    location = decorated(appliance, visitor)
    batch = [event(f"{SITE_B}/", "b-1"), event(location, "b-2"), event(f"{SITE_B}/next", "b-3")]
    answer = send(appliance, site_b, {"batch": batch}, "/v1/batch", Origin=SITE_B)
    assert answer.json() == {"success": True, "accepted": 3}
    assert cookie_of(answer) == visitor
    assert {appliance.stored(f"b-{one}")["anonymousId"] for one in (1, 2, 3)} == {visitor}


def test_a_page_view_may_name_its_address_in_its_properties(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    body = {"type": "page", "properties": {"url": decorated(appliance, visitor)}}
    assert cookie_of(send(appliance, site_b, body, Origin=SITE_B)) == visitor
    other = {"type": "track", "event": "x", "properties": {"url": decorated(appliance, visitor)}}
    assert cookie_of(send(appliance, site_b, other, "/v1/t", Origin=SITE_B)) != visitor
