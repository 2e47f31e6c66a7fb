"""What holds for every route: how errors look, what garbage does."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from datafly_lite.management.routes import OPERATIONS
from kit import Answer, request
from management_kit import PASSWORD, SEED, Admin, error_of, running_admin

WEBHOOK = {"vendor": "webhook", "config": {"url": "https://example.com/hook"}}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_admin(folder, management_rate_limit_rpm=100_000) as running:
        yield running


# ── The life of a log-in ─────────────────────────────────────────────────────────────────────


def test_the_whole_life_of_a_log_in(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data", users=False) as admin:
        link = admin.run(admin.services.authority.new_setup_link, admin.base_url)
        token = parse_qs(urlsplit(link).query)["token"][0]
        owner = {"token": token, "email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        assert admin.error("POST", "/setup", {**owner, "token": "x"}, role=None) == (401, "INVALID_TOKEN")
        assert admin.error("POST", "/setup", {**owner, "password": "short"}, role=None)[0] == 422
        made = admin.call("POST", "/setup", owner, role=None)
        assert made.status == 201
        assert (made.json()["email"], made.json()["role"]) == ("ann@example.com", "owner")
        assert "password" not in made.body.decode()
        assert admin.error("POST", "/setup", owner, role=None) == (410, "GONE")

        credentials = {"email": "ann@example.com", "password": PASSWORD}
        wrong = {**credentials, "password": "wrong"}
        assert admin.error("POST", "/auth/login", wrong, role=None) == (401, "INVALID_CREDENTIALS")
        tokens = admin.call("POST", "/auth/login", credentials, role=None).json()
        assert list(tokens) == ["access_token", "refresh_token", "token_type", "expires_in"]
        first = {"refresh_token": tokens["refresh_token"]}
        tokens = admin.call("POST", "/auth/refresh", first, role=None).json()
        admin.tokens["ann"] = tokens["access_token"]
        me = admin.ok("GET", "/auth/me", role="ann")
        assert list(me) == [
            "id",
            "email",
            "name",
            "role",
            "status",
            "last_login_at",
            "created_at",
            "updated_at",
        ]
        assert me["last_login_at"] is not None
        password = {"current_password": PASSWORD, "new_password": "a whole new password"}
        renewed = admin.ok("POST", "/auth/password", password, role="ann")
        assert admin.error("GET", "/auth/me", role="ann") == (401, "INVALID_TOKEN")
        admin.tokens["ann"] = renewed["access_token"]
        assert admin.call("POST", "/auth/logout", role="ann").status == 204
        assert admin.error("GET", "/auth/me", role="ann") == (401, "INVALID_TOKEN")
        used = {"refresh_token": renewed["refresh_token"]}
        assert admin.error("POST", "/auth/refresh", used, role=None) == (401, "INVALID_REFRESH_TOKEN")


def test_locked_and_limited_log_ins_say_when_to_come_again(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data") as admin:
        wrong = {"email": "viewer@example.com", "password": "wrong"}
        for _ in range(5):
            assert admin.error("POST", "/auth/login", wrong, role=None) == (401, "INVALID_CREDENTIALS")
        locked = admin.call("POST", "/auth/login", wrong, role=None)
        assert error_of(locked) == (401, "ACCOUNT_LOCKED")
        assert locked.headers["Retry-After"] == "1"
        for _ in range(4):
            admin.call("POST", "/auth/login", wrong, role=None)
        limited = admin.call("POST", "/auth/login", wrong, role=None)
        assert error_of(limited) == (429, "RATE_LIMITED")
        assert 1 <= int(limited.headers["Retry-After"]) <= 60


# ── Errors ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/nothing",
            "/pipelines/",
            "/pipelines/x/y",
            "/auth",
            "/pipelines/%2e%2e/%2e%2e/etc",
            "//pipelines",
        ),
        *("/pipelines%00", "/" + "x" * 5000, "/%3Cscript%3E", "/pipelines/%C3%A9", "/pipelines/%FF%FE"),
    ],
)
def test_a_path_that_is_not_there_is_not_echoed(admin: Admin, path: str) -> None:
    answer = admin.send("GET", path)
    assert error_of(answer) == (404, "NOT_FOUND")
    assert b"script" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/pipelines", "GET, POST"),
        ("DELETE", "/pipelines", "GET, POST"),
        ("POST", "/pipelines/pip_x", "GET, PUT, DELETE"),
        ("OPTIONS", "/auth/login", "POST"),
        ("TRACE", "/auth/me", "GET"),
        ("GET", "/dead-letters/replay", "POST"),
    ],
)
def test_a_method_that_is_not_there_names_those_that_are(
    admin: Admin, method: str, path: str, allow: str
) -> None:
    answer = admin.send(method, path)
    assert error_of(answer) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == allow


def test_head_is_get_without_a_body(admin: Admin) -> None:
    answer = admin.send("HEAD", "/pipelines")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("given", ["abc-1._Z", "x" * 64])
def test_a_decent_request_id_is_kept(admin: Admin, given: str) -> None:
    assert admin.send("GET", "/auth/me", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<script>", "a\tb", "é", ""])
def test_another_request_id_is_replaced(admin: Admin, given: str) -> None:
    answer = admin.send("GET", "/auth/me", headers={"X-Request-ID": given})
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["X-Request-ID"])


def test_nothing_is_kept_by_caches(admin: Admin) -> None:
    for answer in (
        admin.call("GET", "/pipelines"),
        admin.call("GET", "/nothing"),
        admin.send("GET", "/x", role=None),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_unexpected_error_says_nothing_outside(admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """A revision that another key sealed: the store refuses to read it."""
    made = admin.ok("POST", "/integration-templates", {"name": "sealed elsewhere", **WEBHOOK})
    admin.run(admin.services.store.write, _break_seal, made["id"])
    answer = admin.call(
        "POST", f"/integration-templates/{made['id']}/revisions", {"config": WEBHOOK["config"]}
    )
    assert error_of(answer) == (500, "INTERNAL_ERROR")
    assert answer.json()["error"]["details"] == []
    for word in ("Traceback", "encrypted", "key", "StorageRefused"):
        assert word not in answer.body.decode()
    assert admin.call("GET", "/pipelines").status == 200


def _break_seal(connection: Any, integration_id: str) -> None:
    connection.execute(
        "UPDATE revisions SET secrets_ciphertext = zeroblob(40) WHERE integration_id = ?", (integration_id,)
    )


def test_a_store_that_stops_is_503_with_retry_after(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data") as admin:
        admin.portal.call(admin.services.store.writer.stop)
        answer = admin.call("POST", "/pipelines", {"name": "x"})
        assert error_of(answer) == (503, "STORAGE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0


def test_a_user_has_so_many_requests_a_minute(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data", management_rate_limit_rpm=5) as admin:
        assert [admin.call("GET", "/auth/me", role="viewer").status for _ in range(5)] == [200] * 5
        answer = admin.call("GET", "/auth/me", role="viewer")
        assert error_of(answer) == (429, "RATE_LIMITED")
        assert f"Retry after {answer.headers['Retry-After']} seconds" in answer.json()["error"]["message"]
        assert admin.call("GET", "/auth/me", role="editor").status == 200
        admin.clock.ahead_ms += 60_000
        assert admin.call("GET", "/auth/me", role="viewer").status == 200


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────

NO_OBJECTS = [b"null", b"[]", b'"x"', b"0", b"true", b"[{}]"]
NO_JSON = [
    b"",
    b"{",
    b"{'a':1}",
    b'{"a":1}x',
    b"\xff\xfe{\x00}\x00",
    b'{"a":"\xff"}',
    b'{"a":"\\ud800"}',
    b"{]",
]
TOO_DEEP = [b'{"a":' * depth + b"1" + b"}" * depth for depth in (1000, 100_000)]


def bodies_of_every_operation(admin: Admin, body: bytes) -> list[Answer]:
    return [
        admin.send(one.method, re.sub(r"\{[^}]*\}", "x", one.path), body)
        for one in OPERATIONS
        if one.method != "GET" and one.path != "/auth/logout"
    ]


@pytest.mark.parametrize("body", [*NO_OBJECTS, *NO_JSON, *TOO_DEEP], ids=lambda body: repr(body[:12]))
def test_garbage_bodies_are_refused_everywhere(admin: Admin, body: bytes) -> None:
    for answer in bodies_of_every_operation(admin, body):
        if answer.status != 404:  # an unknown id can be said first
            assert error_of(answer) in ((400, "INVALID_JSON"), (422, "VALIDATION_ERROR"))


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 2**64, 10**400, 1.5, "", "\x00", "x" * 5000, [], [[]], {}, {"a": []}]
)
def test_values_of_any_type_are_never_a_500(admin: Admin, value: Any) -> None:
    names = [
        *("name", "vendor", "config", "description", "integration_id", "revision_id", "mode", "enabled"),
        *(
            "ids",
            "filter",
            "email",
            "password",
            "token",
            "refresh_token",
            "current_password",
            "labels",
            "slug",
        ),
    ]
    bodies = [dict.fromkeys(names, value), *({name: value} for name in ("ids", "filter"))]
    for body in bodies:
        for answer in bodies_of_every_operation(admin, json.dumps(body).encode()):
            assert answer.status < 500, (body, answer.body)


def test_the_json_test_suite_never_breaks_it(admin: Admin) -> None:
    suite = sorted((SEED.parents[1] / "data" / "json-test-suite").rglob("*.json"))
    assert len(suite) > 300
    for file in suite:
        body = file.read_bytes()
        answer = admin.send("POST", "/pipelines", body)
        assert error_of(answer)[0] in (400, 422), file.name
        inside = b'{"name":"suite","config":{"x":' + body + b"}}"
        assert admin.send("POST", "/pipelines", inside).status in (201, 400, 422), file.name


def test_a_byte_order_mark_is_no_garbage(admin: Admin) -> None:
    assert admin.send("POST", "/pipelines", b'\xef\xbb\xbf{"name":"BOM"}').status == 201


def test_a_body_above_one_megabyte_is_refused_with_and_without_a_length(admin: Admin) -> None:
    body = b'{"name":"' + b"x" * 1024 * 1024 + b'"}'
    assert error_of(admin.send("POST", "/pipelines", body)) == (413, "PAYLOAD_TOO_LARGE")
    parts = urlsplit(admin.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    headers = {"Authorization": f"Bearer {admin.tokens['owner']}"}
    connection.request(
        "POST", "/v1/admin/pipelines", iter([body[:100], body[100:]]), headers, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_a_long_password_is_refused_fast_and_a_longer_one_too(admin: Admin) -> None:
    for length, status in ((1025, 422), (1_000_000, 422), (2_000_000, 413)):
        credentials = {"email": "viewer@example.com", "password": "x" * length}
        assert admin.call("POST", "/auth/login", credentials, role=None).status == status


def test_queries_of_any_kind_are_never_a_500(admin: Admin) -> None:
    values = (
        "",
        "%00",
        "%FF",
        "-1",
        "9" * 400,
        "a%27%22%3B--",
        "%25",
        "x" * 5000,
        "[]",
        "2026-13-01",
        "%F0%9F%98%80",
    )
    names = (
        "limit",
        "offset",
        "cursor",
        "search",
        "type",
        "label",
        "enabled",
        "status",
        "from",
        "to",
        "event",
        "user_id",
    )
    for path in ("/pipelines", "/integration-templates", "/events", "/dead-letters", "/catalog"):
        for name in names:
            for value in values:
                assert admin.send("GET", f"{path}?{name}={value}").status in (200, 422), (path, name, value)


def test_the_server_still_works_after_a_client_that_hangs_up(admin: Admin) -> None:
    parts = urlsplit(admin.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.putrequest("POST", "/v1/admin/pipelines")
    connection.putheader("Authorization", f"Bearer {admin.tokens['owner']}")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"name":')
    connection.close()
    assert request(f"{admin.base_url}/v1/admin/nothing").status == 404


def test_a_body_that_never_comes_is_given_up(tmp_path: Path) -> None:
    with running_admin(tmp_path / "data", body_timeout_s=0.2) as admin:
        parts = urlsplit(admin.base_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.putrequest("POST", "/v1/admin/pipelines")
        connection.putheader("Authorization", f"Bearer {admin.tokens['owner']}")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b'{"name":')
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (408, "REQUEST_TIMEOUT")
        connection.close()
