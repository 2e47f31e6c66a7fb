"""A running server for a program that has read the document: one of each thing, and a token for each role."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from anyio.from_thread import start_blocking_portal

from datafly_lite.auth_passwords import HASHER
from datafly_lite.clock import system_clock
from datafly_lite.keyring import Keyring
from datafly_lite.store import accounts
from kit import OWNER_EMAIL, Answer, Server, open_store, request, running_server, send_event, wait_until

ROLES = ("viewer", "editor", "admin", "owner")
SPARE_TOKENS = 500
"""Of the owner, for log-outs: each ends one."""
WEBHOOK = {"vendor": "webhook", "config": {"url": "https://example.com/hook"}}


class Tenant(NamedTuple):
    """The server, and the ids of what is there, by the names of path parameters."""

    server: Server
    ids: dict[str, str]
    pipeline_key: str

    def call(self, method: str, path: str, body: Any = None, role: str | None = "owner") -> Answer:
        """One request of the management API; None is nobody."""
        headers = {"Authorization": f"Bearer {token_of(role)}"} if role else {}
        encoded = None if body is None else json.dumps(body).encode()
        return request(f"{self.server.base_url}/v1/admin{path}", method, encoded, headers)


def token_of(role: str, number: int = 0) -> str:
    """An access token of the one user with this role."""
    return f"at_test-{role}-{number}"


@contextlib.contextmanager
def running_tenant(data_dir: Path) -> Iterator[Tenant]:
    """A server of its own, with one of each thing."""
    data_dir.mkdir(parents=True)
    Keyring.open(data_dir / "secret.key", create=True)
    with start_blocking_portal("asyncio") as portal:
        portal.call(_fill, data_dir)
    with running_server(data_dir, env={"DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "1000000"}) as server:
        yield _furnished(server)


async def _fill(data_dir: Path) -> None:
    now_ms = system_clock()
    async with open_store(data_dir / "datafly.db") as store:
        password_hash = HASHER.hash("not the password of anybody")
        for role in ROLES:
            email = OWNER_EMAIL if role == "owner" else f"{role}@example.com"
            fields = {"id": f"usr_{role}", "email": email, "name": role, "role": role, "now_ms": now_ms}
            await store.write(accounts.insert_user, {**fields, "password_hash": password_hash})
            tokens = [
                accounts.Token(
                    accounts.digest_of(token_of(role, number)),
                    "access",
                    f"usr_{role}",
                    f"fam_{role}_{number}",
                    now_ms,
                    now_ms + 3_600_000,
                )
                for number in range(SPARE_TOKENS if role == "owner" else 1)
            ]
            await store.write(accounts.insert_tokens, tokens)


def _furnished(server: Server) -> Tenant:
    empty = Tenant(server, {}, "")

    def made(path: str, body: Any) -> Any:
        answer = empty.call("POST", path, body)
        assert answer.status == 201, answer.body
        return answer.json()

    pipeline = made("/pipelines", {"name": "Conformance"})
    integration = made("/integration-templates", {"name": "Conformance", **WEBHOOK})
    attached = made(f"/pipelines/{pipeline['id']}/integrations", {"integration_id": integration["id"]})
    webhook = {"pipeline_id": pipeline["id"], "name": "Conformance", "source_type": "custom"}
    ids = {
        "pipeline_id": pipeline["id"],
        "pipeline_key": pipeline["pipeline_key"],
        "script_filename": "d.js",
        "integration_id": integration["id"],
        "pi_id": attached["id"],
        "source_id": made("/webhook-sources", webhook)["id"],
        "src_id": pipeline["id"].replace("pip_", "src_"),
        "vendor": "webhook",
        "number": "1",
        "old": "1",
        "new": "1",
        "user_id": "usr_viewer",
    }
    linking = {"userId": "somebody", "anonymousId": "a-visitor", "messageId": "linking"}
    send_event(server, pipeline["pipeline_key"], linking, "/v1/i")
    tenant = Tenant(server, {**ids, "anonymous_id": "a-visitor"}, pipeline["pipeline_key"])
    wait_until(lambda: tenant.call("GET", "/identities").json()["data"], "the visitor is known")
    return tenant
