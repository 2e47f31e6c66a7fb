"""Values at and below a place in an event: changed or taken away in one walk, however many there are.

What is changed comes back as a new value that shares all the rest with the old one, because nested values are
shared with the log's copy.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from datafly_lite.errors import ExpressionError
from datafly_lite.paths import parse

EVERY = "[*]"
PLAIN_NAME = re.compile(r"[\w$]+")


class Mark(enum.Enum):
    """What stands in a path, or comes back, where no value does."""

    ALL = "each item of a list"
    GONE = "taken away"


ALL: Final = Mark.ALL
GONE: Final = Mark.GONE

Part = str | int | Mark
Change = Callable[[Any, str], Any]
"""(a text or a number, the name of its field) -> what it becomes; the same object where it stays."""


@lru_cache(maxsize=4096)
def parts_of(text: str) -> tuple[Part, ...]:
    """`a.b[*].c` as its parts. Empty for what is no path: `pii.problems` tells the user."""
    try:
        parts: list[Part] = list(parse(text.replace(EVERY, "[0]")).parts)
        before = text.split(EVERY)[:-1]
        for number in range(len(before)):
            parts[len(parse("[0]".join(before[: number + 1])).parts)] = ALL
    except ExpressionError:
        return ()
    return tuple(parts)


class Walk:
    """One walk through an event. `changed` are the paths of what is no longer the same."""

    def __init__(self, change: Change | None) -> None:
        """Without `change` what the path leads to is taken away."""
        self.changed: list[str] = []
        self._change = change
        self._trail: list[str | int] = []

    def at(self, value: Any, parts: tuple[Part, ...], name: str, depth: int = 1) -> Any:
        """The value, which stands at the first `depth` parts, with a change where they all lead; GONE where
        they lead to itself. `name` is that of the nearest field.
        """
        if depth == 1:
            self._trail = [name]
        if depth == len(parts):
            return self._end(value, name)
        part = parts[depth]
        if part is ALL:
            return self._items(value, parts, name, depth)
        if isinstance(value, dict) and part in value:
            return self._field(value, parts, str(part), depth)
        if isinstance(value, list) and isinstance(part, int) and part < len(value):
            made = self._step(value[part], parts, name, depth, part)
            if made is value[part]:
                return value
            return [*value[:part], *([] if made is GONE else [made]), *value[part + 1 :]]
        return value

    def _field(self, value: dict[str, Any], parts: tuple[Part, ...], name: str, depth: int) -> Any:
        made = self._step(value[name], parts, name, depth, name)
        if made is value[name]:
            return value
        if made is GONE:
            return {key: one for key, one in value.items() if key != name}
        return {**value, name: made}

    def _items(self, value: Any, parts: tuple[Part, ...], name: str, depth: int) -> Any:
        if not isinstance(value, list):
            return value
        items = [self._step(one, parts, name, depth, index) for index, one in enumerate(value)]
        if all(map(_is_same, items, value)):
            return value
        return [one for one in items if one is not GONE]

    def _step(self, value: Any, parts: tuple[Part, ...], name: str, depth: int, place: str | int) -> Any:
        self._trail.append(place)
        made = self.at(value, parts, name, depth + 1)
        self._trail.pop()
        return made

    def _end(self, value: Any, name: str) -> Any:
        if self._change is not None:
            return self.through(value, name)
        if value == {}:
            return value
        self._note()
        return GONE

    def all_of(self, value: Any, name: str) -> Any:
        """The value of a root field with each text, number and key in it changed."""
        self._trail = [name]
        return self.through(value, name, with_keys=True)

    def through(self, value: Any, name: str, *, with_keys: bool = False) -> Any:
        """The value with each text and number in it changed; with keys, those of objects too."""
        if isinstance(value, dict):
            return self._object(value, with_keys)
        if isinstance(value, list):
            items = [self._inner(one, name, index, with_keys) for index, one in enumerate(value)]
            return value if all(map(_is_same, items, value)) else items
        if value is None or value is True or value is False or self._change is None:
            return value
        made = self._change(value, name)
        if made is value or made == value:
            return value
        self._note()
        return made

    def _object(self, value: dict[str, Any], with_keys: bool) -> dict[str, Any]:
        made: dict[str, Any] = {}
        is_same = True
        for key, one in value.items():
            # A key is mostly a word: only what cannot be one is looked at.
            own = key
            if with_keys and ("@" in key or "%" in key or not key[:1].isalpha()):
                own = self._key(key, {**value, **made})
            inner = one if one is None else self._inner(one, key, own, with_keys)
            made[own] = inner
            is_same = is_same and inner is one and own is key
        return value if is_same else made

    def _key(self, key: str, taken: dict[str, Any]) -> str:
        """What a key becomes; a number tells two that become the same apart."""
        plain = key if self._change is None else self._change(key, "")
        if plain == key:
            return key
        own, number = plain, 2
        while own in taken:
            own, number = f"{plain} {number}", number + 1
        self._note(own)
        return str(own)

    def _inner(self, value: Any, name: str, place: str | int, with_keys: bool) -> Any:
        self._trail.append(place)
        made = self.through(value, name, with_keys=with_keys)
        self._trail.pop()
        return made

    def _note(self, *more: str) -> None:
        trail = [*self._trail, *more]
        self.changed.append(f"{trail[0]}{''.join(map(_shown, trail[1:]))}")


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def _shown(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if PLAIN_NAME.fullmatch(part) else f"[{json.dumps(part)}]"
