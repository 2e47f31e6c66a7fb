"""Fixtures of the browser tests: one browser and one site a module, a new profile a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from collector_kit import Site, Visitor, chromium, running_site


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
