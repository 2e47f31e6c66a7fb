"""Challenge tokens as the gateway asks for them."""

from __future__ import annotations

import hashlib
import sqlite3


def expiry(connection: sqlite3.Connection, pipeline_id: str, token: str) -> int:
    """When the token ends, in milliseconds; 0 where there is none for this pipeline."""
    row = connection.execute(
        "SELECT expires_at_ms FROM tokens WHERE digest = ? AND kind = 'challenge' AND subject = ?",
        (hashlib.sha256(token.encode()).digest(), pipeline_id),
    ).fetchone()
    return int(row[0]) if row else 0
