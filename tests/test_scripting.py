"""Users' JavaScript: what process() may return, its bounds, its failures by line, and nothing left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.errors import ScriptError
from datafly_lite.scripting import DELIVERIES, LARGEST_SOURCE_BYTES, Script, compile_script

NOW_MS = 1_772_029_800_000
EVENT: dict[str, Any] = {"type": "track", "event": "purchase", "properties": {"total": 5}}


def run(
    code: str, event: Any = EVENT, *, context: Any = None, seed: str = "m-1", now_ms: int = NOW_MS
) -> Any:
    return compile_script(code).run(event, context or {}, seed=seed, now_ms=now_ms)


def result_of(body: str, **given: Any) -> Any:
    """What `event.out` is after the body ran."""
    return run(f"function process(event, context) {{ {body}; return event }}", **given)["out"]


def failure_of(code: str) -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        run(code)
    return caught.value


def failure_in(body: str) -> ScriptError:
    """The body stands on line 2."""
    return failure_of(f"function process(event, context) {{\n{body}\nreturn event }}")


def assert_works() -> None:
    assert result_of("event.out = event.properties.total + 1") == 6


def test_an_event_goes_through_changed_and_the_callers_stays_as_it_was() -> None:
    event = {"type": "track", "properties": {"total": 5, "list": [1]}}
    made = run("function process(event) { event.properties.list.push(2); return event }", event)
    assert made == {"type": "track", "properties": {"total": 5, "list": [1, 2]}}
    assert event == {"type": "track", "properties": {"total": 5, "list": [1]}}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**53, 2**64)
    | st.just(10**400)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_whatever_an_event_holds_comes_back_as_it_went(event: dict[str, Any]) -> None:
    assert Script("function process(event) { return event }").run(event, event, seed="", now_ms=0) == event


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("event.n = 5", {"id": 2**53 + 1, "items": [{"id": -(2**63)}, 2**60 + 1]}),
        (
            "event.items.push(1)",
            {"id": 2**53 + 1, "items": [{"id": -9_223_372_036_854_776_000}, 1_152_921_504_606_847_000, 1]},
        ),
        ("event.copy = event.id", {"copy": 2**53}),
        ("event.id += 2", {"id": 2**53 + 2}),
        ("event.id = 0", {"id": 0}),
        ("event.id = null", {"id": None}),
        ("event.id = String(event.id)", {"id": str(2**53)}),
        ("event.items = {id: event.items[0].id}", {"items": {"id": -9_223_372_036_854_776_000}}),
    ],
)
def test_a_whole_number_that_no_double_holds_stays_where_it_is_not_touched(body: str, made: Any) -> None:
    # What is rounded has as many digits as ECMA-262 writes of a Number (6.1.6.1.20), then zeros.
    event = {"id": 2**53 + 1, "items": [{"id": -(2**63)}, 2**60 + 1]}
    after = run(f"function process(event) {{ {body}; return event }}", event)
    assert {name: after[name] for name in made} == made


def test_null_drops_the_event_and_no_return_is_an_error() -> None:
    assert run("function process(event) { return null }") is None
    assert str(failure_in("return")) == "process returned nothing: return the event, or null to drop it"


@pytest.mark.parametrize(
    "value", ["5", "'text'", "true", "[event]", "() => event", "Symbol()", "{toJSON() {}}"]
)
def test_what_is_no_object_is_no_event(value: str) -> None:
    assert "what it returned is no object" in str(failure_in(f"return ({value})"))


def test_an_async_process_is_waited_for() -> None:
    assert run("async function process(event) { event.n = await Promise.resolve(7); return event }")["n"] == 7
    assert run("const process = async () => { await 0; return null }") is None
    assert str(failure_of("const process = async () => { await 0 }")).startswith("process returned nothing")
    late = failure_of("async function process(event) {\n await 0;\n throw new RangeError('late') }")
    assert (str(late), late.line) == ("RangeError: late", 3)
    assert "never settles" in str(failure_in("return new Promise(() => {})"))


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("function process(event) {\n  let x = ;\n}", "SyntaxError", 2),
        ("\n\nthrow new TypeError('top')", "TypeError: top", 3),
        ("function other() {}", "there is no function process", None),
        ("let process = 5", "there is no function process", None),
        ("", "there is no function process", None),
        ("let a\n// \0", "NUL", 2),
        ("// \ud800", "surrogate", 1),
        ("x" * (LARGEST_SOURCE_BYTES + 1), "65,537 bytes", None),
        ("for (;;);", "50 ms", 1),
        ("[" * 60_000, "too deeply", None),
        ("import x from 'os'\nfunction process() {}", "SyntaxError", 1),
    ],
)
def test_source_that_cannot_be_used_is_refused_with_its_line(
    code: str, message: str, line: int | None
) -> None:
    with pytest.raises(ScriptError, match=message) as caught:
        compile_script(code)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("event.properties.a.b", "TypeError: cannot read property 'b' of undefined"),
        ("throw new Error('mine')", "Error: mine"),
        ("(function f() { f() })()", "it calls itself too deeply"),
        ("return {get a() { throw new Error('got') }}", "Error: got"),
        ("return new Proxy(event, {ownKeys() { throw new Error('keys') }})", "Error: keys"),
        ("new Date(Symbol())", "TypeError: cannot convert symbol to number"),
        ("/(a+)+$/.test('a'.repeat(40) + 'b')", "it took more than 50 ms"),
        ("return {get a() { for (;;); }}", "it took more than 50 ms"),
        ("new Uint8Array(2 ** 30)", "it used more than 8 MB of memory"),
        ("setTimeout(() => 1)", "ReferenceError: setTimeout is not defined"),
    ],
)
def test_a_failure_says_what_and_on_which_line(body: str, message: str) -> None:
    error = failure_in(body)
    assert (str(error), error.line) == (message, 2)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("throw 5", "5"),
        ("throw undefined", "undefined"),
        ("throw {code: 'E1'}", '{"code":"E1"}'),
        ("throw Symbol('s')", "Symbol(s)"),
        ("throw 'x'.repeat(100_000)", "x" * 500),
        ("event.self = event", "TypeError: circular reference"),
        ("event.big = 10n", "TypeError: BigInt are forbidden in JSON.stringify"),
        ("return {a: 'x'.repeat(262_144)}", "process returned 262,152 bytes; at most 262,144 are taken"),
        ("let o = event; for (let i = 0; i < 70; i++) o = o.a = {}", "process returned more than 64 levels"),
    ],
)
def test_whatever_is_thrown_or_returned_has_words(body: str, message: str) -> None:
    assert str(failure_in(body)).startswith(message)


HOSTILE = [
    "for (;;);",
    "for (;;) { try { null.x } catch {} }",
    "try { for (;;); } finally { for (;;); }",
    "let s = 'a'; for (;;) s += s",
    "const a = []; for (;;) a.push('x'.repeat(1000) + a.length)",
    "const a = []; for (;;) a.push({x: 1, y: 2, z: 3})",
    "const o = {}; for (let i = 0; ; i++) o['k' + i] = i",
    "const a = []; for (;;) a.push(new Uint8Array(1000))",
    "let a = null; for (;;) a = {a}",
    "(function f() { try { f() } catch { f() } })()",
    "return (async () => { for (;;) await null })()",
    "return {then(done) { for (;;); }}",
    "throw {toJSON() { for (;;); }}",
    "throw Object.defineProperty(new Error(), 'message', {get() { for (;;); }})",
    "return new Proxy(event, {ownKeys() { for (;;); }})",
    "Error.prepareStackTrace = () => { for (;;); }; null.x",
    "let o = event; for (let i = 0; i < 100_000; i++) o = o.a = {}",
    "return JSON.parse('['.repeat(100_000))",
    # the engine never looks at its limit here: the kernel's timer ends the process
    "new Array(2 ** 32 - 1).sort()",
    "[].reverse.call({length: 2 ** 53 - 1})",
    "InternalError.prototype.toString = Error.prototype.toString = () => { for (;;); }; for (;;);",
]


@pytest.mark.parametrize("body", HOSTILE)
def test_no_script_hurts_the_server_or_the_next_call(body: str) -> None:
    failure_in(body)
    assert_works()


@pytest.mark.parametrize("catch", ["", "catch (error) { return {message: String(error)} }"])
@pytest.mark.parametrize(
    "hog",
    [
        "const o = {}; for (let i = 0; ; i++) o['k' + i] = i",
        "const m = new Map(); for (let i = 0; ; i++) m.set({}, i)",
        "const a = []; for (let i = 0; ; i++) a.push(() => a + i)",
        "const a = []; for (;;) { try { a.push(new Error()); null.x } catch (e) { a.push(e) } }",
    ],
)
def test_out_of_memory_is_said_in_words_however_the_engine_meets_it(hog: str, catch: str) -> None:
    for pad in range(0, 200_000, 39_973):
        body = f"const pad = new Uint8Array({pad}); try {{ {hog} }} {catch or 'finally {}'}"
        words = outcome_of(f"function process(event) {{ {body} }}")
        assert any(one in words for one in ("8 MB", "50 ms", "crashed the engine", "caught")), words


def outcome_of(code: str) -> str:
    """The failure's words, or `caught` where the script itself met it."""
    try:
        run(code)
    except ScriptError as error:
        return str(error)
    return "caught"


