"""Who comes in, and what a page tells the browser: sessions, roles, cross-site requests, set-up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from datafly_lite.auth import ROLES, SECURE_SESSION_COOKIE, SESSION_COOKIE
from datafly_lite.ui.headers import CONTENT_SECURITY_POLICY
from datafly_lite.ui.routes import PAGES, Line
from datafly_lite.ui.sessions import local_path
from kit import OWNER_EMAIL, OWNER_PASSWORD, Server, running_server
from ui_kit import Client, running_ui, session_of

CREDENTIALS = {"email": OWNER_EMAIL, "password": OWNER_PASSWORD}
SETUP_LINK = re.compile(r"/setup\?token=(st_\w+)")
NEW_OWNER = {"email": "Me@Example.com", "password": "a long enough password", "name": "Me"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


def path_of(line: Line) -> str:
    """The line's path with ids that nothing has."""
    return re.sub(r"\{[^}]+\}", "nothing", line.path)


def named(line: Line) -> str:
    return f"{line.method} {line.path}"


GUARDED = [line for line in PAGES if line.role is not None]


# ── Roles ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("line", GUARDED, ids=named)
def test_a_stranger_is_asked_to_log_in(server: Server, line: Line) -> None:
    client, path = Client(server.base_url, None), path_of(line)
    answer = client.get(path) if line.method == "GET" else client.post(path)
    assert answer.status == 303
    wanted = f"?next={quote(path, safe='')}" if line.method == "GET" and path != "/" else ""
    assert answer.headers["Location"] == f"/login{wanted}"


@pytest.mark.parametrize("line", GUARDED, ids=named)
def test_each_page_needs_its_role_and_no_more(server: Server, line: Line) -> None:
    for role in ROLES:
        client, path = Client(server.base_url, role), path_of(line)
        answer = client.get(path) if line.method == "GET" else client.post(path)
        assert answer.status < 500
        is_allowed = ROLES.index(role) >= ROLES.index(line.role or "viewer")
        assert (answer.status != 403) is is_allowed, (role, answer.status)


def test_a_viewer_sees_no_form_that_is_not_theirs(server: Server) -> None:
    made = Client(server.base_url).post("/pipelines/new", {"name": "Seen", "rate_limit_rps": "10"})
    pipeline_id = re.findall(r"pip_\w+", made.body.decode())[0]
    viewer = Client(server.base_url, "viewer")
    for path in ("", "/settings", "/integrations"):
        page = viewer.get(f"/pipelines/{pipeline_id}{path}").body.decode()
        assert re.findall(r'<form[^>]* method="post" action="([^"]+)"', page) == ["/logout"], path
    assert "/pipelines/new" not in viewer.get("/pipelines").body.decode()


def test_a_page_says_who_may_keep_or_run_it(server: Server) -> None:
    for role, path in (
        ("owner", "/"),
        (None, "/login"),
        ("owner", "/nothing/here"),
        ("viewer", "/pipelines/new"),
    ):
        headers = Client(server.base_url, role).get(path, accept="text/html").headers
        assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Referrer-Policy"] == "no-referrer"


# ── Cross-site requests ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", sorted({line.path for line in PAGES if line.method == "POST"}))
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "{own}"},
        {"sec_fetch_site": "", "origin": "https://evil.example"},
        {"sec_fetch_site": "", "origin": "null"},
        {"sec_fetch_site": ""},
    ],
    ids=str,
)
def test_another_site_changes_nothing(server: Server, path: str, headers: dict[str, str]) -> None:
    given = {name: value.format(own=server.base_url) for name, value in headers.items()}
    answer = Client(server.base_url).post(re.sub(r"\{[^}]+\}", "nothing", path), CREDENTIALS, **given)
    assert answer.status == 403
    assert "another site" in answer.body.decode()
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "none"}, {"sec_fetch_site": "", "origin": "{own}"}], ids=str
)
def test_an_older_browser_on_this_site_may_change_things(server: Server, headers: dict[str, str]) -> None:
    given = {name: value.format(own=server.base_url) for name, value in headers.items()}
    answer = Client(server.base_url, None).post("/login", CREDENTIALS, **given)
    assert (answer.status, answer.headers["Location"]) == (303, "/")


