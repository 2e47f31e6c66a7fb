"""What is known of users and groups: their traits, merged, of each the newest.

Times are those of the events, so what arrives late changes nothing that was said since; of two of one
time the later in the log stands. A trait of `null` is one that is no longer known: it is not attached, and
that it was taken back is kept, so that nothing older brings it back. (Segment's Unify clears a trait on
null too: twilio.com/en-us/changelog, Null Trait Propagation.) A trait's value is replaced as a whole.

A profile is bounded: what does not fit, new or larger, stays with its own event. A trait can always be taken
back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

MAX_TRAITS = 200
MAX_SIZE_BYTES = 32_768
MAX_ATTACHED_BYTES = 4_096

_encode = msgspec.json.Encoder().encode


class Profile(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`traits` by name, of which null is one that was taken back, and when each was set, in milliseconds."""

    traits: dict[str, Any] = {}
    set_at_ms: dict[str, int] = {}


def merged(profile: Profile, traits: Mapping[str, Any], at_ms: int) -> Profile:
    """The profile once it was said so at that time; the same object if nothing is new."""
    newer = {name: value for name, value in traits.items() if at_ms >= profile.set_at_ms.get(name, at_ms)}
    if not newer:
        return profile
    kept, times = dict(profile.traits), dict(profile.set_at_ms)
    size_bytes = sum(_size_bytes(name, value) for name, value in kept.items())
    for name, value in newer.items():
        more_bytes = _size_bytes(name, value) - (_size_bytes(name, kept[name]) if name in kept else 0)
        has_room = name in kept or len(kept) < MAX_TRAITS
        if has_room and (more_bytes <= 0 or size_bytes + more_bytes <= MAX_SIZE_BYTES):
            kept[name], times[name] = value, at_ms
            size_bytes += more_bytes
    found = Profile(dict(sorted(kept.items())), dict(sorted(times.items())))
    return profile if found == profile and _encode(found) == _encode(profile) else found


def attached(profile: Profile) -> dict[str, Any]:
    """The traits for `context.traits` of later events: MAX_ATTACHED_BYTES of them, in the order of names.

    Each event keeps its own copy, and a page that sends thirty kilobytes of traits once must not have them
    written with each click.
    """
    found: dict[str, Any] = {}
    size_bytes = 0
    for name, value in profile.traits.items():
        size_bytes += _size_bytes(name, value)
        if size_bytes > MAX_ATTACHED_BYTES:
            break
        if value is not None:
            found[name] = value
    return found


def _size_bytes(name: str, value: Any) -> int:
    """As JSON, with the colon and a comma."""
    return len(_encode(name)) + len(_encode(value)) + 2
