"""The pages of the data layer and of consent, as an admin fills them in and everybody else reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from datafly_lite.consent import CANONICAL, ESSENTIAL, ConsentSettings
from datafly_lite.data_layer import DataLayer
from datafly_lite.expressions_functions import FUNCTIONS
from datafly_lite.ui import consent_settings, data_layer, versioned
from datafly_lite.ui.data_layer import pointer
from datafly_lite.ui.forms import Form
from datafly_lite.ui.line_differences import Comparison
from datafly_lite.ui.rows import Press, Row, after, columns_of, filled, focus_of, press_of, rows_of
from datafly_lite.ui.versioned import Kind
from kit import Management, Server
from test_management_consent_settings import STRICT
from test_management_data_layer import SPEC_EXAMPLE
from ui_kit import LOOKS, Client, Look, person, running_ui, texts

PATHS = ("/data-layer", "/consent-settings")
SCRIPT = "<script>alert(1)</script>"
BLANK: Row = {"condition": "", "action": "drop"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


@pytest.fixture
def api(server: Server, management: Management) -> Management:
    """With the defaults in force."""
    for path in PATHS:
        management.call("PUT", path[1:], {"config": {}})
    return management


def config_of(api: Management, path: str = "/data-layer") -> Any:
    return api.call("GET", path[1:])["config"]


def save(page: Page) -> None:
    page.locator(".save-bar").get_by_role("button", name="Save").click()


# ── Forms and configurations ─────────────────────────────────────────────────────────────────


def sent(kind: Kind, config: Any) -> Any:
    """The configuration that the form gives back when nobody touches it."""
    form, lists = kind.form_of(config)
    return kind.config_of(form, lists)


WORDS = st.text("abcXYZ01._", min_size=1, max_size=6)
CODES = st.dictionaries(WORDS, st.sampled_from(sorted(CANONICAL)), max_size=4)
POLICIES = st.dictionaries(st.sampled_from(sorted(CANONICAL - {ESSENTIAL})), st.booleans())


@given(st.lists(WORDS, max_size=3), st.booleans(), st.integers(1, 1440), st.sampled_from(["hash", "off"]))
def test_a_form_that_nobody_touched_saves_what_was_there(
    words: list[str], is_on: bool, minutes: int, detection: str
) -> None:
    config: dict[str, Any] = {
        "pii_rules": {"hash_fields": words, "enabled": is_on, "auto_detect": detection},
        "bot_filtering": {"custom_patterns": words, "block_known_bots": is_on},
        "session": {"timeout_minutes": minutes, "track_session_end": is_on},
        "deduplication": {"enabled": is_on, "keys": [{"event": one, "path": one} for one in words]},
        "custom_js": {"enabled": is_on, "code": "x\n" * len(words), "description": "".join(words)},
        "routing_rules": [{"condition": one, "action": "pass"} for one in words],
    }
    whole = msgspec.to_builtins(msgspec.convert(config, DataLayer))
    if is_on and not words:
        whole["custom_js"]["code"] = "function process(event) { return event }\n"
    assert msgspec.convert(sent(data_layer.KIND, whole), DataLayer) == msgspec.convert(whole, DataLayer)


@given(CODES, POLICIES, st.sets(st.sampled_from(sorted(CANONICAL - {ESSENTIAL}))), st.booleans())
def test_consent_that_nobody_touched_stays(
    codes: dict[str, str], policy: dict[str, bool], required: set[str], is_on: bool
) -> None:
    config = ConsentSettings(
        mapping=codes, default_policy=policy, required_categories=sorted(required), respect_gpc=is_on
    )
    found = msgspec.convert(sent(consent_settings.KIND, msgspec.to_builtins(config)), ConsentSettings)
    assert {*found.required_categories} == required
    assert (found.mapping, found.default_policy, found.respect_gpc) == (codes, policy, is_on)


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Dotted names of all settings that have a default."""
    for name, one in value.items():
        yield from leaves(one, f"{path}{name}.") if isinstance(one, dict) and one else [f"{path}{name}"]


