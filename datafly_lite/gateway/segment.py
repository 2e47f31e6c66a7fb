"""Segment's own paths, and those that its relatives Dreamdata and RudderStack add (wire-formats.md, 2.2).

The events are those of datafly.py, and where the paths are too (`/v1/t`, `/v1/batch`) it has them.
"""

from __future__ import annotations

import msgspec

from datafly_lite.gateway.datafly import DATAFLY
from datafly_lite.gateway.dialect import BATCH

SEGMENT = msgspec.structs.replace(
    DATAFLY,
    name="segment",
    knows_by_cookie=False,
    paths={
        "/v1/track": "track",
        "/v1/page": "page",
        "/v1/identify": "identify",
        "/v1/group": "group",
        "/v1/screen": "screen",
        "/v1/alias": "alias",
        "/v1/s": "screen",
        "/v1/a": "alias",
        "/v1/b": BATCH,
        "/v1/import": BATCH,
        "/beacon/v1/batch": BATCH,
    },
)
