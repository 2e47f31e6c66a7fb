"""What a browser's own request says beside its event: vendors' cookies, read and set, and GPC (spec, 5.7)."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite import vendor_ids
from datafly_lite.gateway import cookies, vendor_cookies
from datafly_lite.gateway.vendor_cookies import Maker
from gateway_kit import ORIGIN, Appliance, running_appliance
from kit import Pipeline, request
from test_device_recognition import WINDOWS, await_choice
from test_gateway_paths import signature

NOW_MS = 1_772_029_800_123
DAY_S = 86_400
ALL: dict[str, Any] = {
    "ga4": {},
    "meta_capi": {},
    "tiktok": {},
    "pinterest": {},
    "snapchat": {},
    "linkedin": {},
    "google_ads": {},
}
FORMATS = {
    "_ga": (r"GA1\.2\.(\d{1,10})\.(?P<s>\d{10})", 2 * 365 * DAY_S),
    "_fbp": (r"fb\.1\.(?P<ms>\d{13})\.\d{10}", 90 * DAY_S),
    "_fbc": (r"fb\.1\.(?P<ms>\d{13})\.IwAR123abc", 90 * DAY_S),
    "_ttp": (r"(?P<uuid>[0-9a-f-]{36})", 395 * DAY_S),
    "_pin_unauth": (r"(?P<uuid>[0-9a-f-]{36})", 365 * DAY_S),
    "_scid": (r"(?P<uuid>[0-9a-f-]{36})", 395 * DAY_S),
}
"""As the documentation has them: the form, and the seconds that it lasts."""
LANDING = "https://shop.example.com/?fbclid=IwAR123abc"
COOKIE = re.compile(r"([A-Za-z_]+)=([^;]*); (.*)")
numbers = itertools.count()


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(
        tmp_path_factory.mktemp("vendors") / "data", js_builder_config={"vendor_syncs": ALL}
    ) as running:
        yield running


class Seen(NamedTuple):
    """The answer's cookies (name -> value, attributes), and what the log keeps of the request."""

    cookies: dict[str, str]
    attributes: dict[str, set[str]]
    envelope: dict[str, Any]


def view(
    appliance: Appliance,
    cookie: str = "",
    consent: Any = None,
    pipeline: Pipeline | None = None,
    anonymous_id: str | None = None,
    **head: str,
) -> Seen:
    message_id = f"m-{next(numbers)}"
    context = {"page": {"url": LANDING}, **({} if consent is None else {"consent": consent})}
    named = {name.replace("_", "-"): value for name, value in head.items()}
    headers = {"Authorization": f"Bearer {(pipeline or appliance.pipeline).key}", "Origin": ORIGIN, **named}
    if cookie:
        headers["Cookie"] = cookie
    body: dict[str, Any] = {"type": "page", "messageId": message_id, "context": context}
    if anonymous_id is not None:
        body["anonymousId"] = anonymous_id
    sent = {name: value for name, value in headers.items() if value}
    answer = request(f"{appliance.server.base_url}/v1/p", "POST", json.dumps(body).encode(), sent)
    assert answer.status == 200, answer.body
    found = [COOKIE.fullmatch(one) for one in answer.headers.get_all("Set-Cookie") or []]
    return Seen(
        {one[1]: one[2] for one in found if one},
        {one[1]: set(one[3].split("; ")) for one in found if one},
        envelope_of(appliance, message_id),
    )


def envelope_of(appliance: Appliance, message_id: str) -> dict[str, Any]:
    with sqlite3.connect(f"file:{appliance.database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT envelope FROM raw_events").fetchall()
    connection.close()
    envelopes = [json.loads(row[0]) for row in rows]
    [found] = [one for one in envelopes if one["messageId"] == message_id]
    envelope: dict[str, Any] = found
    return envelope


# ── Read ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, {}),
        (b"", {}),
        (b"_dfid=x; session=y", {}),
        (b"_ga=GA1.2.1.2", {"_ga": "GA1.2.1.2"}),
        (b"a=b;_ga=GA1.2.1.2;_fbp=fb.1.1.1 ; _ga_ABC=GS1", {"_ga": "GA1.2.1.2", "_fbp": "fb.1.1.1"}),
        (b'_ttp="abc"', {"_ttp": "abc"}),
        (b"_ga=first; _ga=second", {"_ga": "first"}),
        (b"x_ga=1; _GA=2; _ga =3", {"_ga": "3"}),
        (b"_ga=; _fbp=a b; _ttp=\xc3\xa4; _scid=a,b", {}),
        (b"_ga=" + b"1" * 513, {}),
        (b"_ga=a=b=c", {"_ga": "a=b=c"}),
    ],
)
def test_which_cookies_are_read(header: bytes | None, expected: dict[str, str]) -> None:
    assert cookies.of_vendors(header) == expected


