"""The collection paths, for the document: what gateway/ answers, told as routes.py tells the API's.

tests/test_openapi.py holds this table against the gateway's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from datafly_lite.errors import Refused
from datafly_lite.management import schemas_collection as c
from datafly_lite.management.operations import by_status
from datafly_lite.management.schemas import File

BODY_CODES = ("invalid_json", "request_timeout", "body_too_large")
KEY_CODES = ("invalid_key", "origin_not_allowed", "pipeline_disabled", "rate_limited")
EVENT_CODES = (
    *("invalid_payload", "event_too_large", "batch_too_large", "challenge_required"),
    *("invalid_signature", "timestamp_expired", "storage_unavailable", "overloaded"),
)
GIF, SCRIPT = File("image/gif"), File("application/javascript")
SCRIPT_ANSWERS: dict[int, tuple[str, File | None]] = {
    304: ("The caller's copy, which If-None-Match names, is still right.", None),
    404: ("There is no such script; a comment in it says why.", SCRIPT),
    503: ("The store cannot be read now; a comment says so.", SCRIPT),
}
SYNC_ANSWERS: dict[int, tuple[str, File | None]] = {
    302: ("To the address in `to`, with the visitor's token in `_dfx` where there is a visitor.", None)
}
KEYS: dict[str, list[dict[str, list[str]]]] = {
    "key": [{"key": []}, {"keyAsUser": []}, {}],
    "signature": [{"signature": [], "key": []}],
}


class Collection(NamedTuple):
    """One line of the table. `key` is where the pipeline's key stands; `codes` is the errors' closed list."""

    method: str
    path: str
    tag: str
    summary: str
    gives: Any
    takes: Any = None
    query: Any = None
    key: str = "key"
    codes: tuple[str, ...] = (*KEY_CODES, *BODY_CODES, *EVENT_CODES)
    others: Mapping[int, tuple[str, File | None]] = {}
    """Status -> what it means and its file, where that is neither what `gives` says nor a `Refusal`."""
    success: int = 200
    """The status of an answer that is no error."""

    @property
    def operation_id(self) -> str:
        """Its name in generated clients."""
        return self.method.lower() + re.sub("[^a-z0-9]+", "_", self.path.lower()).rstrip("_")

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """What may come with it, in OpenAPI's words; `{}`: it can also stand in the query or the body."""
        return KEYS.get(self.key, [])

    @property
    def statuses(self) -> dict[int, list[str]]:
        """Status of an error -> the codes that it can have."""
        return by_status(self.codes, Refused.STATUS)


DATAFLY = "collect-events"
PIXEL = "collect-pixels"
COMMANDERS_ACT = "collect-commanders-act"
WEBHOOKS = "collect-webhooks"
COLLECTORS = "collect-scripts"
PREPARING = "collect-beside"
PIXEL_CODES = (*KEY_CODES, *EVENT_CODES, "body_too_large")


def _event(path: str, summary: str, takes: Any) -> Collection:
    return Collection("POST", path, DATAFLY, summary, c.Accepted, takes=takes, query=c.KeyQuery)


def _batch(path: str, summary: str) -> Collection:
    return Collection("POST", path, DATAFLY, summary, c.BatchAccepted, takes=c.Batch, query=c.KeyQuery)


def _pixel(kind: str, summary: str) -> Collection:
    path = f"/v1/pixel/{kind}"
    return Collection("GET", path, PIXEL, summary, GIF, query=c.PixelQuery, key="query", codes=PIXEL_CODES)


def _script(path: str, summary: str) -> Collection:
    return Collection("GET", path, COLLECTORS, summary, SCRIPT, key="", codes=(), others=SCRIPT_ANSWERS)


def _sync(path: str, summary: str) -> Collection:
    codes = (*KEY_CODES, "invalid_payload", "storage_unavailable", "overloaded")
    return Collection(
        *("GET", path, PREPARING, summary, None),
        query=c.SyncQuery,
        key="query",
        codes=codes,
        others=SYNC_ANSWERS,
        success=302,
    )


