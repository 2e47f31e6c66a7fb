"""The organisation's rules for every event (spec/datafly-signal.md, 4.2 and 9.6).

A DataLayer is what a user writes and the API shows; Rules is the same made ready, with its expressions
and its script compiled once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from datafly_lite import bots, expressions, paths, pii, scripting
from datafly_lite.bots import BotFiltering
from datafly_lite.consent import ConsentSettings
from datafly_lite.errors import ExpressionError, ScriptEngineUnavailable, ScriptError, StepFailed
from datafly_lite.event_names import canonical
from datafly_lite.events import Event
from datafly_lite.expressions import Expression, Scope
from datafly_lite.paths import Path
from datafly_lite.pii import PiiRules
from datafly_lite.scripting import Script
from datafly_lite.sessions import SessionRules

MAX_RULES = 200
MAX_WINDOW_HOURS = 720

NO_EVENT = Event(type="track", message_id="", timestamp="", received_at="")
"""What a condition that looks at no event is tried on."""

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
    """Make ready what `problems` found nothing wrong with. Raises ExpressionError for a key's path."""
    script = data_layer.custom_js
    return Rules(
        data_layer=data_layer,
        data_layer_version=data_layer_version,
        consent=settings,
        consent_version=consent_version,
        routing=tuple((_condition(rule.condition), rule.action) for rule in data_layer.routing_rules),
        keys=tuple(
            (canonical(key.event), key.path, paths.parse(key.path)) for key in data_layer.deduplication.keys
        ),
        script=Script(script.code) if script.enabled else None,
    )


def _condition(text: str) -> Expression:
    """One that an older program took and this one refuses holds for no event, and says so of each."""
    try:
        return expressions.compile_expression(text)
    except ExpressionError as error:
        return Expression(text, frozenset(), _failing(f"{_at(error)}; mend it and save"))


def _failing(words: str) -> Callable[[Scope], Any]:
    def fail(_: Scope) -> Any:
        raise StepFailed(words)

    return fail


def problems(data_layer: DataLayer) -> Iterator[Problem]:
    """What a user must mend before it can be saved, each with its place inside a text.

    Trying the script blocks: call it off the event loop.
    """
    yield from ((f"pii_rules.{field}", message) for field, message in pii.problems(data_layer.pii_rules))
    yield from (
        (f"bot_filtering.{field}", message) for field, message in bots.problems(data_layer.bot_filtering)
    )
    for number, key in enumerate(data_layer.deduplication.keys):
        yield from ((f"deduplication.keys[{number}].path", one) for one in _key_problems(key.path))
    for number, rule in enumerate(data_layer.routing_rules):
        yield from (
            (f"routing_rules[{number}].condition", one) for one in _condition_problems(rule.condition)
        )
    yield from _script_problems(data_layer.custom_js)


def _key_problems(text: str) -> Iterator[str]:
    try:
        path = paths.parse(text)
    except ExpressionError as error:
        yield _at(error)
        return
    root, below = str(path.parts[0]), path.parts[1:]
    if root not in paths.ATTRIBUTES:
        yield f"an event has no field {root}; its own are below properties, as in properties.{text}"
    elif _is_object(root) and not below:
        yield f"{root} is an object: name the field below it that no two events may share"
    elif below and not _is_object(root):
        yield f"{root} of an event has nothing below it; write a path such as properties.order_id"


def _is_object(root: str) -> bool:
    """Whether fields lie below that root of every event."""
    return isinstance(getattr(NO_EVENT, paths.ATTRIBUTES[root]), dict)


def _condition_problems(text: str) -> Iterator[str]:
    try:
        condition = expressions.compile_expression(text)
    except ExpressionError as error:
        yield _at(error)
        return
    if absent := sorted(condition.roots & {"payload", "value"}):
        yield f"{absent[0]} stands for nothing in a routing rule: only an integration's steps have one"
    elif not condition.roots:
        try:
            condition.test(Scope(NO_EVENT))
        except StepFailed as error:
            yield f"it holds for no event: {error}"


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