@given(st.binary(max_size=200))
def test_no_header_gives_what_could_break_another(header: bytes) -> None:
    for value in cookies.of_vendors(b"_ga=" + header + b"; _fbp=" + header).values():
        assert re.fullmatch(r"[!-~]+", value)
        assert not re.search(r"[;,\"\\\s]", value)


def test_a_browsers_cookies_and_gpc_go_with_its_event(appliance: Appliance) -> None:
    plain = appliance.management.create_pipeline("Plain")
    cookie = "_ga=GA1.2.1.2; _fbp=fb.1.1772029800000.1; other=1"
    kept = view(appliance, cookie, pipeline=plain, Sec_GPC="1").envelope
    assert (kept["cookies"], kept["hasGpc"]) == ({"_ga": "GA1.2.1.2", "_fbp": "fb.1.1772029800000.1"}, True)
    assert "other" not in json.dumps(kept)
    without = view(appliance, pipeline=plain, Sec_GPC="0").envelope
    assert not {"cookies", "hasGpc"} & without.keys()


def test_a_servers_cookies_are_nobodys(appliance: Appliance) -> None:
    kept = view(appliance, "_ga=GA1.2.1.2", Origin="", Sec_GPC="1").envelope
    assert not {"cookies", "hasGpc"} & kept.keys()


def test_nor_are_those_of_a_signed_request(appliance: Appliance) -> None:
    made = appliance.management.call("POST", "pipelines", {"name": "Signed", "slug": "signed"})
    body = json.dumps({"type": "page", "messageId": "signed"}).encode()
    head = signature(made["pipeline_key_secret"], body)
    answer = request(
        f"{appliance.server.base_url}/v1/events",
        "POST",
        body,
        {
            "Authorization": f"Bearer {made['pipeline_key']}",
            **{"Origin": ORIGIN, "Cookie": "_ga=GA1.2.1.2", "Sec-GPC": "1"},
            **{name.replace("_", "-"): value for name, value in head.items()},
        },
    )
    assert answer.status == 200
    assert not {"cookies", "hasGpc"} & envelope_of(appliance, "signed").keys()


def test_a_pixels_are_the_visitors(appliance: Appliance) -> None:
    answer = request(
        f"{appliance.server.base_url}/v1/pixel/track?wk={appliance.pipeline.key}&e=x&mid=a-pixel",
        headers={"Cookie": "_ga=GA1.2.1.2", "Sec-GPC": "1"},
    )
    assert answer.status == 200
    kept = envelope_of(appliance, "a-pixel")
    assert (kept["cookies"], kept["hasGpc"]) == ({"_ga": "GA1.2.1.2"}, True)


