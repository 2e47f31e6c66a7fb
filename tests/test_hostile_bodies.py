"""Bodies that are wrong, strange or huge, against a running server (reliability.md, C4, cases 1 to 25).

docs/hostile-input.md says which case is held where, and where the product's own rule differs.
"""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import brotli
import pytest

from datafly_lite.identity import is_nonsense
from hostile_kit import SHARED, Hostile, hostile, material, refused
from kit import Answer, request

SUITE = SHARED / "data/json-test-suite/test_parsing"
PATHS = ("/v1/t", "/events", "/events/batch")
BOMB = gzip.compress(b"0" * 64_000_000, 9)
EVENT = b'{"type":"track","event":"x","messageId":"%s","properties":{"v":%s}}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    env = {"DATAFLY_MANAGEMENT_RATE_LIMIT_RPM": "1000000"}
    with hostile(tmp_path_factory.mktemp("bodies"), env) as running:
        yield running


def files(kind: str) -> list[Path]:
    """Empty where shared/ is missing: then `test_the_material_is_there` says so."""
    return sorted(SUITE.glob(f"{kind}_*.json"))


def name_of(path: Path) -> str:
    return path.name


def with_value(message_id: str, value: bytes) -> bytes:
    return EVENT % (message_id.encode(), value)


def test_the_material_is_there() -> None:
    material("data/json-test-suite/test_parsing")
    assert [len(files(kind)) for kind in "nyi"] == [188, 95, 35]
    assert len(naughty_strings()) == 515


# ── 1 to 5: what is JSON, and what is not ────────────────────────────────────────────────────


@pytest.mark.parametrize("path", files("n"), ids=name_of)
def test_what_is_not_json_is_refused_on_every_path(server: Hostile, path: Path) -> None:
    for collected in PATHS:
        answer = server.send(path.read_bytes(), collected)
        code = answer.json()["code"]
        assert code in ("invalid_json", "event_too_large"), "the latter: 100,000 brackets beyond 32 KB"
        refused(answer, 400, code)


@pytest.mark.parametrize("path", files("y"), ids=name_of)
def test_what_is_json_is_kept_as_a_value_and_is_no_event_alone(server: Hostile, path: Path) -> None:
    refused(server.send(path.read_bytes()), 400, "invalid_payload")
    answer = server.send(with_value(path.name, path.read_bytes()))
    assert answer.json() == {"success": True}
    assert server.stored(path.name)["properties"] == {"v": json.loads(path.read_bytes())}


FEATURES: dict[str, Any] = {
    "number_double_huge_neg_exp": [0.0],
    "number_huge_exp": "invalid_payload",
    "number_neg_int_huge_exp": "invalid_payload",
    "number_pos_double_huge_exp": "invalid_payload",
    "number_real_neg_overflow": "invalid_payload",
    "number_real_pos_overflow": "invalid_payload",
    "number_real_underflow": [0.0],
    "number_too_big_neg_int": [-123123123123123123123123123123],
    "number_too_big_pos_int": [100000000000000000000],
    "number_very_big_negative_int": [-237462374673276894279832749832423479823246327846],
    "object_key_lone_2nd_surrogate": {"\ufffd": 0},
    "string_1st_surrogate_but_2nd_missing": ["\ufffd"],
    "string_1st_valid_surrogate_2nd_invalid": ["\ufffd\u1234"],
    "string_UTF-16LE_with_BOM": "invalid_json",
    "string_UTF-8_invalid_sequence": "invalid_json",
    "string_UTF8_surrogate_U+D800": "invalid_json",
    "string_incomplete_surrogate_and_escape_valid": ["\ufffd\n"],
    "string_incomplete_surrogate_pair": ["\ufffda"],
    "string_incomplete_surrogates_escape_valid": ["\ufffd\ufffd\n"],
    "string_invalid_lonely_surrogate": ["\ufffd"],
    "string_invalid_surrogate": ["\ufffdabc"],
    "string_invalid_utf-8": "invalid_json",
    "string_inverted_surrogates_U+1D11E": ["\ufffd\ufffd"],
    "string_iso_latin_1": "invalid_json",
    "string_lone_second_surrogate": ["\ufffd"],
    "string_lone_utf8_continuation_byte": "invalid_json",
    "string_not_in_unicode_range": "invalid_json",
    "string_overlong_sequence_2_bytes": "invalid_json",
    "string_overlong_sequence_6_bytes": "invalid_json",
    "string_overlong_sequence_6_bytes_null": "invalid_json",
    "string_truncated-utf-8": "invalid_json",
    "string_utf16BE_no_BOM": "invalid_json",
    "string_utf16LE_no_BOM": "invalid_json",
    "structure_500_nested_arrays": "invalid_json",
    "structure_UTF-8_BOM_empty_object": "invalid_json",
}
"""What parsers may decide, as a property's value: what is kept of it, or the code of its refusal."""


