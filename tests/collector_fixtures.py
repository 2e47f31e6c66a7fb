"""Fixtures of the browser tests: one browser a module, a new site and profile a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from collector_kit import Site, Visitor, chromium, running_site


@pytest.fixture(scope="module")
def browser_of_sites() -> Iterator[Browser]:
    """It finds the sites by their names."""
    with chromium() as running:
        yield running


@pytest.fixture
def site() -> Iterator[Site]:
    """On a port of its own, so that the last beacon of one test's page does not reach the next test."""
    with running_site() as running:
        yield running


@pytest.fixture
def visitor(browser_of_sites: Browser, site: Site) -> Iterator[Visitor]:
    with browser_of_sites.new_context(locale="en-GB", timezone_id="Europe/Berlin") as context:
        yield Visitor(context, site)
