"""A person in front of the UI: a real server with one user a role, a form's client, a strict Chromium."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, sync_playwright

from datafly_lite.auth import SESSION_COOKIE
from datafly_lite.auth_passwords import HASHER
from datafly_lite.clock import system_clock
from datafly_lite.keyring import Keyring
from datafly_lite.store import accounts
from kit import OWNER_EMAIL, OWNER_PASSWORD, Answer, Server, open_store, request, running_server

ROLES = ("viewer", "editor", "admin", "owner")
SECRET = re.compile(r"sk_[A-Za-z0-9]{20,}")
WIDTHS = (390, 1280)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, for text of any size."""

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def session_of(role: str) -> str:
    """The session token that `store_with_users` gives this role."""
    return f"se_test-{role}"


def store_with_users(data_dir: Path) -> None:
    """A new store with a user and an open session for each role; the owner's password is the kit's."""
    data_dir.mkdir(parents=True)
    Keyring.open(data_dir / "secret.key", create=True)
    with start_blocking_portal("asyncio") as portal:  # this thread's own loop may be Playwright's
        portal.call(_fill, data_dir)


async def _fill(data_dir: Path) -> None:
    now_ms = system_clock()
    async with open_store(data_dir / "datafly.db") as store:
        for role in ROLES:
            email = OWNER_EMAIL if role == "owner" else f"{role}@example.com"
            password_hash = HASHER.hash(OWNER_PASSWORD) if role == "owner" else None
            fields = {"id": f"usr_{role}", "email": email, "name": role, "role": role, "now_ms": now_ms}
            await store.write(accounts.insert_user, {**fields, "password_hash": password_hash})
            digest, ends_at_ms = accounts.digest_of(session_of(role)), now_ms + 3_600_000
            token = accounts.Token(digest, "session", f"usr_{role}", None, now_ms, ends_at_ms)
            await store.write(accounts.insert_tokens, [token])


@contextlib.contextmanager
def running_ui(data_dir: Path, **env: str) -> Iterator[Server]:
    """`datafly-lite serve` over `store_with_users`."""
    store_with_users(data_dir)
    with running_server(data_dir, env=env) as server:
        yield server


class Client:
    """A browser without scripts: its session, and forms as a browser sends them."""

    def __init__(self, base_url: str, role: str | None = "owner") -> None:
        self._base_url = base_url
        self.cookies = {SESSION_COOKIE: session_of(role)} if role else {}

    def get(self, path: str, **headers: str) -> Answer:
        return self._send("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """A form of this site, unless `headers` say otherwise; a header of "" is left out."""
        own = {"sec_fetch_site": "same-origin", "content_type": "application/x-www-form-urlencoded"}
        return self._send("POST", path, urlencode(fields or {}).encode(), {**own, **headers})

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = request(f"{self._base_url}{path}", method, body, {"Cookie": cookie, **named})
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
        return answer


# ── The browser ──────────────────────────────────────────────────────────────────────────────


CONTRASTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
    const behind = (element) => {
        if (!element) return rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "black" : "white");
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own : [...over(own, behind(element.parentElement)), 1];
    };
    const light = ([r, g, b]) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [x, y, z] = [r, g, b].map((c) => linear(c / 255));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const [element, text] = [walker.currentNode.parentElement, walker.currentNode.data.trim()];
        if (!text || !element.checkVisibility() || element.closest(":disabled")) continue;
        const ground = behind(element);
        const [a, b] = [light(over(rgba(getComputedStyle(element).color), ground)), light(ground)];
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.tagName, text]);
    }
    return found;
}"""
"""[contrast, element, text] of all text that is to be seen (WCAG 2.2's relative luminance)."""


class Look(NamedTuple):
    """How a page is looked at."""

    width: int
    theme: Literal["light", "dark"]


LOOKS = [Look(width, theme) for width in WIDTHS for theme in THEMES]


class Person:
    """A browser profile, and all that its console complained about."""

    def __init__(self, context: BrowserContext, base_url: str) -> None:
        self.context = context
        self.base_url = base_url
        self.complaints: list[str] = []
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page: Page = context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        """That a page answers 404 is no fault of the page; that a file of it does, is."""
        is_page = message.text.startswith("Failed to load resource") and "/static/" not in str(
            message.location
        )
        if message.type in {"error", "warning"} and not is_page:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path: str) -> Page:
        self.page.goto(self.base_url + path)
        return self.page

    def log_in(self, path: str = "/") -> Page:
        page = self.open(path)
        page.get_by_label("E-mail address").fill(OWNER_EMAIL)
        page.get_by_label("Password", exact=True).fill(OWNER_PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
        return page

    def shoot(self, folder: Path, name: str) -> None:
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def check_layout(self) -> None:
        """No page is wider than its window, and all of its text can be read."""
        self.page.wait_for_load_state()
        wide = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{self.page.url} is {wide} px wider than {self.page.viewport_size}"
        faint = [one for one in self.page.evaluate(CONTRASTS) if one[0] < LEAST_CONTRAST]
        assert faint == [], f"{self.page.url}: {faint}"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def person(
    browser: Browser, base_url: str, look: Look = LOOKS[-2], role: str | None = "owner", **options: Any
) -> Iterator[Person]:
    """Somebody with this role, or a stranger; fails where the console complained."""
    size: ViewportSize = {"width": look.width, "height": 800}
    with browser.new_context(viewport=size, color_scheme=look.theme, locale="en-GB", **options) as context:
        context.set_default_timeout(10_000)
        if role:
            context.add_cookies([{"name": SESSION_COOKIE, "value": session_of(role), "url": base_url}])
        made = Person(context, base_url)
        yield made
        assert made.complaints == []


def texts(page: Page, selector: str) -> Sequence[str]:
    """What all elements of the selector say."""
    return page.locator(selector).all_text_contents()
