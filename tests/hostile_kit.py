"""A server under hostile input: whatever it was sent, a good event on a fresh connection gets its 200.

Each way to send something bad asserts that by itself, so that no test can forget it.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from gateway_kit import Appliance
from kit import Answer, Management, request, running_server

SHARED = Path(__file__).parent.parent.parent / "shared"
GOOD = b'{"type":"track","event":"Still there"}'
DOCUMENTED_5XX = 503
TIMEOUT_S = 20.0


def material(relative: str) -> Path:
    """A file or folder of `shared/`, which stands beside the project: CI has it, a lone checkout may not."""
    found = SHARED / relative
    if not found.exists():
        missing = f"{found} is missing: shared/ belongs beside the project's folder"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Reply(NamedTuple):
    """One HTTP answer read from a socket. `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


class Hostile:
    """The server, its pipeline, and the ways to send it something bad."""

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.server = appliance.server
        self.management = appliance.management
        self.key = appliance.pipeline.key
        self.pipeline = appliance.pipeline

    def send(
        self,
        body: bytes | None,
        path: str = "/v1/t",
        method: str = "POST",
        *,
        key: str | None = None,
        **headers: str,
    ) -> Answer:
        """With the pipeline's key unless `key` says otherwise; "" is none. `Content_Type` is Content-Type."""
        answer = self.send_only(body, path, method, key=key, **headers)
        self.is_unhurt([answer.status])
        return answer

    def send_only(
        self,
        body: bytes | None,
        path: str = "/v1/t",
        method: str = "POST",
        *,
        key: str | None = None,
        **headers: str,
    ) -> Answer:
        """As `send`, for a server that takes nothing now, or a load that would drown in good events."""
        key = self.key if key is None else key
        own = {"Authorization": f"Bearer {key}"} if key else {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(f"{self.server.base_url}{path}", method, body, {**own, **named})

    def raw(self, data: bytes) -> list[Reply]:
        """Bytes on a connection of their own; the answers until the server closes it."""
        received = self.bytes_of(data)
        replies = list(replies_of(received))
        self.is_unhurt(reply.status for reply in replies)
        return replies

    def bytes_of(self, data: bytes) -> bytes:
        """What comes back until the server closes; a reset ends it as well."""
        with self.connection() as connection:
            with suppress(ConnectionError):
                connection.sendall(data)
            return read_to_end(connection)

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=TIMEOUT_S)

    def head(self, line: str = "POST /v1/t HTTP/1.1", *lines: str, host: str = "Host: x") -> bytes:
        """A request's head with the pipeline's key, up to and with the empty line."""
        parts = [line, *([host] if host else []), f"Authorization: Bearer {self.key}", *lines, "", ""]
        return "\r\n".join(parts).encode("latin-1")

    def is_unhurt(self, statuses: Iterable[int]) -> None:
        """No answer was an error of the server, and a good event gets its 200."""
        wrong = [status for status in statuses if status >= 500 and status not in (501, DOCUMENTED_5XX)]
        assert not wrong, f"{wrong}\n{self.server.output()[-4_000:]}"
        self.serves()

    def serves(self) -> None:
        """A good event on a fresh connection gets exactly the documented answer."""
        answer = request(
            f"{self.server.base_url}/v1/t", "POST", GOOD, {"Authorization": f"Bearer {self.key}"}
        )
        assert (answer.status, answer.body) == (200, b'{"success": true}')

    def stored(self, message_id: str) -> dict[str, Any]:
        """The processed event, once it is there."""
        return self.appliance.stored(message_id)

    def trace(self, message_id: str) -> dict[str, Any]:
        """The event's whole way, as the management API tells it, once it is processed."""
        self.stored(message_id)
        found: dict[str, Any] = self.management.call(
            "GET", f"events/{self.pipeline.id}/{quote(message_id, safe='')}"
        )
        return found

    def peak_memory_bytes(self) -> int:
        """The most that the process ever held."""
        return self._memory_bytes("VmHWM")

    def memory_bytes(self) -> int:
        """What the process holds."""
        return self._memory_bytes("VmRSS")

    def _memory_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.server.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def is_new(self, message_id: str) -> bool:
        """Whether nothing with this messageId was stored until now; from now on something is."""
        event = b'{"type":"track","event":"x","messageId":"%s"}' % message_id.encode()
        answer = self.send(event)
        assert answer.status == 200
        return bool(answer.json() == {"success": True})


def refused(answer: Answer | Reply, status: int, code: str) -> str:
    """Assert the one shape of refusals; the message."""
    told = json.loads(answer.body)
    assert (answer.status, told.get("code")) == (status, code), told
    assert told.keys() == {"success", "code", "message"}
    assert told["success"] is False
    message: str = told["message"]
    assert len(message) > 10
    return message


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes or resets; silence for too long fails."""
    received = b""
    with suppress(ConnectionError):
        while more := connection.recv(65_536):
            received += more
    return received


def replies_of(received: bytes) -> Iterator[Reply]:
    """The answers in what was received, one after the other; an interim one stands for itself."""
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        assert separator, f"half an answer: {received!r}"
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines[1:])
        }
        body, received = _body_of(headers, rest)
        yield Reply(int(lines[0].split(" ")[1]), headers, body)


def _body_of(headers: Mapping[str, str], rest: bytes) -> tuple[bytes, bytes]:
    """The body, and what follows it. An answer in HTTP/1.0 without a length goes on to the end."""
    if headers.get("transfer-encoding") == "chunked":
        body, size = b"", 1
        while size:
            line, _, rest = rest.partition(b"\r\n")
            size = int(line, 16)
            body, rest = body + rest[:size], rest[size + 2 :]
        return body, rest
    if "content-length" not in headers and headers.get("connection") == "close":
        return rest, b""
    size = int(headers.get("content-length", "0"))
    return rest[:size], rest[size:]


@contextmanager
def hostile(
    folder: Path, env: Mapping[str, str] | None = None, *, up: str = "/readyz", **fields: Any
) -> Iterator[Hostile]:
    """A server with one pipeline; at the end it must have printed no traceback."""
    with running_server(folder, env=env, up=up) as server:
        management = Management(server.base_url)
        pipeline = management.create_pipeline(**fields)
        yield Hostile(Appliance(server, folder / "datafly.db", pipeline, management))
        output = server.output()
        assert "Traceback" not in output, output
        assert '"level": "error"' not in output, output
