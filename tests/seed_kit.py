"""Seeds 001 and 002 read from their own text: each call that they print, run with curl; shapes of answers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kit import Server, request

SEEDS = Path(__file__).parents[2] / "shared" / "seeds"
ENDPOINT = re.compile(r"^(GET|POST|PUT|DELETE) (/v1/admin/\S+)$", re.MULTILINE)
CURL = re.compile(r"^curl (?:.*\\\n)*.*", re.MULTILINE)
RESPONSE = re.compile(r"^Response(?: \((\d+) [^)]*\))?: ?(.*)$", re.MULTILINE)
ROLE = re.compile(r"^Required role: (.*)$", re.MULTILINE)
HOST = "http://localhost:8084"
IDS = ("pip_abc123", "src_abc123", "{id}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
KINDS = re.compile(r"(dk_live|dk_pip|pip|org|src|sk|ct|bld)_.+", re.DOTALL)


class Example(NamedTuple):
    """One call as a seed prints it. `answer` is the printed JSON, None where it is no JSON."""

    seed: str
    method: str
    path: str
    role: str
    curl: tuple[str, ...]
    body: Any
    status: int
    answer: Any
    words: str
    """What stands behind `Response:` on its line."""

    @property
    def name(self) -> str:
        """What a failing test is called by."""
        return f"{self.seed} {self.method} {self.path}"


def text_of(seed: str) -> str:
    """The seed's whole text."""
    return next(SEEDS.glob(f"{seed}_*.txt")).read_text(encoding="utf-8")


def printed_object(seed: str) -> Any:
    """The pipeline or the source as it is printed first."""
    return _json(text_of(seed))


