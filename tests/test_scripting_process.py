"""The engines' processes: whose doing an end is, what nobody hears of, and that none holds another."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafly_lite import scripting, scripting_process
from datafly_lite.engine import compile_engine
from datafly_lite.errors import AdminError, ScriptEngineUnavailable, ScriptError
from datafly_lite.scripting import Script, asking, checking, compile_script
from datafly_lite.scripting_process import Engine
from datafly_lite.scripting_wire import CHECK, VALUE
from engine_kit import ending_within_a_call, killed, unstartable

NOTHING = b"[0, 1, 2, 3, 4]"
CALL = (CHECK, b"function process() {}", NOTHING)
BUSY_CALL = (CHECK, b"new Array(2 ** 32 - 1).sort()", NOTHING)
SCRIPT = Script("function process(event) { event.out = 1; return event }")


@pytest.fixture
def engine() -> Iterator[Engine]:
    one = Engine()
    yield one
    one.close()


def pid_of(engine: Engine) -> int:
    engine.ask(*CALL)
    assert engine._process is not None
    return engine._process.pid


def run_in(engine: Engine) -> object:
    with asking(engine):
        return SCRIPT.run({}, {}, seed="", now_ms=0)


def test_an_engine_that_somebody_ended_is_started_again_and_nobody_hears_of_it(engine: Engine) -> None:
    for one in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        os.kill(pid_of(engine), one)
        assert run_in(engine) == {"out": 1}


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "os._exit(1)"])
def test_what_ends_the_process_within_a_call_from_inside_is_the_scripts(
    engine: Engine, tmp_path: Path, end: str
) -> None:
    with (
        unstartable(ending_within_a_call(tmp_path, end)),
        pytest.raises(ScriptError, match="crashed the engine"),
    ):
        run_in(engine)


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_a_process_that_is_ended_from_outside_within_a_call_is_replaced(
    engine: Engine, tmp_path: Path, end: str
) -> None:
    kill = f"os.kill(os.getpid(), signal.{end})"
    with unstartable(ending_within_a_call(tmp_path, kill, times=2)):
        assert run_in(engine) == {"out": 1}
    engine.close()
    with unstartable(ending_within_a_call(tmp_path, kill)), pytest.raises(ScriptEngineUnavailable):
        run_in(engine)


def test_an_engine_that_is_killed_again_and_again_is_no_error_of_the_scripts(engine: Engine) -> None:
    with killed(engine), pytest.raises(ScriptEngineUnavailable, match="JavaScript cannot be tried now"):
        run_in(engine)
    assert run_in(engine) == {"out": 1}


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/false"])
def test_an_engine_that_cannot_start_is_no_error_of_the_scripts(engine: Engine, program: str) -> None:
    with unstartable(program), pytest.raises(ScriptEngineUnavailable):
        run_in(engine)
    assert run_in(engine) == {"out": 1}


def test_an_engine_that_crashes_before_the_call_began_is_no_error_of_the_scripts(
    engine: Engine, tmp_path: Path
) -> None:
    program = tmp_path / "crash"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    with unstartable(str(program)), pytest.raises(ScriptEngineUnavailable):
        run_in(engine)


def test_a_silent_engine_is_no_error_of_the_scripts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripting_process, "ANSWERED_WITHIN_S", 0.5)
    os.kill(pid_of(engine), signal.SIGSTOP)
    with pytest.raises(ScriptEngineUnavailable, match="does not answer"):
        run_in(engine)
    monkeypatch.undo()
    assert run_in(engine) == {"out": 1}


def test_an_engine_ends_when_its_server_is_gone(engine: Engine) -> None:
    engine.ask(*CALL)
    assert engine._process is not None
    assert engine._connection is not None
    engine._connection.close()
    assert engine._process.wait(20) == 0


def test_what_is_tried_or_sent_holds_no_event() -> None:
    held = [scripting.DELIVERIES, scripting.TRIALS, scripting.CHECKS]
    for engine in held:
        engine.ask(*CALL)
    pids = [engine._process.pid for engine in held if engine._process is not None]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    waiting = [threading.Thread(target=run_in, args=(engine,)) for engine in held]
    for thread in waiting:
        thread.start()
    assert run_in(scripting.DATA_LAYER) == {"out": 1}
    assert all(thread.is_alive() for thread in waiting)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    for thread in waiting:
        thread.join()


def test_the_checks_of_one_save_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripting, "LONGEST_CHECKS_S", 0.5)
    heavy = {"type": "custom_js", "code": BUSY_CALL[1].decode()}
    with checking(), pytest.raises(AdminError) as caught:
        compile_engine([heavy] * 20, {})
    words = [one["message"] for one in caught.value.details]
    assert words[0] == "it took more than 50 ms"
    assert words[-1].startswith("it was not tried")
    compile_script(SCRIPT.code)  # no save, no bound


def test_what_cannot_be_tried_is_not_saved_and_what_was_saved_is_still_loaded() -> None:
    with unstartable():
        assert compile_script(SCRIPT.code) == SCRIPT
        with checking(), pytest.raises(ScriptEngineUnavailable):
            compile_script(SCRIPT.code)
    with pytest.raises(ScriptError), checking():
        compile_script("let x = ;")
    assert scripting.CHECKS.ask(*CALL)[0] != VALUE