def _commanders_act(base: str, name: str) -> list[Collection]:
    query, tag = c.CommandersActQuery, COMMANDERS_ACT
    event, batch, many = c.CommandersActEvent, c.CommandersActBatch, c.BatchAccepted
    return [
        Collection("POST", base, tag, f"{name}: an event", (c.BatchAccepted, c.Accepted), event, query),
        Collection("POST", f"{base}/batch", tag, f"{name}: many events", many, batch, query),
        Collection("GET", base, tag, f"{name}: an event as a pixel", GIF, None, query, codes=PIXEL_CODES),
    ]


PATHS = (
    _event("/v1/t", "Something happened", c.TrackEvent),
    _event("/v1/p", "A page was seen", c.PageEvent),
    _event("/v1/i", "Who somebody is", c.IdentifyEvent),
    _event("/v1/g", "Which group somebody belongs to", c.GroupEvent),
    _event("/v1/track", "Segment: something happened", c.TrackEvent),
    _event("/v1/page", "Segment: a page was seen", c.PageEvent),
    _event("/v1/identify", "Segment: who somebody is", c.IdentifyEvent),
    _event("/v1/group", "Segment: which group somebody belongs to", c.GroupEvent),
    _event("/v1/screen", "Segment: a screen was seen", c.PageEvent),
    _event("/v1/alias", "Segment: two identifiers are one person", c.AliasEvent),
    _event("/v1/s", "Segment, short: a screen was seen", c.PageEvent),
    _event("/v1/a", "Segment, short: two identifiers are one person", c.AliasEvent),
    _batch("/v1/batch", "Many events"),
    _batch("/v1/b", "Many events, short"),
    _batch("/v1/import", "Many events, as Segment's older SDKs send them"),
    _batch("/beacon/v1/batch", "Many events, as RudderStack's beacon sends them"),
    Collection(
        *("POST", "/v1/events", DATAFLY, "An event from a server, signed with the pipeline's secret"),
        *(c.Accepted, c.TypedEvent),
        key="signature",
    ),
    _pixel("track", "Something happened, without JavaScript"),
    _pixel("page", "A page was seen, without JavaScript"),
    _pixel("identify", "Who somebody is, without JavaScript"),
    _pixel("group", "Which group somebody belongs to, without JavaScript"),
    *_commanders_act("/events", "Commanders Act"),
    *_commanders_act("/cdp/events", "Commanders Act, its other path"),
    Collection(
        *("POST", "/v1/webhook", WEBHOOKS, "What a third party posts, signed in its own way"),
        *((c.Accepted, c.BatchAccepted), dict[str, Any], c.WebhookQuery),
        key="source",
    ),
    Collection(
        *("POST", "/v1/challenge", PREPARING, "A challenge token for the collector"),
        *(c.Challenge, c.ChallengeAsk),
        key="",
        codes=(*KEY_CODES, *BODY_CODES, "invalid_payload", "storage_unavailable", "overloaded"),
    ),
    _sync("/v1/sync", "A link to another site that takes the visitor's id along"),
    _sync("/sync", "The same, by a shorter name"),
    Collection(
        *("POST", "/v1/cross-domain", PREPARING, "A token for a link to another site"),
        *(c.CrossDomain, c.CrossDomainAsk),
        key="",
        codes=(*KEY_CODES, *BODY_CODES, "invalid_payload", "storage_unavailable", "overloaded"),
    ),
    Collection(
        *("POST", "/v1/m", PREPARING, "Segment's SDK metrics: taken and not kept", c.Accepted),
        key="",
        codes=BODY_CODES,
    ),
    Collection(
        *("GET", "/v1/projects/{pipeline_key}/settings", PREPARING),
        *("What Segment's browser and mobile SDKs fetch first", c.SegmentSettings),
        key="",
        codes=KEY_CODES,
    ),
    _script("/c/{pipeline_key}/{script_filename}", "The pipeline's collector, by its name or its hash"),
    _script("/datafly.js", "The default collector; the script tag says which pipeline"),
    _script("/d.js", "The default collector, by a shorter name"),
)