# ── Sessions ─────────────────────────────────────────────────────────────────────────────────


def test_a_log_in_opens_a_session_of_its_own_and_a_log_out_ends_it(server: Server) -> None:
    client = Client(server.base_url, None)
    client.cookies[SESSION_COOKIE] = "se_chosen-by-somebody-else"
    answer = client.post("/login", {**CREDENTIALS, "next": "/live?type=page"})
    assert answer.headers["Location"] == "/live?type=page"
    cookie = answer.headers["Set-Cookie"].lower()
    assert all(flag in cookie for flag in ("httponly", "samesite=lax", "path=/"))
    assert "domain" not in cookie
    session = client.cookies[SESSION_COOKIE]
    assert session != "se_chosen-by-somebody-else"
    assert client.get("/").status == 200
    assert client.post("/logout").headers["Location"] == "/login?notice=signed-out"
    client.cookies[SESSION_COOKIE] = session
    assert client.get("/").headers["Location"] == "/login"


def test_over_https_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    with running_ui(tmp_path / "data", DATAFLY_PUBLIC_URL="https://datafly.example") as server:
        answer = Client(server.base_url, None).post("/login", CREDENTIALS)
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"{SECURE_SESSION_COOKIE}=se_")
        assert "; Secure" in cookie
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        session = cookie.partition("=")[2].partition(";")[0]
        for name, status in ((SECURE_SESSION_COOKIE, 200), (SESSION_COOKIE, 303)):
            client = Client(server.base_url, None)
            client.cookies[name] = session
            assert client.get("/").status == status, name


def test_a_wrong_password_and_an_unknown_person_hear_the_same(server: Server) -> None:
    said: list[str] = []
    for email in ("<b>viewer</b>@example.com", "nobody@example.com"):
        answer = Client(server.base_url, None).post("/login", {"email": email, "password": "wrong"})
        assert answer.status == 401
        assert "Set-Cookie" not in answer.headers
        assert "<b>viewer" not in answer.body.decode()
        said += re.findall(r'class="problems".*?</div>', answer.body.decode(), re.DOTALL)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("/pipelines", "/pipelines"),
        ("/live?type=track&event=A%20B", "/live?type=track&event=A%20B"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("evil", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        ("/a\x00b", "/"),
        ("/a b", "/"),
        ("/ü", "/"),
        ("/a\\..\\..", "/"),
    ],
)
def test_a_log_in_leads_to_this_site_alone(wanted: str, expected: str) -> None:
    assert local_path(wanted) == expected


def test_the_way_back_is_kept_through_a_wrong_password(server: Server) -> None:
    client = Client(server.base_url, None)
    location = client.get("/pipelines?label=a%3Ab").headers["Location"]
    assert unquote(location) == "/login?next=/pipelines?label=a%3Ab"
    page = client.post(
        "/login", {"email": "x@example.com", "password": "y", "next": "/pipelines?label=a%3Ab"}
    )
    assert 'name="next" value="/pipelines?label=a%3Ab"' in page.body.decode()


# ── Set-up and the one-time link ─────────────────────────────────────────────────────────────


def test_the_first_owner_is_made_once(tmp_path: Path) -> None:
    nobody = {"DATAFLY_ADMIN_EMAIL": "", "DATAFLY_ADMIN_PASSWORD": ""}
    with running_server(tmp_path / "data", env=nobody) as server:
        found = SETUP_LINK.search(server.output())
        assert found
        token, client = found[1], Client(server.base_url, None)
        assert "no owner" in client.get("/login").body.decode()
        for wrong in ("", "?token=", "?token=st_wrong", f"?token={token}x"):
            answer = client.get(f"/setup{wrong}")
            assert answer.status == 401
            assert "datafly-lite admin create" in answer.body.decode()
        assert client.get(f"/setup?token={token}").status == 200
        short = client.post("/setup", {**NEW_OWNER, "token": token, "password": "short"})
        assert short.status == 422
        assert 'value="Me@Example.com"' in short.body.decode()
        assert "at least 12 characters" in short.body.decode()
        assert client.post("/setup", {**NEW_OWNER, "token": token}).headers["Location"] == "/"
        assert client.get("/").status == 200
        for answer in (
            client.get(f"/setup?token={token}"),
            client.post("/setup", {**NEW_OWNER, "token": token}),
        ):
            assert answer.status == 410
        again = Client(server.base_url, None)
        credentials = {"email": "me@example.com", "password": NEW_OWNER["password"]}
        assert again.post("/login", credentials).headers["Location"] == "/"
        assert NEW_OWNER["password"] not in server.output()