# ── Set ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_answer_sets_the_vendors_cookies(appliance: Appliance) -> None:
    seen = view(appliance)
    assert seen.cookies.keys() == {"_dfid", *FORMATS}
    at_ms = seen.envelope["receivedAtMs"]
    for name, (form, max_age_s) in FORMATS.items():
        found = re.fullmatch(form, seen.cookies[name])
        assert found, (name, seen.cookies[name])
        named = found.groupdict()
        assert int(named.get("ms", at_ms)) == at_ms
        assert int(named.get("s", at_ms // 1000)) == at_ms // 1000
        assert "uuid" not in named or uuid.UUID(named["uuid"]).version == 4
        assert seen.attributes[name] == {"Path=/", "SameSite=Lax", f"Max-Age={max_age_s}"}, (
            "scripts read them"
        )
    assert seen.envelope["cookies"] == {name: seen.cookies[name] for name in FORMATS}


def test_what_is_set_reads_as_the_vendors_own_id(appliance: Appliance) -> None:
    for name, value in view(appliance).envelope["cookies"].items():
        assert vendor_ids.KINDS[vendor_ids.COOKIES[name]].form.fullmatch(value), name


def test_a_cookie_that_is_there_keeps_its_value(appliance: Appliance) -> None:
    had = {"_ga": "GA1.1.77.1600000000", "_gcl_aw": "GCL.1600000000.abcdefghijk", "li_fat_id": "a" * 36}
    seen = view(appliance, "; ".join(f"{name}={value}" for name, value in had.items()))
    assert {name: seen.cookies[name] for name in had} == had
    assert {name: seen.envelope["cookies"][name] for name in had} == had
    assert seen.attributes["li_fat_id"] == {"Path=/", "SameSite=Lax", f"Max-Age={30 * DAY_S}"}


def test_only_the_first_answer_does(appliance: Appliance) -> None:
    visitor = view(appliance).cookies["_dfid"]
    assert view(appliance, f"_dfid={visitor}").cookies == {}
    assert view(appliance, Origin="").cookies.keys() <= {"_dfid"}
    assert view(appliance, Sec_Fetch_Dest="document").cookies == {}


@pytest.mark.parametrize(
    ("consent", "gpc", "expected"),
    [
        ({"marketing": False}, "", {"_ga"}),
        ({"advertising": False}, "", {"_ga"}),
        ({"analytics": False}, "", {*FORMATS} - {"_ga"}),
        ({"analytics": False, "marketing": False}, "", set()),
        ({"marketing": True, "analytics": True}, "", {*FORMATS}),
        (None, "1", {"_ga"}),
        ({"marketing": True}, "1", {"_ga"}),
        ({"analytics": False}, "1", set()),
        ({"functional": False}, "", {*FORMATS}),
    ],
    ids=str,
)
def test_what_is_refused_is_not_set(appliance: Appliance, consent: Any, gpc: str, expected: set[str]) -> None:
    seen = view(appliance, "_pin_unauth=" + "b" * 20, consent, Sec_GPC=gpc)
    assert seen.cookies.keys() == {"_dfid", *expected}
    made = seen.envelope.get("cookies", {}).keys()
    assert made == {"_pin_unauth", *expected}, (
        "what the browser has is still told to those who judge by consent"
    )


def test_what_was_refused_before_is_not_set_either(appliance: Appliance) -> None:
    """By whom the SDK names, or the device, though the cookie is gone."""
    pipeline = appliance.management.create_pipeline(
        "Again", js_builder_config={"vendor_syncs": ALL}, identity_config={"device_recognition": True}
    )
    browser = WINDOWS.format(version=131)
    first = view(appliance, "", {"marketing": False}, pipeline, User_Agent=browser)
    await_choice(appliance, first.cookies["_dfid"], marketing=False)
    had = "_fbp=fb.1.1772029800000.1; _ga=GA1.2.1.2"
    cookie = f"_dfdid={first.cookies['_dfdid']}; {had}"
    again = view(appliance, cookie, pipeline=pipeline, User_Agent=browser)
    assert again.cookies.keys() == {"_dfid", "_dfdid", "_ga"}
    assert again.cookies["_dfid"] == first.cookies["_dfid"]
    named = view(appliance, had, anonymous_id=first.cookies["_dfid"])
    assert named.cookies.keys() == {"_dfid", "_ga"}


@pytest.mark.parametrize(
    ("builder", "identity", "expected"),
    [
        ({}, {}, []),
        ({"vendor_syncs": {}}, {"vendor_sync": {}}, []),
        ({"vendor_syncs": {"ga4": {}}}, {}, ["_ga"]),
        ({}, {"vendor_sync": {"meta": {"cookie": "_fbp"}}}, ["_fbp", "_fbc"]),
        ({"vendor_syncs": {"ga4": {"enabled": False}, "tiktok": {"enabled": True}}}, {}, ["_ttp"]),
        ({"vendor_syncs": {"ga4": False, "nobody": {}, "Snapchat": True}}, {}, ["_scid"]),
        ({"vendor_syncs": {"ga4": {}}}, {"vendor_sync": {"ga4": {"enabled": False}}}, []),
        ({"vendor_syncs": ["ga4"]}, {"vendor_sync": None}, []),
    ],
)
def test_whose_cookies_a_pipeline_asks_for(
    builder: dict[str, Any], identity: dict[str, Any], expected: list[str]
) -> None:
    assert vendor_cookies.asked_for(builder, identity) == expected


def test_without_vendors_nothing_is_set(appliance: Appliance) -> None:
    plain = appliance.management.create_pipeline("None", js_builder_config={"vendor_syncs": {}})
    assert view(appliance, "_ga=GA1.2.1.2", pipeline=plain).cookies.keys() == {"_dfid"}


@given(st.uuids(version=4), st.integers(0, 2**42), st.sampled_from(sorted(FORMATS)))
def test_a_value_follows_from_visitor_and_time_alone(visitor: uuid.UUID, at_ms: int, name: str) -> None:
    one, again = (Maker(str(visitor), at_ms, LANDING).value(name) for _ in range(2))
    assert one == again
    assert name == "_fbc" or one != Maker(str(uuid.uuid4()), at_ms, LANDING).value(name)
    assert str(visitor) not in str(one)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://x.example/",
        "https://[",
        "https://x.example/?fbclid=",
        "https://x.example/?fbclid=a%0d%0ab",
    ],
)
def test_without_a_click_there_is_no_fbc(url: str) -> None:
    assert Maker(str(uuid.uuid4()), NOW_MS, url).value("_fbc") is None
