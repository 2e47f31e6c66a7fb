"""The built collector in Chromium: which events a page makes, and what they hold."""

from __future__ import annotations

import re
from datetime import datetime

from collector_kit import KEY, SCRIPT, SENTINEL, SPY, Site, Visitor
from datafly_lite.collector.snippet import stub

pytest_plugins = ["collector_fixtures"]

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_a_load_is_one_page_view(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a") + "?color=black")
    [event] = visitor.expect(page, ("page", "/a?color=black"))
    view = {
        "url": f"{site.shop}/a?color=black",
        "title": "Shop",
        "referrer": "",
        "path": "/a",
        "search": "?color=black",
    }
    assert event["properties"] == event["context"].pop("page") == view
    assert event["context"] == {
        "userAgent": page.evaluate("navigator.userAgent"),
        "locale": "en-GB",
        "timezone": "Europe/Berlin",
        "library": {"name": "datafly.js", "version": page.evaluate("_df.version")},
    }
    assert UUID4.fullmatch(event["messageId"])
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    assert "anonymousId" not in event
    assert visitor.said == []


def test_requests_need_no_preflight_and_carry_the_cookie(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    visitor.expect(page, ("page", "/a"))
    page.evaluate("_df.track('second')")
    visitor.expect(page, ("page", "/a"), ("track", SENTINEL), ("track", "second"))
    first, second = site.recorded[0], site.recorded[-1]
    assert first.headers["Content-Type"] == "text/plain;charset=UTF-8"
    assert "Cookie" not in first.headers
    assert second.headers["Cookie"] == "_dfid=0c1d"
    assert first.body.startswith(f'{{"writeKey":"{KEY}","sentAt":"20'.encode())


def test_one_navigation_is_one_page_view(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a", body='<a href="#part">part</a>'))
    page.evaluate(
        """() => {
            history.pushState({}, "", "/b");
            history.replaceState({ scroll: 1 }, "", "/b");
            history.replaceState({}, "", "/b?page=2");
        }"""
    )
    page.click("a")
    page.go_back()
    events = visitor.expect(
        page,
        ("page", "/a"),
        ("page", "/b"),
        ("page", "/b?page=2"),
        ("page", "/b?page=2#part"),
        ("page", "/b?page=2"),
    )
    urls = [event["properties"]["url"] for event in events]
    assert [event["properties"]["referrer"] for event in events] == ["", *urls[:-1]]


def test_a_hundred_navigations_in_a_row(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("for (let i = 0; i < 100; i++) history.pushState({}, '', '/n' + i)")
    visitor.expect(page, ("page", "/a"), *(("page", f"/n{i}") for i in range(100)))
    assert all(len(request.events()) <= 10 for request in site.recorded)


def test_a_title_set_after_the_navigation_is_the_views_title(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("history.pushState({}, '', '/b'); document.title = 'Shoes'")
    events = visitor.expect(page, ("page", "/a"), ("page", "/b"))
    assert [event["properties"]["title"] for event in events] == ["Shop", "Shoes"]
    assert [event["context"]["page"]["title"] for event in events] == ["Shop", "Shoes"]


def test_a_refused_navigation_still_throws_into_the_page(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    refused = "try { history.pushState({}, '', 'https://other.test/') } catch (error) { error.name }"
    assert page.evaluate(refused) == "SecurityError"
    visitor.expect(page, ("page", "/a"))


def test_a_page_that_comes_back_whole_is_viewed_again(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    visitor.expect(page, ("page", "/a"), ("page", "/a"))


def test_a_prerendered_page_is_viewed_when_it_is_shown(site: Site, visitor: Visitor) -> None:
    prerendering = "<script>Object.defineProperty(document, 'prerendering', { value: true })</script>"
    page = visitor.open(site.page("/a", prerendering + SPY + SCRIPT))
    page.evaluate("_df.track('early'); _df.flush()")
    assert page.evaluate("sent") == []
    page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    visitor.expect(page, ("page", "/a"), ("track", "early"))


def test_builds_without_automatic_page_views(site: Site, visitor: Visitor) -> None:
    site.script("/c/quiet.js", auto_page=False)
    site.script("/c/no-spa.js", spa=False)
    quiet = visitor.open(site.page("/quiet", '<script src="{data}/c/quiet.js"></script>'))
    quiet.evaluate("history.pushState({}, '', '/b'); _df.page('Checkout', { step: 2 })")
    [event] = visitor.expect(quiet, ("page", "/b"))
    assert event["name"] == "Checkout"
    assert event["properties"]["step"] == 2
    site.recorded.clear()
    no_spa = visitor.open(site.page("/no-spa", '<script src="{data}/c/no-spa.js"></script>'))
    no_spa.evaluate("history.pushState({}, '', '/b')")
    visitor.expect(no_spa, ("page", "/no-spa"))


def test_the_stubs_calls_are_replayed_in_order(site: Site, visitor: Visitor) -> None:
    calls = """<script>
        var early = _df;
        _df.track("one", { n: 1 });
        _df.identify("u1");
        _df.push(["track", "two"]);
    </script>"""
    page = visitor.open(site.page("/a", stub() + calls + SCRIPT))
    page.evaluate("early.track('three'); early.push(['track', 'four']); _df.push(['nonsense'])")
    events = visitor.expect(
        page,
        ("page", "/a"),
        ("track", "one"),
        ("identify", "u1"),
        ("track", "two"),
        ("track", "three"),
        ("track", "four"),
    )
    assert [event.get("userId") for event in events] == [None, None, "u1", "u1", "u1", "u1"]


def test_the_stub_after_the_script_changes_nothing(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a", SCRIPT.replace(" async", "") + stub()))
    page.evaluate("_df.track('one')")
    visitor.expect(page, ("page", "/a"), ("track", "one"))


def test_ids_stay_over_pages_until_reset(site: Site, visitor: Visitor) -> None:
    first = visitor.open(site.page("/a"))
    first.evaluate(
        """() => {
            _df.identify("u1", { plan: "free", city: "Bern" });
            _df.identify("u1", { plan: "paid" });
            _df.group(7, { name: "Acme" });
            _df.flush();
        }"""
    )
    visitor.arrived(4)
    second = visitor.open(site.page("/b"))
    second.evaluate("_df.identify('u2', { plan: 'free' }); _df.reset(); _df.track('out')")
    events = visitor.expect(
        second,
        ("page", "/a"),
        ("identify", "u1"),
        ("identify", "u1"),
        ("group", "7"),
        ("page", "/b"),
        ("identify", "u2"),
        ("track", "out"),
    )
    ids = [(event.get("userId"), event.get("groupId")) for event in events]
    assert ids[1:] == [("u1", None), ("u1", None), ("u1", "7"), ("u1", "7"), ("u2", "7"), (None, None)]
    assert [event["traits"] for event in events if event["type"] == "identify"] == [
        {"plan": "free", "city": "Bern"},
        {"plan": "paid", "city": "Bern"},
        {"plan": "free"},
    ]


def test_an_object_is_no_user_id(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("_df.identify({ email: 'a@example.com' })")
    visitor.expect(page, ("page", "/a"), ("identify", None))


def test_properties_are_those_of_the_moment_of_the_call(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("const cart = { items: 1 }; _df.track('cart', cart); cart.items = 2")
    events = visitor.expect(page, ("page", "/a"), ("track", "cart"))
    assert events[1]["properties"] == {"items": 1}


def test_what_json_cannot_hold_costs_that_event_alone(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate("const loop = {}; loop.loop = loop; _df.track('bad', loop); _df.track('big', { n: 1n })")
    page.evaluate("_df.track('good')")
    visitor.expect(page, ("page", "/a"), ("track", "good"))
    visitor.hear(page, "a call failed TypeError")


def test_half_an_emoji_does_not_cost_the_batch(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    page.evaluate(r"""_df.track("cut", { text: "ab\ud83d", whole: "\ud83d\ude00", spelt: "\\ud83d" })""")
    page.evaluate(r"""document.title = "x\udc00y" """)
    events = visitor.expect(page, ("page", "/a"), ("track", "cut"))
    assert events[1]["properties"] == {"text": "ab\ufffd", "whole": "\U0001f600", "spelt": r"\ud83d"}
    assert events[1]["context"]["page"]["title"] == "x\ufffdy"
