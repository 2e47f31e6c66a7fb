"""The steps of a revision, one by one: what a user writes, and the function that it becomes.

A step takes a draft of its own and gives it back changed, or the reason why the event is dropped. Within
a step each field sees what those before it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from datafly_lite.clock import iso
from datafly_lite.errors import ExpressionError, ScriptError, StepFailed
from datafly_lite.events import Event
from datafly_lite.expressions import Expression, Scope, compile_expression
from datafly_lite.expressions_functions import to_boolean, to_number
from datafly_lite.expressions_values import rounded, text_of
from datafly_lite.paths import ATTRIBUTES, MISSING, Path, kind, parse, put, put_event, read, read_event
from datafly_lite.scripting import Script, compile_script

MOST_FIELDS = 200
KEPT = ("type", "messageId", "receivedAt")
"""What nothing may change of an event: its kind, its idempotency id, and when the product took it."""

OnError = Literal["skip", "drop", "fail"]
OnMissing = Literal["skip", "null", "drop", "fail"]
Kind = Literal["string", "number", "integer", "boolean", "array", "object"]


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


StepRun = Callable[[Draft, Moment], Draft | str]
"""A text is why the event is dropped. Raises StepFailed and ScriptError."""

Problem = tuple[str, str]
"""A field, as in `condition` or `mappings["user.id"]`, and what is wrong with it."""


# ── What a user writes ───────────────────────────────────────────────────────────────────────


class _Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    name: str = ""
    on_error: OnError = "fail"


class Filter(_Step, frozen=True, kw_only=True, tag="filter"):
    """Drops an event for which the condition is not true."""

    condition: str
    on_error: OnError = "skip"


class Map(_Step, frozen=True, kw_only=True, tag="map"):
    """destination -> expression."""

    mappings: dict[str, Any]
    on_missing: OnMissing = "skip"
    mode: Literal["merge", "replace"] = "merge"


class Transform(_Step, frozen=True, kw_only=True, tag="transform"):
    """path -> expression with `value`, what is there now."""

    fields: dict[str, Any]
    on_missing: OnMissing = "skip"


class Enrich(_Step, frozen=True, kw_only=True, tag="enrich"):
    """destination -> any JSON, as it is."""

    fields: dict[str, Any]


class Computed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expression whose value becomes the type."""

    expression: str
    type: Kind | None = None


class Compute(_Step, frozen=True, kw_only=True, tag="compute"):
    """destination -> expression, or `{expression, type}`."""

    fields: dict[str, Any]
    on_missing: OnMissing = "skip"


class CustomJs(_Step, frozen=True, kw_only=True, tag="custom_js"):
    """`function process(event, context)`."""

    code: str


AnyStep = Filter | Map | Transform | Enrich | Compute | CustomJs
TYPES = ("filter", "map", "transform", "enrich", "compute", "custom_js")


# ── Places and values ────────────────────────────────────────────────────────────────────────


class Destination(NamedTuple):
    """Where a value goes: into the event, or into the payload."""

    text: str
    path: Path
    is_event: bool

    def read(self, draft: Draft) -> Any:
        """What is there now, or MISSING."""
        return read_event(draft.event, self.path) if self.is_event else read(draft.payload, self.path)

    def put(self, draft: Draft, value: Any) -> None:
        """Raises StepFailed where it cannot be written."""
        if self.is_event:
            put_event(draft.event, self.path, value)
        else:
            draft.payload = put(draft.payload, self.path, value)


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


def fields_of(given: Mapping[str, Any], at: str, problems: list[Problem]) -> dict[str, Field]:
    """destination -> expression or `{expression, type}`."""
    found: dict[str, Field] = {}
    for text, value in given.items():
        try:
            found[text] = _field(text, value, has_value=False)
        except ExpressionError as error:
            problems.append(_problem(f'{at}["{text}"]', error))
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
    return Field(to, source(computed.expression), computed.type)


def _problem(field: str, error: ExpressionError) -> Problem:
    return field, f"at character {error.position}: {error}"


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


# ── Functions ────────────────────────────────────────────────────────────────────────────────


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


def run_of(step: AnyStep, name: str, context: Mapping[str, Any], problems: list[Problem]) -> StepRun:
    """What the step does. What cannot work is added to `problems`."""
    match step:
        case Filter():
            return _filter(step, problems)
        case Map():
            return _map(step, problems)
        case Transform():
            return _transform(step, problems)
        case Enrich():
            return _enrich(step, problems)
        case Compute():
            fields = list(fields_of(step.fields, "fields", problems).values())
            return lambda draft, moment: assign(fields, step.on_missing, draft, moment)
        case CustomJs():
            return _custom_js(step, name, context, problems)


