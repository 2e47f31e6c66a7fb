"""Every route as nobody, viewer, editor, admin and owner, and what did not happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from datafly_lite.clock import new_id
from datafly_lite.management.routes import OPERATIONS, Operation
from management_kit import ROLES, Admin, error_of, running_admin

WEBHOOK = {"vendor": "webhook", "config": {"url": "https://example.com/hook"}}
REFUSED_FOR_ANOTHER_REASON = {"/auth/password": (401,), "/pipelines/{pipeline_id}/collector/download": (404,)}
NOTHING_TO_CHANGE = (
    *("/auth/password", "/dead-letters", "/dead-letters/replay", "/expressions/check", "/dry-run"),
)
GUARDED = [operation for operation in OPERATIONS if operation.role]


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("http") / "data"
    with running_admin(folder, management_rate_limit_rpm=100_000) as running:
        yield running


class Things:
    """One of each, fresh, with a body that each operation takes."""

    def __init__(self, admin: Admin) -> None:
        self.pipeline_id = admin.ok("POST", "/pipelines", {"name": "Roles"})["id"]
        count = admin.ok("GET", "/integration-templates?limit=1")["data"] and len(self.templates(admin))
        self.attached_id = self._template(admin, f"attached {count}")
        self.free_id = self._template(admin, f"free {count}")
        attached = admin.ok(
            "POST", f"/pipelines/{self.pipeline_id}/integrations", {"integration_id": self.attached_id}
        )
        self.attachment_id = attached["id"]
        admin.process(self.pipeline_id, {"type": "track", "event": "Roles", "messageId": f"roles-{count}"})
        self.anonymous_id = new_id("visitor")
        linking = {"type": "identify", "userId": "somebody", "anonymousId": self.anonymous_id}
        admin.process(self.pipeline_id, {**linking, "messageId": f"linked-{count}"})
        self.message_id = f"roles-{count}"
        self.delivery_id = admin.ok("GET", f"/deliveries?pipeline_id={self.pipeline_id}")["data"][0]["id"]
        self.count = count
        source = {"pipeline_id": self.pipeline_id, "name": "Roles", "source_type": "custom"}
        self.source_id = admin.ok("POST", "/webhook-sources", source)["id"]
        self.invited_id = admin.ok("POST", "/users", {"email": self.address(), "role": "viewer"})["id"]
        self.key_id = admin.ok("POST", "/api-keys", {"name": "Roles", "role": "viewer"})["id"]

    def address(self) -> str:
        return f"{new_id('roles')}@example.com"

    @staticmethod
    def templates(admin: Admin) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            page = admin.ok("GET", f"/integration-templates?limit=100&cursor={cursor}")
            found += page["data"]
            if not page["has_more"]:
                return found
            cursor = page["next_cursor"]

    @staticmethod
    def _template(admin: Admin, name: str) -> str:
        return str(admin.ok("POST", "/integration-templates", {"name": name, **WEBHOOK})["id"])

    def path(self, operation: Operation) -> str:
        is_deletion = operation.method == "DELETE" or operation.path.endswith("/integrations")
        values = {
            "/links/{user_id}": "/links/somebody",
            "{pipeline_id}": self.pipeline_id,
            "{pi_id}": self.attachment_id,
            "{integration_id}": self.free_id if is_deletion else self.attached_id,
            "{number}": "1",
            "{old}": "1",
            "{new}": "1",
            "{vendor}": "webhook",
            "{delivery_id}": str(self.delivery_id),
            "{source_id}": self.source_id,
            "{src_id}": self.pipeline_id.replace("pip_", "src_"),
            "{user_id}": self.invited_id,
            "{key_id}": self.key_id,
            "{version}": "0",
            "{message_id:path}": self.message_id,
            "{anonymous_id:path}": self.anonymous_id,
            "{anonymous_id}": self.anonymous_id,
        }
        path = operation.path
        for name, value in values.items():
            path = path.replace(name, value)
        return path

    def body(self, operation: Operation) -> Any:
        bodies: dict[tuple[str, str], Any] = {
            ("POST", "/auth/password"): {"current_password": "wrong", "new_password": "x" * 20},
            ("POST", "/pipelines"): {"name": "By role"},
            ("PUT", "/pipelines/{pipeline_id}"): {"name": "Renamed"},
            ("POST", "/pipelines/{pipeline_id}/integrations"): {"integration_id": self.free_id},
            ("PUT", "/pipelines/{pipeline_id}/integrations/{pi_id}"): {"mode": "paused"},
            ("POST", "/catalog/{vendor}/install"): {
                "name": f"installed {self.count}",
                "config": WEBHOOK["config"],
            },
            ("PUT", "/integration-templates/{integration_id}"): {"description": f"Told {self.count}"},
            ("POST", "/integration-templates"): {"name": f"by role {self.count}", **WEBHOOK},
            ("POST", "/integration-templates/{integration_id}/revisions"): {"config": WEBHOOK["config"]},
            ("POST", "/dry-run"): {"pipeline_id": self.pipeline_id, **WEBHOOK, "last": 1},
            ("POST", "/webhook-sources"): {
                "pipeline_id": self.pipeline_id,
                "name": "By role",
                "source_type": "custom",
            },
            ("PUT", "/webhook-sources/{source_id}"): {"name": "Renamed"},
            ("POST", "/sources"): {"name": "By role", "domain": "example.com"},
            ("PUT", "/sources/{src_id}"): {"name": "Renamed", "domain": ""},
            ("POST", "/users"): {"email": self.address(), "role": "viewer"},
            ("PUT", "/users/{user_id}"): {"role": "editor"},
            ("POST", "/api-keys"): {"name": "By role", "role": "viewer"},
            ("PUT", "/data-layer"): {"config": {"custom_js": {"description": self.message_id}}},
            ("PUT", "/consent-settings"): {"config": {"mapping": {self.message_id: "marketing"}}},
            ("POST", "/expressions/check"): {"expression": "event = 'A'"},
            ("POST", "/dead-letters/replay"): {"filter": {}},
            ("DELETE", "/dead-letters"): {"filter": {}},
        }
        return bodies.get((operation.method, operation.path))


def state(admin: Admin) -> bytes:
    """Every row of the tables that management changes; what a refusal must leave as it was."""
    return bytes(admin.run(admin.services.store.read, _dump))


def _dump(connection: Any) -> bytes:
    tables = (
        *("pipelines", "integrations", "revisions", "pipeline_integrations", "deliveries"),
        *("webhook_sources", "data_layers", "consent_settings", "identity_links"),
    )
    rows = [[tuple(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables]
    builds = [row["id"] for row in connection.execute("SELECT id FROM collector_builds")]
    challenges = connection.execute("SELECT count(*) FROM tokens WHERE kind = 'challenge'").fetchone()[0]
    people = [tuple(row) for row in connection.execute("SELECT id, password_hash, role, status FROM users")]
    links = connection.execute("SELECT hex(digest) FROM tokens WHERE kind = 'invite'").fetchall()
    keys = [row["id"] for row in connection.execute("SELECT id FROM api_keys")]
    return repr((rows, builds, challenges, people, [tuple(row) for row in links], keys)).encode()


# ── Roles ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", GUARDED, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_asks_for_its_role(admin: Admin, operation: Operation) -> None:
    things = Things(admin)
    path, body, needed = things.path(operation), things.body(operation), operation.role
    before = state(admin)
    assert error_of(admin.call(operation.method, path, body, role=None)) == (401, "INVALID_TOKEN")
    for role in ROLES[: ROLES.index(needed or "")]:
        assert admin.error(operation.method, path, body, role=role) == (403, "FORBIDDEN"), role
    assert state(admin) == before, "a refused call changed something"
    if operation.path == "/auth/logout":
        return  # allowed, but it would end the token of all these tests; the life of a log-in has it
    answer = admin.call(operation.method, path, body, role=needed)
    assert answer.status in REFUSED_FOR_ANOTHER_REASON.get(operation.path, (200, 201, 204)), answer.body
    if operation.method != "GET" and operation.path not in NOTHING_TO_CHANGE:
        assert state(admin) != before, "an allowed call changed nothing"


def test_routes_without_a_role_are_the_ways_in() -> None:
    assert [one.path for one in OPERATIONS if one.role is None] == [
        *("/setup", "/auth/login", "/auth/refresh", "/auth/accept-invite")
    ]


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic b3duZXI6eA==", "Bearer " + "x" * 9000, "bearer\t\xe9"],
)
def test_a_strange_authorization_is_nobodys(admin: Admin, header: str) -> None:
    answer = admin.send("GET", "/pipelines", role=None, headers={"Authorization": header})
    assert error_of(answer) == (401, "INVALID_TOKEN")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_session_cookie_is_no_access_token(admin: Admin) -> None:
    """Or another site's form could use it."""
    session = admin.run(admin.services.authority.open_session, admin.users["owner"])
    answer = admin.send("GET", "/pipelines", role=None, headers={"Cookie": f"datafly_session={session}"})
    assert error_of(answer) == (401, "INVALID_TOKEN")
