"""Recordings of real clients (shared/spec/captures): each as it was sent, and what must be kept of it.

The layout of a recording is in wire-formats.md, section 7. The key that it was made with is replaced
by a pipeline's own in every place, and what follows from that: the host and the length of the body.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kit import Answer

CAPTURES = Path(__file__).parents[2] / "shared" / "spec" / "captures"
KEY = "wk_test_51Hq"
SITE_TOKEN = "token=7f3a"
"""How the recordings on the Commanders Act paths name their key."""

OMITTED = "(1.3 MB, omitted)"
"""In the place of one body, which curl sent after 100 Continue: a batch of its size stands in for it."""

LAYOUTS = ((",", ":"), (", ", ": "))
"""JSON as JavaScript and Go write it, and as Python does."""

SKEW_LEAST_S, SKEW_MOST_S = 60, 86_400
"""Where a client's clock is corrected (api.md, section 1, Timestamps)."""


class Recorded(NamedTuple):
    """One request of a recording. `spoken` is its body before compression, `wire` what goes out."""

    name: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    spoken: bytes
    wire: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def body(self) -> Any:
        """As JSON; of a form that was sent as multipart, its first part."""
        text = self.spoken.decode()
        return json.loads(text.split("\r\n")[3] if text.startswith("--") else text)

    def header(self, name: str) -> str | None:
        """The value of the first header with this name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


# ── Reading a recording ──────────────────────────────────────────────────────────────────────


def recordings() -> list[tuple[str, dict[str, Any]]]:
    """Every recorded request of every file: `file[number]`, and the entry as it is written there."""
    found: list[tuple[str, dict[str, Any]]] = []
    for file in sorted(CAPTURES.glob("*.json")):
        entries = json.loads(file.read_text(encoding="utf-8")).get("requests", [])
        found += [(f"{file.stem}[{number}]", entry) for number, entry in enumerate(entries)]
    return found


def rebuilt(name: str, entry: Mapping[str, Any], key: str) -> Recorded:
    """The request of an entry, with this pipeline key in the place of the recorded one."""
    text = json.dumps(entry)
    own = json.loads(text.replace(KEY, key).replace(_basic(KEY), _basic(key)))
    spoken = _body(entry, own)
    wire = gzip.compress(spoken) if entry.get("decoded_from") == "gzip" else spoken
    headers = [
        (header, str(len(wire)) if header.lower() == "content-length" else value)
        for header, value in own["headers"]
    ]
    target = own["target"].replace(SITE_TOKEN, f"token={key}")
    return Recorded(name, own["method"], target, headers, spoken, wire)


def _basic(key: str) -> str:
    return base64.b64encode(f"{key}:".encode()).decode()


def _body(entry: Mapping[str, Any], own: Mapping[str, Any]) -> bytes:
    """`own` is `entry` with the other key; the layout is known by the length that was recorded.

    What was typed by hand at a shell had more white space than either layout: it comes last.
    """
    if "body_json" not in entry:
        text = str(own.get("body_text", ""))
        return long_batch(entry["body_bytes"]) if text == OMITTED else text.encode()
    fitting = [(len(_dumped(entry["body_json"], layout)), layout) for layout in LAYOUTS]
    size_bytes: int = entry["decoded_bytes"]
    length, layout = max(one for one in fitting if one[0] <= size_bytes)
    return _dumped(own["body_json"], layout) + b" " * (size_bytes - length)


def _dumped(value: Any, layout: tuple[str, str]) -> bytes:
    return json.dumps(value, separators=layout, ensure_ascii=False).encode()


def long_batch(size_bytes: int) -> bytes:
    """A batch of exactly this size."""
    filler = "x" * 49_000
    batch = [
        {"type": "track", "messageId": f"long-{number}", "userId": "usr-701", "event": "Long",
         "properties": {"filler": filler}}
        for number in range(size_bytes // 50_000)
    ]  # fmt: skip
    return _dumped({"batch": batch}, LAYOUTS[0]).ljust(size_bytes)


# ── Sending it ───────────────────────────────────────────────────────────────────────────────


def sent(recorded: Recorded, port: int) -> Answer:
    """Write the request as it was recorded to a socket, but for the host; its answer, read to its end."""
    lines = [f"{recorded.method} {recorded.target} HTTP/1.1"]
    for name, value in recorded.headers:
        lines.append(f"{name}: {f'127.0.0.1:{port}' if name.lower() == 'host' else value}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        if recorded.header("Expect"):
            _await_go_on(connection)
        connection.sendall(_chunked(recorded.wire) if _is_chunked(recorded) else recorded.wire)
        response = http.client.HTTPResponse(connection, method=recorded.method)
        response.begin()
        return Answer(response.status, response.headers, response.read())


def _is_chunked(recorded: Recorded) -> bool:
    return recorded.header("Transfer-Encoding") == "chunked"


def _chunked(body: bytes, size_bytes: int = 100) -> bytes:
    parts = [body[start : start + size_bytes] for start in range(0, len(body), size_bytes)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


def _await_go_on(connection: socket.socket) -> None:
    """A client that asks first sends no body before it hears this."""
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += connection.recv(1)
        assert said, "the connection was closed"
    assert said.startswith(b"HTTP/1.1 100 "), said


def refusal_by_browser(recorded: Recorded, answer: Answer) -> str | None:
    """Why a browser would not go on after this answer to its preflight (Fetch, CORS-preflight fetch)."""
    allowed = _names(answer.headers["Access-Control-Allow-Headers"])
    asked = _names(recorded.header("Access-Control-Request-Headers"))
    if not 200 <= answer.status <= 299:
        return f"status {answer.status}"
    if not asked <= allowed:
        return f"{sorted(asked - allowed)} are not allowed"
    return unreadable_by_browser(recorded, answer)


def _names(header: str | None) -> set[str]:
    return {name.strip().lower() for name in (header or "").split(",")} - {""}


def unreadable_by_browser(recorded: Recorded, answer: Answer) -> str | None:
    """Why a page of the request's origin may not read this answer, its credentials included."""
    if answer.headers["Access-Control-Allow-Origin"] != recorded.header("Origin"):
        return f"the allowed origin is {answer.headers['Access-Control-Allow-Origin']}"
    if answer.headers["Access-Control-Allow-Credentials"] != "true":
        return "credentials are not allowed"
    return None