def test_the_link_of_dev_mode_signs_in_once(tmp_path: Path) -> None:
    nobody = {"DATAFLY_ADMIN_EMAIL": "", "DATAFLY_ADMIN_PASSWORD": ""}
    with running_server(tmp_path / "data", dev=True, env=nobody) as server:
        found = re.search(r"/sign-in\?token=\w+", server.output())
        assert found
        preview = Client(server.base_url, None).get(found[0], sec_purpose="prefetch")
        assert preview.status == 204
        client = Client(server.base_url, None)
        assert client.get(found[0]).headers["Location"] == "/"
        assert client.get("/").status == 200
        second = Client(server.base_url, None).get(found[0])
        assert second.status == 410
        assert "Set-Cookie" not in second.headers


# ── Addresses that are none, files, and what is no form ──────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["/nothing", "/pipelines/nothing", "/a/b/c", "/%00", "/..%2f..%2fetc/passwd"]
)
def test_a_page_that_is_none_says_so(server: Server, path: str) -> None:
    answer = Client(server.base_url).get(path, accept="text/html")
    assert answer.status == 404
    assert "There is no such page" in answer.body.decode()
    assert answer.headers["X-Request-ID"] in answer.body.decode()


@pytest.mark.parametrize("path", ["/v1/nothing", "/c/nothing/d.js", "/static/nothing", "/demo/nothing"])
def test_the_other_parts_answer_for_themselves(server: Server, path: str) -> None:
    answer = Client(server.base_url, None).get(path, accept="text/html")
    assert answer.status == 404
    assert "<html" not in answer.body.decode()


def test_files_change_their_address_with_their_content(server: Server) -> None:
    client = Client(server.base_url, None)
    page = client.get("/login").body.decode()
    links = re.findall(r'"(/static/\w+/[\w.-]+)"', page)
    assert {Path(link).suffix for link in links} == {".css", ".js", ".svg"}
    for link in links:
        answer = client.get(link)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert client.get(link.replace("/static/", "/static/0")).status == 404
    assert client.get(links[0] + "/../../templates/base.html").status == 404


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"name": "x" * 1_100_000}, {}, 413),
        ({"name": "x"}, {"content_type": "application/json"}, 422),
        ({f"f{number}": "x" for number in range(1_001)}, {}, 422),
        ({"name": "", "rate_limit_rps": "ten"}, {}, 422),
        ({"name": "\x00\udc80".encode("utf-8", "surrogateescape").decode("utf-8", "replace")}, {}, 422),
    ],
    ids=["large", "json", "many fields", "empty", "not text"],
)
def test_what_is_no_form_is_refused_in_words(
    server: Server, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    assert Client(server.base_url).post("/pipelines/new", fields, **headers).status == status


@pytest.mark.parametrize(
    "query",
    [
        "page=-1",
        "page=0",
        "page=99999999999999999999",
        "type=%27",
        "label=%00",
        "enabled=maybe",
        "search=%25_%5C",
        "group=%3C",
    ],
)
def test_a_query_that_nobody_linked_to_is_harmless(server: Server, query: str) -> None:
    assert Client(server.base_url).get(f"/pipelines?{query}").status == 200


def test_a_request_id_of_ones_own_is_kept(server: Server) -> None:
    answer = Client(server.base_url).get("/", x_request_id="mine-1")
    assert answer.headers["X-Request-ID"] == "mine-1"
    assert session_of("owner") not in answer.body.decode()