@pytest.mark.parametrize("path", files("i"), ids=name_of)
def test_what_parsers_may_decide_is_decided(server: Hostile, path: Path) -> None:
    expected = FEATURES[path.stem.removeprefix("i_")]
    answer = server.send(with_value(path.name, path.read_bytes()))
    if isinstance(expected, str):
        refused(answer, 400, expected)
        return
    assert answer.json() == {"success": True}
    found = server.trace(path.name)
    assert found["final"]["properties"] == {"v": expected}
    assert found["envelope"].get("repaired", False) is ("\ufffd" in json.dumps(expected, ensure_ascii=False))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7"]
)
def test_other_encodings_are_refused(server: Hostile, encoding: str) -> None:
    body = with_value("encoded", b'"+AHs-"').decode().encode(encoding)
    if encoding == "utf-7":
        body = body.replace(b"{", b"+AHs-")
    refused(server.send(body), 400, "invalid_json")


def test_one_byte_order_mark_is_taken_off_and_a_second_one_is_no_json(server: Hostile) -> None:
    body = b"\xef\xbb\xbf" + with_value("marked", b"1")
    for path in ("/v1/t", "/v1/batch"):
        whole = body if path == "/v1/t" else b'\xef\xbb\xbf{"batch":[%s]}' % with_value("marked-2", b"1")
        assert server.send(whole, path).status == 200
        refused(server.send(b"\xef\xbb\xbf" + whole, path), 400, "invalid_json")


# ── 6 to 9: depth and numbers ────────────────────────────────────────────────────────────────


def test_32_levels_go_the_whole_way_and_33_are_refused(server: Hostile) -> None:
    deepest = b"[" * 30 + b"1" + b"]" * 30  # with the event and its properties: 32
    assert server.send(with_value("deep", deepest)).json() == {"success": True}
    assert server.stored("deep")["properties"] == {"v": json.loads(deepest)}
    for path in ("/v1/t", "/v1/track", "/events"):
        refused(server.send(with_value("deeper", b"[%s]" % deepest), path), 400, "invalid_json")
    assert server.is_new("deeper")


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        ("9007199254740993", 2**53 + 1),
        ("9223372036854775808", 2**63),
        ("18446744073709551616", 2**64),
        ("-9223372036854775809", -(2**63) - 1),
        ("9" * 400, 10**400 - 1),
        ("1" * 4_300, int("1" * 4_300)),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1E-400", 0.0),
        ("1.0", 1.0),
        ("1", 1),
        ("1e5", 100_000.0),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("123456789012345678901234567890.5", 1.2345678901234568e29),
    ],
    ids=lambda value: str(value)[:20],
)
def test_numbers_come_back_as_they_were_meant(server: Hostile, number: str, kept: float) -> None:
    message_id = f"number-{number[:30]}-{len(number)}"
    assert server.send(with_value(message_id, number.encode())).json() == {"success": True}
    found = server.stored(message_id)["properties"]["v"]
    assert (repr(found), type(found)) == (repr(kept), type(kept)), "1 and 1.0, 0.0 and -0.0 are not the same"
    assert repr(server.trace(message_id)["final"]["properties"]["v"]) == repr(kept)


