"""What a vendor is: declared settings, one pure function to a request, one that reads the answer, examples.

The settings feed validation, the form in the UI and the documentation; the examples are its tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from datafly_lite.errors import AdminError
from datafly_lite.events import Event, Outcome, Verdict

SettingType = Literal["string", "secret", "integer", "boolean", "choice", "url", "object"]

MASK = "***"
"""What a stored secret looks like from outside; writing it back keeps the stored value (api.md)."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value that the user gives. `pattern` is a regular expression for the whole value."""

    name: str
    label: str
    type: SettingType = "string"
    required: bool = False
    default: Any = None
    placeholder: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to a vendor. The sender adds nothing but its own User-Agent and Content-Length."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """What came back; `body` is cut at the sender's limit."""

    status: int
    headers: dict[str, str]
    body: bytes


class Example(msgspec.Struct, frozen=True):
    """An event in, a request out: documentation and test at once."""

    title: str
    settings: dict[str, Any]
    event: dict[str, Any]
    request: Request


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A destination. `request_for(events, settings, now_ms)` is pure and raises MappingError.

    An Event that the vendor has no word for gives None: nothing is sent and the delivery is dropped
    with the reason `filter`.
    """

    name: str
    label: str
    description: str
    category: str
    documentation: str
    settings: tuple[Setting, ...]
    consent_categories: tuple[str, ...]
    request_for: Callable[[Sequence[Event], Mapping[str, Any], int], Request | None]
    read_answer: Callable[[Answer], Outcome]
    examples: tuple[Example, ...]


def outcome_of_status(answer: Answer) -> Outcome:
    """The rule for vendors without one of their own (api.md, section 2, Retry)."""
    verdict = _verdict(answer.status)
    retry_after_s = _retry_after_s(answer.headers) if verdict is Verdict.RETRY else None
    return Outcome(verdict, answer.status, retry_after_s=retry_after_s)


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    if status in (401, 403):
        return Verdict.PAUSE
    return Verdict.DISABLE if status == 410 else Verdict.GIVE_UP


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def check_config(vendor: Vendor, config: Mapping[str, Any]) -> None:
    """Raise AdminError VALIDATION_ERROR with every field that cannot be used. `{{pipeline_param.X}}` passes."""
    raise NotImplementedError("written with the vendors") from AdminError.invalid("", "")
