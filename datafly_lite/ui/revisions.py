"""The revisions of an integration as people read them: their steps, and what each of them changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.responses import Response

from datafly_lite.management.data_layer import check_expression as checked
from datafly_lite.ui.data_layer import pointer
from datafly_lite.ui.line_differences import Comparison
from datafly_lite.ui.steps_form import KEYS, as_text, is_simple
from datafly_lite.ui.steps_words import KINDS, without_parameters
from datafly_lite.ui.visit import Visit

SHOWN = 10
"""Of the newest: the API has all of them."""

INDENT = "    "


async def check_expression(visit: Visit) -> Response:
    """Whether a value can be read, while it is being typed; a pipeline parameter counts as a digit."""
    expression = without_parameters((await visit.form()).text("expression"))
    found = checked({"expression": expression})
    return visit.data({**found, "pointer": "" if found["valid"] else pointer(expression, found["position"])})


def history(revisions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Newest first, as the API lists them: each with what it changed of the one before it.

    It computes for a while: call it in a thread.
    """
    comparison = Comparison()
    shown = [readable(one["config"]) for one in revisions[: SHOWN + 1]]
    before = [*shown[1:], *shown[-1:]]
    told = zip(revisions[:SHOWN], shown, before, strict=False)
    return [{**one, "differences": comparison.differences(old, new)} for one, new, old in told]


def readable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with lines in the place of steps and per-event parameters."""
    steps, events = config.get("steps") or [], config.get("events") or {}
    own = {name: value for name, value in config.items() if name not in ("steps", "events")}
    if not is_simple(steps, events):  # it is older than the rules of today
        return {**own, "steps": as_text(steps).splitlines(), "events": as_text(events).splitlines()}
    return {**own, "steps": [*step_lines(steps)], "events": [*event_lines(events)]}


def step_lines(steps: Sequence[Any]) -> Iterator[str]:
    """`2. Map "Orders"`, and below it `user_id ← userId`."""
    for number, step in enumerate(steps, 1):
        kind, name = step["type"], step.get("name")
        yield f"{number}. {KINDS[kind].label}" + (f" “{name}”" if name else "")
        if kind in KEYS:
            yield from _field_lines(step[KEYS[kind]], is_json=kind == "enrich")
        else:
            text = step["condition" if kind == "filter" else "code"]
            yield from (f"{INDENT}{line}" for line in text.splitlines())
        for option in ("on_missing", "mode", "on_error"):
            if option in step:
                yield f"{INDENT}{option.replace('_', ' ')}: {step[option]}"


def event_lines(events: Mapping[str, Any]) -> Iterator[str]:
    """`purchase`, and below it `params.coupon ← properties.coupon`; `product_viewed is not sent`."""
    for name, fields in events.items():
        yield f"{name} is not sent" if fields is False else f"{name}"
        yield from _field_lines(fields or {})


def _field_lines(fields: Mapping[str, Any], *, is_json: bool = False) -> Iterator[str]:
    for to, value in fields.items():
        if is_json:
            text = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, dict):
            text = value["expression"] + (f" as {value['type']}" if value.get("type") else "")
        else:
            text = value
        first, *more = text.splitlines() or [""]
        yield f"{INDENT}{to} ← {first}"
        yield from (f"{INDENT * 2}{line}" for line in more)