@pytest.mark.parametrize("number", ["1E400", "-1E400", "1" * 4_301, "-" + "1" * 5_000])
def test_numbers_beyond_all_bounds_are_refused(server: Hostile, number: str) -> None:
    refused(server.send(with_value("beyond", number.encode())), 400, "invalid_payload")
    mixed = server.send(
        b'{"batch":[%s,%s]}'
        % (with_value("beyond", number.encode()), with_value(f"beside-{number[:9]}", b"1")),
        "/v1/batch",
    )
    assert (mixed.json()["accepted"], mixed.json()["rejected"]) == (1, 1)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan", "undefined", "True", "0x1", "01"])
def test_words_that_only_some_languages_know_are_refused(server: Hostile, word: str) -> None:
    refused(server.send(with_value("word", word.encode())), 400, "invalid_json")


# ── 10 to 14: strings and keys ───────────────────────────────────────────────────────────────


def test_half_a_character_costs_its_neighbours_nothing(server: Hostile) -> None:
    bad, good = with_value("half", rb'"cut \ud83d"'), with_value("beside-half", rb'"\ud83d\ude00"')
    answer = server.send(b'{"batch":[%s,%s]}' % (bad, good), "/v1/batch")
    assert answer.json() == {"success": True, "accepted": 2}
    half, whole = server.trace("half"), server.trace("beside-half")
    assert half["final"]["properties"] == {"v": "cut \ufffd"}
    assert whole["final"]["properties"] == {"v": "😀"}
    assert half["envelope"]["repaired"] is whole["envelope"]["repaired"] is True, "it is said of the request"


def test_of_doubled_keys_the_last_one_counts_everywhere(server: Hostile) -> None:
    """A validator that saw one of them and a vendor that saw the other would be two events."""
    body = (
        b'{"type":"identify","type":"track","event":"first","event":"last","messageId":"m","messageId":"dup",'
        b'"userId":"u-1","userId":"u-2","extra":1,"extra":2,"properties":{"a":1},"properties":{"a":2,"a":3},'
        b'"context":{"consent":{"marketing":true}},"context":{"consent":{"marketing":false}}}'
    )
    assert server.send(body).json() == {"success": True}
    found = server.trace("dup")
    for event in (found["canonical"], found["final"]):
        assert (event["type"], event["event"], event["userId"]) == ("track", "last", "u-2")
        assert (event["properties"], event["original"]) == ({"a": 3}, {"extra": 2})
        assert event["context"]["consent"]["marketing"] is False
    assert server.is_new("m")


def test_the_last_of_doubled_keys_is_the_one_that_is_checked(server: Hostile) -> None:
    assert server.send(b'{"type":7,"type":"track","event":"x"}').status == 400, "each has to have its type"
    refused(server.send(b'{"type":"track","event":"x","event":""}'), 400, "invalid_payload")
    batch = b'{"batch":[7],"batch":[%s]}' % with_value("last-batch", b"1")
    assert server.send(batch, "/v1/batch").json() == {"success": True, "accepted": 1}


@pytest.mark.parametrize("key", ["__proto__", "constructor", "prototype", "toString", "", "a.b", "$", "\0"])
def test_any_key_is_data(server: Hostile, key: str) -> None:
    value = {key: {"polluted": True}}
    message_id = f"key-{key.encode().hex()}"
    body: dict[str, Any] = {"type": "track", "event": "x", "messageId": message_id}
    body |= {"properties": value, "traits": value}
    body |= {"context": value, "integrations": value, key: 1}
    assert server.send(json.dumps(body).encode()).json() == {"success": True}
    found = server.stored(message_id)
    assert (found["properties"], found["traits"], found["integrations"]) == (value, value, value)
    assert found["context"][key] == value[key]
    assert found["original"] == {key: 1}


def naughty_strings() -> list[str]:
    found: list[str] = json.loads(material("data/blns.json").read_text(encoding="utf-8"))
    return found


def naughty_event(number: int, text: str) -> dict[str, Any]:
    """The text in each place where a client may write what it likes."""
    return {
        "type": "track",
        "event": text[:200] or "empty",
        "messageId": f"naughty-{number}",
        "userId": text[:255],
        "properties": {text: text, "list": [text]},
        "context": {"page": {"title": text}, "userAgent": text},
        text: text,
    }