def test_no_setting_is_without_its_field() -> None:
    """But the one that has a single value."""
    settings = set(leaves(msgspec.to_builtins(DataLayer()))) - {"pii_rules.hash_algorithm"}
    assert settings == set(data_layer.KIND.fields)
    settings = set(leaves(msgspec.to_builtins(ConsentSettings())))
    assert settings == {field.partition(".")[0] for field in consent_settings.KIND.fields}


def test_rows_are_read_with_their_gaps_and_emptied() -> None:
    rows = [{"condition": "a", "action": "drop"}, {"condition": " ", "action": "pass"}]
    form = Form([(f"r[{n}].{name}", value) for n, row in enumerate(rows) for name, value in row.items()])
    assert rows_of(form, "r", BLANK) == rows
    assert filled(rows, BLANK) == rows[:1]
    assert columns_of({"r": rows}) == [f"r[{n}].{name}" for n in (0, 1) for name in BLANK]


@given(
    st.lists(st.fixed_dictionaries({"condition": WORDS, "action": st.just("drop")}), max_size=4),
    st.sampled_from(["add", "remove", "up", "down"]),
    st.integers(0, 5),
)
def test_a_button_loses_no_row_but_the_one_to_remove(rows: list[Row], verb: str, number: int) -> None:
    made = after(rows, Press("r", verb, number), BLANK)
    is_there = number < len(rows)
    if verb == "add":
        assert made == [*rows, BLANK]
    elif verb == "remove":
        assert made == [row for place, row in enumerate(rows) if place != number]
    else:
        assert sorted(row["condition"] for row in made) == sorted(row["condition"] for row in rows)
        if is_there and number > 0 and verb == "up":
            assert made[number - 1] is rows[number]
    focused = focus_of(made, Press("r", verb, number), BLANK)
    assert focused in [*columns_of({"r": made}), "r.add"]


@pytest.mark.parametrize("do", ["", "r", "r add 1", "r up", "r up -1", "r up 1 2", "other add", "r fly 1"])
def test_other_words_are_no_button(do: str) -> None:
    assert press_of(Form([("do", do)]), ["r"]) is None
    assert press_of(Form([("do", "r up 2")]), ["r"]) == Press("r", "up", 2)


@given(st.text("ab \n\t'", max_size=200), st.integers(1, 201))
def test_a_caret_stands_below_the_character(text: str, position: int) -> None:
    drawn = pointer(text, position)
    if drawn:
        line, caret = drawn.split("\n")
        at = caret.index("^")
        pointed = text[position - 1 : position].replace("\t", " ").replace("\n", "")
        assert line[at : at + 1] == pointed
        assert caret == " " * at + "^"


def test_differences_are_told_line_by_line() -> None:
    old = {"a": True, "rules": [{"c": "x", "a": "drop"}], "code": "1\n2\n3\n4\n5\n6\n7\n8", "same": 1}
    new = {**old, "a": False, "rules": [{"c": "x", "a": "pass"}], "code": "1\n2\n3\n4\n5\n6\n7\n9"}
    told = {
        one.field: [f"{line.sign}{line.text}" for line in one.lines]
        for one in Comparison().differences(old, new)
    }
    assert told == {
        "a": ["-on", "+off"],
        "rules": ["-x → drop", "+x → pass"],
        "code": [" 6", " 7", "-8", "+9"],
    }


# ── The data layer in a browser ──────────────────────────────────────────────────────────────