def test_what_a_script_changes_in_its_world_is_gone_with_the_call() -> None:
    script = compile_script(
        """
        var count = 0; const seen = new Map();
        function process(event) {
          globalThis.calls = (globalThis.calls || 0) + 1; count += 1; process.n = (process.n || 0) + 1;
          Array.prototype.calls = (Array.prototype.calls || 0) + 1; seen.set(seen.size, 1);
          event.out = [calls, count, process.n, [].calls, seen.size];
          JSON.parse = JSON.stringify = Object.freeze = null;
          return event;
        }"""
    )
    made = [script.run({}, {}, seed="s", now_ms=1) for _ in range(3)]
    assert made == [{"out": [1, 1, 1, 1, 1]}] * 3


def test_the_context_can_be_read_and_not_changed() -> None:
    context = {"org": {"name": "Shop", "list": [{"a": 1}]}}
    assert result_of("event.out = context.org.list[0].a", context=context) == 1
    assert result_of("context.org.name = 'x'; context.n = 1; event.out = context", context=context) == context
    body = "function process(event, context) {\n'use strict';\ncontext.org.list.push(2)\n}"
    with pytest.raises(ScriptError, match="TypeError"):
        run(body, context=context)


def test_time_is_what_is_given_in_utc_whatever_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    DELIVERIES.close()
    body = """event.out = [new Date(), Date(), Date.now(), new Date(2026, 0, 1),
        new Date().getTimezoneOffset(), new Date(5).getTime(), Date.UTC(1970),
        new (class extends Date {})().getTime(),
        new Date() instanceof Date, new Date().constructor === Date, performance.timeOrigin]"""
    assert result_of(body) == [
        "2026-02-25T14:30:00.000Z",
        "Wed Feb 25 2026 14:30:00 GMT+0000",
        NOW_MS,
        "2026-01-01T00:00:00.000Z",
        0,
        5,
        0,
        NOW_MS,
        True,
        True,
        NOW_MS,
    ]


