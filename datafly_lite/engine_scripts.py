"""An event through `function process(event, context)`, and back into an event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from datafly_lite.engine_fields import KEPT, TIMES, check_time
from datafly_lite.errors import ScriptError, StepFailed
from datafly_lite.events import Event
from datafly_lite.paths import ATTRIBUTES
from datafly_lite.scripting import Script


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
    for name in TIMES:
        if made.get(name) != given.get(name):
            check_time(name, made.get(name))
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