def examples(seed: str) -> list[Example]:
    """Every call of the seed, in its order."""
    text = text_of(seed)
    starts = list(ENDPOINT.finditer(text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return [_example(seed, start, text, end) for start, end in zip(starts, ends, strict=True)]


def _example(seed: str, found: re.Match[str], text: str, end: int) -> Example:
    method, path = found.groups()
    block = text[found.end() : end]
    asked, said = block.partition("\nRequest:")[2], RESPONSE.search(block)
    status, words = (said[1] or said[2][:3], said[2]) if said else ("", "")
    body = _json(asked.partition("\nResponse")[0])
    return Example(
        seed=seed,
        method=method,
        path=path,
        role=_role(path, block if ROLE.search(block) else text[found.end() :]),
        curl=tuple(_curl(block) or _unprinted_curl(method, path, body)),
        body=body,
        status=int(status) if status.isdigit() else 200,
        answer=_answer(seed, block[said.end() :] if said else "", words),
        words=words,
    )


def _curl(block: str) -> list[str]:
    found = CURL.search(block)
    return shlex.split(found[0].replace("\\\n", " ")) if found else []


def _unprinted_curl(method: str, path: str, body: Any) -> list[str]:
    """The seed prints only the body, or nothing: then as it prints the others."""
    words = ["curl", "-X", method, HOST + path, "-H", "Authorization: Bearer {access_token}"]
    return words if body is None else [*words, "-H", "Content-Type: application/json", "-d", json.dumps(body)]


def _answer(seed: str, after: str, words: str) -> Any:
    """The printed JSON, or the object that is named instead: `Updated source object.`"""
    if re.search(r"\b(pipeline|source) object\b", words):
        return printed_object(seed)
    return _json(after) if not words else None


def _json(text: str) -> Any:
    """The first JSON object that begins a line; None where there is none."""
    start = re.search(r"^\{$", text, re.MULTILINE)
    return json.JSONDecoder().raw_decode(text[start.start() :])[0] if start else None


def _role(path: str, text: str) -> str:
    """`viewer or above`, or the clause that names the call: `(for status/download)`."""
    found = ROLE.search(text)
    assert found, path
    clauses = found[1].split(", ")
    last = {"build": "builds"}.get(path.rpartition("/")[2], path.rpartition("/")[2])
    chosen = next((one for one in clauses if last in one), clauses[0])
    return chosen.split()[0]


# ── Running one ──────────────────────────────────────────────────────────────────────────────


class Said(NamedTuple):
    """What curl got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def run(example: Example, server: Server, token: str, id_: str, folder: Path) -> Said:
    """The printed command with another host, token and id, in `folder`, where it may write files."""
    words = [_filled(word, server, token, id_) for word in example.curl]
    headers = folder / "headers"
    done = subprocess.run(
        [*words, "--silent", "--show-error", "--dump-header", str(headers)],
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=30,
    )
    first, *lines = headers.read_text(encoding="latin-1").strip().splitlines()
    body = (folder / words[words.index("-o") + 1]).read_bytes() if "-o" in words else done.stdout
    pairs = (line.split(": ", 1) for line in lines)
    return Said(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)


def _filled(word: str, server: Server, token: str, id_: str) -> str:
    word = word.replace(HOST, server.base_url).replace("{access_token}", token)
    for printed in IDS:
        word = word.replace(printed, id_)
    return word


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────


def differences(printed: Any, said: Any, allowed: Mapping[str, str], path: str = "$") -> list[str]:
    """Where the shape of an answer is another one: fields, nesting, types, kinds of ids, form of times.

    `allowed` are paths with a field more, or with a null, and why that is right.
    """
    if path in allowed and said is None:
        return []
    if kind_of(printed) != kind_of(said):
        return [f"{path}: {kind_of(said)} instead of {kind_of(printed)}"]
    if isinstance(printed, dict):
        return _field_differences(printed, said, allowed, path)
    if isinstance(printed, list) and printed:
        if not said:
            return [f"{path}: nothing in it"]
        return [one for item in said for one in differences(printed[0], item, allowed, f"{path}[]")]
    return []


def _field_differences(
    printed: Mapping[str, Any], said: Mapping[str, Any], allowed: Mapping[str, str], path: str
) -> list[str]:
    found = [f"{path}.{name}: missing" for name in printed if name not in said]
    more = [f"{path}.{name}" for name in said if name not in printed]
    found += [f"{one}: not printed" for one in more if one not in allowed]
    for name in printed:
        if name in said:
            found += differences(printed[name], said[name], allowed, f"{path}.{name}")
    return found


def kind_of(value: Any) -> str:
    """`number`, `instant`, `pip_...`: a JSON type, and for text what it looks like."""
    if isinstance(value, str):
        kind = KINDS.fullmatch(value)
        return "instant" if INSTANT.fullmatch(value) else f"{kind[1]}_..." if kind else "text"
    names = {bool: "boolean", int: "number", float: "number", dict: "object", list: "list"}
    return names.get(type(value), "null")


# ── The server ───────────────────────────────────────────────────────────────────────────────


class Api:
    """The management API of a server, as somebody of any role: the owner, or a key of that role."""

    def __init__(self, server: Server, owner_token: str) -> None:
        self.server = server
        self.tokens = {"owner": owner_token}
        for role in ("admin", "editor", "viewer"):
            self.tokens[role] = self.ok("POST", "/api-keys", {"name": role, "role": role})["key"]

    def call(self, method: str, path: str, body: Any = None, role: str = "owner") -> Said:
        """One call below /v1/admin."""
        answer = request(
            f"{self.server.base_url}/v1/admin{path}",
            method,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.tokens[role]}"},
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Said(answer.status, headers, answer.body)

    def ok(self, method: str, path: str, body: Any = None, role: str = "owner") -> Any:
        """As `call`; the JSON of an answer that must be a success."""
        said = self.call(method, path, body, role)
        assert said.status // 100 == 2, (method, path, said.status, said.body)
        return said.json() if said.body else None

    def error(self, method: str, path: str, body: Any = None, role: str = "owner") -> tuple[int, str]:
        """As `call`; status and code of an answer that must be an error."""
        said = self.call(method, path, body, role)
        return said.status, said.json()["error"]["code"]

    def refused_fields(self, method: str, path: str, body: Any) -> list[str]:
        """The fields that a VALIDATION_ERROR names."""
        said = self.call(method, path, body)
        assert (said.status, said.json()["error"]["code"]) == (422, "VALIDATION_ERROR"), said
        return [one["field"] for one in said.json()["error"]["details"]]

    def send(self, key: str, *, origin: str | None = None, headers: Mapping[str, str] | None = None) -> int:
        """The status that an event with this pipeline key gets."""
        own = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", **(headers or {})}
        own |= {"Origin": origin} if origin else {}
        return request(f"{self.server.base_url}/v1/t", "POST", EVENT, own).status

    def visitor_cookie(self, key: str, origin: str) -> str:
        """The Set-Cookie of an event that a browser sends."""
        own = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "Origin": origin}
        own["Host"] = "data.example.com"
        return request(f"{self.server.base_url}/v1/t", "POST", EVENT, own).headers["Set-Cookie"] or ""


EVENT = json.dumps({"type": "track", "event": "Seen"}).encode()
