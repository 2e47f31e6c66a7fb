"""What an integration does to an event before its vendor does: the `steps` and `events` of a revision.

spec/datafly-signal.md, 4.3 and 4.4. Compiled once, run for each event; the same event, moment and
configuration give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from datafly_lite.engine_fields import (
    LARGEST_DRAFT_BYTES,
    Draft,
    Field,
    Moment,
    Problem,
    assign,
    check_size,
    fields_of,
)
from datafly_lite.engine_scripts import script_words
from datafly_lite.engine_steps import TYPES, AnyStep, CustomJs, OnError, StepRun, run_of
from datafly_lite.errors import AdminError, ScriptError, StepFailed
from datafly_lite.event_names import canonical, snake
from datafly_lite.events import Event
from datafly_lite.expressions_values import UNUSABLE, unusable

__all__ = ["Draft", "Engine", "Moment", "Ran", "compile_engine", "event_id"]

MOST_STEPS = 50
MOST_SECTIONS = 500
EVERY = "*"
"""The section of `events` that all others are layered over."""

TYPES_WITHOUT_NAMES = ("page", "screen", "identify", "group", "alias")
"""Types that a section is for as a whole."""

OBJECT_AT = re.compile(r"(?P<words>.*?)(?: - at `\$\.?(?P<at>[^`]*)`)?")
FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>[^`]*)`")

Ended = Literal["ok", "changed", "skip", "drop", "fail"]


class Ran(msgspec.Struct, frozen=True):
    """One step that ran. `name` is a word, such as `1_filter`; `detail` says why where it was not well."""

    name: str
    outcome: Ended
    detail: str = ""


class Step(NamedTuple):
    """A compiled step. `label` is for people: `step 2 (map, "Orders")`."""

    name: str
    label: str
    run: StepRun
    on_error: OnError
    is_script: bool = False


class Engine:
    """A revision's steps, in their order. `has_scripts`: a run may block for as long as scripts may take."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = tuple(steps)
        self.has_scripts = any(step.is_script for step in steps)

    def run(self, draft: Draft, moment: Moment, *, with_scripts: bool = True) -> Iterator[Ran]:
        """Run the steps on `draft`, in place, up to the first `drop` or `fail`.

        Without scripts it ends before the first step of JavaScript: what follows sees what that makes.
        Nested values are replaced, never changed: they may be shared with the log's copy.
        """
        for step in self._steps:
            if step.is_script and not with_scripts:
                return
            ran = _run(step, draft, moment)
            yield ran
            if ran.outcome in ("drop", "fail"):
                return


def _run(step: Step, draft: Draft, moment: Moment) -> Ran:
    own = Draft(msgspec.structs.replace(draft.event), draft.payload, draft.replaces)
    try:
        after = step.run(own, moment)
        is_same = after == draft
        if isinstance(after, Draft) and not is_same:
            check_size(_changed(draft, after), LARGEST_DRAFT_BYTES)
    except StepFailed as error:
        return Ran(step.name, step.on_error, f"{step.label}: {error}")
    except ScriptError as error:
        return Ran(step.name, step.on_error, f"{step.label}: {script_words(error)}")
    except UNUSABLE as error:
        return Ran(step.name, step.on_error, f"{step.label}: {unusable(error)}")
    if isinstance(after, str):
        return Ran(step.name, "drop", f"{step.label}: {after}")
    ran = Ran(step.name, "ok" if is_same else "changed")
    draft.event, draft.payload, draft.replaces = after.event, after.payload, after.replaces
    return ran


def _changed(before: Draft, after: Draft) -> list[Any]:
    """What of the draft is new, and so may be too large."""
    pairs = zip(msgspec.structs.astuple(before.event), msgspec.structs.astuple(after.event), strict=True)
    return [after.payload, *(new for old, new in pairs if new is not old)]


