"""What a user agent tells of the device, its system and its browser, and what it only seems to tell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.devices import LONGEST_USER_AGENT_CHARS, describe

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
IOS = "like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


def shown(user_agent: str) -> tuple[Any, ...]:
    """(type, manufacturer, model), (os, version), (browser, version)."""
    found = describe(user_agent)
    return tuple(tuple(found.get(part, {}).values()) for part in ("device", "os", "browser"))


@pytest.mark.parametrize(
    ("user_agent", "device", "system", "browser"),
    [
        (
            f"Mozilla/5.0 (Linux; Android 13; SM-S918B) {CHROME} Mobile Safari/537.36",
            ("mobile", "Samsung", "SM-S918B"),
            ("Android", "13"),
            ("Chrome Mobile", "131"),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 12; SM-X906C) {CHROME} Safari/537.36",
            ("tablet", "Samsung", "SM-X906C"),
            ("Android", "12"),
            ("Chrome", "131"),
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 {IOS} Version/17.5 Mobile/15E148 Safari/604.1",
            ("mobile", "Apple", "iPhone"),
            ("iOS", "17.5.1"),
            ("Mobile Safari", "17.5"),
        ),
        (
            f"Mozilla/5.0 (iPad; CPU OS 12_2 {IOS} Version/12.1 Mobile/15E148 Safari/604.1",
            ("tablet", "Apple", "iPad"),
            ("iOS", "12.2"),
            ("Mobile Safari", "12.1"),
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ("desktop", None, None),
            ("Linux", None),
            ("Firefox", "140"),
        ),
        (
            "Mozilla/5.0 (Android 14; Tablet; rv:140.0) Gecko/140.0 Firefox/140.0",
            ("tablet", None, None),
            ("Android", "14"),
            ("Firefox Mobile", "140"),
        ),
        (
            "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
            ("desktop", None, None),
            ("Windows", "7"),
            ("IE", "11"),
        ),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ("bot", None, None),
            (),
            ("Googlebot", "2.1"),
        ),
    ],
)
def test_a_user_agent_is_described(
    user_agent: str, device: tuple[Any, ...], system: tuple[Any, ...], browser: tuple[Any, ...]
) -> None:
    assert shown(user_agent) == (device, system, browser)


@pytest.mark.parametrize(
    ("user_agent", "device", "system"),
    [
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36",
            ("mobile", None, None),
            ("Android", None),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Safari/537.36",
            ("tablet", None, None),
            ("Android", None),
        ),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36",
            ("desktop", None, None),
            ("Windows", None),
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36",
            ("desktop", "Apple", "Mac"),
            ("Mac OS X", None),
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0",
            ("desktop", "Apple", "Mac"),
            ("Mac OS X", None),
        ),
        (
            f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36",
            ("desktop", None, None),
            ("Chrome OS", None),
        ),
    ],
)
def test_a_value_that_every_machine_sends_says_nothing(
    user_agent: str, device: tuple[Any, ...], system: tuple[Any, ...]
) -> None:
    assert shown(user_agent)[:2] == (device, system)


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        ("Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 Chrome/76 TV Safari/537.36", "tv"),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36 WebAppManager", "tv"),
        (f"Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR2 Build/PTT1) {CHROME} Safari/537.36", "tv"),
        ("Mozilla/5.0 (Linux; Android 7.1.2; AFTMM Build/NS6265; wv) Chrome/70 Mobile Safari/537.36", "tv"),
        ("Roku/DVP-9.10 (519.10E04111A)", "tv"),
        ("AppleTV11,1/11.1", "tv"),
        ("Mozilla/5.0 (PlayStation; PlayStation 5/6.00) AppleWebKit/605.1.15 Safari/605.1.15", "console"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) {CHROME} Safari/537.36", "console"),
        ("Mozilla/5.0 (Apple Watch; CPU Watch OS 9_0 like Mac OS X)", "wearable"),
        ("Mozilla/5.0 (Linux; Android 9; KFTRWI) AppleWebKit/537.36 Silk/108 Safari/537.36", "tablet"),
        (f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {CHROME} Mobile (compatible; Googlebot/2.1)", "bot"),
    ],
)
def test_every_kind_of_device_has_its_word(user_agent: str, kind: str) -> None:
    assert describe(user_agent)["device"]["type"] == kind


@pytest.mark.parametrize("user_agent", ["", "-", "MyShop/1.0", "\ud800", "\x00"])
def test_a_user_agent_that_tells_nothing_gives_nothing(user_agent: str) -> None:
    assert describe(user_agent) == {}


def test_an_app_of_no_known_system_has_no_kind_of_device() -> None:
    assert describe("okhttp/4.9.3")["device"] == {"type": None, "manufacturer": None, "model": None}


def test_only_the_beginning_of_a_long_user_agent_counts() -> None:
    start = f"Mozilla/5.0 (Linux; Android 13; SM-S918B) {CHROME} ".ljust(LONGEST_USER_AGENT_CHARS)
    assert describe(start + "Mobile") == describe(start)
    assert describe(start)["device"]["type"] == "tablet"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_description_of_the_same_shape(text: str) -> None:
    found = describe(f"Mozilla/5.0 ({text}) {CHROME} {text}")
    assert found.keys() <= {"device", "os", "browser"}
    assert found["device"].keys() == {"type", "manufacturer", "model"}