def test_every_naughty_string_is_stored_and_shown_as_it_was(server: Hostile) -> None:
    events = [naughty_event(number, text) for number, text in enumerate(naughty_strings())]
    body = json.dumps({"batch": events}, ensure_ascii=False).encode()
    assert server.send(body, "/v1/batch").json() == {"success": True, "accepted": 515}
    for sent in events:
        found = server.trace(sent["messageId"])
        for event in (found["canonical"], found["final"]):
            assert (event["event"], event["properties"]) == (sent["event"], sent["properties"])
            assert event["context"]["page"]["title"] == sent["context"]["page"]["title"]
        assert (found["canonical"].get("userId") or "") == sent["userId"]
        # An id that names nobody goes to no vendor.
        own = "" if is_nonsense(sent["userId"]) else sent["userId"]
        assert (found["final"].get("userId") or "") == own
        assert json.loads(found["raw"]) == sent


def test_every_naughty_string_may_be_an_id(server: Hostile) -> None:
    short = {text for text in naughty_strings() if len(text) <= 255 and not is_nonsense(text)}
    events = [{"type": "track", "event": "x", "messageId": text} for text in short]
    answer = server.send(json.dumps({"batch": events}).encode(), "/v1/batch")
    assert answer.json() == {"success": True, "accepted": len(short)}
    for text in short:
        assert server.trace(text)["message_id"] == text


def test_every_naughty_string_is_a_pipelines_name_or_is_refused_and_can_be_searched(server: Hostile) -> None:
    pipeline = server.management.create_pipeline("Naughty")
    url = f"{server.server.base_url}/v1/admin/pipelines"
    bearer = {"Authorization": f"Bearer {server.management.token}"}
    taken = 0
    for text in naughty_strings():
        body = json.dumps({"name": text, "labels": [text[:100]]}).encode()
        answer = request(f"{url}/{pipeline.id}", "PUT", body, bearer)
        if answer.status == 200:
            taken += 1
            assert (answer.json()["name"], answer.json()["labels"]) == (text, [text[:100]])
        else:
            assert (answer.status, answer.json()["error"]["code"]) == (422, "VALIDATION_ERROR"), text
        found = request(f"{url}?search={quote(text)}", headers=bearer)
        assert found.status == 200
        if answer.status == 200:
            assert text in [one["name"] for one in found.json()["pipelines"]]
    assert taken > 450, "only control characters, what is empty and what is too long may be refused"


# ── 15 to 19: shape and size ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/v1/t", "/v1/batch", "/v1/track", "/v1/import", "/v1/challenge"])
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"0", b"true", b" ", b"{}{}", b"{},"])
def test_what_is_no_object_is_refused(server: Hostile, path: str, body: bytes) -> None:
    answer = server.send(body, path)
    refused(
        answer, 400, "invalid_payload" if body in (b"null", b"[]", b'"x"', b"0", b"true") else "invalid_json"
    )


@pytest.mark.parametrize(
    "content_type",
    ["text/xml", "multipart/form-data; boundary=x", "application/octet-stream", "", "nonsense", "a/b;" * 500],
)
def test_the_content_type_decides_nothing(server: Hostile, content_type: str) -> None:
    answer = server.send(with_value("", b"1"), Content_Type=content_type)
    assert answer.json() == {"success": True}


@pytest.mark.parametrize(
    "body",
    [
        b"<event/>",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--',
        b"event=x&type=track",
    ],
)
def test_what_is_no_json_is_none_whatever_it_calls_itself(server: Hostile, body: bytes) -> None:
    for content_type in ("application/json", "text/xml", "multipart/form-data; boundary=x"):
        refused(server.send(body, Content_Type=content_type), 400, "invalid_json")


def test_unknown_fields_are_kept(server: Hostile) -> None:
    body = b'{"type":"track","event":"x","messageId":"fields","nonsense":{"a":[1]},"Event":"y","user_id":"u"}'
    assert server.send(body).json() == {"success": True}
    found = server.stored("fields")
    assert found["original"] == {"nonsense": {"a": [1]}, "Event": "y", "user_id": "u"}
    assert (found["event"], found.get("userId")) == ("x", None)


