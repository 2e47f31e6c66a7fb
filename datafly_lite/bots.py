"""Who sends events without being a visitor: known crawlers, no user agent at all, the user's own list.

Known are those of github.com/monperrus/crawler-user-agents, whose patterns are case-sensitive
(`is_crawler` of that package has it as its default) and mostly plain text: text is looked for as text,
which is quick and the same for whatever a stranger sends; the few real expressions have no nested repeats.
HTTP libraries such as curl and python-requests are on that list too.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import crawleruseragents  # type: ignore[import-untyped]
import msgspec

LONGEST_USER_AGENT_CHARS = 1000
LONGEST_PATTERN_CHARS = 200
MOST_PATTERNS = 100

PLAIN = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\[^a-zA-Z0-9])+")
ESCAPE = re.compile(r"\\(.)")
NAME = re.compile(r"[\w-]")

Reason = Literal["known_bot", "empty_user_agent", "custom_pattern"]


class Bot(msgspec.Struct, frozen=True):
    """`detail` is the known crawler's name or the user's pattern; empty without a user agent."""

    reason: Reason
    detail: str = ""


class BotFiltering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for, and what of it is dropped (spec/datafly-signal.md, 9.6).

    Defaults: known bots and empty user agents are recognised and pass; no patterns of one's own. Only a
    request of the visitor's own machine is asked for a user agent: what a server sends mostly has none.

    A pattern is compared in any letters. `*` stands for any text, and the whole user agent must match:
    `internal-monitor/*`, `*headless*`. A pattern without `*` is the whole user agent or the name that it
    begins with: `internal-monitor` is also `internal-monitor/2.1 (x)`, but not `internal-monitoring/1`.
    """

    enabled: bool = True
    block_known_bots: bool = False
    block_empty_user_agent: bool = False
    custom_patterns: tuple[str, ...] = ()

    def blocks(self, bot: Bot) -> bool:
        """Whether its events go no further; the user's own patterns are there for nothing else."""
        if bot.reason == "custom_pattern":
            return True
        return self.block_known_bots if bot.reason == "known_bot" else self.block_empty_user_agent


def recognise(user_agent: str | None, rules: BotFiltering) -> Bot | None:
    """The bot that this user agent is; None for a visitor, and always where the filter is off."""
    if not rules.enabled:
        return None
    text = (user_agent or "").strip()[:LONGEST_USER_AGENT_CHARS]
    if not text:
        return Bot("empty_user_agent")
    if rules.custom_patterns:
        small = text.casefold()
        for pattern in rules.custom_patterns:
            if _matches(small, pattern.casefold()):
                return Bot("custom_pattern", pattern)
    return known_bot(text)


@lru_cache(maxsize=4096)
def known_bot(user_agent: str) -> Bot | None:
    """The first crawler of the list that the user agent names."""
    crawlers = _crawlers()
    name = next((one for one in crawlers.texts if one in user_agent), None)
    if name is None:
        found = (one.search(user_agent) for one in crawlers.expressions)
        name = next((match[0] for match in found if match), None)
    return None if name is None else Bot("known_bot", name.strip("/ ;(+")[:100] or name)


def problems(rules: BotFiltering) -> list[tuple[str, str]]:
    """(field, message) for each pattern that cannot be used."""
    found: list[tuple[str, str]] = []
    if len(rules.custom_patterns) > MOST_PATTERNS:
        found.append(("custom_patterns", f"at most {MOST_PATTERNS} patterns are taken"))
    for index, pattern in enumerate(rules.custom_patterns):
        field = f"custom_patterns[{index}]"
        if len(pattern) > LONGEST_PATTERN_CHARS:
            found.append((field, f"must have at most {LONGEST_PATTERN_CHARS} characters"))
        elif not pattern.strip("* "):
            found.append((field, "must hold more than *: it would match every event, or none"))
    return found


class _Crawlers(NamedTuple):
    texts: tuple[str, ...]
    expressions: tuple[re.Pattern[str], ...]


@cache
def _crawlers() -> _Crawlers:
    patterns = [one["pattern"] for one in crawleruseragents.CRAWLER_USER_AGENTS_DATA]
    plain = [one for one in patterns if PLAIN.fullmatch(one)]
    texts = tuple(ESCAPE.sub(r"\1", one) for one in plain)
    return _Crawlers(texts, tuple(re.compile(one) for one in patterns if one not in set(plain)))


def _matches(text: str, pattern: str) -> bool:
    """Piece after piece from the left: in proportion to the text, however many stars there are."""
    first, *pieces = pattern.strip().split("*")
    if not text.startswith(first):
        return False
    if not pieces:
        return NAME.match(text, len(first)) is None
    *middle, last = pieces
    at = len(first)
    for piece in middle:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return len(text) - len(last) >= at and text.endswith(last)
