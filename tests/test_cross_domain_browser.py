"""Two sites, one visitor: links followed by the real Chromium, events sent by the real collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from clients_kit import MANY_REQUESTS, listed
from collector_kit import chromium
from gateway_kit import Appliance, running_appliance
from kit import Pipeline, wait_until

PAGE = """<!doctype html><meta charset=utf-8><title>{host}</title>
<script async src="http://data.{host}:{port}/d.js" data-pipeline-key="{key}"></script><body>"""


class Sites(NamedTuple):
    """`www.a.localhost` and `www.b.localhost` have pages, `data.…` of each is the appliance.

    Chromium sends *.localhost to this machine, and takes the two for different sites.
    """

    appliance: Appliance
    pipelines: dict[str, Pipeline]
    pages_port: int

    def page(self, site: str, rest: str = "/") -> str:
        return f"http://www.{site}.localhost:{self.pages_port}{rest}"

    def data(self, site: str) -> str:
        return f"http://data.{site}.localhost:{self.appliance.server.port}"

    def link(self, to: str) -> str:
        """From site a, through the appliance."""
        return f"{self.data('a')}/v1/sync?wk={self.pipelines['a'].key}&to={quote(to, safe='')}"

    def newest_visitors(self, site: str, count: int) -> list[str]:
        """Whose the site's newest events are, in the order in which they came."""
        rows = listed(self.appliance.management, self.pipelines[site].id)[-count:]
        return [self.appliance.stored(row["message_id"])["anonymousId"] for row in rows]

    def count(self, site: str) -> int:
        return len(listed(self.appliance.management, self.pipelines[site].id))


def identity(*domains: str) -> dict[str, Any]:
    return {"cross_domain_enabled": True, "cross_domain_domains": list(domains)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with running_appliance(
        tmp_path_factory.mktemp("sites") / "data",
        env=MANY_REQUESTS,
        domain_allowlist=["www.a.localhost"],
        identity_config=identity("www.b.localhost"),
    ) as appliance:
        other = appliance.management.create_pipeline(
            "B",
            domain_allowlist=["www.b.localhost"],
            identity_config=identity("www.a.localhost"),
            js_builder_config={"vendor_syncs": {"ga4": {}}},
            config={"cookie_domain": "b.localhost"},
        )
        pipelines = {"a": appliance.pipeline, "b": other}

        class Pages(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host = self.headers["Host"].partition(":")[0].removeprefix("www.")
                key = pipelines[host[0]].key
                html = PAGE.format(host=host, port=appliance.server.port, key=key).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(html)))
                self.end_headers()
                self.wfile.write(html)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield Sites(appliance, pipelines, server.server_port)
            finally:
                server.shutdown()
                thread.join()


def cookies_of(context: BrowserContext, site: str, name: str = "_dfid") -> list[dict[str, Any]]:
    found = [dict(one) for one in context.cookies() if f"{site}.localhost" in one.get("domain", "")]
    return [one for one in found if one["name"] == name]


def visit(sites: Sites, page: Page, site: str, address: str) -> str:
    """Open the address; the site's visitor when the page view is there."""
    before = sites.count(site)
    page.goto(address)
    wait_until(lambda: page.evaluate("1") and sites.count(site) > before, f"{address} was viewed")
    [cookie] = cookies_of(page.context, site)
    visitor: str = cookie["value"]
    return visitor


def test_a_followed_link_brings_the_visitor_along(sites: Sites, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        first = visit(sites, page, "a", sites.page("a"))
        assert visit(sites, page, "b", sites.link(sites.page("b", "/landing?x=1#part"))) == first
        assert page.evaluate("location.pathname + location.hash") == "/landing#part"
        assert page.evaluate("new URLSearchParams(location.search).get('x')") == "1"
        before = sites.count("b")
        page.evaluate("_df.track('Bought'); _df.flush()")
        wait_until(lambda: page.evaluate("1") and sites.count("b") > before, "a second event")
        assert sites.newest_visitors("b", 2) == [first, first]
        [cookie] = cookies_of(context, "b")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["domain"]) == (True, "Lax", ".b.localhost")


def test_a_page_decorates_its_own_link(sites: Sites, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        first = visit(sites, page, "a", sites.page("a"))
        said = page.evaluate(
            """async ([url, key, to]) => {
                const body = JSON.stringify({pipeline_key: key, to});
                const answer = await fetch(url, {method: "POST", body, credentials: "include"});
                return answer.json();
            }""",
            [f"{sites.data('a')}/v1/cross-domain", sites.pipelines["a"].key, sites.page("b")],
        )
        assert visit(sites, page, "b", sites.page("b", f"/?{said['parameter']}={said['token']}")) == first


def test_who_is_sent_a_copied_link_stays_who_they_are(sites: Sites, browser: Browser) -> None:
    agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko/20100101 Firefox/140.0"
    with browser.new_context() as context, browser.new_context(user_agent=agent) as others:
        page = context.new_page()
        first = visit(sites, page, "a", sites.page("a"))
        assert visit(sites, page, "b", sites.link(sites.page("b"))) == first
        copied, other = page.url, others.new_page()
        assert "_dfx=" in copied
        second = visit(sites, other, "b", copied)
        assert second != first
        assert visit(sites, other, "b", sites.page("b", "/later")) == second


def test_without_a_link_two_sites_have_two_visitors(sites: Sites, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        assert visit(sites, page, "a", sites.page("a")) != visit(sites, page, "b", sites.page("b"))


def test_a_vendors_script_can_read_the_cookie_that_the_server_set(sites: Sites, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        visit(sites, page, "b", sites.page("b"))
        [cookie] = cookies_of(context, "b", "_ga")
        assert (cookie["httpOnly"], cookie["domain"]) == (False, ".b.localhost")
        seen = page.evaluate("document.cookie")
        assert f"_ga={cookie['value']}" in seen
        assert "_dfid" not in seen