@pytest.mark.parametrize(
    ("chars", "code"),
    [(0, "invalid_payload"), (1, None), (200, None), (201, "invalid_payload"), (100_000, "event_too_large")],
)
def test_how_long_a_name_may_be(server: Hostile, chars: int, code: str | None) -> None:
    answer = server.send(b'{"type":"track","event":"%s"}' % ("é" * chars).encode())
    if code:
        refused(answer, 400, code)
    else:
        assert answer.json() == {"success": True}


def test_many_properties_are_taken_as_far_as_the_event_has_room(server: Hostile) -> None:
    many = b"{%s}" % b",".join(b'"k%d":%d' % (number, number) for number in range(4_000))
    assert server.send(with_value("many", many)).json() == {"success": True}
    assert len(server.stored("many")["properties"]["v"]) == 4_000
    more = b"{%s}" % b",".join(b'"k%d":1' % number for number in range(10_000))
    refused(server.send(with_value("more", more)), 400, "event_too_large")
    refused(server.send(with_value("more", b'"%s"' % (b"x" * 1_048_576))), 413, "body_too_large")


# ── 20 to 24: batches, times, ids ────────────────────────────────────────────────────────────


def batch_of(count: int) -> bytes:
    return b'{"batch":[%s]}' % b",".join([b'{"type":"track","event":"x"}'] * count)


def test_how_many_events_a_batch_may_have(server: Hostile) -> None:
    for count in (0, 1, 2_500):
        assert server.send(batch_of(count), "/v1/batch").json() == {"success": True, "accepted": count}
    assert "2,501" in refused(server.send(batch_of(2_501), "/v1/batch"), 400, "batch_too_large")


def test_parts_of_a_batch_that_are_no_events(server: Hostile) -> None:
    parts = [b"[[]]", b"null", b"1", b'"x"', b"true", b'{"batch":[]}', with_value("good-part", b"1")]
    answer = server.send(b'{"batch":[%s]}' % b",".join(parts), "/v1/batch").json()
    assert (answer["accepted"], answer["rejected"]) == (1, 6)
    assert [one["index"] for one in answer["errors"]] == [0, 1, 2, 3, 4, 5]
    assert {one["code"] for one in answer["errors"]} == {"invalid_payload"}
    assert server.stored("good-part")["event"] == "x"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b'"2036-02-25T10:00:00Z"', "2036-02-25T10:00:00.000Z"),
        (b'"1970-01-01T00:00:00Z"', "1970-01-01T00:00:00.000Z"),
        (b"0", "1970-01-01T00:00:00.000Z"),
        (b"1772013600123", "2026-02-25T10:00:00.123Z"),
        (b"1772013600123.9", "2026-02-25T10:00:00.123Z"),
        (b'"2026-02-25T12:00:00+02:00"', "2026-02-25T10:00:00.000Z"),
        (b'"2026-02-25"', "2026-02-25T00:00:00.000Z"),
        (b'"2016-12-31T23:59:60Z"', None),
        (b'"2026-02-30T00:00:00Z"', None),
        (b'"9999999-01-01T00:00:00Z"', None),
        (b'"1772013600123"', "2026-02-25T10:00:00.123Z"),
        (b"18446744073709551616", None),
        (b"-18446744073709551616", None),
        (b'"yesterday"', None),
        (b'"\\u0000"', None),
        (b'""', None),
        (b"null", None),
        (b"9" * 100, None),
    ],
)
def test_what_a_time_may_be(server: Hostile, given: bytes, kept: str | None) -> None:
    message_id = f"time-{given.hex()}"
    body = b'{"type":"track","event":"x","messageId":"%s","timestamp":%s}' % (message_id.encode(), given)
    assert server.send(body).json() == {"success": True}
    found = server.stored(message_id)
    assert found["timestamp"] == (kept or found["receivedAt"]), "what is no time gives the time of receipt"


@pytest.mark.parametrize("given", [b"{}", b"[]", b"true"])
def test_what_no_time_may_be(server: Hostile, given: bytes) -> None:
    refused(server.send(b'{"type":"track","event":"x","timestamp":%s}' % given), 400, "invalid_payload")


