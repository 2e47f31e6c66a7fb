"""A person makes a pipeline and looks after it, in Chromium, and every page is fit to be looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.pipeline_fields import AREAS, FIELDS, TICKS, changed_fields, form_of
from kit import Management, Server, free_port, running_server, send_event, wait_until
from ui_kit import LOOKS, SECRET, Client, Look, person, running_ui, texts

NAUGHTY = Path(__file__).parents[2] / "shared" / "data" / "blns.json"
LONG_NAME = "A shop with a very long name that nobody cut: " + "x" * 100
MANY = 60
EVENT = {"type": "track", "event": "Signed Up"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with many pipelines, the first of which has labels, parameters, a build and events; its id."""
    with running_ui(
        tmp_path_factory.mktemp("many") / "data", DATAFLY_DELIVERY_ALLOW_NETWORKS="127.0.0.0/8"
    ) as running:
        management = Management(running.base_url)
        first = management.create_pipeline(
            LONG_NAME,
            slug="long",
            labels=["env:production", "brand:" + "y" * 90, "plain"],
            parameters={"ga4_measurement_id": "G-XXXXXXX"},
            domain_allowlist=["*.example.com"],
        )
        for number in range(MANY):
            labels = ["env:test" if number % 2 else "env:live"]
            management.create_pipeline(f"Shop {number}", slug=f"shop-{number}", labels=labels)
        management.attach(first.id, "webhook", {"url": f"http://127.0.0.1:{free_port()}/"})
        for number in range(3):
            event = {"type": "track", "event": f"Event {number}", "properties": {"price": 9.9}}
            assert send_event(running, first.key, event).status == 200
        management.call("POST", f"pipelines/{first.id}/collector/build")
        yield running, first.id


# ── From the link to the pipeline ────────────────────────────────────────────────────────────


def test_from_the_set_up_link_to_a_built_collector(tmp_path: Path, browser: Browser) -> None:
    nobody = {"DATAFLY_ADMIN_EMAIL": "", "DATAFLY_ADMIN_PASSWORD": ""}
    with running_server(tmp_path / "data", env=nobody) as server:
        link = re.search(r"/setup\?token=\w+", server.output())
        assert link
        with person(browser, server.base_url, role=None) as visitor:
            page = visitor.open(link[0])
            page.get_by_label("E-mail address").fill("me@example.com")
            page.get_by_label("Password", exact=True).fill("a long enough password")
            page.get_by_role("button", name="Create the owner").click()
            page.get_by_role("link", name="New pipeline").click()
            page.get_by_label("Name", exact=True).fill("Marketing Website")
            page.get_by_label("Allowed domains").fill("example.com\n*.example.com")
            page.get_by_role("button", name="Make the pipeline").click()
            secret = page.locator("#secret").inner_text()
            assert SECRET.fullmatch(secret)
            expect(page.locator("main")).to_contain_text("Servers sign their requests with it")
            page.get_by_role("link", name="I have stored it").click()
            expect(page.get_by_role("heading", name="Marketing Website")).to_be_visible()
            assert f"{server.base_url}/c/dk_" in page.locator("#snippet").inner_text()
            page.get_by_role("button", name="Build it").click()
            expect(page.locator("#collector")).to_contain_text("ready")
            expect(page.locator("#collector")).to_contain_text("bytes gzip")
            assert secret not in page.content()
            assert secret not in server.output()


