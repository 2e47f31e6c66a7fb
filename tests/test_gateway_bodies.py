"""Bodies: what is JSON and what is not, inflating, depth, lone surrogates. Pure functions, no server."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.errors import Refused
from datafly_lite.gateway import bodies

SUITE = Path(__file__).parent.parent.parent / "shared/data/json-test-suite/test_parsing"
decode_any = msgspec.json.Decoder().decode


def refusal_of(body: bytes, max_depth: int = 32) -> Refused | None:
    try:
        bodies.decode(decode_any, body, max_depth)
    except Refused as refused:
        return refused
    return None


def test_the_suite_is_there() -> None:
    assert len(list(SUITE.glob("[nyi]_*.json"))) == 318


@pytest.mark.parametrize("path", sorted(SUITE.glob("n_*.json")), ids=lambda path: path.name)
def test_what_is_not_json_is_refused(path: Path) -> None:
    refused = refusal_of(path.read_bytes())
    assert refused is not None
    assert refused.status == 400


@pytest.mark.parametrize("path", sorted(SUITE.glob("y_*.json")), ids=lambda path: path.name)
def test_what_is_json_is_taken(path: Path) -> None:
    assert refusal_of(path.read_bytes()) is None


@pytest.mark.parametrize("path", sorted(SUITE.glob("i_*.json")), ids=lambda path: path.name)
def test_what_may_be_either_is_answered(path: Path) -> None:
    refused = refusal_of(path.read_bytes())
    assert refused is None or refused.status == 400


@pytest.mark.parametrize("depth", [33, 1_000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_refused(depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    refused = refusal_of((opening * depth + "1" + closing * depth).encode())
    assert refused is not None
    assert refused.code == "invalid_json"


def test_brackets_in_text_are_not_depth() -> None:
    assert refusal_of(msgspec.json.encode({"a": '[{"\\"[[' * 100, "b": list(range(40))})) is None


def test_a_lone_surrogate_is_mended_and_its_neighbours_kept() -> None:
    body = rb'{"title":"cut \ud83d","emoji":"\ud83d\ude00","quote":"\\ud83d","low":"\ude00!"}'
    value, repaired = bodies.decode(decode_any, body, 32)
    assert repaired
    assert value == {"title": "cut \ufffd", "emoji": "😀", "quote": "\\ud83d", "low": "\ufffd!"}


def test_a_sound_body_is_not_called_repaired() -> None:
    assert bodies.decode(decode_any, rb'{"emoji":"\ud83d\ude00"}', 32) == ({"emoji": "😀"}, False)


@given(st.binary(max_size=200))
def test_no_bytes_give_anything_but_a_value_or_a_refusal(body: bytes) -> None:
    refused = refusal_of(body)
    assert refused is None or refused.code == "invalid_json"


def test_gzip_is_seen_by_its_first_bytes() -> None:
    assert bodies.inflate(gzip.compress(b'{"a":1}'), 100) == b'{"a":1}'
    assert bodies.inflate(b'{"a":1}', 100) == b'{"a":1}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (gzip.compress(b"0" * 10_000_000), "body_too_large"),
        (gzip.compress(b'{"a":1}')[:-5], "invalid_json"),
        (b"\x1f\x8b" + b"\0" * 40, "invalid_json"),
        (b"\x1f\x8b", "invalid_json"),
    ],
    ids=["bomb", "cut off", "corrupt", "magic only"],
)
def test_bad_gzip_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as found:
        bodies.inflate(body, 1_000_000)
    assert found.value.code == code


@given(st.binary(min_size=1, max_size=500))
def test_inflating_gives_back_what_was_compressed(plain: bytes) -> None:
    packer = zlib.compressobj(wbits=31)
    assert bodies.inflate(packer.compress(plain) + packer.flush(), 500) == plain


@pytest.mark.parametrize("tail", [b'"\\', b'"', b'"\\"', b'"a'], ids=["escape", "quote", "both", "text"])
def test_strings_that_never_end_cost_no_more_than_their_length(tail: bytes) -> None:
    """One such body of 512 KB held the whole process for minutes: each quote was scanned to the end again."""
    refused = refusal_of(b"[]" * 33 + tail * (512 * 1024 // len(tail)))
    assert refused is not None
    assert refused.code == "invalid_json"
