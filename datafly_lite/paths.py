"""Places in JSON, such as `events[0].params.value` or `properties["odd key"]`: read, written, taken away.

Nested values of an event are shared with the log's copy, so nothing is changed in place: what is
written comes back as a new document that shares all the rest with the old one.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final, NamedTuple

import msgspec

from datafly_lite.errors import ExpressionError, StepFailed
from datafly_lite.events import Event

DEEPEST = 32
KINDS: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
HIGHEST_INDEX = 999

PART = re.compile(
    r"""(?P<name>[\w$]+)|\[(?P<index>[0-9]{1,9})\]|\[(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')\]"""
)
NEXT = 'a path goes on with .name, [0] or ["odd key"], and a name has letters, digits, _ and $ only'


class Missing(enum.Enum):
    """Nothing is there, which is not the same as a null that is there."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class Path(NamedTuple):
    """Keys and list indexes, from the root on, and the text they were written as."""

    text: str
    parts: tuple[str | int, ...]

    def below(self) -> Path:
        """The same without its first part."""
        return Path(self.text, self.parts[1:])


def parse(text: str) -> Path:
    """`a.b[0]["c d"]`; a quote inside a quoted key is doubled. Raises ExpressionError with the position."""
    parts: list[str | int] = []
    at = 0
    while at < len(text) or not parts:
        at += 1 if parts and text[at] == "." and text[at + 1 : at + 2] != "[" else 0
        found = PART.match(text, at)
        if found is None or (found["name"] and parts and text[at - 1] != "."):
            raise ExpressionError(NEXT if text else "a path is needed, such as user.id", at + 1)
        parts.append(_part(found, at))
        at = found.end()
        if len(parts) > DEEPEST:
            raise ExpressionError(f"a path has at most {DEEPEST} parts", at)
    return Path(text, tuple(parts))


def _part(found: re.Match[str], at: int) -> str | int:
    if found["name"]:
        return found["name"]
    if found["quoted"]:
        quote = found["quoted"][0]
        return found["quoted"][1:-1].replace(quote * 2, quote)
    if int(found["index"]) > HIGHEST_INDEX:
        raise ExpressionError(f"an index is at most {HIGHEST_INDEX}", at + 2)
    return int(found["index"])


def kind(value: Any) -> str:
    """What a value is, in words for a message."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return next((word for one, word in KINDS.items() if isinstance(value, one)), "nothing")


# ── Any document ─────────────────────────────────────────────────────────────────────────────


def read(document: Any, path: Path) -> Any:
    """The value at the path, or MISSING."""
    found = document
    for part in path.parts:
        if isinstance(found, dict):
            found = found.get(part, MISSING)
        elif isinstance(found, list) and isinstance(part, int) and part < len(found):
            found = found[part]
        else:
            return MISSING
    return found


def put(document: Any, path: Path, value: Any) -> Any:
    """A document with the value there; objects and lists on the way are made, a list filled up with nulls.

    Raises StepFailed where something else is in the way: it would be lost.
    """
    return _put(document, path, 0, value)


def _put(node: Any, path: Path, depth: int, value: Any) -> Any:
    if depth == len(path.parts):
        return value
    part = path.parts[depth]
    if node is None:
        node = [] if isinstance(part, int) else {}
    if isinstance(part, str) and isinstance(node, dict):
        return {**node, part: _put(node.get(part), path, depth + 1, value)}
    if isinstance(part, int) and isinstance(node, list):
        items = [*node, *[None] * (part + 1 - len(node))]
        items[part] = _put(items[part], path, depth + 1, value)
        return items
    raise StepFailed(f"{path.text} cannot be written: {_words(path, depth)} is {kind(node)}")


def _words(path: Path, depth: int) -> str:
    """The first parts of the path as a person would write them."""
    parts = [f"[{one}]" if isinstance(one, int) else f".{one}" for one in path.parts[:depth]]
    return "".join(parts).removeprefix(".") or "the document"


def without(document: Any, path: Path) -> Any:
    """A document that has nothing at the path: the same one where there was nothing.

    What follows in a list moves up.
    """
    if not path.parts or read(document, path) is MISSING:
        return document
    part, rest = path.parts[0], path.below()
    if rest.parts:
        inner = without(document[part], rest)
        if isinstance(part, str):
            return {**document, part: inner}
        return [*document[:part], inner, *document[part + 1 :]]
    if isinstance(part, str):
        return {name: value for name, value in document.items() if name != part}
    return [*document[:part], *document[part + 1 :]]


# ── Events ───────────────────────────────────────────────────────────────────────────────────

FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Event)}
"""By the wire's name: `userId`, not `user_id`."""

FREE = {name for name, field in FIELDS.items() if field.type == FIELDS["properties"].type}
"""Fields with any keys and any values: there is nothing to check below them."""

ATTRIBUTES = {name: field.name for name, field in FIELDS.items()}


def read_event(event: Event, path: Path) -> Any:
    """The value at a path such as `properties.price`; MISSING too where a root field is not set."""
    attribute = ATTRIBUTES.get(str(path.parts[0]))
    found = None if attribute is None else getattr(event, attribute)
    return MISSING if found is None else read(found, path.below())


def put_event(event: Event, path: Path, value: Any) -> None:
    """Set what is at the path. Raises StepFailed where the event has no such field or another type."""
    field = _field(path)
    if len(path.parts) > 1:
        whole = _put(getattr(event, field.name), path, 1, value)
        if path.parts[0] in FREE:
            setattr(event, field.name, whole)
            return
    else:
        whole = value
    try:
        setattr(event, field.name, msgspec.convert(whole, field.type))
    except msgspec.ValidationError as error:
        raise StepFailed(f"{path.text} cannot be written: {error}") from None


def remove_event(event: Event, path: Path) -> None:
    """Take away what is at the path. Raises StepFailed for a root field that every event must have."""
    field = _field(path)
    if path.below().parts:
        setattr(event, field.name, without(getattr(event, field.name), path.below()))
    elif field.required:
        raise StepFailed(f"{path.text} cannot be taken away: every event has one")
    else:
        setattr(event, field.name, _default(field))


def _field(path: Path) -> msgspec.structs.FieldInfo:
    field = FIELDS.get(str(path.parts[0]))
    if field is None:
        raise StepFailed(f"an event has no field {path.parts[0]}")
    return field


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
