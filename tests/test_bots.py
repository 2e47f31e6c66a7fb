"""Known crawlers, empty user agents, the user's own patterns; and strangers' user agents of any shape."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import crawleruseragents  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafly_lite.bots import LONGEST_USER_AGENT_CHARS, Bot, BotFiltering, known_bot, problems, recognise

RULES = BotFiltering()
BROWSERS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
    "Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0",
]
CRAWLERS = crawleruseragents.CRAWLER_USER_AGENTS_DATA


@pytest.mark.parametrize("user_agent", BROWSERS)
def test_a_visitor_is_no_bot(user_agent: str) -> None:
    assert recognise(user_agent, RULES) is None


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
        ("Mozilla/5.0 AppleWebKit/537.36 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", "GPTBot"),
        ("curl/8.5.0", "curl"),
    ],
)
def test_a_known_bot_is_named(user_agent: str, name: str) -> None:
    assert recognise(user_agent, RULES) == Bot("known_bot", name)


def test_every_crawler_of_the_list_is_recognised_by_its_own_examples() -> None:
    examples = [
        one[:LONGEST_USER_AGENT_CHARS] for crawler in CRAWLERS for one in crawler.get("instances", [])
    ]
    assert len(examples) > 1000
    assert [one for one in examples if known_bot(one.strip()) is None] == []


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from([one["pattern"] for one in CRAWLERS]), st.text(max_size=40))
def test_the_answer_is_that_of_the_lists_own_expressions(before: str, pattern: str, after: str) -> None:
    user_agent = before + re.sub(r"\\(\W)", r"\1", pattern) + after
    assert (known_bot(user_agent) is not None) == crawleruseragents.is_crawler(user_agent)


@pytest.mark.parametrize("user_agent", [None, "", "  \t"])
def test_no_user_agent_is_a_reason_of_its_own(user_agent: str | None) -> None:
    assert recognise(user_agent, RULES) == Bot("empty_user_agent")


def test_a_filter_that_is_off_sees_nothing() -> None:
    rules = BotFiltering(enabled=False, block_known_bots=True, custom_patterns=("*",))
    assert recognise("Googlebot/2.1", rules) is None
    assert recognise(None, rules) is None


@pytest.mark.parametrize(
    ("pattern", "user_agent", "expected"),
    [
        ("internal-monitor/*", "internal-monitor/2.1", True),
        ("internal-monitor/*", "Internal-Monitor/", True),
        ("internal-monitor/*", "my internal-monitor/2.1", False),
        ("*internal-monitor/*", "my internal-monitor/2.1", True),
        ("internal-monitor", "internal-monitor", True),
        ("Internal-Monitor", "internal-monitor/2.1 (x)", True),
        ("internal-monitor", "internal-monitor 2", True),
        ("internal-monitor", "internal-monitoring/1", False),
        ("internal-monitor", "Mozilla/5.0 internal-monitor", False),
        ("*check", "uptime check", True),
        ("*check", "uptime checker", False),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "a--c--b", False),
        ("ab*ba", "aba", False),
        ("a.c*", "abc", False),
        ("[ab]*", "a", False),
        ("*", "anything", True),
    ],
)
def test_a_pattern_matches_as_it_reads(pattern: str, user_agent: str, expected: bool) -> None:
    found = recognise(user_agent, BotFiltering(custom_patterns=("other/*", pattern)))
    assert (found == Bot("custom_pattern", pattern)) is expected


@settings(deadline=None)
@given(st.text("abc", max_size=12), st.text("abc*", min_size=1, max_size=8).filter(lambda one: "*" in one))
def test_a_star_means_what_it_means_to_a_shell(user_agent: str, pattern: str) -> None:
    found = recognise(f"x{user_agent}", BotFiltering(custom_patterns=(f"x{pattern}",)))
    assert (found is not None) == fnmatchcase(user_agent, pattern)


def test_the_users_own_list_wins_and_always_blocks() -> None:
    rules = BotFiltering(custom_patterns=("*googlebot*",))
    found = recognise("Googlebot/2.1", rules)
    assert found == Bot("custom_pattern", "*googlebot*")
    assert rules.blocks(found)


@pytest.mark.parametrize(
    ("given", "known", "empty"),
    [
        ({}, False, False),
        ({"block_known_bots": True}, True, False),
        ({"block_empty_user_agent": True}, False, True),
    ],
)
def test_what_is_recognised_is_blocked_where_the_rules_say_so(given: Any, known: bool, empty: bool) -> None:
    rules = BotFiltering(**given)
    assert rules.blocks(Bot("known_bot", "x")) is known
    assert rules.blocks(Bot("empty_user_agent")) is empty


HOSTILE = [
    "Current" * 100_000,
    "ContextualBot" * 10_000,
    "BlogTraffic/1." * 10_000,
    "Spider" * 20_000,
    "\\" * 100_000,
    "\ud800" * 10,
    "a" * 1_000_000,
]


@pytest.mark.parametrize("user_agent", HOSTILE)
def test_a_hostile_user_agent_gets_an_answer(user_agent: str) -> None:
    rules = BotFiltering(custom_patterns=("*" + "a*" * 90 + "b",))
    found = recognise(user_agent, rules)
    assert found is None or found.reason == "known_bot"


def test_no_expression_of_the_list_repeats_a_repeat() -> None:
    patterns = [one["pattern"] for one in CRAWLERS]
    assert [one for one in patterns if re.search(r"[*+}]\)?[*+{]|\([^)]*[*+][^)]*\)[*+{]", one)] == []


@pytest.mark.parametrize(
    ("patterns", "field"),
    [
        (["ok", "x" * 201], "custom_patterns[1]"),
        (["**"], "custom_patterns[0]"),
        ([" "], "custom_patterns[0]"),
        (["x"] * 101, "custom_patterns"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(patterns: list[Any], field: str) -> None:
    assert [one for one, _ in problems(BotFiltering(custom_patterns=tuple(patterns)))] == [field]


def test_the_documented_patterns_have_no_problem() -> None:
    assert problems(BotFiltering(custom_patterns=("internal-monitor/*", "health-check/*"))) == []
