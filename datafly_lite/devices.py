"""Device, operating system and browser from a user agent, by the rules of github.com/ua-parser/uap-core.

ua-parser-rs matches them in linear time; where its wheel is missing ua-parser takes re2 or plain Python,
slower and with the same answers. The first call reads the rules: some 0.1 s.

Browsers no longer say all: Chromium writes Windows NT 10.0, Mac OS X 10_15_7, CrOS 14541.0.0 and
`Android 10; K` whatever the machine is (developers.google.com/privacy-sandbox/blog/
user-agent-reduction-android-model-and-version), and Firefox and Safari likewise stay at macOS 10.15 and
Windows 10. These values say nothing, so the version and the model are None there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import ua_parser

LONGEST_USER_AGENT_CHARS = 1000

BOTS = frozenset({"Spider"})
DESKTOPS = frozenset(
    {"Windows", "Mac OS X", "Linux", "Chrome OS", "Ubuntu", "Fedora", "Debian", "FreeBSD", "OpenBSD"}
)
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("console", re.compile(r"PlayStation|Nintendo|Xbox")),
    (
        "tv",
        re.compile(
            r"SMART-TV|SmartTV|Smart TV|Web0S|webOS\.TV|HbbTV|Apple ?TV|Android TV|Google ?TV|BRAVIA|CrKey"
            r"|Roku|\bAFT[A-Z]|\bTV Safari|NetCast|VIDAA"
        ),
    ),
    ("wearable", re.compile(r"Apple Watch|Watch OS|watchOS|Wear OS|OculusBrowser")),
    ("tablet", re.compile(r"iPad|Tablet(?! PC)|\bKF[A-Z]{3,6}\b|PlayBook")),
    ("mobile", re.compile(r"Mobi|iPhone|iPod|Phone")),
    ("tablet", re.compile(r"Android .*(?:AppleWebKit|Gecko)")),
)
"""The first that is found is it. Android's tablets are those whose browser does not say Mobile
(developers.google.com/search/blog/2011/03/mo-better-to-also-detect-mobile-user)."""

FROZEN = {"Windows": ("10",), "Mac OS X": ("10.15", "10.15.7"), "Chrome OS": ("14541",)}
NO_MODELS = frozenset({"K", "Smartphone", "Tablet", "iOS-Device", "Desktop", "Feature Phone"})


def describe(user_agent: str) -> dict[str, Any]:
    """`device` with type, manufacturer and model (spec/datafly-signal.md, 3.6), `os` and `browser` with
    name and version: what of these the user agent tells, and `{}` where it tells nothing.

    `type` is desktop, mobile, tablet, tv, console, wearable or bot. The result is shared: a caller that
    wants to change it copies it.
    """
    # ua-parser-rs takes no half surrogate pairs.
    return _described(user_agent[:LONGEST_USER_AGENT_CHARS].encode(errors="replace").decode())


@lru_cache(maxsize=4096)
def _described(user_agent: str) -> dict[str, Any]:
    parsed = ua_parser.parse(user_agent)
    device, system, browser = parsed.device, parsed.os, parsed.user_agent
    kind = _kind(user_agent, device.family if device else "", system.family if system else "")
    if device is None and system is None and browser is None and kind is None:
        return {}
    frozen_model = device is not None and device.model == "K"
    described: dict[str, Any] = {
        "device": {"type": kind, "manufacturer": _manufacturer(device), "model": _model(device)}
    }
    if system is not None:
        version = _version(system.major, system.minor, system.patch)
        is_frozen = version in FROZEN.get(system.family, ()) or frozen_model
        described["os"] = {"name": system.family, "version": None if is_frozen else version}
    if browser is not None:
        described["browser"] = {
            "name": browser.family,
            "version": _version(browser.major, browser.minor, browser.patch),
        }
    return described


def _kind(user_agent: str, family: str, system: str) -> str | None:
    if family in BOTS:
        return "bot"
    found = next((kind for kind, pattern in KINDS if pattern.search(user_agent)), None)
    return found or ("desktop" if system in DESKTOPS else None)


def _manufacturer(device: ua_parser.Device | None) -> str | None:
    if device is None or device.brand is None or device.brand.startswith("Generic") or device.brand in BOTS:
        return None
    return device.brand


def _model(device: ua_parser.Device | None) -> str | None:
    if device is None or device.family in BOTS or device.model in NO_MODELS:
        return None
    return device.model


def _version(*parts: str | None) -> str | None:
    """`131.0.0` is 131: the zeros are only written since versions were cut to the first number."""
    known = [part for part in parts if part]
    while len(known) > 1 and known[-1] == "0":
        known.pop()
    return ".".join(known) or None
