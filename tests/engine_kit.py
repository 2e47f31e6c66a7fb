"""Engines that cannot run: killed as often as they start, or never started."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from datafly_lite import scripting
from datafly_lite.scripting_process import Engine

ENGINES = (scripting.DATA_LAYER, scripting.DELIVERIES, scripting.TRIALS, scripting.CHECKS)


@contextlib.contextmanager
def killed(engine: Engine) -> Iterator[set[int]]:
    """As by a kernel that is out of memory for good: SIGKILL to each process that the engine starts. Gives
    the ids of those that were killed so far.
    """
    done, pids = threading.Event(), set[int]()

    def kill() -> None:
        while not done.wait(0.001):
            if (process := engine._process) is not None:
                process.kill()
                pids.add(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield pids
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def unstartable(program: str = "/no/such/python") -> Iterator[None]:
    """No engine runs, and none can be started: its program is another."""
    before = sys.executable
    sys.executable = program
    for engine in ENGINES:
        engine.close()
    try:
        yield
    finally:
        sys.executable = before


def ending_within_a_call(folder: Path, end: str, *, times: int = 1_000) -> str:
    """A program for `unstartable`: so often it begins with a call and ends by a line of Python; then it is
    the real one.
    """
    words = (
        "import os, signal, socket; from datafly_lite import scripting_wire as wire; "
        "server = socket.socket(fileno=0); wire.receive(server); wire.send(server, wire.BEGUN); "
        f"{end}"
    )
    program = folder / "engine"
    program.write_text(
        f"#!/bin/sh\nif [ $(wc -c < {folder}/starts) -lt {times} ]; then\n"
        f"printf x >> {folder}/starts\nexec {sys.executable} -c '{words}'\nfi\nexec {sys.executable} \"$@\"\n"
    )
    (folder / "starts").write_text("")
    program.chmod(0o755)
    return str(program)
