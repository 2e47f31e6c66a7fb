"""A request on its way through the door: what is known of it so far."""

from __future__ import annotations

from typing import Any

import msgspec

from datafly_lite.configuration import Pipeline, WebhookSource
from datafly_lite.errors import Refused
from datafly_lite.events import Refusal
from datafly_lite.gateway.callers import Caller, Headers, without_keys
from datafly_lite.gateway.dialect import BATCH, Dialect, Limits, Request


class Call(msgspec.Struct, kw_only=True):
    """Filled from the head to the body, so that a refusal can say whose it was, however early it came."""

    path: str
    method: str
    headers: Headers
    raw_headers: Any
    """Pairs, as they came: two of one name are two."""
    query: bytes
    caller: Caller
    request_id: str | None = None
    dialect: Dialect | None = None
    kind: str | None = None
    wire_body: bytes = b""
    """As it was sent, and so as it was signed."""
    body: bytes = b""
    pipeline: Pipeline | None = None
    source: WebhookSource | None = None
    is_signed: bool = False
    is_admitted: bool = False
    """Counted against the rate limit."""

    @property
    def is_batch(self) -> bool:
        """Whether the path carries many events."""
        return self.kind == BATCH

    def request(self, limits: Limits) -> Request:
        """What its dialect reads."""
        return Request(self.body, self.kind, limits, self.headers, self.query, self.source)

    def refusal(self, refused: Refused, body: bytes, now_ms: int) -> Refusal:
        """For the list of refused events. `body` is the whole request's or one event's.

        Of a query no key is kept: somebody may have put another service's secret there.
        """
        if self.dialect is not None and self.dialect.method == "GET":
            body = without_keys(body)
        return Refusal(
            code=refused.code,
            message=refused.message,
            refused_at_ms=now_ms,
            path=f"{self.path}?source={self.source.id}" if self.source else self.path,
            pipeline_id=self.pipeline.id if self.pipeline else None,
            dialect=self.dialect.name if self.dialect else None,
            body=body,
            body_size_bytes=len(body),
            user_agent=self.caller.user_agent,
            origin=self.caller.origin,
            ip=self.caller.ip,
            request_id=self.request_id,
        )
