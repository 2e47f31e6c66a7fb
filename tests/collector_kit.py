"""A shop, a collection endpoint that records what it is sent, and a browser that visits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from datafly_lite.collector.build import build
from datafly_lite.collector.options import build_options
from kit import wait_until

KEY = "dk_" + "k7w2m9q4x1" * 4 + "abc"
SENTINEL = "end of test"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
]
SCRIPT = '<script async src="{data}/c/d.js"></script>'

SPY = """<script>
    sent = [];
    held = {};
    const realFetch = fetch, realBeacon = navigator.sendBeacon, realTimeout = setTimeout;
    fetch = (url, options) => (sent.push(options.body), realFetch(url, options));
    navigator.sendBeacon = (url, body) => (sent.push(body), realBeacon.call(navigator, url, body));
    setTimeout = (work, ms) => (ms < 5000 ? realTimeout(work, ms) : ((held = { work, ms }), 0));
</script>"""
"""Bodies in the moment they leave the page, to show what has not left; long waits are held."""


class Recorded(NamedTuple):
    """A request that reached the collection endpoint."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def events(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = msgspec.json.decode(self.body)["batch"]
        return batch


class Reply(NamedTuple):
    """What the collection endpoint answers, once, or as long as it is the outage; 0 drops the connection."""

    status: int
    body: bytes = b'{"success": true}'
    headers: Mapping[str, str] = {}


class Site:
    """`http://shop.test` has the pages, `http://data.shop.test` the collector and `/v1/batch`.

    Plain http and not localhost, so that the pages are no secure context.
    """

    def __init__(self, port: int) -> None:
        self.shop = f"http://shop.test:{port}"
        self.data = f"http://data.shop.test:{port}"
        self.local = f"http://127.0.0.1:{port}"
        self.pages: dict[str, tuple[str, Mapping[str, str]]] = {}
        self.scripts: dict[str, bytes] = {}
        self.replies: list[Reply] = []
        self.outage: Reply | None = None
        self.failed_attempts = 0
        self.recorded: list[Recorded] = []
        self.script("/c/d.js")

    def script(self, path: str, key: str = KEY, **config: Any) -> None:
        """Build a collector with these options and serve it at `path` of the data host."""
        self.scripts[path] = build(build_options(config), key).script.plain

    def page(
        self, path: str, head: str = SCRIPT, body: str = "", headers: Mapping[str, str] | None = None
    ) -> str:
        """Add a page; `{data}` in `head` is the data host. Gives its address."""
        head = head.replace("{data}", self.data).replace("{local}", self.local)
        html = f"<!doctype html><meta charset=utf-8><title>Shop</title>{head}<body>{body}</body>"
        self.pages[path] = (html, headers or {})
        return self.shop + path

    def events(self) -> list[dict[str, Any]]:
        """Of all requests that were answered with 200."""
        return [event for request in self.recorded if request.method == "POST" for event in request.events()]


class Handler(BaseHTTPRequestHandler):
    """Pages and scripts by GET, events by POST."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in self.site.scripts:
            self._send(200, self.site.scripts[path], {"Content-Type": "text/javascript; charset=utf-8"})
        elif path in self.site.pages:
            html, headers = self.site.pages[path]
            self._send(200, html.encode(), {"Content-Type": "text/html; charset=utf-8", **headers})
        else:
            self._send(204, b"", {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.site.outage:
            self._fail(self.site.outage)
            return
        reply = self.site.replies.pop(0) if self.site.replies else Reply(200)
        cookie = {"Set-Cookie": "_dfid=0c1d; Path=/; HttpOnly; SameSite=Lax"}
        self.site.recorded.append(Recorded("POST", self.path, dict(self.headers.items()), body))
        self._send(reply.status, reply.body, {**cookie, **reply.headers})

    def _fail(self, outage: Reply) -> None:
        """Nothing is stored, so nothing is recorded."""
        self.site.failed_attempts += 1
        if outage.status:
            self._send(outage.status, outage.body, outage.headers)
        else:
            self.close_connection = True

    def do_OPTIONS(self) -> None:
        self.site.recorded.append(Recorded("OPTIONS", self.path, dict(self.headers.items()), b""))
        self._send(204, b"", {})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        cors = {
            "Access-Control-Allow-Origin": self.headers.get("Origin", "*"),
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": "Retry-After",
        }
        for name, value in {**cors, **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    class OwnHandler(Handler):
        """So that the site is this server's alone."""

    with ThreadingHTTPServer(("127.0.0.1", 0), OwnHandler) as server:
        site = OwnHandler.site = Site(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=ARGUMENTS,
        )
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """A browser profile on the site, with all that its console said."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context = context
        self.site = site
        self.said: list[str] = []
        self.failures: list[str] = []
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.failures.append(str(error.error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def open(self, address: str) -> Page:
        """Visit and wait until the collector is there."""
        page = self.context.new_page()
        page.goto(address)
        page.wait_for_function("window._df && _df.version")
        return page

    def hear(self, page: Page, fragment: str) -> None:
        """Wait until the console says `fragment`; fails where the collector says it twice, or more."""
        wait_until(lambda: page.evaluate("1") and any(fragment in text for text in self.said), fragment)
        assert len([text for text in self.said if text.startswith("datafly.js: ")]) == 1, self.said

    def arrived(self, count: int) -> None:
        """Wait for so many events: beacons and requests overtake one another."""
        wait_until(lambda: len(self.site.events()) >= count, f"{count} events, not {self.site.recorded}")

    def expect(self, page: Page, *seen: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Exactly these events reached the server, in this order, and nothing went wrong in the page.

        Each is `(type, what)`: a page's path with its hash, an event's name, a userId or a groupId. A
        last event is sent after them, so what is not listed was not sent. Gives the events.
        """
        page.evaluate("name => { _df.track(name); _df.flush(); }", SENTINEL)
        return self.expect_without_sentinel(*seen, ("track", SENTINEL))[:-1]

    def expect_without_sentinel(self, *seen: tuple[Any, ...]) -> list[dict[str, Any]]:
        self.arrived(len(seen))
        events = self.site.events()
        happened = [(event["type"], _what(event, self.site)) for event in events]
        assert happened == list(seen), happened
        assert len({event["messageId"] for event in events}) == len(events)
        requests = {(one.method, one.path) for one in self.site.recorded}
        assert requests == {("POST", "/v1/batch")}, requests
        assert self.failures == [], self.failures
        return events


def _what(event: dict[str, Any], site: Site) -> Any:
    if event["type"] == "page":
        return event["properties"]["url"].removeprefix(site.shop)
    return event.get({"track": "event", "identify": "userId", "group": "groupId"}[event["type"]])
