"""The server's end of an engine: the process that runs scripts, its start, its calls and its ends.

The process (scripting_engine.py says why it is one) is started by the first script and ended with the server;
it takes one call at a time, from any thread. It says when it has begun with a call, so that its end tells
whose doing it was: of a crash or a used-up timer within the call the script's, of anything else not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from datafly_lite import scripting_wire as wire
from datafly_lite.errors import ScriptEngineUnavailable

TRIES = 3
"""Fresh processes for one call. Who was ended from outside, by the kernel that is out of memory say, is
replaced, and nobody hears of it."""

ANSWERED_WITHIN_S = 10.0
"""An engine that is silent for so long, though its own timer ends it much earlier, is stopped."""

START = "from datafly_lite.scripting_engine import serve; serve()"

CRASHED = f"it crashed the engine: most likely {wire.TOO_MUCH}"
ENDS = {
    -signal.SIGPROF: wire.TOO_LONG,
    **dict.fromkeys(
        (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE), CRASHED
    ),
}
"""How a process ended within a call -> what the script did. Any other end is not the script's doing."""


class Engine:
    """The process that runs scripts: started when it is first asked, and again after each end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def ask(self, *parts: bytes) -> list[bytes]:
        """The reply to one call, an error of the script's too. Raises ScriptEngineUnavailable."""
        with self._lock:
            for _ in range(TRIES):
                if (reply := self._try(parts)) is not None:
                    return reply
        raise ScriptEngineUnavailable("its process was ended from outside: is the machine out of memory?")

    def close(self) -> None:
        """End the process. The next call starts another."""
        with self._lock:
            self._stop()

    def _try(self, parts: tuple[bytes, ...]) -> list[bytes] | None:
        """None where the process ended for no reason of the script's."""
        has_begun = False
        try:
            connection = self._started()
        except OSError as error:
            raise ScriptEngineUnavailable(f"its process cannot be started: {error}") from None
        try:
            wire.send(connection, *parts)
            has_begun = wire.receive(connection) == [wire.BEGUN]
            return wire.receive(connection)
        except TimeoutError:
            self._stop()
            raise ScriptEngineUnavailable("its process does not answer: is the machine overloaded?") from None
        except (EOFError, OSError):
            ended = self._stop()
            return _ended(ended) if has_begun else None

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


def _ended(code: int | None) -> list[bytes] | None:
    """What a script did that ended the process within its call; None where somebody else ended it."""
    if code in ENDS or (code or 0) > 0:  # above 0 a process ended itself
        return [wire.ERROR, ENDS.get(code or 0, CRASHED).encode(), b""]
    return None


def _environment() -> dict[str, str]:
    """Nothing of the server's: its secrets may stand there. UTC is the scripts' time zone everywhere."""
    places = [str(Path(__file__).parent.parent), *filter(None, sys.path)]
    return {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONPATH": os.pathsep.join(places)}
