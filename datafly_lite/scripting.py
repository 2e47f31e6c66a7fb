"""Users' JavaScript: `function process(event, context)` over an event (spec/datafly-signal.md, 4.5).

The event that process() returns goes on, null drops it. No return at all is taken for a forgotten one,
and is an error. A call has 50 ms of processor time, 8 MB and a realm of its own, so nothing of one event
is left for the next. There is no network, no file, no import and no timer. Time is given, in UTC, and so
is chance: the same arguments give the same result.

Numbers are JavaScript's: a script sees whole ones beyond 2**53 rounded, and what it computes with them, or
copies to another place, is. Where such a number comes back in its own place as the script was given it, the
event keeps the one it had; in a list only while the list is as long as it was.

Each purpose has an engine of its own, a process beside the server (scripting_process.py): what tries a
script, or sends late, keeps no event waiting. A call blocks: keep it off the event loop.

What is wrong with a script is a ScriptError. What keeps any script from running is ScriptEngineUnavailable,
which no `on_error` catches: whoever meets it comes again later.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import msgspec

from datafly_lite import scripting_wire as wire
from datafly_lite.errors import ScriptEngineUnavailable, ScriptError
from datafly_lite.scripting_process import Engine

LARGEST_SOURCE_BYTES = 64 * 1024
LARGEST_RESULT_BYTES = 256 * 1024
DEEPEST = 64
"""Levels of a result: what the gateway takes (settings: max_json_depth) fits in with room to spare."""

LONGEST_MESSAGE_CHARS = 500
LONGEST_CHECKS_S = 5.0
"""For all scripts of one save: each of them may take as long as a script may, and a new engine after it."""

LONG_NUMBER = re.compile(rb"[0-9]{16}")
"""Any whole number beyond 2**53 has as many digits."""

FRAME = re.compile(r"(?:(?P<function>\S+) \()?<input>:(?P<line>[0-9]{1,9})")

DATA_LAYER, DELIVERIES, TRIALS, CHECKS = Engine(), Engine(), Engine(), Engine()
"""Who asks: the processor, delivery, dry runs and traces, and whoever saves or loads a script."""

for _engine in (DATA_LAYER, DELIVERIES, TRIALS, CHECKS):
    atexit.register(_engine.close)

_asked: ContextVar[Engine] = ContextVar("asked", default=DELIVERIES)
_checked_until_s: ContextVar[float | None] = ContextVar("checked_until_s", default=None)


@contextlib.contextmanager
def asking(engine: Engine) -> Iterator[None]:
    """All that runs within, also in threads that are begun there, asks this engine."""
    before = _asked.set(engine)
    try:
        yield
    finally:
        _asked.reset(before)


@contextlib.contextmanager
def checking() -> Iterator[None]:
    """One save: each script that is compiled within must have been tried, all in LONGEST_CHECKS_S."""
    before = _checked_until_s.set(time.monotonic() + LONGEST_CHECKS_S)
    try:
        yield
    finally:
        _checked_until_s.reset(before)


class Script(msgspec.Struct, frozen=True):
    """JavaScript that was read once and has a function process."""

    code: str

    def run(
        self, event: dict[str, Any], context: dict[str, Any], *, seed: str, now_ms: int
    ) -> dict[str, Any] | None:
        """What process() makes of the event; None to drop it.

        Raises ScriptError and ScriptEngineUnavailable.
        """
        given = msgspec.json.encode(event)
        reply = _ask(
            _asked.get(),
            wire.RUN,
            self.code.encode(),
            _chance(seed, now_ms),
            given,
            msgspec.json.encode(context),
        )
        if reply[0] == wire.DROP:
            return None
        made = _decoded(reply[1])
        return _unrounded(event, made) if LONG_NUMBER.search(given) else made


def compile_script(code: str) -> Script:
    """Read the source, and run its top level once. Raises ScriptError with the line to look at.

    Within `checking`, raises ScriptEngineUnavailable where it cannot be tried. Elsewhere it was tried before,
    and whoever runs it learns whether it can be run now.
    """
    if "\0" in code:
        line = code[: code.index("\0")].count("\n") + 1
        raise ScriptError("the source holds a NUL character", line)
    try:
        source = code.encode()
    except UnicodeEncodeError as error:
        raise ScriptError(
            "the source holds half a surrogate pair", code[: error.start].count("\n") + 1
        ) from None
    if len(source) > LARGEST_SOURCE_BYTES:
        raise ScriptError(f"the source has {len(source):,} bytes; at most {LARGEST_SOURCE_BYTES:,} are taken")
    _try(source)
    return Script(code)


def _try(source: bytes) -> None:
    until_s = _checked_until_s.get()
    if until_s is not None and time.monotonic() > until_s:
        raise ScriptError(
            f"it was not tried: the scripts before it took {LONGEST_CHECKS_S:.0f} s; "
            "write fewer, or quicker ones"
        )
    try:
        _ask(CHECKS, wire.CHECK, source, _chance("", 0))
    except ScriptEngineUnavailable:
        if until_s is not None:
            raise


def _ask(engine: Engine, *parts: bytes) -> list[bytes]:
    """The engine's reply to one call; an error of the script's is raised as ScriptError."""
    reply = engine.ask(*parts)
    if reply[0] == wire.ERROR:
        raise _error(reply[1].decode(), reply[2].decode())
    return reply


def _chance(seed: str, now_ms: int) -> bytes:
    digest = hashlib.sha256(seed.encode(errors="replace")).digest()
    seeds = (int.from_bytes(digest[place : place + 4], "big", signed=True) for place in range(0, 16, 4))
    return json.dumps([now_ms, *seeds]).encode()


def _decoded(made: bytes) -> dict[str, Any]:
    if len(made) > LARGEST_RESULT_BYTES:
        raise ScriptError(f"process returned {len(made):,} bytes; at most {LARGEST_RESULT_BYTES:,} are taken")
    try:
        event = msgspec.json.decode(made, type=dict[str, Any])
    except RecursionError:
        event = None
    except msgspec.DecodeError:
        event = _mended(made)
    if event is None or _is_deeper(event, DEEPEST):
        raise ScriptError(f"process returned more than {DEEPEST} levels of objects and lists")
    return event


def _unrounded(given: Any, made: Any) -> Any:
    """What was made, with the whole numbers of what was given where it has what JavaScript made of them."""
    if isinstance(given, dict) and isinstance(made, dict):
        return {name: _unrounded(given.get(name), one) for name, one in made.items()}
    if isinstance(given, list) and isinstance(made, list) and len(given) == len(made):
        return [_unrounded(*pair) for pair in zip(given, made, strict=True)]
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) > 2**53:
        is_one = made is None or isinstance(made, int | float)
        return given if is_one and _double(made) == _double(given) else made
    return made


def _double(number: float | None) -> float | None:
    """What JavaScript knows of it; JSON has no infinity, and so null for what is too large."""
    try:
        return None if number is None else float(number)
    except OverflowError:
        return None


def _mended(made: bytes) -> dict[str, Any] | None:
    """JavaScript cuts a text inside an emoji and goes on; half of it becomes U+FFFD, as at the gateway."""
    try:
        text = json.dumps(json.loads(made), ensure_ascii=False)
    except RecursionError:
        return None
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return msgspec.json.decode(whole, type=dict[str, Any])


def _is_deeper(value: Any, levels: int) -> bool:
    row = [value]
    for _ in range(levels + 1):
        row = [item for one in row for item in (one.values() if isinstance(one, dict) else one)]
        row = [item for item in row if isinstance(item, dict | list)]
        if not row:
            return False
    return True


def _error(message: str, stack: str) -> ScriptError:
    frames = (found for found in FRAME.finditer(stack) if not (found["function"] or "").startswith("$df$"))
    first = next(frames, None)
    return ScriptError(message[:LONGEST_MESSAGE_CHARS], int(first["line"]) if first else None)