def test_rules_are_written_saved_and_in_force(server: Server, api: Management, browser: Browser) -> None:
    with person(browser, server.base_url, role="admin") as visitor:
        page = visitor.open("/")
        page.get_by_role("navigation", name="Main").get_by_text("More", exact=True).click()
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Data layer").click()
        page.get_by_label("Fields to hash").fill("traits.email\n\ntraits.phone")
        page.get_by_label("Longest pause").fill("45")
        page.get_by_label("Make an event session_start").check()
        page.get_by_role("button", name="Add a key").click()
        expect(page.locator("#duplicates").get_by_label("Event", exact=True)).to_be_focused()
        page.keyboard.type("purchase")
        page.get_by_label("Path of the value").fill("properties.order_id")
        for number, condition in enumerate(("event = 'A'", "event = 'B'", "event = 'C'")):
            page.get_by_role("button", name="Add a rule").click()
            area = page.locator(".rule textarea").nth(number)
            expect(area).to_be_focused()
            area.fill(condition)
        expect(page.get_by_text("Not saved yet")).to_be_visible()
        assert msgspec.convert(config_of(api), DataLayer) == DataLayer()
        page.locator(".rule select").nth(2).select_option("pass")
        page.get_by_role("button", name="Move rule 3 up").click()
        page.get_by_role("button", name="Remove rule 1").click()
        expect(page.locator(".rule")).to_have_count(2)
        save(page)
        expect(page.locator(".notice")).to_have_text("Saved.")
        found = config_of(api)
        assert found["routing_rules"] == [
            {"condition": "event = 'C'", "action": "pass"},
            {"condition": "event = 'B'", "action": "drop"},
        ]
        assert found["deduplication"]["keys"] == [{"event": "purchase", "path": "properties.order_id"}]
        assert found["pii_rules"]["hash_fields"] == ["traits.email", "traits.phone"]
        assert (found["session"]["timeout_minutes"], found["session"]["track_session_start"]) == (45, True)
        assert found["custom_js"]["code"] == "", "the skeleton is no script until it is run"


def test_enter_in_a_field_saves(server: Server, api: Management, browser: Browser) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_label("Longest pause").fill("31")
        page.get_by_label("Longest pause").press("Enter")
        expect(page.locator(".notice")).to_have_text("Saved.")
    assert config_of(api)["session"]["timeout_minutes"] == 31


def test_mistakes_stand_at_their_fields_and_nothing_typed_is_lost(
    server: Server, api: Management, browser: Browser
) -> None:
    api.call("PUT", "data-layer", {"config": SPEC_EXAMPLE})
    before = api.call("GET", "data-layer")
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_label("Longest session").fill("many")
        page.get_by_label("Fields to remove").fill("traits.ssn\nnothing.here")
        page.locator("[name='custom_js.code']").fill(
            "function process(event) {\n  return event;\n}\nlet x = ;"
        )
        page.locator(".rule textarea").nth(1).fill("event == 'x' & 1")
        page.get_by_role("button", name="Add a rule").click()
        save(page)
        told = [text.partition(":")[0] for text in texts(page, ".problems li")]
        assert told == ["Fields to remove", "Longest session, in hours", "Script", "Rule 2"]
        expect(page.get_by_label("Longest session")).to_have_value("many")
        expect(page.get_by_label("Longest session")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".problem").nth(0)).to_contain_text("Line 2: an event has no field nothing")
        expect(page.locator(".problem").nth(2)).to_contain_text("in line 4")
        drawn = page.locator(".rule .pointer").text_content() or ""
        assert drawn.split("\n") == ["event == 'x' & 1", " " * 13 + "^"]
        expect(page.locator(".rule")).to_have_count(3, timeout=2_000)
        visitor.check_layout()
        page.get_by_role("link", name="Rule 2").click()
        assert page.url.endswith("#f-routing_rules[1].condition")
    assert api.call("GET", "data-layer") == before


def test_a_condition_is_checked_while_it_is_typed(server: Server, api: Management, browser: Browser) -> None:
    del api
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_role("button", name="Add a rule").click()
        area, said = page.locator(".rule textarea"), page.locator(".rule [role=status]")
        area.fill("event = 'x' AND")
        expect(said.locator(".problem")).to_contain_text("at character 16")
        expect(said.locator(".pointer")).to_contain_text("^")
        expect(area).to_have_attribute("aria-invalid", "true")
        area.fill("event = 'x'")
        expect(said).to_have_text("Can be read.")
        expect(area).not_to_have_attribute("aria-invalid", "true")
        area.fill("")
        expect(said).to_have_text("")


def test_the_help_has_every_function(server: Server) -> None:
    page = Client(server.base_url, "viewer").get("/data-layer").body.decode()
    assert [one.name for one in FUNCTIONS.values() if f"<code>{one.name}(" not in page] == []


