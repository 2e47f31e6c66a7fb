"""Where the values of a revision's steps go, and where they come from.

A destination that begins with `event.` is the canonical event's; all others build the payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.events import Event
from datafly_lite.expressions import Expression, Scope, compile_expression
from datafly_lite.expressions_functions import to_boolean, to_number
from datafly_lite.expressions_values import rounded, text_of
from datafly_lite.paths import ATTRIBUTES, Path, kind, parse, put, put_event, read, read_event

MOST_FIELDS = 200
LARGEST_VALUE_BYTES = 256 * 1024
LARGEST_DRAFT_BYTES = 1024 * 1024
DEEPEST = 64
KEPT = ("type", "messageId", "receivedAt")
"""What nothing may change of an event: its kind, its idempotency id, and when the product took it."""

TIMES = ("timestamp", "originalTimestamp", "sentAt")
"""What vendors read as a time. What a client wrote there stays; what is written anew must be one."""

OnMissing = Literal["skip", "null", "drop", "fail"]
Kind = Literal["string", "number", "integer", "boolean", "array", "object"]

Problem = tuple[str, str]
"""A field, as in `condition` or `mappings["user.id"]`, and what is wrong with it."""


class Draft(msgspec.Struct):
    """An integration's own copy of the event, and the payload that its steps build.

    `replaces`: the payload is the whole body; else it is merged over the one that the vendor makes.
    """

    event: Event
    payload: dict[str, Any] = {}
    replaces: bool = False


class Moment(msgspec.Struct, frozen=True):
    """What stands for the clock and for chance: the same on every attempt and every replay of an event."""

    now_ms: int
    seed: str


class Destination(NamedTuple):
    """Where a value goes: into the event, or into the payload."""

    text: str
    path: Path
    is_event: bool

    def read(self, draft: Draft) -> Any:
        """What is there now, or MISSING."""
        return read_event(draft.event, self.path) if self.is_event else read(draft.payload, self.path)

    def put(self, draft: Draft, value: Any) -> None:
        """Raises StepFailed where it cannot be written, or is too large."""
        if isinstance(value, dict | list):
            check_size(value, LARGEST_VALUE_BYTES)
        if self.is_event:
            if self.path.parts[0] in TIMES and value != self.read(draft):
                check_time(str(self.path.parts[0]), value)
            put_event(draft.event, self.path, value)
        else:
            draft.payload = put(draft.payload, self.path, value)


class Computed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expression whose value becomes the type."""

    expression: str
    type: Kind | None = None


class Field(NamedTuple):
    """A destination, the value that goes there, and what the value must become."""

    to: Destination
    source: Expression
    type: Kind | None = None


def destination(text: str) -> Destination:
    """`event.properties.price` is the event's, all else the payload's. Raises ExpressionError."""
    path = parse(text)
    if text.startswith("payload."):
        raise ExpressionError("a field of the payload is written without payload. before it", 1)
    if not text.startswith("event."):
        if not isinstance(path.parts[0], str):
            raise ExpressionError("a payload is an object: begin with a name", 1)
        return Destination(text, path, False)
    below = path.below()
    root = str(below.parts[0])
    if root not in ATTRIBUTES:
        raise ExpressionError(f"an event has no field {root}; its own are below event.properties", 7)
    if root in KEPT:
        raise ExpressionError(f"{root} of an event stays as it is", 7)
    return Destination(text, Path(text, below.parts), True)


def source(text: Any, *, has_value: bool = False) -> Expression:
    """Raises ExpressionError; `value` is offered inside a transform only."""
    if not isinstance(text, str):
        raise ExpressionError("must be text: an expression such as event.userId, 'a text' or 5, in quotes", 1)
    expression = compile_expression(text)
    if "value" in expression.roots and not has_value:
        raise ExpressionError("value stands for something in a transform only", text.index("value") + 1)
    return expression


def fields_of(
    given: Mapping[str, Any], at: str, problems: list[Problem], *, has_value: bool = False
) -> dict[str, Field]:
    """destination -> expression or `{expression, type}`."""
    found: dict[str, Field] = {}
    for text, value in given.items():
        try:
            found[text] = _field(text, value, has_value=has_value)
        except ExpressionError as error:
            problems.append(problem_of(f'{at}["{text}"]', error))
    if len(given) > MOST_FIELDS:
        problems.append((at, f"has at most {MOST_FIELDS} fields"))
    return found


def _field(text: str, value: Any, *, has_value: bool) -> Field:
    to = destination(text)
    if not isinstance(value, dict):
        return Field(to, source(value, has_value=has_value))
    try:
        computed = msgspec.convert(value, Computed)
    except msgspec.ValidationError as error:
        raise ExpressionError(str(error), 1) from None
    return Field(to, source(computed.expression, has_value=has_value), computed.type)


def problem_of(field: str, error: ExpressionError) -> Problem:
    return field, f"at character {error.position}: {error}"


def check_time(name: str, value: Any) -> None:
    """Raise StepFailed for a text that is no time with its zone; of other kinds the event's type knows."""
    try:
        if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None:
            return
    except ValueError:
        pass
    raise StepFailed(f"{name} needs a time such as 2026-03-01T10:00:00Z, with its zone")


def check_size(value: dict[str, Any] | list[Any], most_bytes: int) -> None:
    """Raise StepFailed for more than about so many bytes of JSON, or nesting beyond DEEPEST.

    A payload can be copied into itself, and doubles each time: what is shared counts again, as it does in
    JSON, and the counting ends where it is too much.
    """
    row: list[Any] = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in row:
            values = one.values() if isinstance(one, dict) else one
            most_bytes -= 8 * len(one) + (sum(map(len, one)) if isinstance(one, dict) else 0)
            most_bytes -= sum([len(inner) for inner in values if isinstance(inner, str)])
            if most_bytes < 0:
                raise StepFailed("that would be too large to send")
            below += [inner for inner in values if isinstance(inner, dict | list)]
        if not below:
            return
        row = below
    raise StepFailed(f"that would be nested deeper than {DEEPEST}")


def converted(value: Any, wanted: Kind | None) -> Any:
    """The value as the type; NULL stays NULL. Raises StepFailed."""
    if value is None or wanted is None:
        return value
    match wanted:
        case "string":
            return text_of(value)
        case "number":
            return to_number(value)
        case "integer":
            return rounded(to_number(value), 0)
        case "boolean":
            return to_boolean(value)
        case _:
            if not isinstance(value, list if wanted == "array" else dict):
                raise StepFailed(f"an {wanted} is needed, not {kind(value)}")
            return value


def scope_of(draft: Draft, moment: Moment, value: Any = None) -> Scope:
    """What an expression of the step may look at."""
    return Scope(draft.event, draft.payload, value, moment.now_ms)


def assign(fields: list[Field], on_missing: OnMissing, draft: Draft, moment: Moment) -> Draft | str:
    """Put each value in its place."""
    for field in fields:
        try:
            value = converted(field.source.evaluate(scope_of(draft, moment)), field.type)
            if value is None and on_missing != "null":
                if on_missing == "drop":
                    return f"{field.to.text}: nothing is there"
                if on_missing == "fail":
                    raise StepFailed("nothing is there")
                continue
            field.to.put(draft, value)
        except StepFailed as error:
            raise StepFailed(f"{field.to.text}: {error}") from None
    return draft
