"""The process of its own in which users' JavaScript runs: quickjs-ng, and nothing to lose.

Why not inside the server. Measured with quickjs-ng 0.17.0.2: a script that fills objects up to a memory
limit ends some runs in SIGSEGV (likewise github.com/hmsk/quickjs.rb/issues/116, bellard/quickjs 529 and
533); loops inside the engine, such as `new Array(2**32 - 1).sort()`, never look at the time limit; and
the binding asks a thrown value for its text with the GIL held and no limit. Here each of them costs one
small process: the kernel ends it by a timer, and scripting_process.py starts another.

The binding counts time with clock(), the processor time of a whole process: here that is the script's.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable

import quickjs  # type: ignore[import-untyped]

from datafly_lite.scripting_wire import BEGUN, DROP, ERROR, RUN, TOO_LONG, TOO_MUCH, VALUE, receive, send

LONGEST_S = 0.05
"""Processor time for one call: the script's own top level, process() and all its promises."""
KILLED_AFTER_S = 0.25
"""Where the engine does not look at its limit, the kernel ends the process."""
MEMORY_BYTES = 8 * 1024 * 1024
STACK_BYTES = 512 * 1024
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024

TOO_MUCH_OR_NULL = f"{TOO_MUCH}, or threw null"
TOO_DEEP = "it calls itself too deeply"
NEVER = "the promise that process returned never settles: there are no timers and no I/O to wait for"
NO_PROCESS = "there is no function process: write function process(event, context) { return event; }"
NOTHING = "process returned nothing: return the event, or null to drop it"
NO_OBJECT = "process must return the event, or null to drop it: what it returned is no object"
UNSHOWN = "something was thrown that cannot be shown"

PRELUDE = r"""
(function $df$() {
  "use strict";
  const { parse, stringify } = JSON, { freeze } = Object, { construct } = Reflect, Plain = Date;
  let now = 0, a = 0, b = 0, c = 0, d = 1, state = "p", $kept;
  const Clock = globalThis.Date = Plain.prototype.constructor = new Proxy(Plain, {
    apply: function $df$() { return new Plain(now).toString(); },
    construct: function $df$(target, given, made) {
      return construct(target, given.length ? given : [now], made === Clock ? target : made);
    }
  });
  Plain.now = function $df$() { return now; };
  Math.random = function $df$() {
    const t = (a + b | 0) + d | 0;
    d = d + 1 | 0;
    a = b ^ b >>> 9;
    b = c + (c << 3) | 0;
    c = (c << 21 | c >>> 11) + t | 0;
    return (t >>> 0) / 4294967296;
  };
  delete globalThis.WeakRef;
  delete globalThis.FinalizationRegistry;
  delete globalThis.SharedArrayBuffer;
  delete globalThis.Atomics;
  return function $df$(what, first, second) {
    if (what === "start") {
      [now, a, b, c, d] = parse(first);
      performance = { now: () => 0, timeOrigin: now };
      return null;
    }
    if (what === "state") return state;
    if (what === "give")
      return first($kept, function $df$(settled, value) { state = settled; $kept = value; });
    try {
      if (what === "call") {
        $kept = process(parse(first), parse(second, function $df$(_, value) { return freeze(value); }));
        if ($kept && typeof $kept.then === "function") return "promise";
      }
      return $kept && typeof $kept === "object" ? stringify($kept) : $kept === null ? "null" : typeof $kept;
    } catch (thrown) {
      $kept = thrown;
      return "thrown";
    }
  };
})()
"""
"""Time and chance that are given, and the caller of process(). Its functions are called $df$, so that a
stack tells them from the user's. It is read anew for each call, and so says no more than it must. No text
is put together with `+`: the binding cannot take what the engine then makes of long ones (`Unknown quickjs
tag: -6`). The random numbers are sfc32 (Chris Doty-Humphrey, PractRand)."""

SETTLE = """
(function $df$(promise, put) {
  new Promise(function $df$(done) { done(promise); }).then(
    function $df$(value) { put("value", value); },
    function $df$(thrown) { put("thrown", thrown); });
})
"""
"""Hears what becomes of the promise that process() returned."""

SHOW = """
(function $df$(thrown) {
  const isError = thrown instanceof Error;
  const isPlain = typeof thrown === "object" && thrown !== null && !isError;
  const words = isPlain ? JSON.stringify(thrown) : thrown;
  return JSON.stringify([String(words), isError ? String(thrown.stack) : ""]);
})
"""
"""What was thrown, as `[words, stack]`. Run only where something was, under the same limits."""


