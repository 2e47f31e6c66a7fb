"""From one site to another over HTTP: arriving (reliability.md, cases 109 and 111; spec, 6.5)."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from cross_domain_kit import (
    BROWSER,
    IDENTITY,
    SITE_A,
    SITE_B,
    SITES,
    cookie_of,
    decorated,
    event,
    other_site,
    pass_time,
    send,
    set_by,
    visit,
)
from datafly_lite.gateway.handovers import PURPOSE, TTL_MS, Sealed
from datafly_lite.keyring import Keyring
from datafly_lite.store.handovers import REPEAT_MS
from gateway_kit import Appliance, running_appliance
from kit import Answer, Pipeline, request
from test_device_recognition import await_choice
from test_gateway_paths import signature


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


@pytest.mark.parametrize("refuser", ["of the token", "of the cookie"])
def test_nor_is_one_redeemed_where_a_visitor_said_no_before(
    appliance: Appliance, site_b: Pipeline, visitor: str, refuser: str
) -> None:
    before, _ = visit(appliance, site_b, SITE_B, f"{SITE_B}/")
    locations = [decorated(appliance, visitor) for _ in range(2)]
    who = visitor if refuser == "of the token" else before
    no = event(f"{SITE_B}/")
    no["context"]["consent"] = {"functional": False}
    send(appliance, site_b, no, Origin=SITE_B, Cookie=f"_dfid={who}")
    await_choice(appliance, who, functional=False)
    cookie, kept = visit(appliance, site_b, SITE_B, locations[0], Cookie=f"_dfid={before}")
    assert (cookie, kept["anonymousId"]) == ("", before)
    yes = event(locations[1])
    yes["context"]["consent"] = {"functional": True}
    assert cookie_of(send(appliance, site_b, yes, Origin=SITE_B, Cookie=f"_dfid={before}")) == visitor


def ended(appliance: Appliance, location: str) -> str:
    """The address with its token as it is when its time is over."""
    base, _, rest = location.partition("_dfx=")
    token, _, fragment = rest.partition("#")
    keyring = Keyring.open(appliance.database.parent / "secret.key", create=False)
    plain = keyring.decrypt(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), PURPOSE)
    sealed = msgspec.msgpack.decode(plain, type=Sealed)
    over = msgspec.structs.replace(sealed, expires_at_ms=sealed.expires_at_ms - TTL_MS)
    secret = base64.urlsafe_b64encode(keyring.encrypt(msgspec.msgpack.encode(over), PURPOSE)).rstrip(b"=")
    return f"{base}_dfx={secret.decode()}#{fragment}"


def test_an_event_that_is_sent_again_too_late_makes_nobody_else(
    appliance: Appliance, site_b: Pipeline, visitor: str
) -> None:
    """Its first answer may have arrived, or another one of the same page."""
    location = decorated(appliance, visitor)
    assert cookie_of(send(appliance, site_b, event(location, "late"), Origin=SITE_B)) == visitor
    late = ended(appliance, location)
    again = send(appliance, site_b, event(late, "late"), Origin=SITE_B)
    assert again.json() == {"success": True, "deduplicated": True}
    assert "Set-Cookie" not in again.headers
    first, kept = visit(appliance, site_b, SITE_B, late)
    assert first == kept["anonymousId"] != visitor, "an event that was not there yet has a visitor of its own"


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
