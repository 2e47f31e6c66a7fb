"""Device recognition: the visitor whose `_dfid` is gone, known by `_dfdid` (spec/datafly-signal.md, 6.4).

The second cookie names the device; what the headers say of the browser must agree as well. Only headers that
every request has are looked at, without versions: no canvas, no fonts, no address.
"""

from __future__ import annotations

from typing import Any

import ua_parser

from datafly_lite.gateway.callers import Headers, header

LONGEST_SIGNAL = 64
LONGEST_USER_AGENT = 1_000
NEEDED = ("browser", "os")


def is_wanted(identity_config: dict[str, Any]) -> bool:
    """Whether the pipeline asks for it."""
    return identity_config.get("device_recognition") is True


def signals_of(headers: Headers) -> dict[str, str]:
    """What the head says: `browser`, `os`, `language`, `platform`, `mobile`, as far as it does.

    The hints `Sec-CH-UA-Platform` and `-Mobile` come from Chromium alone, and only over https
    (wicg.github.io/ua-client-hints).
    """
    found = ua_parser.parse((header(headers, b"user-agent") or "")[:LONGEST_USER_AGENT])
    languages = header(headers, b"accept-language") or ""
    signals = {
        "browser": found.user_agent.family if found.user_agent else "",
        "os": found.os.family if found.os else "",
        "language": languages.partition(",")[0].partition(";")[0].strip().lower(),
        "platform": (header(headers, b"sec-ch-ua-platform") or "").strip(' "'),
        "mobile": header(headers, b"sec-ch-ua-mobile") or "",
    }
    return {name: value[:LONGEST_SIGNAL] for name, value in signals.items() if value}


def agree(known: dict[str, str], now: dict[str, str]) -> bool:
    """Whether it is the same browser: all that it showed before it shows again.

    Where browser or system is not known, nothing is.
    """
    return all(name in known for name in NEEDED) and all(now.get(name) == one for name, one in known.items())
