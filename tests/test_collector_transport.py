"""The built collector in Chromium: nothing lost, nothing doubled, nothing thrown into the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from collector_kit import KEY, SCRIPT, SENTINEL, SPY, Reply, Site, Visitor
from datafly_lite.collector.build import build, integrity
from datafly_lite.collector.options import build_options
from datafly_lite.collector.snippet import snippet, stub
from kit import wait_until

pytest_plugins = ["collector_fixtures"]

SHOW = """() => {
    Object.defineProperty(document, "visibilityState", { value: "visible", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
HIDE = """() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def track(page: Page, count: int, size_bytes: int = 1) -> list[tuple[str, str]]:
    """Track `count` events of at least `size_bytes` in one go; what `expect` takes."""
    page.evaluate(
        "([count, size]) => { for (let i = 0; i < count; i++) _df.track('e' + i, { t: 'x'.repeat(size) }) }",
        [count, size_bytes],
    )
    return [("track", f"e{i}") for i in range(count)]


def test_events_go_in_batches_of_ten_in_order(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    page = visitor.open(site.page("/a"))
    tracked = track(page, 25)
    visitor.expect(page, ("page", "/a"), *tracked)
    assert [len(request.events()) for request in site.recorded[:2]] == [10, 10]


def test_a_single_event_goes_when_its_time_is_up(site: Site, visitor: Visitor) -> None:
    visitor.open(site.page("/a"))
    visitor.expect_without_sentinel(("page", "/a"))


def test_batch_size_and_interval_come_from_the_pipeline(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", batch_size=3, flush_interval_ms=0)
    page = visitor.open(site.page("/a"))
    visitor.expect_without_sentinel(("page", "/a"))
    tracked = track(page, 5)
    visitor.expect(page, ("page", "/a"), *tracked)
    assert max(len(request.events()) for request in site.recorded) == 3


def test_thirty_waiting_events_survive_the_end_of_the_page(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", batch_size=100, flush_interval_ms=60_000)
    page = visitor.open(site.page("/a"))
    tracked = track(page, 30)
    page.close(run_before_unload=True)
    visitor.expect_without_sentinel(("page", "/a"), *tracked)


def test_leaving_for_another_page_sends_what_waits(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    page = visitor.open(site.page("/a", body='<a href="/b">next</a>'))
    site.page("/b")
    page.evaluate("addEventListener('pagehide', () => _df.track('last words'))")
    page.click("a")
    visitor.arrived(2)
    page.wait_for_function("window._df && _df.version")
    assert sorted(event["type"] for event in site.events()) == ["page", "track"]  # two beacons, in any order
    site.recorded.clear()
    [event] = visitor.expect(page, ("page", "/b"))
    assert event["properties"]["referrer"] == f"{site.shop}/a"


def test_hiding_splits_beacons_below_the_browsers_budget(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    page = visitor.open(site.page("/a"))
    tracked = track(page, 9, 9_000)
    page.evaluate(HIDE)
    wait_until(lambda: len(site.events()) == 10, "all events")
    assert sorted(("track", event["event"]) for event in site.events() if event["type"] == "track") == tracked
    assert all(len(request.body) <= 32_768 for request in site.recorded)
    assert visitor.failures == []


def test_a_refused_beacon_becomes_a_request(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    refusing = "<script>navigator.sendBeacon = () => false</script>"
    page = visitor.open(site.page("/a", refusing + SCRIPT))
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    visitor.expect_without_sentinel(("page", "/a"))


@pytest.mark.parametrize("outage", [Reply(503, b"{}"), Reply(0)], ids=["unavailable", "dropped"])
def test_a_tab_that_is_hidden_in_an_outage_loses_nothing(site: Site, visitor: Visitor, outage: Reply) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    page = visitor.open(site.page("/a"))
    visitor.expect(page, ("page", "/a"))
    site.recorded.clear()
    site.outage = outage
    tracked = track(page, 5)
    page.evaluate(HIDE)
    # Two, for the browser itself repeats a request whose connection had served before.
    wait_until(lambda: page.evaluate("1") and site.failed_attempts > 1, "attempts that fail")
    site.outage = None
    page.evaluate(SHOW)
    visitor.arrived(5)
    visitor.expect(page, *tracked)


def test_an_event_of_a_hidden_page_does_not_wait(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    page = visitor.open(site.page("/a"))
    page.evaluate(HIDE)
    visitor.arrived(1)
    page.evaluate("_df.track('in the background')")
    visitor.expect_without_sentinel(("page", "/a"), ("track", "in the background"))


def test_an_event_over_the_budget_is_sent_alone(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    tracked = track(page, 2, 70_000)
    visitor.expect(page, ("page", "/a"), *tracked)


def test_two_unavailable_answers_delay_and_lose_nothing(site: Site, visitor: Visitor) -> None:
    site.replies += [Reply(503, b"{}", {"Retry-After": "1"}), Reply(503, b"")]
    page = visitor.open(site.page("/a"))
    tracked = track(page, 3)
    wait_until(lambda: len(site.recorded) == 3, "the third attempt")
    attempts = [[event["messageId"] for event in request.events()] for request in site.recorded]
    assert attempts[0] == attempts[1] == attempts[2]
    site.recorded[:2] = []
    visitor.expect(page, ("page", "/a"), *tracked)


def test_retry_after_is_obeyed_whatever_the_page_does(site: Site, visitor: Visitor) -> None:
    site.replies += [Reply(429, b"{}", {"Retry-After": "30"})]
    page = visitor.open(site.page("/a", SPY + SCRIPT))
    page.evaluate("_df.flush()")
    wait_until(lambda: page.evaluate("held.ms") == 30_000, "a wait of 30 s")
    tracked = track(page, 20)
    page.evaluate("_df.flush()")
    assert len(page.evaluate("sent")) == 1
    page.evaluate("held.work()")
    wait_until(lambda: len(site.events()) == 22, "the rest")
    del site.recorded[0]
    visitor.expect(page, ("page", "/a"), *tracked)


def test_a_broken_connection_is_tried_again(site: Site, visitor: Visitor) -> None:
    page = visitor.open(site.page("/a"))
    visitor.expect(page, ("page", "/a"))
    visitor.context.set_offline(True)
    tracked = track(page, 10)
    visitor.hear(page, "no connection")
    visitor.context.set_offline(False)
    wait_until(lambda: len(site.events()) == 12, "the events")
    visitor.expect(page, ("page", "/a"), ("track", SENTINEL), *tracked)


def test_while_the_server_fails_hiding_loses_nothing(site: Site, visitor: Visitor) -> None:
    site.replies += [Reply(503), Reply(503)]
    page = visitor.open(site.page("/a"))
    page.evaluate("_df.flush()")
    wait_until(lambda: len(site.recorded) == 1, "the first attempt")
    page.wait_for_function("performance.getEntriesByType('resource').some(e => e.name.endsWith('/v1/batch'))")
    page.evaluate(HIDE)
    wait_until(lambda: len(site.recorded) == 3, "the third attempt")
    assert {request.events()[0]["messageId"] for request in site.recorded} == {
        site.recorded[0].events()[0]["messageId"]
    }


def test_a_refusal_is_said_once_and_not_repeated(site: Site, visitor: Visitor) -> None:
    refusal = Reply(401, b'{"success": false, "code": "invalid_key", "message": "no such key"}')
    site.replies += [refusal, refusal]
    page = visitor.open(site.page("/a"))
    track(page, 20)
    wait_until(lambda: len(site.recorded) == 2, "two refused batches")
    site.recorded.clear()
    visitor.expect(page, ("track", "e19"))
    visitor.hear(page, "invalid_key")


def test_a_rejected_event_is_said_once(site: Site, visitor: Visitor) -> None:
    answer = (
        b'{"success": true, "accepted": 0, "rejected": 1, "errors": [{"index": 0, "message": "no name"}]}'
    )
    site.replies += [Reply(200, answer), Reply(200, answer)]
    page = visitor.open(site.page("/a"))
    tracked = track(page, 20)
    visitor.expect(page, ("page", "/a"), *tracked)
    visitor.hear(page, "no name")


def test_the_script_twice_is_one_collector(site: Site, visitor: Visitor) -> None:
    site.script("/c/d.js", flush_interval_ms=60_000)
    site.script("/c/second.js", key="dk_second", flush_interval_ms=60_000)
    scripts = '<script src="{data}/c/d.js"></script><script src="{data}/c/second.js"></script>'
    page = visitor.open(site.page("/a", SPY + scripts))
    page.evaluate("history.pushState({}, '', '/b')")
    page.evaluate(HIDE)
    assert [body.count("messageId") for body in page.evaluate("sent")] == [2]
    visitor.arrived(2)
    visitor.expect(page, ("page", "/a"), ("page", "/b"))
    assert KEY.encode() in site.recorded[0].body


def test_blocked_storage_is_no_obstacle(site: Site, visitor: Visitor) -> None:
    frame = f'<iframe sandbox="allow-scripts" src="{site.page("/framed")}"></iframe>'
    page = visitor.context.new_page()
    page.goto(site.page("/frame", head="", body=frame))
    page.frames[1].wait_for_function("window._df && _df.version")
    page.frames[1].evaluate("_df.identify('u1'); _df.track('in a sandbox'); _df.flush()")
    events = visitor.expect_without_sentinel(
        ("page", "/framed"), ("identify", "u1"), ("track", "in a sandbox")
    )
    assert events[2]["userId"] == "u1"
    assert visitor.said == []


def test_the_key_and_the_address_come_from_the_script_tag(site: Site, visitor: Visitor) -> None:
    site.script("/datafly.js", key="")
    attributes = 'data-pipeline-key="dk_other" data-global="shop" data-endpoint="{local}/"'
    page = visitor.context.new_page()
    page.goto(site.page("/a", f'<script src="{{data}}/datafly.js" {attributes}></script>'))
    page.evaluate("shop.flush()")
    visitor.expect_without_sentinel(("page", "/a"))
    assert site.recorded[0].headers["Host"] == site.local.removeprefix("http://")
    assert b'"writeKey":"dk_other"' in site.recorded[0].body
    assert page.evaluate("typeof _df") == "undefined"


def test_a_module_finds_its_script_tag(site: Site, visitor: Visitor) -> None:
    tag = '<script type="module" src="{data}/c/d.js" data-pipeline-key="' + KEY + '"></script>'
    page = visitor.open(site.page("/a", tag))
    visitor.expect(page, ("page", "/a"))


def test_without_a_key_the_console_says_what_to_do(site: Site, visitor: Visitor) -> None:
    site.script("/datafly.js", key="")
    page = visitor.open(site.page("/a", '<script src="{data}/datafly.js"></script>'))
    page.evaluate("_df.track('nowhere'); _df.flush()")
    visitor.hear(page, "no data-pipeline-key: nothing is sent")
    assert site.recorded == []


def test_a_global_that_is_taken_stays_as_it_is(site: Site, visitor: Visitor) -> None:
    page = visitor.context.new_page()
    page.goto(site.page("/a", "<script>_df = { mine: 1 }</script>" + SCRIPT))
    visitor.hear(page, "window._df is taken: choose another data-global")
    assert page.evaluate("_df") == {"mine": 1}


def test_a_page_that_bent_its_prototypes(site: Site, visitor: Visitor) -> None:
    bent = """<script>
        Object.prototype.added = function () { return 1 };
        Array.prototype.last = function () { return this[this.length - 1] };
        String.prototype.toJSON = undefined;
    </script>"""
    page = visitor.open(site.page("/a", bent + SCRIPT))
    page.evaluate("_df.track('one', { list: [1, 2] })")
    events = visitor.expect(page, ("page", "/a"), ("track", "one"))
    assert events[1]["properties"] == {"list": [1, 2]}


def test_a_page_that_froze_its_prototypes(site: Site, visitor: Visitor) -> None:
    frozen = "<script>Object.freeze(Array.prototype); Object.freeze(Object.prototype)</script>"
    page = visitor.open(site.page("/a", frozen + stub() + "<script>_df.track('early')</script>" + SCRIPT))
    page.evaluate("_df.push(['track', 'late', { list: [1] }])")
    events = visitor.expect(page, ("page", "/a"), ("track", "early"), ("track", "late"))
    assert events[2]["properties"] == {"list": [1]}
    assert visitor.said == []


def test_a_library_that_taught_lists_and_texts_its_own_json(site: Site, visitor: Visitor) -> None:
    bent = """<script>
        for (const kind of [Array, String]) kind.prototype.toJSON = function () { return `"${this}"` };
    </script>"""
    page = visitor.open(site.page("/a", bent + SCRIPT))
    page.evaluate("_df.track('one', { list: [1, ['x']], text: 'a', none: null })")
    events = visitor.expect(page, ("page", "/a"), ("track", "one"))
    assert events[1]["properties"] == {"list": [1, ["x"]], "text": "a", "none": None}


@pytest.mark.parametrize(
    ("stored", "ids"),
    [
        ('"text"', {}),
        ('["a", "b"]', {}),
        ("null", {}),
        ("{", {}),
        ('{"userId": "u1", "groupId": {"a": 1}, "event": "x", "0": "y"}', {"userId": "u1"}),
        ('{"userId": 7, "groupId": "g1", "messageId": "x"}', {"groupId": "g1"}),
    ],
)
def test_of_what_is_stored_only_the_ids_are_taken(
    site: Site, visitor: Visitor, stored: str, ids: dict[str, str]
) -> None:
    page = visitor.context.new_page()
    page.goto(site.page("/plain", head=""))
    page.evaluate("text => localStorage.setItem('_df_ids', text)", stored)
    page = visitor.open(site.page("/a"))
    [event] = visitor.expect(page, ("page", "/a"))
    known = {"properties", "type", "context", "timestamp", "messageId"}
    assert {name: value for name, value in event.items() if name not in known} == ids


def test_no_global_but_its_own(site: Site, visitor: Visitor) -> None:
    plain = visitor.context.new_page()
    plain.goto(site.page("/plain", head=""))
    page = visitor.open(site.page("/a"))
    names = "() => Object.getOwnPropertyNames(window)"
    assert set(page.evaluate(names)) - set(plain.evaluate(names)) == {"_df"}


def test_a_strict_policy_has_nothing_to_complain_about(site: Site, visitor: Visitor) -> None:
    policy = f"default-src 'none'; script-src {site.data}; connect-src {site.data}"
    headers = {"Content-Security-Policy": f"{policy}; require-trusted-types-for 'script'; trusted-types"}
    page = visitor.open(site.page("/a", headers=headers))
    page.evaluate("history.pushState({}, '', '/b')")
    visitor.expect(page, ("page", "/a"), ("page", "/b"))
    assert visitor.said == []


def test_a_policy_without_connect_src_is_said_once(site: Site, visitor: Visitor) -> None:
    headers = {"Content-Security-Policy": f"connect-src 'none'; script-src {site.data}"}
    page = visitor.open(site.page("/a", headers=headers))
    track(page, 30)
    visitor.hear(page, "is it in the CSP's connect-src, and this site in the pipeline's allowed domains?")
    assert visitor.failures == []


def test_the_printed_snippet_works_with_its_integrity(site: Site, visitor: Visitor) -> None:
    script = build(build_options({}), KEY).script
    path = f"/c/{KEY}/{script.version_hash}.js"
    site.scripts[path] = script.plain
    head = snippet(site.data, KEY, f"{script.version_hash}.js", integrity=integrity(script.plain))
    page = visitor.open(site.page("/a", head))
    visitor.expect(page, ("page", "/a"))
    assert visitor.said == []