def compile_engine(
    steps: Sequence[Any], events: Mapping[str, Any], context: Mapping[str, Any] | None = None
) -> Engine:
    """Make ready what a revision says. `context` is what its scripts are told, beside `now`.

    Raises AdminError with a detail for each field that cannot be used: `steps[0].condition`.
    """
    problems: list[Problem] = []
    compiled: list[Step] = []
    for number, given in enumerate(steps):
        own: list[Problem] = []
        if (step := _read(given, own)) is not None:
            compiled.append(_compiled(step, number + 1, context or {}, own))
        problems += [(f"steps[{number}]{_below(field)}", message) for field, message in own]
    if len(steps) > MOST_STEPS:
        problems.append(("steps", f"has at most {MOST_STEPS} steps"))
    if events:
        compiled.append(Step("events", "events", _sections(events, problems), "fail"))
    if problems:
        details = [{"field": field, "message": message} for field, message in problems]
        raise AdminError("VALIDATION_ERROR", "the steps cannot be used", details=details)
    return Engine(compiled)


def _below(field: str) -> str:
    return f".{field}" if field else ""


def _compiled(step: AnyStep, number: int, context: Mapping[str, Any], problems: list[Problem]) -> Step:
    kind = str(step.__struct_config__.tag)
    name = f"{number}_{kind}"
    label = f'step {number} ({kind}, "{step.name}")' if step.name else f"step {number} ({kind})"
    run = run_of(step, name, context, problems)
    return Step(name, label, run, step.on_error, isinstance(step, CustomJs))


def _read(given: Any, problems: list[Problem]) -> AnyStep | None:
    if not isinstance(given, dict):
        problems.append(("", "must be an object"))
        return None
    if given.get("type") not in TYPES:
        problems.append(("type", f"must be one of {', '.join(TYPES)}"))
        return None
    try:
        step: AnyStep = msgspec.convert(given, AnyStep)
    except msgspec.ValidationError as error:
        problems.append(_words(str(error)))
        return None
    return step


def _words(message: str) -> Problem:
    """msgspec's words as a field and a message."""
    found = OBJECT_AT.fullmatch(message)
    words, at = (found["words"], found["at"] or "") if found else (message, "")
    field = FIELD.match(words)
    if field is None:
        return at, words
    what = "is required" if field["what"] == "missing required" else "is not a setting of this step"
    return field["name"], what


# ── Per-event parameters ─────────────────────────────────────────────────────────────────────


def event_id(event: Event) -> str:
    """The id that a section of `events` is known by: `order_completed`, `page`, `identify`…

    A track event that is named like a type has none: `track page`.
    """
    if event.type != "track":
        return event.type
    found = _id(event.event or "")
    return f"track {found}" if found in TYPES_WITHOUT_NAMES else found


def _id(name: str) -> str:
    """One id for all spellings of an event's name: `purchase` is `order_completed`."""
    return snake(canonical(name))


def _sections(events: Mapping[str, Any], problems: list[Problem]) -> StepRun:
    sections: dict[str, dict[str, Field] | None] = {}
    names: dict[str, str] = {}
    for name, given in events.items():
        key = name if name == EVERY else _id(name)
        if key in sections:
            problems.append((f'events["{name}"]', f'means the same event as "{names[key]}"'))
        names[key] = name
        sections[key] = _section(name, given, problems)
    if len(events) > MOST_SECTIONS:
        problems.append(("events", f"has at most {MOST_SECTIONS} sections"))
    return _layered(sections)


def _section(name: str, given: Any, problems: list[Problem]) -> dict[str, Field] | None:
    at = f'events["{name}"]'
    if given is False:
        return None
    if not isinstance(given, dict):
        problems.append((at, "must be an object of destination: expression, or false to send none"))
        return {}
    return fields_of(given, at, problems)


def _layered(sections: Mapping[str, dict[str, Field] | None]) -> StepRun:
    every = sections.get(EVERY, {})
    ready = {
        key: None if own is None else list({**(every or {}), **own}.values()) for key, own in sections.items()
    }
    default = ready.get(EVERY, [])

    def run(draft: Draft, moment: Moment) -> Draft | str:
        key = event_id(draft.event)
        fields = ready.get(key, default)
        if fields is None:
            return f"{key} is not sent"
        return assign(fields, "skip", draft, moment)

    return run