def test_the_same_id_at_the_same_moment_is_one_event(server: Hostile) -> None:
    body, start, answers = with_value("at-once", b"1"), threading.Barrier(16), list[Answer]()
    url, bearer = f"{server.server.base_url}/v1/t", {"Authorization": f"Bearer {server.key}"}

    def send() -> None:
        start.wait()
        answers.append(request(url, "POST", body, bearer))

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.body for answer in answers).count(b'{"success": true}') == 1
    assert server.stored("at-once")["event"] == "x"
    again = server.send(b'{"batch":[%s,%s]}' % (body, body), "/v1/batch").json()
    assert again == {"success": True, "accepted": 2, "deduplicated": 2}
    other = server.management.create_pipeline("Others")
    assert server.send(body, key=other.key).json() == {"success": True}, "the id is the pipeline's own"


@pytest.mark.parametrize(
    "value", [b"7", b"true", b"[]", b"{}", b'"%s"' % (b"x" * 256), b'"%s"' % (b"x" * 10_240)]
)
def test_what_no_message_id_may_be(server: Hostile, value: bytes) -> None:
    body = b'{"type":"track","event":"x","messageId":%s}' % value
    refused(server.send(body), 400, "invalid_payload")
    assert server.send(b'{"batch":[%s]}' % body, "/v1/batch").json()["rejected"] == 1


# ── 25: compression ──────────────────────────────────────────────────────────────────────────


def test_gzip_is_known_by_its_bytes_alone(server: Hostile) -> None:
    body = gzip.compress(with_value("zipped", b"1"))
    assert server.send(body).json() == {"success": True}
    assert server.send(body, Content_Encoding="gzip").json()["deduplicated"] is True
    assert server.send(body, Content_Type="text/plain").json()["deduplicated"] is True
    assert server.send(with_value("zipped", b"1"), Content_Encoding="gzip").json()["deduplicated"] is True
    members = gzip.compress(with_value("zipped", b"1")[:20]) + gzip.compress(with_value("zipped", b"1")[20:])
    assert server.send(members).json()["deduplicated"] is True


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("br", brotli.compress(with_value("packed", b"1"))),
        ("deflate", zlib.compress(with_value("packed", b"1"))),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x58"),
        ("gzip, gzip", gzip.compress(gzip.compress(with_value("packed", b"1")))),
        ("x" * 10_000, b"?"),
    ],
    ids=["br", "deflate", "zstd", "twice", "long"],
)
def test_another_compression_is_refused_by_its_name(server: Hostile, encoding: str, packed: bytes) -> None:
    message = refused(server.send(packed, Content_Encoding=encoding), 400, "invalid_json")
    assert f"Content-Encoding {encoding[:40]} is not taken, only gzip is" in message
    assert len(message) < 300
    assert "Content-Encoding" not in refused(server.send(packed), 400, "invalid_json")
    assert server.is_new("packed") or encoding != "br"


@pytest.mark.parametrize("path", ["/v1/t", "/v1/batch", "/v1/events", "/v1/challenge", "/events"])
def test_a_bomb_is_inflated_no_further_than_the_limit(server: Hostile, path: str) -> None:
    before = server.peak_memory_bytes()
    answer = server.send(BOMB, path)
    is_lenient = path == "/events"
    refused(answer, 400 if is_lenient else 413, "event_too_large" if is_lenient else "body_too_large")
    assert server.peak_memory_bytes() - before < 32_000_000, "inflated whole it has 64 MB"


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(with_value("torn", b"1"))[:-1],
        gzip.compress(with_value("torn", b"1"))[:12],
        b"\x1f\x8b" + b"\xff" * 50,
        gzip.compress(with_value("torn", b"1"))[:-8] + b"\0" * 8,
        gzip.compress(with_value("torn", b"1")) + b"trailing",
        gzip.compress(b"") * 17,
    ],
    ids=["cut", "head", "noise", "checksum", "trailing", "members"],
)
def test_torn_gzip_is_refused(server: Hostile, packed: bytes) -> None:
    for headers in ({}, {"Content_Encoding": "gzip"}):
        refused(server.send(packed, **headers), 400, "invalid_json")
