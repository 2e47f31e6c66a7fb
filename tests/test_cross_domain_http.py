"""From one site to another over HTTP: leaving (reliability.md, cases 110 and 112; spec, 6.5)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest

from cross_domain_kit import (
    IDENTITY,
    LISTED,
    SITE_A,
    SITE_B,
    SITES,
    cookie_of,
    decorated,
    event,
    other_site,
    refused,
    send,
    sync,
    visit,
)
from gateway_kit import Appliance, running_appliance
from kit import Answer, Pipeline, request, wait_until
from test_cross_domain import EVIL


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("crossing") / "data", **SITES) as running:
        yield running


@pytest.fixture(scope="module")
def site_b(appliance: Appliance) -> Pipeline:
    return other_site(appliance)


@pytest.fixture
def visitor(appliance: Appliance) -> str:
    """Somebody who was on site A: the value of their cookie."""
    return visit(appliance, appliance.pipeline, SITE_A, f"{SITE_A}/")[0]


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
