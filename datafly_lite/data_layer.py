"""The organisation's rules for every event (spec/datafly-signal.md, 4.2 and 9.6).

A DataLayer is what a user writes and the API shows; Rules is the same made ready, with its expressions
and its script compiled once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from datafly_lite import bots, expressions, paths, pii, scripting
from datafly_lite.bots import BotFiltering
from datafly_lite.consent import ConsentSettings
from datafly_lite.errors import ExpressionError, ScriptEngineUnavailable, ScriptError
from datafly_lite.event_names import canonical
from datafly_lite.events import Event
from datafly_lite.expressions import Expression
from datafly_lite.paths import Path
from datafly_lite.pii import PiiRules
from datafly_lite.scripting import Script
from datafly_lite.sessions import SessionRules

MAX_RULES = 200
MAX_WINDOW_HOURS = 720

Problem = tuple[str, str]
"""A field, as in `routing_rules[2].condition`, and what is wrong with it."""


class IdempotencyKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that two events of one name may not share, such as the order's id of two purchases.

    `event` is known in any of its spellings (event_names.py); `path` is dotted.
    """

    event: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Deduplication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drops an event whose idempotency key was seen within the window: its own `context.idempotencyKey`, and
    the values that `keys` name. The same messageId is known at the door already.
    """

    enabled: bool = True
    window_hours: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW_HOURS)] = 24
    keys: Annotated[tuple[IdempotencyKey, ...], msgspec.Meta(max_length=50)] = ()


class CustomJs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`function process(event, context)`, once an event. An event that it fails on goes to dlq-events
    (`fail`), or goes on as it was (`skip`).
    """

    enabled: bool = False
    code: Annotated[str, msgspec.Meta(max_length=65_536)] = ""
    description: Annotated[str, msgspec.Meta(max_length=1_000)] = ""
    on_error: Literal["fail", "skip"] = "fail"


class RoutingRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first rule whose condition holds decides: `drop` ends the event's way, `pass` ends the asking."""

    condition: Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
    action: Literal["drop", "pass"]


class DataLayer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it; what is left out has its default."""

    pii_rules: PiiRules = PiiRules()
    bot_filtering: BotFiltering = BotFiltering()
    session: SessionRules = SessionRules()
    deduplication: Deduplication = Deduplication()
    custom_js: CustomJs = CustomJs()
    routing_rules: Annotated[tuple[RoutingRule, ...], msgspec.Meta(max_length=MAX_RULES)] = ()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """A data layer and consent settings, ready to run. Version 0 is the program's defaults."""

    data_layer: DataLayer = DataLayer()
    data_layer_version: int = 0
    consent: ConsentSettings = ConsentSettings()
    consent_version: int = 0
    routing: tuple[tuple[Expression, str], ...] = ()
    keys: tuple[tuple[str, str, Path], ...] = ()
    """(the event's canonical name, the path as it was written, the path)."""
    script: Script | None = None

    def idempotency_keys(self, event: Event, pipeline_id: str) -> list[bytes]:
        """Digests of what no other event of the pipeline may repeat within the window."""
        if not self.data_layer.deduplication.enabled:
            return []
        own = event.context.get("idempotencyKey")
        values = [("", "", own)] if own is not None else []
        if self.keys:
            name = canonical(event.event or event.type)
            values += [
                (name, text, paths.read_event(event, path))
                for wanted, text, path in self.keys
                if wanted == name
            ]
        return [_digest(pipeline_id, *one) for one in values if _can_be_key(one[2])]


def _can_be_key(value: object) -> bool:
    """Text and numbers; an empty text is no key."""
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""


def compiled(
    data_layer: DataLayer, data_layer_version: int, settings: ConsentSettings, consent_version: int
) -> Rules:
    """Make ready what `problems` found nothing wrong with. Raises ExpressionError."""
    script = data_layer.custom_js
    return Rules(
        data_layer=data_layer,
        data_layer_version=data_layer_version,
        consent=settings,
        consent_version=consent_version,
        routing=tuple(
            (expressions.compile_expression(rule.condition), rule.action) for rule in data_layer.routing_rules
        ),
        keys=tuple(
            (canonical(key.event), key.path, paths.parse(key.path)) for key in data_layer.deduplication.keys
        ),
        script=Script(script.code) if script.enabled else None,
    )


def problems(data_layer: DataLayer) -> Iterator[Problem]:
    """What a user must mend before it can be saved, each with its place inside a text.

    Trying the script blocks: call it off the event loop.
    """
    yield from ((f"pii_rules.{field}", message) for field, message in pii.problems(data_layer.pii_rules))
    yield from (
        (f"bot_filtering.{field}", message) for field, message in bots.problems(data_layer.bot_filtering)
    )
    for number, key in enumerate(data_layer.deduplication.keys):
        try:
            paths.parse(key.path)
        except ExpressionError as error:
            yield f"deduplication.keys[{number}].path", _at(error)
    for number, rule in enumerate(data_layer.routing_rules):
        try:
            expressions.compile_expression(rule.condition)
        except ExpressionError as error:
            yield f"routing_rules[{number}].condition", _at(error)
    yield from _script_problems(data_layer.custom_js)


def _script_problems(custom_js: CustomJs) -> Iterator[Problem]:
    if not custom_js.code.strip():
        if custom_js.enabled:
            yield "custom_js.code", "is required while the script is enabled"
        return
    try:
        with scripting.checking():
            scripting.compile_script(custom_js.code)
    except ScriptEngineUnavailable as error:
        yield "custom_js.code", str(error)
    except ScriptError as error:
        yield "custom_js.code", f"{error}, in line {error.line:,}" if error.line else str(error)


def _at(error: ExpressionError) -> str:
    return f"{error}, at character {error.position:,}"


def _digest(pipeline_id: str, name: str, path: str, value: object) -> bytes:
    text = msgspec.json.encode([pipeline_id, name, path, value])
    return hashlib.blake2b(text, digest_size=16).digest()
