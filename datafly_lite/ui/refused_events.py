"""What the door refused: the reason in words, what to do about it, and what came."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from starlette.responses import Response

from datafly_lite.errors import AdminError
from datafly_lite.management import pipelines, refused_events
from datafly_lite.store.refused_events import KEPT_A_PIPELINE
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.visit import Visit, with_query

PATH = "/refused-events"
FILTERS = ("pipeline_id", "code")
PAGE_SIZE = 25
MOST_CHOICES = 100
SHORT_BODY = 400
"""Characters: a longer body is folded."""

UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
"""What a browser drops or does not show, and what would turn the text around."""


class Reason(NamedTuple):
    """A code in words, and what to do about it in one sentence."""

    words: str
    advice: str


REASONS = {
    "invalid_json": Reason(
        "The body is not JSON",
        "Look at the body for the place that the message names, and let a JSON library write it.",
    ),
    "invalid_payload": Reason(
        "A field is missing or of the wrong type",
        "Mend the field that the message names where the event is made.",
    ),
    "batch_too_large": Reason(
        "Too much in one batch",
        "Set the SDK to flush fewer events at once.",
    ),
    "event_too_large": Reason(
        "The event is too large",
        "Send less with the event, or raise --max-event-size-bytes.",
    ),
    "invalid_key": Reason(
        "No pipeline has this key",
        "Copy the key from its pipeline's page into the client; keys that you never gave out are guesses.",
    ),
    "invalid_signature": Reason(
        "The signature does not fit",
        "Sign the bytes that are sent, unchanged, with the secret of today: a rotated one ends at once.",
    ),
    "timestamp_expired": Reason(
        "The signature is too old or from the future",
        "Set the sender's clock right, and sign again whenever a request is sent again.",
    ),
    "challenge_required": Reason(
        "A challenge token is missing or has ended",
        "Let the client fetch one from /v1/challenge, or stop asking for it in the pipeline's settings.",
    ),
    "origin_not_allowed": Reason(
        "The page's origin is not allowed",
        "If the site is yours, add its host to the allowed domains in the pipeline's settings.",
    ),
    "pipeline_disabled": Reason(
        "The pipeline is disabled",
        "Enable it in its settings, or take its snippet off the pages.",
    ),
    "not_found": Reason(
        "Nothing is collected at this path",
        "Give the SDK this appliance's address as its host alone: it adds its own path.",
    ),
    "method_not_allowed": Reason(
        "The path takes another method",
        "Send what the message names: events are POSTed, and only pixels are fetched with GET.",
    ),
    "request_timeout": Reason(
        "The body did not come in time",
        "SDKs send it again; if it happens often, look at the network and at the proxy in front.",
    ),
    "body_too_large": Reason(
        "The body is too large",
        "Set the SDK to flush sooner, or raise --max-body-size-bytes or --max-batch-body-size-bytes.",
    ),
    "rate_limited": Reason(
        "More events than the pipeline's rate",
        "SDKs wait and send them again; if they are all wanted, raise the rate in the pipeline's settings.",
    ),
    "storage_unavailable": Reason(
        "The store could not take it",
        "SDKs send it again; the overview says what is wrong, most often a full disk.",
    ),
    "overloaded": Reason(
        "More came than could be written",
        "SDKs send it again; if it goes on, use a faster disk or lower the pipelines' rates.",
    ),
}


async def show_list(visit: Visit) -> Response:
    """Newest first; filters and place are in the address."""
    filters, problems = visit.filters(*FILTERS), Problems()
    found: dict[str, Any] = {"data": [], "next_cursor": None}
    counted: dict[str, Any] = {"total": 0, "counts": {}}
    try:
        found = await refused_events.list_refused_events(
            visit.services, filters=filters, cursor=visit.query("cursor") or None, limit=PAGE_SIZE
        )
        counted = await _counted(visit, filters)
    except AdminError as error:
        problems = problems_of(error, FILTERS)
    known = (await pipelines.list_pipelines(visit.services, limit=MOST_CHOICES))["pipelines"]
    older = {**filters, "cursor": found["next_cursor"] or ""}
    return visit.page(
        "refused_events.html",
        422 if problems else 200,
        filters=filters,
        is_filtered=any(filters.values()),
        problems=problems,
        refused=[_shown(one) for one in found["data"]],
        is_newest=not visit.query("cursor"),
        newest=with_query(PATH, filters),
        older=with_query(PATH, older) if found["next_cursor"] else None,
        pipelines=known,
        reasons=REASONS,
        counts=counted["counts"],
        total=counted["total"],
        with_code={code: with_query(PATH, {**filters, "code": code}) for code in REASONS},
        kept=KEPT_A_PIPELINE,
    )


async def _counted(visit: Visit, filters: dict[str, str]) -> dict[str, Any]:
    asked = {"pipeline_id": filters["pipeline_id"]}
    return await refused_events.count_refused_events(visit.services, filters=asked)


def _shown(one: dict[str, Any]) -> dict[str, Any]:
    """With everything that a stranger wrote made visible, and the reason's words."""
    texts = {name: visible(value) if isinstance(value, str) else value for name, value in one.items()}
    return {**texts, "reason": words_of(one["code"]), "is_long": len(one["body"]) > SHORT_BODY}


def words_of(code: str) -> str:
    """The reason in words; a code that this version does not know is its own words."""
    return REASONS[code].words if code in REASONS else code.replace("_", " ")


def visible(text: str) -> str:
    r"""Control characters as their escapes: NUL is `\u0000`, the one that turns text around `\u202e`."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
