"""What a person gets (issue 2), followed in Chromium: from the printed link to the trace of a click."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from kit import Server, running_server, wait_until
from ui_kit import LOOKS, Look, Person, person

NO_OWNER = {"DATAFLY_ADMIN_EMAIL": "", "DATAFLY_ADMIN_PASSWORD": ""}
PASSWORD = "a long enough password"
TRACED = "Product Added"


def printed_link(server: Server, path: str) -> str:
    """The link to this path that the start printed."""
    found = re.search(rf"http://\S+{re.escape(path)}\S*", server.output())
    assert found, server.output()
    return found[0]


def follow(page: Page, name: str) -> None:
    """A link of the main navigation."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_visible()


def test_from_the_printed_link_to_the_trace_of_a_click(browser: Browser, data_dir: Path) -> None:
    with (
        running_server(data_dir, dev=True, env=NO_OWNER) as server,
        person(browser, server.base_url, role=None) as visitor,
    ):
        page = visitor.page
        page.goto(printed_link(server, "/sign-in?token="))
        follow(page, "Events")
        expect(page.get_by_text("Waiting for the first event")).to_be_visible()
        expect(page.locator(".live-state")).to_have_text("Live")

        shop = visitor.context.new_page()
        shop.goto(printed_link(server, "/demo/shop"))
        go_shopping(shop)

        for name in ("Product List Viewed", "Product Viewed", TRACED, "(identify)"):
            expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
        clicked = page.get_by_role("row").filter(has_text=TRACED)
        expect(clicked).to_contain_text("2 delivered")
        clicked.get_by_role("link", name=TRACED).click()
        check_trace(page)
        check_looks(visitor, browser, page.url)


def go_shopping(shop: Page) -> None:
    shop.get_by_role("link", name="Wireless Headphones").click()
    expect(shop).to_have_url(re.compile("/demo/shop/headphones$"))
    shop.get_by_role("button", name="Add to cart").click()
    expect(shop.get_by_role("status")).to_have_text("Wireless Headphones is in your cart.")
    shop.get_by_role("button", name="Sign in").click()
    shop.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    expect(shop.get_by_role("status")).to_have_text("Welcome, Jane Smith.")


def check_trace(page: Page) -> None:
    """Raw body, canonical event, steps, and of each twin the request and its answer."""
    expect(page.get_by_role("heading", level=1)).to_have_text(TRACED)
    expect(page.locator("#raw")).to_contain_text('"product_id":"SKU-1234"')
    expect(page.locator("#canonical")).to_contain_text('"price": 79.99')
    steps = page.get_by_role("list", name="Steps of the data layer")
    expect(steps).to_contain_text("put_identity")
    expect(steps.get_by_role("row").filter(has_text="context.ip")).to_contain_text("127.0.0.1")
    webhook = page.get_by_role("region", name="Webhook twin")
    for words in (
        "/webhook/demo",
        "webhook-signature",
        '"event": "Product Added"',
        "Answer: 200",
        '"received": true',
    ):
        expect(webhook).to_contain_text(words)
    ga4 = page.get_by_role("region", name="GA4 twin")
    for words in (
        "/mp/collect?measurement_id=G-DEMO",
        "api_secret=***",
        '"name": "add_to_cart"',
        "Answer: 204",
    ):
        expect(ga4).to_contain_text(words)
    assert "demo-secret" not in page.content()


def check_looks(visitor: Person, browser: Browser, trace_url: str) -> None:
    """The pages and the shop in each theme, on a telephone and on a desk."""
    base_url = visitor.base_url
    paths = (trace_url.removeprefix(base_url), "/live", "/dead-letters", "/demo/shop", "/demo/shop/radio")
    cookies = visitor.context.storage_state()
    for look in LOOKS:
        with person(browser, base_url, look, role=None, storage_state=cookies) as looking:
            for path in paths:
                looking.open(path)
                looking.check_layout()


def test_the_shop_sends_what_happens_in_it(browser: Browser, data_dir: Path) -> None:
    with (
        running_server(data_dir, dev=True, env=NO_OWNER) as server,
        person(browser, server.base_url, Look(390, "dark"), role=None) as visitor,
    ):
        shop, sent = visitor.page, []
        shop.on("request", lambda one: sent.append(one.post_data_json) if one.method == "POST" else None)
        shop.goto(printed_link(server, "/demo/shop"))
        go_shopping(shop)
        shop.get_by_role("button", name="Join a company").click()
        shop.get_by_role("dialog").get_by_role("button", name="Join").click()
        shop.get_by_role("button", name="Check out").click()
        shop.get_by_role("dialog").get_by_role("button", name="Place the order").click()
        shop.go_back()
        expect(shop.get_by_role("heading", level=1)).to_have_text("Things that sound good")

        def heard() -> list[str]:
            shop.wait_for_timeout(20)
            events = [event for body in sent for event in body["batch"]]
            return [str(event.get("event") or event["type"]) for event in events]

        wait_until(lambda: len(heard()) >= 11, "all events of the visit")
        assert sorted(heard()) == sorted(
            ["page"] * 3
            + ["Product List Viewed"] * 2
            + ["Product Viewed", TRACED, "identify", "group", "Checkout Started", "Order Completed"]
        )


def test_the_first_start_leads_to_an_owner_and_empty_pages(browser: Browser, data_dir: Path) -> None:
    with (
        running_server(data_dir, env=NO_OWNER) as server,
        person(browser, server.base_url, role=None) as visitor,
    ):
        page = visitor.page
        page.goto(printed_link(server, "/setup?token="))
        page.get_by_label("E-mail address").fill("me@example.com")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("main").get_by_role("button").last.click()
        page.get_by_role("button", name="Log out").wait_for()
        for name, words in (
            ("Events", "there is none yet"),
            ("Dead letters", "no delivery has been given up"),
            ("Pipelines", "pipeline"),
        ):
            follow(page, name)
            expect(page.get_by_role("main")).to_contain_text(words)
            visitor.check_layout()
