"""The request that a delivery would make, for a dry run: the same function makes it, and nothing is sent."""

from __future__ import annotations

from typing import Any

from datafly_lite.configuration import Attachment
from datafly_lite.delivery.attempt import request_for
from datafly_lite.delivery.redaction import Redaction
from datafly_lite.events import Event


class Preview:
    """Shows no secret of these, whichever of an integration's configurations it belongs to."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._redaction = Redaction(secrets)
        self.text = self._redaction.text

    def request(self, event: Event, attachment: Attachment, now_ms: int) -> dict[str, Any] | None:
        """`{"method", "url", "headers", "body"}` with the whole body; None where nothing is sent.

        Raises MappingError.
        """
        request = request_for(event, attachment, now_ms)
        if request is None:
            return None
        body = self._redaction.text(request.body.decode("utf-8", "replace"))
        return {**self._redaction.request(request), "body": body}