# ── What must be found again ─────────────────────────────────────────────────────────────────


def events_of(recorded: Recorded) -> list[dict[str, Any]]:
    """The events that the request carries, each with what the batch says for all of them."""
    return events_in(recorded.body, recorded.header("SentAt"))


def events_in(body: Mapping[str, Any], sent_at: str | None) -> list[dict[str, Any]]:
    """As `events_of`; `sent_at` is the header that RudderStack's browser SDK sends."""
    if "batch" not in body:
        return [{"sentAt": sent_at, **body}]
    return [{"sentAt": body.get("sentAt"), **item, **_merged(body, item)} for item in body["batch"]]


def _merged(body: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """A batch's context and integrations, the item's own winning (wire-formats.md, 2.4)."""
    return {
        name: {**(body.get(name) or {}), **(item.get(name) or {})}
        for name in ("context", "integrations")
        if body.get(name) or item.get(name)
    }


def lost(event: Mapping[str, Any], canonical: Mapping[str, Any]) -> list[str]:
    """What of an event is not in its canonical form, as `path: value`; empty when all of it is there.

    A value is there when it stands at its own path, or at the same under `original`. `writeKey` is
    the key's, and a null, an empty text or an empty object at the root is the same as none.
    """
    kept = canonical.get("original", {})
    return [
        f"{'.'.join(map(str, path))}: {value!r}"
        for path, value in leaves({name: value for name, value in event.items() if _says(name, value)})
        if not (_same(_at(canonical, _place(path)), value) or _same(_at(kept, path), value))
    ]


def _says(name: str, value: Any) -> bool:
    return name != "writeKey" and value not in (None, "", {})


def _place(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the client claims as the time stays beside what the product goes by."""
    return ("originalTimestamp",) if path == ("timestamp",) else path


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value that holds no others, with its path; an empty object or list is one."""
    if not isinstance(value, dict | list) or not value:
        yield path, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, (*path, key))


_ABSENT = object()


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return value


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON is: 1 is neither true nor 1.0."""
    return one is not _ABSENT and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def expected_timestamp(event: Mapping[str, Any], received_at: str) -> str:
    """The time that the product must go by: the claim, set right where the client's clock is wrong."""
    claim = event.get("timestamp") or event.get("originalTimestamp")
    at = _instant(claim or received_at)
    if claim and event.get("sentAt"):
        skew = _instant(received_at) - _instant(event["sentAt"])
        if SKEW_LEAST_S <= abs(skew.total_seconds()) <= SKEW_MOST_S:
            at += skew
    return f"{at.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z"


def _instant(text: str) -> datetime:
    """To the millisecond, cut off as the product does."""
    at = datetime.fromisoformat(text)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
