"""Addresses and tokens that carry a visitor to another site (reliability.md, cases 109 to 112): the rules."""

from __future__ import annotations

import asyncio
import base64
import string
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datafly_lite import cross_domain
from datafly_lite.gateway.handovers import TTL_MS, Claim, Handovers, Redeemed
from datafly_lite.keyring import Keyring
from datafly_lite.store.handovers import REPEAT_MS
from kit import open_store

NOW_MS = 1_772_029_800_000
VISITOR = "0c1d7c1e-6d3a-4f0b-9a51-5b7f7d9d6f11"
OTHER = "9f4b2f0a-3c55-4f1c-8b0e-2f6f9a1d7e22"
BASE64 = string.ascii_letters + string.digits + "-_"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Chrome/131.0.0.0"

EVIL = (
    "",
    "//evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://a.example@evil.example",
    "https://a.example:443@evil.example",
    "https://a.example\\@evil.example",
    "https://a.example\\.evil.example",
    "\\\\evil.example",
    "/\\evil.example",
    "/path",
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://a.example/",
    "https://",
    "https://:443/",
    "https://a.example:0/",
    "https://a.example:99999/",
    "https://a.example:x/",
    "https://a.example\n.evil.example",
    "https://a.example/\r\nSet-Cookie: x=y",
    " https://a.example/",
    "https://a.example\t/",
    "https://ａ.example/",
    "https://\N{KELVIN SIGN}.example/",
    "https://\N{LATIN SMALL LETTER LONG S}.example/",
    "https://a.example./",
    "https://-a.example/",
    "https://a.example%2eevil.example/",
    "https://[::1]/",
    "https://a.example;evil.example/",
    f"https://a.example/{'a' * 5_000}",
)


HALF_A_CHARACTER = "https://a.example/\ud800"


@pytest.mark.parametrize("address", [*EVIL, HALF_A_CHARACTER], ids=lambda one: repr(one[:40]))
def test_what_browsers_could_read_otherwise_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"must be a whole address|has more than"):
        cross_domain.target(address)


@pytest.mark.parametrize(
    ("address", "host", "url"),
    [
        ("https://a.example", "a.example", "https://a.example"),
        ("http://A.Example:8080/x?y=z#h", "a.example", "http://A.Example:8080/x?y=z#h"),
        ("HTTPS://a.example?q", "a.example", "HTTPS://a.example?q"),
        ("https://a.example#@evil.example", "a.example", "https://a.example#@evil.example"),
        (
            "https://a.example/?u=https://evil.example/",
            "a.example",
            "https://a.example/?u=https://evil.example/",
        ),
        ("https://a.example/käse%20", "a.example", "https://a.example/k%C3%A4se%20"),
    ],
)
def test_a_whole_address_keeps_its_letters_and_has_one_host(address: str, host: str, url: str) -> None:
    found = cross_domain.target(address)
    assert found == (url, host)
    assert urlsplit(found.url).hostname == host


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://b.example", "https://b.example?_dfx=T"),
        ("https://b.example/", "https://b.example/?_dfx=T"),
        ("https://b.example/p?a=1&b=2#part", "https://b.example/p?a=1&b=2&_dfx=T#part"),
        ("https://b.example/?#part", "https://b.example/?&_dfx=T#part"),
        ("https://b.example/#/route?x=1", "https://b.example/?_dfx=T#/route?x=1"),
        ("https://b.example/?_dfx=old&a=1", "https://b.example/?a=1&_dfx=T"),
    ],
)
def test_the_token_is_added_and_query_and_hash_stay(address: str, expected: str) -> None:
    assert cross_domain.with_token(address, "T") == expected


queries = st.lists(st.text("abc=%&_dfx1 ü?/", max_size=8), max_size=4).map("&".join)
addresses = st.builds(
    lambda query, fragment: f"https://b.example/p{query and '?' + query}{fragment and '#' + fragment}",
    queries,
    st.text("abc?&=_dfx#/", max_size=8),
)