def test_chance_is_the_seeds() -> None:
    body = "event.out = [0, 1, 2, 3].map(Math.random)"
    first = result_of(body, seed="a")
    assert first == result_of(body, seed="a") != result_of(body, seed="b")
    assert len(set(first)) == 4
    assert all(0 <= one < 1 for one in first)


def test_nothing_reaches_outside() -> None:
    names = (
        "std os bjson require module exports fetch XMLHttpRequest setTimeout scriptArgs print WeakRef "
        "FinalizationRegistry SharedArrayBuffer Atomics Worker navigator"
    )
    body = f"event.out = '{names}'.split(' ').filter(name => name in globalThis)"
    assert result_of(body) == []
    assert "could not load module" in str(failure_in("return import('os')"))


def test_half_an_emoji_becomes_the_replacement_character() -> None:
    assert result_of("event.out = '\\u{1f600}'.slice(0, 1) + '\\u{1f600}'") == "\ufffd\U0001f600"


def test_threads_share_the_engine_and_each_gets_its_own_answer() -> None:
    script = compile_script("function process(event) { event.out = event.n * 2; return event }")
    found: dict[int, Any] = {}

    def work(start: int) -> None:
        for n in range(start, start + 25):
            made = script.run({"n": n}, {}, seed="", now_ms=0)
            found[n] = made and made["out"]

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n * 2 for start in (0, 100, 200, 300) for n in range(start, start + 25)}


def test_other_threads_go_on_while_a_script_runs() -> None:
    thread = threading.Thread(target=failure_in, args=("new Array(2 ** 32 - 1).sort()",))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
    thread.join()
    assert turns > 1000


def engine_pid() -> int:
    assert_works()
    process = DELIVERIES._process
    assert process is not None
    return process.pid


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_an_engine_sees_nothing_of_the_servers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAFLY_ADMIN_PASSWORD", "secret-word")
    DELIVERIES.close()
    assert b"secret-word" not in Path(f"/proc/{engine_pid()}/environ").read_bytes()