def _nothing(draft: Draft, _: Moment) -> Draft:
    return draft


def _filter(step: Filter, problems: list[Problem]) -> StepRun:
    try:
        condition = source(step.condition)
    except ExpressionError as error:
        problems.append(_problem("condition", error))
        return _nothing
    return lambda draft, moment: (
        draft if condition.test(scope_of(draft, moment)) else "the condition is not true"
    )


def _map(step: Map, problems: list[Problem]) -> StepRun:
    problems += [
        (f'mappings["{text}"]', "must be text: an expression")
        for text, value in step.mappings.items()
        if isinstance(value, dict)
    ]
    fields = list(fields_of(step.mappings, "mappings", problems).values())

    def mapped(draft: Draft, moment: Moment) -> Draft | str:
        draft.replaces = draft.replaces or step.mode == "replace"
        return assign(fields, step.on_missing, draft, moment)

    return mapped


def _enrich(step: Enrich, problems: list[Problem]) -> StepRun:
    places: list[tuple[Destination, Any]] = []
    for text, value in step.fields.items():
        try:
            places.append((destination(text), value))
        except ExpressionError as error:
            problems.append(_problem(f'fields["{text}"]', error))

    def enriched(draft: Draft, _: Moment) -> Draft:
        for to, value in places:
            to.put(draft, value)
        return draft

    return enriched


def _transform(step: Transform, problems: list[Problem]) -> StepRun:
    fields: list[Field] = []
    for text, value in step.fields.items():
        try:
            fields.append(Field(destination(text), source(value, has_value=True)))
        except ExpressionError as error:
            problems.append(_problem(f'fields["{text}"]', error))

    def transformed(draft: Draft, moment: Moment) -> Draft | str:
        for field in fields:
            try:
                if (why := _transform_field(field, step.on_missing, draft, moment)) is not None:
                    return why
            except StepFailed as error:
                raise StepFailed(f"{field.to.text}: {error}") from None
        return draft

    return transformed


def _transform_field(field: Field, on_missing: OnMissing, draft: Draft, moment: Moment) -> str | None:
    value = field.to.read(draft)
    if value is not MISSING and value is not None:
        field.to.put(draft, field.source.evaluate(scope_of(draft, moment, value)))
    elif on_missing == "drop":
        return f"{field.to.text}: nothing is there"
    elif on_missing == "fail":
        raise StepFailed("nothing is there")
    elif on_missing == "null":
        field.to.put(draft, None)
    return None


# ── JavaScript ───────────────────────────────────────────────────────────────────────────────


def _custom_js(step: CustomJs, name: str, context: Mapping[str, Any], problems: list[Problem]) -> StepRun:
    try:
        script = compile_script(step.code)
    except ScriptError as error:
        problems.append(("code", script_words(error)))
        return _nothing

    def processed(draft: Draft, moment: Moment) -> Draft | str:
        about = {**context, "now": iso(moment.now_ms)}
        event = run_script(script, draft.event, about, seed=f"{moment.seed}/{name}", now_ms=moment.now_ms)
        if event is None:
            return "process returned null"
        draft.event = event
        return draft

    return processed


def script_words(error: ScriptError) -> str:
    """The message with the line, where there is one."""
    return f"line {error.line}: {error}" if error.line else str(error)


def run_script(
    script: Script, event: Event, context: Mapping[str, Any], *, seed: str, now_ms: int
) -> Event | None:
    """The event that process() gave back; None to drop it.

    Raises ScriptError, and StepFailed where it gave back no event, or changed what stays as it is.
    """
    objects: dict[str, Any] = {
        "properties": {},
        "traits": {},
        "context": {},
        "integrations": {},
        "vendorIds": {},
    }
    given = {**objects, **msgspec.to_builtins(event)}
    made = script.run(given, dict(context), seed=seed, now_ms=now_ms)
    if made is None:
        return None
    for name in _changed(given, made):
        raise StepFailed(name)
    try:
        return msgspec.convert(made, Event)
    except msgspec.ValidationError as error:
        raise StepFailed(f"process gave back no event: {error}") from None


def _changed(given: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for name in KEPT:
        if made.get(name) != given[name]:
            yield f"process changed {name}, which stays as it is"
    for name in made:
        if name not in ATTRIBUTES:
            yield f"process set {name}, which no event has: properties is for fields of one's own"
