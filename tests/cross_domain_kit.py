"""Two sites of one appliance, and a browser that goes from one to the other."""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any
from urllib.parse import quote

from gateway_kit import Appliance
from kit import Answer, Pipeline, request

SITE_A, SITE_B = "https://www.site-a.example", "https://site-b.example"
LISTED = ["site-b.example", "*.site-b.example", "www.site-a.example"]
IDENTITY = {"cross_domain_enabled": True, "cross_domain_domains": LISTED}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"
DFID = re.compile(r"_dfid=([0-9a-f-]{36});")
SITES: dict[str, Any] = {
    "domain_allowlist": ["*.site-a.example", "site-b.example"],
    "identity_config": IDENTITY,
}
"""Of the first site's pipeline."""


def other_site(appliance: Appliance) -> Pipeline:
    """The other site's own pipeline."""
    return appliance.management.create_pipeline(
        "Site B", slug="site-b", domain_allowlist=["site-b.example"], identity_config=IDENTITY
    )


def event(url: str, message_id: str | None = None) -> dict[str, Any]:
    named = {} if message_id is None else {"messageId": message_id}
    return {"type": "page", "name": "Landing", "context": {"page": {"url": url}}, **named}


def send(appliance: Appliance, pipeline: Pipeline, body: Any, path: str = "/v1/p", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(
        f"{appliance.server.base_url}{path}",
        "POST",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {pipeline.key}", "User-Agent": BROWSER, **named},
    )


def cookie_of(answer: Answer) -> str | None:
    found = [DFID.match(one) for one in answer.headers.get_all("Set-Cookie") or []]
    return next((one[1] for one in found if one), None)


def set_by(answer: Answer) -> set[str]:
    return {one.partition("=")[0] for one in answer.headers.get_all("Set-Cookie") or []}


def visit(
    appliance: Appliance, pipeline: Pipeline, origin: str, url: str, **headers: str
) -> tuple[str, dict[str, Any]]:
    """A page view: (the cookie that is set or "", the event as it is kept)."""
    message_id = f"m-{visit.__dict__.setdefault('count', 0)}"
    visit.__dict__["count"] += 1
    answer = send(appliance, pipeline, event(url, message_id), Origin=origin, **headers)
    assert (answer.status, answer.body) == (200, b'{"success": true}')
    return cookie_of(answer) or "", appliance.stored(message_id)


def sync(appliance: Appliance, to: str, key: str = "", method: str = "GET", **headers: str) -> Answer:
    key = key or appliance.pipeline.key
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(
        f"{appliance.server.base_url}/v1/sync?wk={key}&to={quote(to, safe='')}",
        method,
        headers={"User-Agent": BROWSER, "Sec-Fetch-Dest": "document", **named},
    )


def decorated(appliance: Appliance, visitor: str, to: str = f"{SITE_B}/landing?a=1#part") -> str:
    """Where the link takes a visitor of site A."""
    answer = sync(appliance, to, Cookie=f"_dfid={visitor}")
    assert (answer.status, answer.body) == (302, b"")
    location: str = answer.headers["Location"]
    assert "_dfx=" in location
    return location


def refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert (answer.json()["success"], answer.json()["code"]) == (False, code)
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


def pass_time(appliance: Appliance, ms: int) -> None:
    """As if the tokens that were redeemed so far had been so long ago."""
    with sqlite3.connect(appliance.database, timeout=30) as connection:
        connection.execute(
            "UPDATE tokens SET created_at_ms = created_at_ms - ? WHERE kind = 'cross_domain'", (ms,)
        )
    connection.close()
