"""Every list in pages: what is there all the while comes exactly once, whatever comes and goes meanwhile."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from datafly_lite.management.routes import OPERATIONS
from datafly_lite.store import refused_events
from datafly_lite.store.deliveries import Attempted, record_attempts
from datafly_lite.store.refused_events import Refusals, RefusedEvent
from management_kit import Admin, running_admin

URL = {"url": "https://example.com/"}
NUMBERS = itertools.count()
AT_FIRST, WALKS = 7, 3
FAIL = "UPDATE events SET drop_reason = 'custom_js' WHERE pipeline_id = ?"


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder = tmp_path_factory.mktemp("paging") / "data"
    with running_admin(folder, management_rate_limit_rpm=1_000_000) as running:
        yield running


class List(NamedTuple):
    """One list: its path, what makes a row (and gives its key), what takes one away, where a key stands."""

    path: str
    add: Callable[[], object]
    remove: Callable[[Any], object] | None = None
    key: str = "id"


def integration(admin: Admin) -> str:
    fields = {"name": f"i{next(NUMBERS)}", "vendor": "webhook", "config": URL}
    return str(admin.ok("POST", "/integration-templates", fields)["id"])


def pipeline(admin: Admin) -> str:
    return str(admin.ok("POST", "/pipelines", {"name": f"p{next(NUMBERS)}"})["id"])


def attach(admin: Admin, pipeline_id: str) -> str:
    path = f"/pipelines/{pipeline_id}/integrations"
    return str(admin.ok("POST", path, {"integration_id": integration(admin)})["id"])


def write(admin: Admin, work: Any, *args: Any) -> Any:
    return admin.run(admin.services.store.write, work, *args)


def send(admin: Admin, pipeline_id: str) -> None:
    admin.process(pipeline_id, {"type": "track", "event": "A", "messageId": f"m{next(NUMBERS)}"})


def settle(admin: Admin, delivery_id: int, status: str) -> None:
    made = Attempted(delivery_id, 1, status, None, 0, admin.clock(), verdict="x", request="{}")
    write(admin, record_attempts, [made])


def bury(admin: Admin, pipeline_id: str) -> None:
    """A new dead letter."""
    send(admin, pipeline_id)
    newest = admin.ok("GET", f"/deliveries?pipeline_id={pipeline_id}&limit=1")["data"][0]["id"]
    settle(admin, newest, "dead")


def refuse(admin: Admin, pipeline_id: str) -> None:
    now_ms = admin.clock()
    row = RefusedEvent(
        pipeline_id, "invalid_json", "no", None, "/", None, None, None, None, None, now_ms, b"", 0
    )

    def add(connection: sqlite3.Connection) -> None:
        refused_events.add(connection, [Refusals([row], {(pipeline_id, "invalid_json"): 1}, now_ms)])

    write(admin, add)


def forget(admin: Admin, table: str, key: str, value: Any) -> None:
    """As age does it."""
    write(
        admin, lambda connection: connection.execute(f"DELETE FROM {table} WHERE {key} = ?", (value,)).close()
    )


def templates(admin: Admin) -> List:
    path = "/integration-templates"
    return List(path, lambda: integration(admin), lambda key: admin.ok("DELETE", f"{path}/{key}"))


def revisions(admin: Admin) -> List:
    path = f"/integration-templates/{integration(admin)}/revisions"
    return List(path, lambda: admin.ok("POST", path, {"config": URL}), None, "revision_number")


def attachments(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    path = f"/pipelines/{pipeline_id}/integrations"
    return List(path, lambda: attach(admin, pipeline_id), lambda key: admin.ok("DELETE", f"{path}/{key}"))


def health(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    path = f"/pipelines/{pipeline_id}/integrations"
    return List(
        "/integrations-health",
        lambda: attach(admin, pipeline_id),
        lambda key: admin.call("DELETE", f"{path}/{key}"),  # another list's are not this pipeline's
        "pipeline_integration_id",
    )


def webhook_sources(admin: Admin) -> List:
    pipeline_id, path = pipeline(admin), "/webhook-sources"
    fields = {"pipeline_id": pipeline_id, "name": "Source", "source_type": "custom"}
    return List(path, lambda: admin.ok("POST", path, fields), lambda key: admin.ok("DELETE", f"{path}/{key}"))


def events(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    return List(
        f"/events?pipeline_id={pipeline_id}",
        lambda: send(admin, pipeline_id),
        lambda key: forget(admin, "events", "offset", key),
        "offset",
    )


def deliveries(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    attach(admin, pipeline_id)
    return List(
        f"/deliveries?pipeline_id={pipeline_id}",
        lambda: send(admin, pipeline_id),
        lambda key: forget(admin, "deliveries", "id", key),
    )


def waiting(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    attach(admin, pipeline_id)
    return List(
        f"/deliveries?status=pending&pipeline_id={pipeline_id}",
        lambda: send(admin, pipeline_id),
        lambda key: settle(admin, key, "delivered"),
    )


def dead(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    attach(admin, pipeline_id)
    return List(
        f"/dead-letters?pipeline_id={pipeline_id}",
        lambda: bury(admin, pipeline_id),
        lambda key: admin.ok("DELETE", "/dead-letters", {"ids": [key]}),
    )


def refused(admin: Admin) -> List:
    pipeline_id = pipeline(admin)
    return List(
        f"/refused-events?pipeline_id={pipeline_id}",
        lambda: refuse(admin, pipeline_id),
        lambda key: forget(admin, "refused_events", "id", key),
    )


def failed(admin: Admin) -> List:
    pipeline_id = pipeline(admin)

    def fail() -> None:
        """As the data layer's script does it."""
        send(admin, pipeline_id)
        write(admin, lambda connection: connection.execute(FAIL, (pipeline_id,)).close())

    return List(
        f"/dlq-events?pipeline_id={pipeline_id}",
        fail,
        lambda key: forget(admin, "events", "offset", key),
        "offset",
    )