def test_who_was_overtaken_is_told_and_may_save_again(
    server: Server, api: Management, browser: Browser
) -> None:
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_label("Longest pause").fill("33")
        theirs = api.call("PUT", "data-layer", {"config": {"session": {"timeout_minutes": 77}}})
        save(page)
        expect(page.get_by_role("alert")).to_contain_text(f"Somebody else saved version {theirs['version']}")
        expect(page.get_by_label("Longest pause")).to_have_value("33")
        assert config_of(api)["session"]["timeout_minutes"] == 77
        save(page)
        expect(page.locator(".notice")).to_have_text("Saved.")
    assert config_of(api)["session"]["timeout_minutes"] == 33


def test_an_older_version_is_looked_at_and_used_again(
    server: Server, api: Management, browser: Browser
) -> None:
    first = api.call("PUT", "data-layer", {"config": SPEC_EXAMPLE})
    api.call("PUT", "data-layer", {"config": {"custom_js": {"description": SCRIPT}}})
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/data-layer")
        page.get_by_role("link", name="All versions").click()
        newest, before = page.locator(".card").nth(0), page.locator(".card").nth(1)
        expect(newest).to_contain_text(f"+ {SCRIPT}")
        expect(newest).to_contain_text("− event == 'Internal Test' → drop")
        expect(before.get_by_role("heading", level=2)).to_have_text(f"Version {first['version']}")
        expect(newest.get_by_role("link", name="Use again")).to_have_count(0)
        visitor.check_layout()
        before.get_by_role("link", name="Use again").click()
        expect(page.get_by_text("It is in force once it is saved")).to_be_visible()
        save(page)
        expect(page.locator(".notice")).to_have_text("Saved.")
    newest_now = api.call("GET", "data-layer")
    assert newest_now["config"] == first["config"]
    assert newest_now["version"] > first["version"] + 1


# ── Consent in a browser ─────────────────────────────────────────────────────────────────────


def test_consent_is_set(server: Server, api: Management, browser: Browser) -> None:
    with person(browser, server.base_url, role="admin") as visitor:
        page = visitor.open("/consent-settings")
        for number, (code, category) in enumerate(STRICT["mapping"].items()):
            page.get_by_role("button", name="Add a code").click()
            expect(page.get_by_label("Code", exact=True).nth(number)).to_be_focused()
            page.get_by_label("Code", exact=True).nth(number).fill(code)
            page.get_by_label("Category", exact=True).nth(number).select_option(category)
        for category in STRICT["default_policy"]:
            page.get_by_label(category.capitalize(), exact=True).first.select_option("denied")
        page.get_by_role("checkbox", name="Analytics").check()
        page.get_by_label("Add Google's Consent Mode").uncheck()
        save(page)
        expect(page.locator(".notice")).to_have_text("Saved.")
        assert config_of(api, "/consent-settings") == STRICT
        page.get_by_role("link", name="All versions").click()
        card = page.locator(".card").first
        expect(card).to_contain_text("+ C9 → marketing")
        expect(card.locator("del").first).to_have_text("− functional → unknown")
        expect(card.locator("ins", has_text="analytics → denied")).to_have_count(1)
        visitor.check_layout()


def test_codes_that_cannot_be_are_told_at_their_rows(
    server: Server, api: Management, browser: Browser
) -> None:
    api.call("PUT", "consent-settings", {"config": {"mapping": {"C9": "marketing"}}})
    with person(browser, server.base_url) as visitor:
        page = visitor.open("/consent-settings")
        for number, code in ((1, "c9"), (2, "C9"), (3, "x" * 101)):
            page.get_by_role("button", name="Add a code").click()
            page.get_by_label("Code", exact=True).nth(number).fill(code)
        save(page)
        told = [text.partition(":")[0] for text in texts(page, ".problems li")]
        assert told == ["Code 2", "Code 3", "Code 4"]
        assert page.get_by_label("Code", exact=True).nth(2).input_value() == "C9"
        visitor.check_layout()
    assert config_of(api, "/consent-settings")["mapping"] == {"C9": "marketing"}


