"""Users' JavaScript: `function process(event, context)` over an event (spec/datafly-signal.md, 4.5).

The event that process() returns goes on, null drops it. No return at all is taken for a forgotten one,
and is an error. A call has 50 ms of processor time, 8 MB and a realm of its own, so nothing of one event
is left for the next. There is no network, no file, no import and no timer. Time is given, in UTC, and so
is chance: the same arguments give the same result.

Numbers are JavaScript's: whole ones beyond 2**53 come back rounded, also where the script did not touch them.

The engine is a process beside the server (scripting_engine.py says why), started by the first script and
ended with the server; one call at a time, from any thread. A call blocks: keep it off the event loop.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from datafly_lite import scripting_wire as wire
from datafly_lite.errors import ScriptError

LARGEST_SOURCE_BYTES = 64 * 1024
LARGEST_RESULT_BYTES = 256 * 1024
DEEPEST = 64
"""Levels of a result: what the gateway takes (settings: max_json_depth) fits in with room to spare."""

LONGEST_MESSAGE_CHARS = 500
ANSWERED_WITHIN_S = 10.0
"""An engine that is silent for so long, though its own timer ends it much earlier, is stopped."""

START = "from datafly_lite.scripting_engine import serve; serve()"
FRAME = re.compile(r"(?:(?P<function>\S+) \()?<input>:(?P<line>[0-9]{1,9})")

CRASHES = {
    -signal.SIGPROF: wire.TOO_LONG,
    -signal.SIGSEGV: f"it crashed the engine: most likely {wire.TOO_MUCH}",
    -signal.SIGABRT: f"it crashed the engine: most likely {wire.TOO_MUCH}",
    -signal.SIGBUS: f"it crashed the engine: most likely {wire.TOO_MUCH}",
}
"""How the engine ended -> what its script did. Any other end is not the script's doing."""


class Script(msgspec.Struct, frozen=True):
    """JavaScript that was read once and has a function process."""

    code: str

    def run(
        self, event: dict[str, Any], context: dict[str, Any], *, seed: str, now_ms: int
    ) -> dict[str, Any] | None:
        """What process() makes of the event; None to drop it. Raises ScriptError."""
        reply = ENGINE.ask(
            wire.RUN,
            self.code.encode(),
            _chance(seed, now_ms),
            msgspec.json.encode(event),
            msgspec.json.encode(context),
        )
        return None if reply[0] == wire.DROP else _decoded(reply[1])


def compile_script(code: str) -> Script:
    """Read the source, and run its top level once. Raises ScriptError with the line to look at."""
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
    ENGINE.ask(wire.CHECK, source, _chance("", 0))
    return Script(code)


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


class Engine:
    """The process that runs scripts: started when it is first asked, and again after each end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def ask(self, *parts: bytes) -> list[bytes]:
        """The engine's reply to one call; an error of the script's is raised as ScriptError."""
        with self._lock:
            # A second try for what is no script's doing: somebody ended the process.
            reply = self._try(parts) or self._try(parts)
        if reply is None:
            raise ScriptError("the script engine was ended from outside: is the machine out of memory?")
        if reply[0] == wire.ERROR:
            raise _error(reply[1].decode(), reply[2].decode())
        return reply

    def close(self) -> None:
        """End the process. The next call starts another."""
        with self._lock:
            self._stop()

    def _try(self, parts: tuple[bytes, ...]) -> list[bytes] | None:
        """None where the process ended for no reason of the script's."""
        try:
            connection = self._started()
        except OSError as error:
            raise ScriptError(f"the script engine cannot be started: {error}") from None
        try:
            wire.send(connection, *parts)
            return wire.receive(connection)
        except (EOFError, OSError):
            ended = self._stop()
            return [wire.ERROR, CRASHES[ended].encode(), b""] if ended in CRASHES else None

    def _started(self) -> socket.socket:
        if self._connection is not None:
            return self._connection
        ours, theirs = socket.socketpair()
        with theirs:
            ours.settimeout(ANSWERED_WITHIN_S)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and words
                    [sys.executable, "-S", "-P", "-c", START],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                )
            except OSError:
                ours.close()
                raise
        self._connection = ours
        return ours

    def _stop(self) -> int | None:
        """How the process ended: Popen's return code."""
        if self._process is None or self._connection is None:
            return None
        self._connection.close()
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process = self._connection = None


def _environment() -> dict[str, str]:
    """Nothing of the server's: its secrets may stand there. UTC is the scripts' time zone everywhere."""
    places = [str(Path(__file__).parent.parent), *filter(None, sys.path)]
    return {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(places)}


def _error(message: str, stack: str) -> ScriptError:
    frames = (found for found in FRAME.finditer(stack) if not (found["function"] or "").startswith("$df$"))
    first = next(frames, None)
    return ScriptError(message[:LONGEST_MESSAGE_CHARS], int(first["line"]) if first else None)


ENGINE = Engine()
atexit.register(ENGINE.close)
