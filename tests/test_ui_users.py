"""People and API keys as an owner or admin manages them, and an invitation as a stranger follows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from datafly_lite.clock import iso, system_clock
from kit import Management, Server, request, wait_until
from ui_kit import LOOKS, Client, Look, person, running_ui

PASSWORD = "a long enough password"
LINK = re.compile(r"/accept-invite\?token=(iv_[a-z0-9]+)")
KEY = re.compile(r"ak_[a-z0-9]{50}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


def card(page: Page, text: str) -> Locator:
    return page.get_by_role("listitem").filter(has_text=text)


def invite(page: Page, email: str, role: str = "editor") -> str:
    """The link that the owner gets to give away."""
    page.get_by_role("link", name="Invite somebody").click()
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Role").select_option(role)
    page.get_by_role("button", name="Make the link").click()
    return page.locator("#invite").inner_text()


def key_works(server: Server, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    return request(f"{server.base_url}/v1/admin/pipelines", headers=headers).status == 200


# ── API keys ─────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_made_shown_once_and_deleted(server: Server, browser: Browser) -> None:
    """Before any other test makes a key: it begins and ends with an empty page."""
    with person(browser, server.base_url) as owner:
        page = owner.open("/api-keys")
        expect(page.locator(".empty")).to_contain_text("There is none yet.")
        owner.check_layout()
        page.get_by_role("link", name="Make the first key").click()
        page.get_by_label("Name").fill("Nightly export")
        page.get_by_label("Role").select_option("editor")
        page.get_by_label("Ends after").select_option("")
        page.get_by_role("button", name="Make the key").click()
        key = page.locator("#key").inner_text()
        assert KEY.fullmatch(key)
        assert key_works(server, key)
        page.reload()
        expect(card(page, "Nightly export")).to_contain_text("Last used")
        expect(card(page, "Nightly export")).to_contain_text("has no end")
        assert KEY.search(page.content()) is None

        card(page, "Nightly export").get_by_role("link", name="Delete").click()
        page.get_by_role("button", name="Delete the API key").click()
        expect(page.locator(".notice")).to_contain_text("The API key is deleted.")
        expect(page.locator(".empty")).to_be_visible()
        assert not key_works(server, key)


def test_a_key_that_has_ended_says_so(server: Server, management: Management) -> None:
    soon = iso(system_clock() + 1000)
    management.call("POST", "api-keys", {"name": "Brief", "role": "viewer", "expires_at": soon})
    client = Client(server.base_url)
    wait_until(lambda: b"expired" in client.get("/api-keys").body, "the key is shown as expired")


def test_an_admin_makes_no_key_of_an_owner(server: Server) -> None:
    admin, fields = Client(server.base_url, "admin"), {"name": "x", "role": "admin", "expires_at": "30"}
    assert 'value="owner"' not in admin.get("/api-keys/new").body.decode()
    assert admin.post("/api-keys/new", {**fields, "role": "owner"}).status == 403
    assert admin.post("/api-keys/new", {**fields, "role": "root"}).status == 422
    assert admin.post("/api-keys/new", {**fields, "expires_at": "-1"}).status == 422
    assert admin.post("/api-keys/new", {**fields, "name": ""}).status == 422
    assert KEY.search(admin.post("/api-keys/new", fields).body.decode())


# ── People ───────────────────────────────────────────────────────────────────────────────────


def test_who_is_invited_comes_in_and_is_shut_out_again(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as owner, person(browser, server.base_url, role=None) as guest:
        page = owner.open("/users")
        link = invite(page, "guest@example.com")
        assert link.startswith(f"{server.base_url}/accept-invite?token=iv_")
        page.reload()
        expect(card(page, "guest@example.com")).to_contain_text("has not come yet")
        assert link not in page.content()

        guest.page.goto(link)
        expect(guest.page.locator("main")).to_contain_text("guest@example.com")
        guest.page.get_by_label("Name").fill("Gustav")
        guest.page.get_by_label("Password", exact=True).fill(PASSWORD)
        guest.page.get_by_role("button", name="Come in").click()
        expect(guest.page.locator(".who")).to_contain_text("editor")
        assert guest.open("/users") is not None
        expect(guest.page.get_by_role("heading", level=1)).to_have_text("This is not allowed")
        guest.page.goto(link)
        expect(guest.page.locator("main")).to_contain_text("This link was used already.")

        page.reload()
        expect(card(page, "Gustav")).to_contain_text("active")
        card(page, "Gustav").get_by_role("link", name="Settings").click()
        page.get_by_label("May come in").uncheck()
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".notice")).to_have_text("Saved.")
        expect(card(page, "Gustav")).to_contain_text("disabled")
        guest.open("/pipelines")
        expect(guest.page.get_by_role("button", name="Log in")).to_be_visible()


def test_a_new_link_and_a_removal(server: Server, browser: Browser) -> None:
    with person(browser, server.base_url) as owner:
        page = owner.open("/users")
        first = invite(page, "late@example.com")
        page.get_by_role("link", name="I have copied it").click()
        card(page, "late@example.com").get_by_role("button", name="New link").click()
        second = page.locator("#invite").inner_text()
        assert second != first
        page.goto(first)
        expect(page.get_by_role("heading", level=1)).to_have_text("This link does not work")
        expect(page.locator("main")).to_contain_text("can make a new link")
        page.goto(second)
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome")

        page.goto(f"{server.base_url}/users")
        card(page, "late@example.com").get_by_role("link", name="Remove").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Remove late@example.com?")
        page.get_by_role("button", name="Remove").click()
        expect(page.locator(".notice")).to_contain_text("The person is removed")
        expect(card(page, "late@example.com")).to_have_count(0)


def test_the_owner_hands_over(tmp_path: Path, browser: Browser) -> None:
    with running_ui(tmp_path / "data") as server, person(browser, server.base_url) as owner:
        page = owner.open("/users/usr_editor")
        page.get_by_role("link", name="Make the owner").click()
        expect(page.locator("main")).to_contain_text("only editor@example.com can give this back")
        page.get_by_role("button", name="Hand over").click()
        expect(page.locator(".notice")).to_contain_text("There is a new owner, and you are an admin.")
        owner.log_in("/users")
        expect(page.locator(".who")).to_contain_text("admin")
        expect(card(page, "editor@example.com").locator(".role")).to_have_text("owner")
        expect(card(page, "editor@example.com").get_by_role("link")).to_have_count(0)


def test_who_is_alone_is_told_how_to_invite(tmp_path: Path, browser: Browser) -> None:
    with running_ui(tmp_path / "data") as server, person(browser, server.base_url, LOOKS[0]) as owner:
        for user_id in ("usr_viewer", "usr_editor", "usr_admin"):
            assert Client(server.base_url).post(f"/users/{user_id}/delete").status == 303
        page = owner.open("/users")
        expect(page.locator(".empty")).to_contain_text("Nobody else is here.")
        expect(card(page, "(you)")).to_have_count(1)
        owner.check_layout()


def test_an_admin_has_buttons_only_where_they_may(server: Server) -> None:
    admin = Client(server.base_url, "admin")
    page = admin.get("/users").body.decode()
    reachable = set(re.findall(r'href="/users/(usr_\w+)"', page))
    assert {"usr_viewer", "usr_editor", "usr_admin"} <= reachable
    assert "usr_owner" not in reachable
    assert "/users/usr_owner/delete" not in page
    for path in ("/users/usr_owner", "/users/usr_owner/delete", "/users/usr_viewer/owner"):
        assert admin.get(path).status == 403, path
    for role in ("admin", "owner"):
        assert f'value="{role}"' not in admin.get("/users/usr_viewer").body.decode()
        assert admin.post("/users/usr_viewer", {"name": "", "role": role, "active": "on"}).status == 403
        answer = admin.post("/users/new", {"email": f"{role}-2@example.com", "role": role})
        assert answer.status == (403 if role == "admin" else 422)
    assert "usr_viewer" in admin.get("/users").body.decode()
    assert Client(server.base_url, "editor").get("/").body.decode().count('href="/users"') == 0


def test_what_was_typed_wrong_is_told_beside_its_field(server: Server) -> None:
    owner = Client(server.base_url)
    answer = owner.post("/users/new", {"email": "nobody", "name": "x" * 201, "role": "viewer"})
    assert answer.status == 422
    assert "Must be an e-mail address" in answer.body.decode()
    assert "Must have at most 200 characters" in answer.body.decode()
    taken = owner.post("/users/new", {"email": "Viewer@example.com", "role": "viewer"})
    assert taken.status == 409
    assert "Somebody has this e-mail address already" in taken.body.decode()
    assert owner.get("/users/usr_nobody").status == 404
    assert owner.post("/users/usr_viewer/invite-link").status == 409


def test_a_password_that_is_too_short_leaves_the_link_good(server: Server) -> None:
    made = Client(server.base_url).post("/users/new", {"email": "short@example.com", "role": "viewer"})
    found = LINK.search(made.body.decode())
    assert found is not None
    guest = Client(server.base_url, None)
    answer = guest.post("/accept-invite", {"token": found[1], "password": "short", "name": "S"})
    assert answer.status == 422
    assert "Must have at least 12 characters" in answer.body.decode()
    assert guest.post("/accept-invite", {"token": found[1], "password": PASSWORD}).status == 303
    assert guest.get("/").status == 200
    assert guest.post("/accept-invite", {"token": found[1], "password": PASSWORD}).status == 410
    assert guest.post("/accept-invite", {"token": "iv_x", "password": PASSWORD}).status == 401


# ── How they look ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_the_pages_are_fit_to_be_looked_at(server: Server, browser: Browser, look: Look) -> None:
    email = f"{look.width}-{look.theme}-{'y' * 40}@{'z' * 60}.example.com"
    with person(browser, server.base_url, look) as owner:
        link = invite(owner.open("/users"), email)
        owner.check_layout()
        owner.page.goto(link)
        owner.check_layout()
        paths = (
            "/users",
            "/users/new",
            "/users/usr_admin",
            "/users/usr_viewer/delete",
            "/users/usr_admin/owner",
        )
        for path in (*paths, "/accept-invite?token=none", "/api-keys/new"):
            owner.open(path)
            owner.check_layout()
        owner.page.get_by_label("Name").fill("n" * 200)
        owner.page.get_by_role("button", name="Make the key").click()
        owner.check_layout()
        owner.open("/api-keys")
        owner.check_layout()