@given(addresses)
@example("https://b.example/p?&")
@example("https://b.example/p??")
@example("https://b.example/p?&_dfx")
@example("https://b.example/p?%5Fdfx=1&a")
def test_what_was_added_is_stripped_again_and_nothing_else(address: str) -> None:
    plain = cross_domain.strip_token(address)
    decorated = cross_domain.with_token(address, "T")
    assert cross_domain.token_of(decorated) == "T"
    assert cross_domain.token_of(plain) is None
    assert cross_domain.strip_token(decorated) == plain
    others = [pair for pair in parse_qsl(urlsplit(address).query, True) if pair[0] != "_dfx"]
    assert [pair for pair in parse_qsl(urlsplit(plain).query, True) if pair[0] != "_dfx"] == others
    if cross_domain.token_of(address) is None and "_dfx" not in address and "5F" not in address:
        assert plain == address


@pytest.mark.parametrize(
    "value",
    [None, 7, {}, "", "_dfx=T", "https://b.example/#?_dfx=T", f"https://b.example/?_dfx={'T' * 2_000}"],
)
def test_where_no_token_is(value: object) -> None:
    assert cross_domain.token_of(value) is None


# ── Tokens ───────────────────────────────────────────────────────────────────────────────────


class Shop:
    """Handovers over a real store, with a clock that a test turns."""

    def __init__(self, handovers: Handovers) -> None:
        self.handovers = handovers
        self.now_ms = NOW_MS

    async def token(self, host: str = "b.example") -> str:
        made = await self.handovers.issue("pip_1", VISITOR, host, BROWSER)
        assert made is not None
        assert made.expires_at_ms == self.now_ms + TTL_MS <= self.now_ms + 120_000
        return made.token

    async def redeem(self, token: str, **other: str | None) -> str | None:
        return (await self.outcome(token, **other)).visitor

    async def outcome(self, token: str, **other: str | None) -> Redeemed:
        claim = Claim(token, "b.example", BROWSER, "pip_2", "m-1", None, is_granted=False)
        return await self.handovers.redeem(claim._replace(**other))  # type: ignore[arg-type]


def with_shop(folder: Path, work: Callable[[Shop], Awaitable[None]]) -> None:
    async def run() -> None:
        keyring = Keyring.open(folder / "secret.key", create=True)
        async with open_store(folder / "datafly.db") as store:
            shop = Shop(Handovers(store, keyring, lambda: shop.now_ms))
            await work(shop)

    asyncio.run(run())


