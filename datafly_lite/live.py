"""What happens now, for whoever watches: frames of the debug stream (api.md, section 2, live).

Publishing costs one attribute read while nobody watches, and never waits for a watcher.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import anyio
import msgspec

Stage = Literal["received", "refused", "processed", "dropped", "request", "response", "collector_build"]
BUFFERED_FRAMES = 1_000


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. `timestamp` is ISO 8601."""

    stage: Stage
    timestamp: str
    pipeline_id: str | None = None
    message_id: str | None = None
    integration_id: str | None = None
    data: dict[str, Any] = {}


class Watcher:
    """One reader of the stream: keeps the newest frames and counts what it had to let go."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._wake = anyio.Event()
        self._ended = False
        self.missed = 0

    def end(self) -> None:
        """No frame will follow."""
        self._ended = True
        self._wake.set()

    def offer(self, frame: Frame) -> None:
        """Keep the frame; the oldest goes when there are too many."""
        if len(self._frames) >= BUFFERED_FRAMES:
            self._frames.popleft()
            self.missed += 1
        self._frames.append(frame)
        self._wake.set()

    async def next(self) -> tuple[list[Frame], int]:
        """All frames since the last call, and how many were missed before them; waits for the first.

        Raises anyio.EndOfStream when the stream was closed and all frames were given.
        """
        while not self._frames:
            if self._ended:
                raise anyio.EndOfStream
            self._wake = anyio.Event()
            await self._wake.wait()
        frames, missed = list(self._frames), self.missed
        self._frames.clear()
        self.missed = 0
        return frames, missed


class LiveStream:
    """The stages publish, watchers read."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self._closed = False

    def watch(self) -> Watcher:
        """A new watcher; hand it to `leave` at the end."""
        watcher = Watcher()
        self.watchers.add(watcher)
        if self._closed:
            watcher.end()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Stop offering frames to this watcher."""
        self.watchers.discard(watcher)

    def close(self) -> None:
        """The process stops: let watchers go, or their open connections would hold it up."""
        self._closed = True
        for watcher in self.watchers:
            watcher.end()

    def publish(self, frame: Frame) -> None:
        """Offer the frame to all. Callers ask `if live.watchers:` first, so as not to build it for nobody."""
        for watcher in self.watchers:
            watcher.offer(frame)