def identities(admin: Admin) -> List:
    """New visitors come before, at and after where a walk stands."""
    pipeline_id, chance = pipeline(admin), random.Random("visitors")

    def come() -> None:
        visitor = f"{chance.randrange(2**32):08x}"
        fields = {"type": "track", "event": "A", "messageId": f"m{next(NUMBERS)}", "anonymousId": visitor}
        admin.process(pipeline_id, fields)

    return List(
        "/identities",
        come,
        lambda key: forget(admin, "identities", "anonymous_id", key),
        "anonymous_id",
    )


def users(admin: Admin) -> List:
    def invite() -> object:
        fields = {"email": f"u{next(NUMBERS)}@example.com", "role": "viewer"}
        return admin.ok("POST", "/users", fields)

    return List("/users", invite, lambda key: admin.call("DELETE", f"/users/{key}"))


def api_keys(admin: Admin) -> List:
    def create() -> object:
        return admin.ok("POST", "/api-keys", {"name": f"k{next(NUMBERS)}", "role": "viewer"})

    return List("/api-keys", create, lambda key: admin.ok("DELETE", f"/api-keys/{key}"))


def audit_logs(admin: Admin) -> List:
    pipeline_id = pipeline(admin)

    def rename() -> object:
        return admin.ok("PUT", f"/pipelines/{pipeline_id}", {"name": f"p{next(NUMBERS)}"})

    return List(f"/audit-logs?resource_id={pipeline_id}", rename)


def sources(admin: Admin) -> List:
    def create() -> object:
        return admin.ok("POST", "/sources", {"name": f"s{next(NUMBERS)}", "domain": "example.com"})

    return List("/sources", create, lambda key: admin.ok("DELETE", f"/sources/{key}"))


def data_layer_versions(admin: Admin) -> List:
    def save() -> object:
        rules = [{"condition": f"event = 'n{next(NUMBERS)}'", "action": "drop"}]
        return admin.ok("PUT", "/data-layer", {"config": {"routing_rules": rules}})

    return List("/data-layer/versions", save, None, "version")


def consent_settings_versions(admin: Admin) -> List:
    def save() -> object:
        return admin.ok(
            "PUT", "/consent-settings", {"config": {"mapping": {f"C{next(NUMBERS)}": "marketing"}}}
        )

    return List("/consent-settings/versions", save, None, "version")


LISTS: dict[str, Callable[[Admin], List]] = {
    "/integration-templates": templates,
    "/integration-templates/{integration_id}/revisions": revisions,
    "/pipelines/{pipeline_id}/integrations": attachments,
    "/integrations-health": health,
    "/webhook-sources": webhook_sources,
    "/events": events,
    "/deliveries": deliveries,
    "/deliveries?status=pending": waiting,
    "/dead-letters": dead,
    "/refused-events": refused,
    "/dlq-events": failed,
    "/identities": identities,
    "/users": users,
    "/api-keys": api_keys,
    "/audit-logs": audit_logs,
    "/sources": sources,
    "/data-layer/versions": data_layer_versions,
    "/consent-settings/versions": consent_settings_versions,
}
NOT_IN_PAGES_OF_THIS_KIND = {"/pipelines", "/catalog"}
"""The first by limit and offset (seed 001), the second never changes."""


def page(admin: Admin, one: List, cursor: str | None, limit: int) -> dict[str, Any]:
    mark = "&" if "?" in one.path else "?"
    found: dict[str, Any] = admin.ok("GET", f"{one.path}{mark}limit={limit}&cursor={cursor or ''}")
    assert list(found) == ["data", "next_cursor", "has_more"]
    assert len(found["data"]) <= limit
    assert found["has_more"] is (found["next_cursor"] is not None)
    return found


def keys(admin: Admin, one: List) -> list[Any]:
    """All of them, from large pages with nothing going on."""
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = page(admin, one, cursor, 100)
        found += [row[one.key] for row in answer["data"]]
        cursor = answer["next_cursor"]
    return found


def walk(admin: Admin, one: List, chance: random.Random) -> None:
    """Through all pages, while rows come and go between them: before, at and after where we stand."""
    stays, seen, cursor = set(keys(admin, one)), [], None
    while True:
        answer = page(admin, one, cursor, chance.choice((1, 2, 3)))
        seen += [row[one.key] for row in answer["data"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        for _ in range(chance.randrange(3)):
            one.add()
        if one.remove is not None and chance.random() < 0.6:
            gone = chance.choice([seen[-1], *sorted(stays, key=str)])  # also the one that the cursor names
            one.remove(gone)
            stays.discard(gone)
        assert len(seen) < 500, "it never ends"
    assert len(seen) == len(set(seen)), "a row came twice"
    assert stays <= set(seen), "a row that was there all the while was left out"


@pytest.mark.parametrize("name", LISTS)
def test_a_walk_sees_every_row_once(admin: Admin, name: str) -> None:
    one, chance = LISTS[name](admin), random.Random(name)
    for _ in range(AT_FIRST):
        one.add()
    for _ in range(WALKS):
        walk(admin, one, chance)


def test_no_list_is_left_out() -> None:
    """A list is what takes a cursor, and each of them is walked above."""
    in_pages = {
        operation.path
        for operation in OPERATIONS
        if operation.query is not None and "cursor" in operation.query.__struct_fields__
    }
    assert in_pages - NOT_IN_PAGES_OF_THIS_KIND == {name.partition("?")[0] for name in LISTS}
