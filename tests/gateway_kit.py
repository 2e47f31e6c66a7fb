"""A running server with a pipeline, as the gateway's tests use it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kit import Answer, Management, Pipeline, Server, request, running_server, send_event, wait_until

ORIGIN = "https://shop.example.com"


class Appliance(NamedTuple):
    """A running server, its database and a pipeline that takes one origin."""

    server: Server
    database: Path
    pipeline: Pipeline
    management: Management

    def stored(self, message_id: str) -> dict[str, Any]:
        """The processed event with this messageId, once it is there."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as connection:
                rows = connection.execute(
                    "SELECT body FROM events WHERE message_id = ?", (message_id,)
                ).fetchall()
            connection.close()
            found[:] = [json.loads(row[0]) for row in rows]
            return bool(found)

        wait_until(look, f"{message_id} is processed")
        assert len(found) == 1
        return found[0]

    def post(self, body: bytes, path: str = "/v1/t", **headers: str) -> Answer:
        """POST with the pipeline's key; `Content_Type="x"` becomes `Content-Type: x`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(
            f"{self.server.base_url}{path}",
            "POST",
            body,
            {"Authorization": f"Bearer {self.pipeline.key}", **named},
        )

    def still_serves(self) -> None:
        """A good event gets its 200 and its place in the store."""
        answer = send_event(self.server, self.pipeline.key, {"type": "track", "event": "Still there"})
        assert (answer.status, answer.body) == (200, b'{"success": true}')


@contextmanager
def running_appliance(folder: Path, env: dict[str, str] | None = None, **fields: Any) -> Iterator[Appliance]:
    """The server on a free port, with a pipeline of these fields."""
    with running_server(folder, env=env) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline(**fields)
        yield Appliance(server, folder / "datafly.db", pipeline, management)