def test_a_token_works_once_and_says_nothing_of_what_it_holds(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        token = await shop.token()
        assert await shop.redeem(token) == VISITOR
        shop.now_ms += REPEAT_MS
        assert await shop.outcome(token, message_id="m-2") == Redeemed(is_used=True)
        assert await shop.outcome(token, message_id=None) == Redeemed(is_used=True)
        sealed = base64.urlsafe_b64decode(token + "==")
        assert VISITOR.encode() not in sealed
        assert b"b.example" not in sealed
        assert await shop.token() != await shop.token()

    with_shop(tmp_path, work)


def test_the_same_event_may_bring_it_again_because_its_answer_may_be_lost(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        token, unnamed = await shop.token(), await shop.token()
        assert await shop.redeem(token) == VISITOR
        assert await shop.redeem(unnamed, message_id=None) == VISITOR
        shop.now_ms += REPEAT_MS
        assert [await shop.redeem(token) for _ in range(3)] == [VISITOR] * 3
        assert await shop.redeem(unnamed, message_id=None) is None
        assert await shop.redeem(token, pipeline_id="pip_3") is None, "there it is another event"

    with_shop(tmp_path, work)


def test_all_events_of_a_page_that_leave_at_once_bring_the_visitor(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        token = await shop.token()
        answers = await asyncio.gather(*(shop.redeem(token, message_id=f"m-{one}") for one in range(20)))
        assert answers == [VISITOR] * 20
        shop.now_ms += REPEAT_MS - 1
        assert await shop.redeem(token, message_id=None) == VISITOR
        shop.now_ms += 1
        assert await shop.redeem(token, message_id="m-30") is None

    with_shop(tmp_path, work)


@pytest.mark.parametrize(
    "other",
    [{"host": "c.example"}, {"user_agent": "Mozilla/5.0 Firefox/140.0"}, {"pipeline_id": "pip_3"}],
    ids=str,
)
def test_at_once_is_for_the_same_pipeline_host_and_browser(tmp_path: Path, other: dict[str, str]) -> None:
    async def work(shop: Shop) -> None:
        token = await shop.token()
        assert await shop.redeem(token) == VISITOR
        assert await shop.redeem(token, message_id="m-2", **other) is None
        assert await shop.redeem(token, message_id="m-2") == VISITOR

    with_shop(tmp_path, work)


@pytest.mark.parametrize(
    "other",
    [
        {"host": "c.example"},
        {"host": "www.b.example"},
        {"user_agent": "Mozilla/5.0 Firefox/140.0"},
        {"user_agent": None},
        {"present": VISITOR},
    ],
    ids=str,
)
def test_it_is_for_one_host_and_one_browser(tmp_path: Path, other: dict[str, str | None]) -> None:
    async def work(shop: Shop) -> None:
        token = await shop.token()
        assert await shop.redeem(token, **other) is None
        assert await shop.redeem(token) == VISITOR, "what was not for it did not use it up"

    with_shop(tmp_path, work)


@pytest.mark.parametrize(
    ("policy", "is_given"),
    [({}, True), ({"marketing": False}, True), ({"functional": True}, True), ({"functional": False}, False)],
    ids=str,
)
def test_of_whom_nothing_is_known_the_default_policy_decides(
    tmp_path: Path, policy: dict[str, bool], is_given: bool
) -> None:
    async def work(shop: Shop) -> None:
        made = await shop.handovers.issue("pip_1", VISITOR, "b.example", BROWSER, policy)
        assert (made is not None) is is_given

    with_shop(tmp_path, work)


def test_it_ends(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        in_time, late = await shop.token(), await shop.token()
        shop.now_ms += 119_999
        assert await shop.redeem(in_time) == VISITOR
        shop.now_ms += 1
        assert await shop.outcome(late) == Redeemed(is_expired=True)
        assert await shop.outcome(in_time) == Redeemed(is_expired=True)
        assert await shop.outcome(late, host="c.example") == Redeemed()

    with_shop(tmp_path, work)


def test_what_is_no_token_of_this_appliance_is_ignored(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        good = await shop.token()
        sealed = Keyring.open(tmp_path / "secret.key", create=False).encrypt(b"x" * 60)
        for place in range(0, len(good), 7):
            changed = "A" if good[place] != "A" else "B"
            assert await shop.redeem(good[:place] + changed + good[place + 1 :]) is None
        for bad in ("", "x", "T" * 2_000, "é" * 60, good[:-1], good + "A", good + "=", f" {good}"):
            assert await shop.redeem(bad) is None, bad
        assert await shop.redeem(base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()) is None
        assert await shop.redeem(good) == VISITOR

    with_shop(tmp_path, work)


def test_another_spelling_of_a_token_is_the_same_one(tmp_path: Path) -> None:
    """The last letter of base64 has bits that count for nothing."""

    async def work(shop: Shop) -> None:
        tried = 0
        for host in ("b.example", "bb.example", "bbb.example"):
            token = await shop.token(host)
            whole = bytes_of(token)
            spellings = [one for letter in BASE64 if bytes_of(one := token[:-1] + letter) == whole]
            redeemed = []
            for place, one in enumerate(spellings):
                redeemed.append(await shop.redeem(one, host=host, message_id=f"m-{place}"))
                shop.now_ms += REPEAT_MS
            assert redeemed.count(VISITOR) == 1
            tried = max(tried, len(spellings))
        assert tried > 1, "one of three lengths has such bits"

    with_shop(tmp_path, work)


def bytes_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def test_it_fits_into_an_address(tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        host = ".".join(["a" * 63] * 3 + ["b" * 61])
        token = await shop.token(host)
        assert len(host) == 253
        assert len(token) < 512
        assert cross_domain.token_of(cross_domain.with_token("https://b.example/", token)) == token
        assert await shop.redeem(token, host=host) == VISITOR

    with_shop(tmp_path, work)
