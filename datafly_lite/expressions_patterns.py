"""LIKE and MATCHES, whose cost stays in proportion to the text: strangers send the texts.

Python's own `re` tries one way after another, and on some patterns takes for ever (`(a+)+$`). RE2 follows
all ways at once (github.com/google/re2, "RE2 was designed and implemented with an explicit goal of being
able to handle regular expressions from untrusted users without risk"), so back references and looking
around are not offered. `LIKE` needs no such thing: as in CPython's `fnmatch.translate`, an atomic group
for each `%` but the last keeps `re` from trying the earlier ones again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import re2

from datafly_lite.errors import ExpressionError

LONGEST_PATTERN_CHARS = 500
LARGEST_PATTERN_BYTES = 1024 * 1024
"""What RE2 may take for one compiled pattern."""


def like(pattern: str) -> Callable[[str], bool]:
    """`%` stands for any characters, `_` for one; the whole text must fit."""
    pieces = [re.escape(one).replace("_", ".") for one in pattern.split("%")]
    middle = "".join(f"(?>.*?{one})" for one in pieces[1:-1] if one)
    rest = f"{middle}.*{pieces[-1]}" if len(pieces) > 1 else ""
    fits = re.compile(rf"(?s:{pieces[0]}{rest})\Z").match
    return lambda text: fits(text) is not None


def matcher(pattern: str) -> Callable[[str], bool]:
    """A regular expression that is looked for anywhere in a text. Raises ExpressionError at position 1."""
    if len(pattern) > LONGEST_PATTERN_CHARS:
        raise ExpressionError(f"a pattern has at most {LONGEST_PATTERN_CHARS} characters", 1)
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = LARGEST_PATTERN_BYTES
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        words = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ExpressionError(f"the pattern cannot be read: {words}", 1) from None
    return lambda text: search(text) is not None