def test_the_secret_is_shown_once(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/pipelines/new")
        page.get_by_label("Name", exact=True).fill("Once")
        page.get_by_role("button", name="Make the pipeline").click()
        secret = page.locator("#secret").inner_text()
        assert secret not in page.url
        page.reload()
        assert secret not in page.content()
        pipelines = Management(server.base_url).call("GET", "pipelines?search=Once")["pipelines"]
        assert len(pipelines) == 1, "a reload makes no second pipeline"
        page.goto(f"{server.base_url}/pipelines")
        page.go_back()
        assert secret not in page.content()
        assert secret not in server.output()


SENT_TWICE = """(form) => {
    let sent = 0;
    addEventListener("submit", (event) => {
        if (!event.defaultPrevented) sent += 1;
        event.preventDefault();
    });
    form.requestSubmit();
    form.requestSubmit();
    return sent;
}"""


def test_a_form_that_is_sent_twice_at_once_goes_once(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        form = visitor.open("/pipelines/new").locator("form.stacked")
        assert form.evaluate(SENT_TWICE) == 1


def test_settings_are_changed_and_a_mistake_stays_beside_its_field(server: Server, browser: Browser) -> None:
    made = Management(server.base_url).create_pipeline("Settings")
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{made.id}/settings")
        domains = page.get_by_label("Allowed domains")
        domains.fill("example.com\nhttps://not a host/")
        page.get_by_label("Name", exact=True).fill("Renamed")
        page.get_by_role("button", name="Save").click()
        expect(domains).to_have_attribute("aria-invalid", "true")
        described = (domains.get_attribute("aria-describedby") or "").split()
        assert any("Line 2" in page.locator(f'[id="{one}"]').inner_text() for one in described)
        assert domains.input_value() == "example.com\nhttps://not a host/"
        assert page.get_by_label("Name", exact=True).input_value() == "Renamed"
        domains.fill("example.com")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("Saved.")
    kept = Management(server.base_url).call("GET", f"pipelines/{made.id}")
    assert (kept["name"], kept["domain_allowlist"]) == ("Renamed", ["example.com"])


def test_settings_that_nobody_touched_stay_as_they_are(server: Server, browser: Browser) -> None:
    """What the API takes and a form cannot show."""
    management = Management(server.base_url)
    made = management.create_pipeline(
        "Untouched",
        slug="untouched",
        labels=[" env:test "],
        parameters={"spaces": "  x ", "empty": ""},
    )
    management.call("PUT", f"pipelines/{made.id}", {"name": " Spaced name "})
    before = management.call("GET", f"pipelines/{made.id}")
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{made.id}/settings")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("Saved.")
        kept = management.call("GET", f"pipelines/{made.id}")
        assert {**kept, "updated_at": ""} == {**before, "updated_at": ""}

        page.get_by_label("Most events a second").fill("7")
        page.get_by_label("Also for navigation").uncheck()
        page.get_by_role("button", name="Save").click()
        wait_until(
            lambda: management.call("GET", f"pipelines/{made.id}")["rate_limit_rps"] == 7, "the change"
        )
    kept = management.call("GET", f"pipelines/{made.id}")
    changed = {name for name in kept if kept[name] != before[name]} - {"updated_at"}
    assert changed == {"rate_limit_rps", "js_builder_config"}
    assert kept["js_builder_config"] == {**before["js_builder_config"], "spa": False}


def test_what_a_form_cannot_show_is_sent_by_no_save() -> None:
    """As an older version stored it; a browser writes each end of a line as CRLF, or leaves it out."""
    pipeline = {
        **{
            "name": "a\nb",
            "slug": "a",
            "domain_allowlist": ["a.example"],
            "labels": ["two\rlines", "\u2028"],
        },
        **{"rate_limit_rps": 5, "parameters": {"text": "one\ntwo", "same": " x"}, "enabled": True},
        "js_builder_config": {"script_filename": "d.js", "global_variable": "_df"},
    }
    shown = form_of(pipeline)
    fields = [(name, shown.text(name).replace("\r", "\n").replace("\n", "\r\n")) for name in AREAS]
    fields += [(name, shown.text(name).replace("\n", "")) for name in FIELDS if name not in (*AREAS, *TICKS)]
    fields += [(name, "on") for name in TICKS if shown.ticked(name)]
    problems = Problems()
    assert changed_fields(Form(fields), pipeline, problems) == {}
    assert not problems
    assert changed_fields(Form([*fields, ("slug", "b")]), pipeline, problems) == {"slug": "b"}
    unticked = Form(one for one in fields if one[0] != TICKS[-1])
    assert changed_fields(unticked, pipeline, problems) == {"js_builder_config": {"spa": False}}
    changed_fields(Form([*fields, ("parameters", "no sign")]), pipeline, problems)
    assert problems.of("parameters")


def test_rotating_ends_the_old_secret_and_deleting_ends_the_key(server: Server, browser: Browser) -> None:
    made = Management(server.base_url).create_pipeline("Ends")
    before = Management(server.base_url).call("GET", f"pipelines/{made.id}")["pipeline_key_secret_prefix"]
    with person(browser, server.base_url) as visitor:
        page = visitor.open(f"/pipelines/{made.id}/settings")
        page.get_by_role("link", name="Rotate the secret").click()
        page.get_by_role("button", name="Rotate the secret").click()
        assert not page.locator("#secret").inner_text().startswith(before)
        page = visitor.open(f"/pipelines/{made.id}/settings")
        page.get_by_role("link", name="Delete the pipeline").click()
        assert send_event(server, made.key, EVENT).status == 200
        page.get_by_role("button", name="Delete the pipeline").click()
        expect(page.get_by_role("status")).to_contain_text("deleted")
    assert send_event(server, made.key, EVENT).status == 401


def test_all_of_it_works_without_scripts(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url, role=None, java_script_enabled=False) as visitor:
        page = visitor.log_in("/pipelines/new")
        page.get_by_label("Name", exact=True).fill("Plain")
        page.get_by_role("button", name="Make the pipeline").click()
        assert SECRET.fullmatch(page.locator("#secret").inner_text())
        page.get_by_role("link", name="I have stored it").click()
        page.get_by_role("button", name="Build it").click()
        expect(page.locator("#collector")).to_contain_text("build")


# ── The list ─────────────────────────────────────────────────────────────────────────────────


def test_the_list_is_searched_filtered_grouped_and_paged(
    populated: tuple[Server, str], browser: Browser
) -> None:
    with person(browser, populated[0].base_url) as visitor:
        page = visitor.open("/pipelines")
        assert len(texts(page, "tbody tr")) == 50
        page.get_by_role("link", name="Next").click()
        assert len(texts(page, "tbody tr")) == MANY + 1 - 50
        page.get_by_label("Label").select_option("env:test")
        page.get_by_label("Name", exact=True).fill("shop 1")
        page.get_by_role("button", name="Apply").click()
        assert [name for name in texts(page, "a.name") if name != "Shop 1"] == [
            f"Shop {number}" for number in (11, 13, 15, 17, 19)
        ]
        page.get_by_role("link", name="Clear").click()
        page.get_by_label("Group by").select_option("env")
        page.get_by_role("button", name="Apply").click()
        assert [heading.split(" (")[0] for heading in texts(page, "h2")] == [
            "env: live",
            "env: production",
            "env: test",
        ]
        page.get_by_label("Name", exact=True).fill("nobody has this name")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("No pipeline matches")).to_be_visible()


def test_what_people_type_is_text(server: Server, browser: Browser) -> None:
    words = [one for one in json.loads(NAUGHTY.read_text("utf-8")) if one.strip() and len(one) <= 100]
    labels = [" ".join(one.split()) for one in words if one.isprintable()]
    payloads = [one for one in labels if "<" in one or "script" in one.lower()]
    management = Management(server.base_url)
    for start in range(0, len(labels), 100):
        management.create_pipeline(
            payloads[start // 100], slug=f"naughty-{start}", labels=labels[start : start + 100]
        )
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/pipelines")
        shown = {" ".join(one.split()) for one in texts(page, ".label")}
        assert set(labels) - shown == set()
        for row in range(3):
            page.goto(f"{server.base_url}/pipelines?search={'<' if row else ''}")
            page.locator("a.name").nth(-1 - row).click()
            assert page.locator("h1").inner_text()
            page.get_by_role("link", name="Settings").click()
            assert page.get_by_label("Labels").input_value()


# ── Every page ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_every_page_fits_and_can_be_read(
    populated: tuple[Server, str], browser: Browser, look: Look, tmp_path: Path
) -> None:
    running, pipeline_id = populated
    pages = [
        *("/", "/pipelines", "/pipelines?group=env", "/pipelines?search=nobody", "/pipelines/new"),
        *(
            f"/pipelines/{pipeline_id}{part}"
            for part in ("", "/settings", "/rotate", "/delete", "/integrations")
        ),
        *("/live", "/dead-letters", "/nothing"),
    ]
    with person(browser, running.base_url, look) as visitor:
        for number, path in enumerate(pages):
            visitor.open(path)
            visitor.check_layout()
            visitor.shoot(tmp_path, f"{number}")
        page = visitor.open("/pipelines/new")
        page.get_by_label("Allowed domains").fill("not a host")
        page.get_by_role("button", name="Make the pipeline").click()
        visitor.check_layout()
    with person(browser, running.base_url, look, role=None) as stranger:
        for path in ("/login", "/setup?token=wrong", "/sign-in?token=wrong"):
            stranger.open(path)
            stranger.check_layout()


def test_the_key_is_reached_by_keyboard_alone(populated: tuple[Server, str], browser: Browser) -> None:
    with person(browser, populated[0].base_url) as visitor:
        page = visitor.open(f"/pipelines/{populated[1]}")
        page.keyboard.press("Tab")
        focused: Any = page.evaluate("document.activeElement.textContent")
        assert focused == "Skip to the content"
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"


def test_an_empty_store_says_what_to_do(tmp_path: Path, browser: Browser) -> None:
    with running_ui(tmp_path / "data") as empty:
        with person(browser, empty.base_url, LOOKS[0]) as visitor:
            for path in ("/", "/pipelines"):
                visitor.open(path)
                visitor.check_layout()
                expect(visitor.page.get_by_role("link", name="pipeline").last).to_have_attribute(
                    "href", "/pipelines/new"
                )
        assert "role editor" in Client(empty.base_url, "viewer").get("/pipelines").body.decode()
