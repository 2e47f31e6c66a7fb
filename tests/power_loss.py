"""Power losses, computed from a trace of what a process really wrote and synced.

At a cut, a file holds what was synced, and of what was written since any part in any order: each
512-byte sector of it is there or not, by chance. What was said on stdout before the cut was promised.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
CALL = re.compile(r"^(\d+) +(.*)$")
DONE = re.compile(r"^(\w+)\((\d+)<([^>]*)>(?:, (.*))?\) = (-?\d+)")
STRING = re.compile(r'^"((?:\\x[0-9a-f]{2})*)"')
STDOUT = 1


class Write(NamedTuple):
    """Bytes at an offset; not safe before the next Sync of the file."""

    path: str
    offset: int
    data: bytes


class Truncate(NamedTuple):
    path: str
    size_bytes: int


class Sync(NamedTuple):
    path: str


class Said(NamedTuple):
    """What an outsider has seen."""

    text: str


Operation = Write | Truncate | Sync | Said


def record(command: Sequence[str], trace: Path) -> list[Operation]:
    """Run the command to its end under strace; what it did to files and stdout, in order."""
    calls = "trace=pwrite64,ftruncate,fsync,fdatasync,write"
    strace = ["strace", "-f", "-qq", "-y", "-xx", "-s", "1000000", "-o", str(trace), "-e", calls]
    subprocess.run([*strace, *command], check=True, stdout=subprocess.DEVNULL)
    return [operation for line in _whole_lines(trace) if (operation := _operation(line)) is not None]


def _whole_lines(trace: Path) -> Iterator[str]:
    """A call that another thread interrupted stands in two lines: its place is that of its end."""
    begun: dict[str, str] = {}
    for line in trace.read_text(encoding="latin-1").splitlines():
        found = CALL.match(line)
        if found is None:
            continue
        process, text = found.groups()
        if text.endswith("<unfinished ...>"):
            begun[process] = text.removesuffix("<unfinished ...>").rstrip()
        elif text.startswith("<... "):
            yield begun.pop(process) + text.partition(" resumed>")[2].lstrip()
        else:
            yield text


def _operation(line: str) -> Operation | None:
    found = DONE.match(line)
    if found is None:
        return None
    call, descriptor, path, rest, result = found.groups()
    path = _unescape(path) if path.startswith("\\x") else path
    if call == "write":
        return Said(_bytes(rest).decode()) if int(descriptor) == STDOUT else None
    if call == "pwrite64":
        return Write(path, int(rest.rpartition(", ")[2]), _bytes(rest)[: int(result)])
    if call == "ftruncate":
        return Truncate(path, int(rest))
    return Sync(path)


def _bytes(text: str) -> bytes:
    found = STRING.match(text)
    assert found is not None, f"not a string: {text[:80]}"
    return bytes.fromhex(found[1].replace("\\x", ""))


def _unescape(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode()


class Loss(NamedTuple):
    """What is left after the power went: the files, and what had been said."""

    files: dict[str, bytes]
    said: str


def after_loss(
    before: dict[str, bytes], operations: Sequence[Operation], cut: int, chance: random.Random
) -> Loss:
    """The state when the power goes after the first `cut` operations."""
    safe = {path: bytearray(data) for path, data in before.items()}
    waiting: dict[str, list[Write | Truncate]] = {}
    said: list[str] = []
    for operation in operations[:cut]:
        if isinstance(operation, Said):
            said.append(operation.text)
        elif isinstance(operation, Sync):
            for one in waiting.pop(operation.path, []):
                _apply(safe.setdefault(operation.path, bytearray()), one)
        else:
            waiting.setdefault(operation.path, []).append(operation)
    for path, unsafe in waiting.items():
        for one in unsafe:
            for part in _parts(one):
                if chance.random() < 0.5:
                    _apply(safe.setdefault(path, bytearray()), part)
    return Loss({path: bytes(data) for path, data in safe.items()}, "".join(said))


def _apply(file: bytearray, operation: Write | Truncate) -> None:
    if isinstance(operation, Truncate):
        del file[operation.size_bytes :]
        file.extend(bytes(operation.size_bytes - len(file)))
        return
    end = operation.offset + len(operation.data)
    file.extend(bytes(max(0, end - len(file))))
    file[operation.offset : end] = operation.data


def _parts(operation: Write | Truncate) -> Iterator[Write | Truncate]:
    if isinstance(operation, Truncate):
        yield operation
        return
    for start in range(0, len(operation.data), SECTOR_BYTES):
        part = operation.data[start : start + SECTOR_BYTES]
        yield Write(operation.path, operation.offset + start, part)