# ── Without a browser, and for others ────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PATHS)
def test_who_may_not_change_it_reads_it_and_is_told_who_may(
    server: Server, api: Management, path: str
) -> None:
    before = config_of(api, path)
    client = Client(server.base_url, "viewer")
    page = client.get(path).body.decode()
    assert "An admin or the owner can change it." in page
    assert '<fieldset class="bare" disabled>' in page
    assert "<button" not in page.partition("<main")[2].replace("<copy-button", "")
    assert client.post(path, {"version": "0"}).status == 403
    assert client.get(f"{path}/versions").status == 200
    assert config_of(api, path) == before


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("path", PATHS)
def test_an_editor_tries_a_change_and_cannot_save_it(
    server: Server, api: Management, browser: Browser, path: str, look: Look
) -> None:
    before = api.call("GET", path[1:])
    with person(browser, server.base_url, look, role="editor") as visitor:
        page = visitor.open(path)
        expect(page.get_by_text("An admin or the owner can save a change.")).to_be_visible()
        expect(page.get_by_role("button", name="Save")).to_have_count(0)
        page.get_by_role("button", name=re.compile("Add a (key|code)")).click()
        expect(page.get_by_role("status")).to_have_text(versioned.ONLY_TRIED)
        visitor.check_layout()
        with page.expect_popup() as opened:
            page.get_by_role("button", name="Try it on this event").click()
        expect(opened.value.get_by_role("heading", level=1)).to_be_visible()
        assert texts(opened.value, "section.card h2") == ["1 unchanged"]
    assert Client(server.base_url, "editor").post(path, {"version": "0"}).status == 403
    assert api.call("GET", path[1:]) == before


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("more", [{"do": "x"}, {"do": "deduplication.keys add"}, {"do": "mapping add"}])
def test_an_event_that_was_typed_stays_in_the_form(
    server: Server, api: Management, path: str, more: dict[str, str]
) -> None:
    del api
    fields = {"version": "0", "try_event": '{"event": "Typed"}', **more}
    page = Client(server.base_url).post(path, fields).body.decode()
    assert "{&#34;event&#34;: &#34;Typed&#34;}" in page


@pytest.mark.parametrize("path", PATHS)
def test_a_form_from_elsewhere_or_of_nothing_changes_nothing(
    server: Server, api: Management, path: str
) -> None:
    before = config_of(api, path)
    client = Client(server.base_url)
    assert client.post(path, {"version": "0"}, sec_fetch_site="cross-site").status == 403
    assert client.post(path, {}).status == 404, "it says no version"
    assert client.post(path, {"version": "x"}).status == 404
    assert client.get(f"{path}?version=99999").status == 404
    assert client.get(f"{path}?version=x").status == 404
    assert client.get(f"{path}/versions?cursor=zzz").status in (400, 422)
    newest = api.call("GET", path[1:])["version"]
    assert client.post(path, {"version": str(newest), "do": "nothing add"}).status == 422
    assert config_of(api, path) == before


def test_what_others_typed_is_text(server: Server, api: Management) -> None:
    rules = [{"condition": f"event = '{SCRIPT}'", "action": "drop"}]
    api.call("PUT", "data-layer", {"config": {"routing_rules": rules}})
    api.call("PUT", "consent-settings", {"config": {"mapping": {SCRIPT: "marketing"}}})
    client = Client(server.base_url)
    for path in PATHS:
        for page in (path, f"{path}/versions"):
            assert SCRIPT not in client.get(page).body.decode()
            assert "&lt;script&gt;alert(1)" in client.get(page).body.decode()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_pages_are_fit_to_be_looked_at(
    server: Server, api: Management, browser: Browser, look: Look
) -> None:
    long = "properties." + "x" * 200
    rules = [{"condition": f"{long} = 'a' AND {long} = 'b'", "action": "drop"}]
    api.call("PUT", "data-layer", {"config": {**SPEC_EXAMPLE, "routing_rules": rules}})
    api.call("PUT", "consent-settings", {"config": {"mapping": {"y" * 100: "marketing"}}})
    for role in ("owner", "viewer"):
        with person(browser, server.base_url, look, role) as visitor:
            for path in PATHS:
                page = visitor.open(path)
                for summary in page.locator("main summary").all():
                    summary.click()
                visitor.check_layout()
                visitor.open(f"{path}/versions")
                visitor.check_layout()
