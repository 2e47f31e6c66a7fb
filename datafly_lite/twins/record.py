"""What the twins were sent and what they are to answer next; bounded, in memory."""

from __future__ import annotations

from collections import deque
from typing import Annotated, Any

import msgspec

KEPT_REQUESTS = 500
KEPT_BYTES = 16 * 1024 * 1024
BODY_LIMIT_BYTES = 131_072
"""Above GA4's 130 kB."""

Status = Annotated[int, msgspec.Meta(ge=200, le=599)]
HeaderText = Annotated[str, msgspec.Meta(pattern=r"^[\t\x20-\x7e]*$")]
HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]+$")]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request and the twin's verdict on it: no problems = the real vendor would take it."""

    twin: str
    at: str
    method: str
    path: str
    headers: dict[str, str]
    body: str
    problems: list[str]
    status: int


class ScriptedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer given in place of the twin's own."""

    status: Status = 200
    headers: dict[HeaderName, HeaderText] = {}
    body: str = ""
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=120)] = 0.0


class Trouble(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next answers of one twin, in order; a number is a status."""

    twin: str
    answers: Annotated[list[Status | ScriptedAnswer], msgspec.Meta(max_length=1_000)]


class Record:
    """The last requests and the scripted answers."""

    def __init__(self) -> None:
        self.received: deque[Received] = deque(maxlen=KEPT_REQUESTS)
        self._size_bytes = 0
        self._scripted: dict[str, deque[ScriptedAnswer]] = {}

    def add(self, one: Received) -> None:
        """Keep it; the oldest go when there are too many or too large ones."""
        if len(self.received) == KEPT_REQUESTS:
            self._forget_oldest()
        self.received.append(one)
        self._size_bytes += len(one.body)
        while self._size_bytes > KEPT_BYTES:
            self._forget_oldest()

    def clear(self) -> None:
        """Forget the requests; scripted answers stay."""
        self.received.clear()
        self._size_bytes = 0

    def script(self, trouble: Trouble) -> int:
        """Replace the twin's scripted answers; how many there are now."""
        self._scripted[trouble.twin] = deque(_answer(one) for one in trouble.answers)
        return len(trouble.answers)

    def next_answer(self, twin: str) -> ScriptedAnswer | None:
        """The next scripted answer, once."""
        scripted = self._scripted.get(twin)
        return scripted.popleft() if scripted else None

    def _forget_oldest(self) -> None:
        self._size_bytes -= len(self.received.popleft().body)


def _answer(value: Any) -> ScriptedAnswer:
    return ScriptedAnswer(status=value) if isinstance(value, int) else value
