"""The steps of a revision, one by one: what a user writes, and the function that it becomes.

A step takes a draft of its own and gives it back changed, or the reason why the event is dropped. Within
a step each field sees what those before it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from datafly_lite.clock import iso
from datafly_lite.engine_fields import (
    Destination,
    Draft,
    Field,
    Moment,
    OnMissing,
    Problem,
    assign,
    converted,
    destination,
    fields_of,
    problem_of,
    scope_of,
    source,
)
from datafly_lite.engine_scripts import run_script, script_words
from datafly_lite.errors import ExpressionError, ScriptError, StepFailed
from datafly_lite.paths import MISSING
from datafly_lite.scripting import compile_script

OnError = Literal["skip", "drop", "fail"]

StepRun = Callable[[Draft, Moment], Draft | str]
"""A text is why the event is dropped. Raises StepFailed and ScriptError."""


# ── What a user writes ───────────────────────────────────────────────────────────────────────


class _Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
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
    """path -> expression with `value`, what is there now, and stays where NULL is skipped."""

    fields: dict[str, Any]
    on_missing: OnMissing = "skip"


class Enrich(_Step, frozen=True, kw_only=True, tag="enrich"):
    """destination -> any JSON, as it is."""

    fields: dict[str, Any]


class Compute(_Step, frozen=True, kw_only=True, tag="compute"):
    """destination -> expression, or `{expression, type}`, which a map and a transform take as well."""

    fields: dict[str, Any]
    on_missing: OnMissing = "skip"


class CustomJs(_Step, frozen=True, kw_only=True, tag="custom_js"):
    """`function process(event, context)`."""

    code: str


AnyStep = Filter | Map | Transform | Enrich | Compute | CustomJs
TYPES = ("filter", "map", "transform", "enrich", "compute", "custom_js")


# ── Functions ────────────────────────────────────────────────────────────────────────────────


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
        problems.append(problem_of("condition", error))
        return _nothing
    return lambda draft, moment: (
        draft if condition.test(scope_of(draft, moment)) else "the condition is not true"
    )


def _map(step: Map, problems: list[Problem]) -> StepRun:
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
            problems.append(problem_of(f'fields["{text}"]', error))

    def enriched(draft: Draft, _: Moment) -> Draft:
        for to, value in places:
            to.put(draft, value)
        return draft

    return enriched


def _transform(step: Transform, problems: list[Problem]) -> StepRun:
    fields = fields_of(step.fields, "fields", problems, has_value=True).values()

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
    value, found = field.to.read(draft), None
    if value is not MISSING and value is not None:
        found = converted(field.source.evaluate(scope_of(draft, moment, value)), field.type)
    if found is not None:
        field.to.put(draft, found)
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
