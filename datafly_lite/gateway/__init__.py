"""The ingestion gateway: every wire format becomes one canonical event. One file a wire format."""

from __future__ import annotations

from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway.commanders_act import COMMANDERS_ACT, COMMANDERS_ACT_PIXEL
from datafly_lite.gateway.datafly import DATAFLY, DATAFLY_SERVER
from datafly_lite.gateway.dialect import Dialect, Limits
from datafly_lite.gateway.pixel import DATAFLY_PIXEL
from datafly_lite.gateway.segment import SEGMENT
from datafly_lite.gateway.webhook import WEBHOOK
from datafly_lite.settings import Settings

DIALECTS: tuple[Dialect, ...] = (
    DATAFLY,
    DATAFLY_SERVER,
    DATAFLY_PIXEL,
    SEGMENT,
    COMMANDERS_ACT,
    COMMANDERS_ACT_PIXEL,
    WEBHOOK,
)

BY_NAME = {dialect.name: dialect for dialect in DIALECTS}


def limits(settings: Settings) -> Limits:
    """The limits of a body, from the settings."""
    return Limits(
        max_depth=settings.max_json_depth,
        max_event_size_bytes=settings.max_event_size_bytes,
        max_body_size_bytes=settings.max_body_size_bytes,
        max_batch_body_size_bytes=settings.max_batch_body_size_bytes,
        max_batch_events=settings.max_batch_events,
    )


def event_of(envelope: Envelope, raw: bytes, within: Limits) -> Event:
    """Read an event of the log again. Raises Refused where this program no longer can."""
    dialect = BY_NAME.get(envelope.dialect)
    if dialect is None:
        raise Refused("invalid_payload", f"this program has no dialect {envelope.dialect!r}")
    return dialect.event_of(envelope, raw, within)