class Failed(Exception):
    """A script's failure: a message for its author and, of JavaScript's own errors, the stack."""

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stack = stack


class Realm:
    """A JavaScript world for one call: nothing in it outlives the call."""

    def __init__(self) -> None:
        self._context = quickjs.Context()
        self._context.set_max_stack_size(STACK_BYTES)
        self._prelude = self._context.eval(PRELUDE)
        self._context.set_memory_limit(MEMORY_BYTES)
        self._deadline_s = 0.0

    def load(self, code: str, chance: str) -> None:
        """Run the script's top level. `chance` is a JSON list: now in milliseconds, and four seeds."""
        self._deadline_s = time.process_time() + LONGEST_S
        self._limited(self._prelude, "start", chance)
        self._limited(self._context.eval, code)
        if self._limited(self._context.eval, "typeof process") != "function":
            raise Failed(NO_PROCESS)

    def call(self, event: str, context: str) -> str | None:
        """What process() returned, as JSON; None for null."""
        said = self._limited(self._prelude, "call", event, context)
        if said == "promise":
            self._settle()
            said = self._limited(self._prelude, "look")
        if said == "thrown":
            raise self._shown()
        if isinstance(said, str) and said.startswith("{"):
            return said
        if said != "null":
            raise Failed(NOTHING if said == "undefined" else NO_OBJECT)
        return None

    def _settle(self) -> None:
        self._limited(self._prelude, "give", self._limited(self._context.eval, SETTLE))
        while (state := self._limited(self._prelude, "state")) == "p":
            if not self._limited(self._context.execute_pending_job):
                raise Failed(NEVER)
        if state == "thrown":
            raise self._shown()

    def _shown(self) -> Failed:
        """Raises Failed where showing it fails in its turn."""
        shown = self._limited(self._prelude, "give", self._limited(self._context.eval, SHOW))
        if not isinstance(shown, str):
            return Failed(UNSHOWN)
        words, stack = json.loads(shown)
        return _understood(words, stack)

    def _limited(self, function: Callable[..., object], *given: object) -> object:
        left_s = self._deadline_s - time.process_time()
        if left_s <= 0:
            raise Failed(TOO_LONG)
        self._context.set_time_limit(left_s)
        try:
            return function(*given)
        except quickjs.JSException as error:
            words, _, stack = str(error).partition("\n    at ")
            raise _understood(words, stack) from None


def _understood(words: str, stack: str) -> Failed:
    """The engine's own failures in our words: running out of memory has many of them."""
    words = words.strip()
    if words == "InternalError: interrupted":
        return Failed(TOO_LONG, stack)
    if "call stack size exceeded" in words or words.endswith(": stack overflow"):
        return Failed(TOO_DEEP, stack)
    if words == "null" or words.startswith(("[uninitialized]", "ReferenceError: $kept is not initialized")):
        return Failed(TOO_MUCH_OR_NULL, stack)
    if "out of memory" in words or words in ("InternalError: string too long", "InternalError\nundefined"):
        return Failed(TOO_MUCH, stack)
    return Failed(words, stack)


def _answer(realm: Realm, parts: list[bytes]) -> list[bytes]:
    what, code, chance, *given = parts
    try:
        realm.load(code.decode(), chance.decode())
        made = realm.call(*(one.decode() for one in given)) if what == RUN else None
        return [DROP] if made is None else [VALUE, made.encode()]
    except Failed as failed:
        return [ERROR, failed.message.encode(errors="replace"), failed.stack.encode(errors="replace")]
    except Exception as error:
        # The binding has more ends than it names: a text that it cannot take, memory that is not there.
        return [ERROR, f"the engine could not go on: {error}".encode(errors="replace"), b""]


def serve() -> None:
    """Answer until the server is gone. The next call's realm is made while nobody waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the server's to handle
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))
    connection = socket.socket(fileno=sys.stdin.fileno())
    with contextlib.suppress(EOFError, OSError):
        while True:
            realm = Realm()
            parts = receive(connection)
            send(connection, BEGUN)
            signal.setitimer(signal.ITIMER_PROF, KILLED_AFTER_S)
            reply = _answer(realm, parts)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(connection, *reply)
