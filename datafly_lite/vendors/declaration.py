"""What a vendor is: declared settings, one pure function to a request, one that reads the answer, examples.

The settings feed validation, the form in the UI and the documentation; the examples are its tests.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from datafly_lite.errors import MappingError
from datafly_lite.events import Event, Outcome, Verdict

SettingType = Literal["string", "secret", "integer", "boolean", "choice", "url", "object"]

MASK = "***"
"""What a stored secret looks like from outside; writing it back keeps the stored value (api.md)."""

PARAMETER = re.compile(r"\{\{pipeline_param\.([A-Za-z0-9_.-]+)\}\}")
RESERVED = ("consent_categories", "steps", "events", "endpoint")
"""Names at a revision's root that are the product's, not the vendor's (api.md, section 2)."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value that the user gives.

    `pattern` is a regular expression for the whole value; of an object, for each `name: value`.
    `required_if` is another setting and the value of it that makes this one required.
    """

    name: str
    label: str
    type: SettingType = "string"
    required: bool = False
    required_if: tuple[str, str] | None = None
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
    """What came back. Names of headers are in lower case; `body` is cut at the sender's limit."""

    status: int
    headers: dict[str, str]
    body: bytes


class Example(msgspec.Struct, frozen=True):
    """An event in, a request out: documentation and test at once. None: nothing is sent."""

    title: str
    settings: dict[str, Any]
    event: dict[str, Any]
    request: Request | None


class Outgoing(msgspec.Struct, frozen=True):
    """An event as the integration's own steps leave it (engine.py), and the payload that they built.

    `replaces`: the payload is the whole body; else it is merged over the one that the vendor makes.
    """

    event: Event
    payload: dict[str, Any] = {}
    replaces: bool = False


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A destination. `request_for(outgoing, settings, now_ms)` is pure and raises MappingError.

    It puts `with_payload` over the body before it encodes or signs. An event that the vendor has no word
    for gives None, unless the payload replaces the body: nothing is sent and the delivery is dropped with
    the reason `filter`.

    Two settings mean the same wherever a vendor declares them, and the worker obeys them:
    `timeout_ms`, the longest attempt, and `max_retries`, attempts after the first.
    """

    name: str
    label: str
    description: str
    category: str
    documentation: str
    settings: tuple[Setting, ...]
    consent_categories: tuple[str, ...]
    request_for: Callable[[Sequence[Outgoing], Mapping[str, Any], int], Request | None]
    read_answer: Callable[[Answer], Outcome]
    examples: tuple[Example, ...]


EXAMPLE_NOW_MS = 1_772_359_205_000
"""`now_ms` of all examples: 2026-03-01T10:00:05Z."""


def with_defaults(vendor: Vendor, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the vendor's defaults where a setting is absent, None or empty text."""
    defaults = {setting.name: setting.default for setting in vendor.settings}
    given = {name: value for name, value in config.items() if value is not None and value != ""}
    return {**defaults, **given}


def with_payload(body: dict[str, Any], outgoing: Outgoing) -> dict[str, Any]:
    """The body as the steps want it: objects merged by key, lists by index, and the payload wins.

    A null in one of the payload's lists leaves what is there, so that `events[1].name` says nothing of the
    first. Raises MappingError where the body is replaced by nothing.
    """
    if outgoing.replaces and not outgoing.payload:
        raise MappingError("the steps replace the whole body and put nothing in its place")
    merged = outgoing.payload if outgoing.replaces else _merged(body, outgoing.payload)
    return merged if isinstance(merged, dict) else {}


def _merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        return under | {key: _merged(under[key], one) if key in under else one for key, one in over.items()}
    if isinstance(under, list) and isinstance(over, list):
        both = [a if b is None else _merged(a, b) for a, b in zip(under, over, strict=False)]
        return both + under[len(both) :] + over[len(both) :]
    return over


def with_query(url: str, query: str) -> str:
    """The URL with more query, after what it has of its own."""
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def outcome_of_status(answer: Answer) -> Outcome:
    """The rule for vendors without one of their own (api.md, section 2, Retry)."""
    verdict = _verdict(answer.status)
    retry_after_s = retry_after(answer.headers) if verdict is Verdict.RETRY else None
    return Outcome(verdict, answer.status, retry_after_s=retry_after_s)


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    if status in (401, 403):
        return Verdict.PAUSE
    return Verdict.DISABLE if status == 410 else Verdict.GIVE_UP


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for; a date counts from the answer's own Date (RFC 9110, 10.2.3).

    None where there is no such header, no Date to count from, or nothing that can be read.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    until, since = _http_date(value), _http_date(headers.get("date", ""))
    if until is None or since is None:
        return None
    return max((until - since).total_seconds(), 0.0)


def _http_date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
