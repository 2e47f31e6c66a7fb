"""The built collector in Chromium: which events a page makes, and what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from playwright.sync_api import Browser

from collector_kit import KEY, SCRIPT, Site, Visitor, chromium, running_site
from datafly_lite.collector.snippet import stub

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def started_site() -> Iterator[Site]:
    with running_site() as running:
        yield running


@pytest.fixture
def site(started_site: Site) -> Site:
    started_site.reset()
    return started_site


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visitor]:
    with browser.new_context(locale="en-GB", timezone_id="Europe/Berlin") as context:
        yield Visitor(context, site)


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
