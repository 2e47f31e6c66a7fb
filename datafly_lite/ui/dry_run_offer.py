"""Inside the form of a change: the buttons that try it, and an event of one's own to try it on."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from datafly_lite.management import dry_run, events
from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.visit import Visit

OWN_EVENT = "try_event"
"""The field with an event to try."""

SAMPLE = """\
{
  "type": "track",
  "event": "Order Completed",
  "anonymousId": "visitor-1",
  "userId": "user-1",
  "properties": {
    "order_id": "1001",
    "value": 49.9,
    "currency": "EUR"
  },
  "context": {
    "page": {"url": "https://www.example.com/thank-you"},
    "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
  }
}"""


class Offer(NamedTuple):
    """What a form needs to offer a try."""

    has_events: bool
    sample: str


async def offer(visit: Visit, pipeline_id: str = "", form: Form | None = None) -> Offer:
    """Of one pipeline, or of all."""
    filters = {"pipeline_id": pipeline_id} if pipeline_id else {}
    found = await events.list_events(visit.services, filters=filters, limit=1)
    return Offer(bool(found["data"]), form.text(OWN_EVENT) if form and form.ticked(OWN_EVENT) else SAMPLE)


def sample_of(form: Form, problems: Problems) -> dict[str, Any]:
    """The events that the button asks for, as fields of the API."""
    if form.word("try") != "event":
        return {"last": dry_run.DEFAULT_LAST}
    try:
        value = json.loads(form.text(OWN_EVENT))
    except json.JSONDecodeError as error:
        problems.add(OWN_EVENT, f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}")
        return {}
    except RecursionError:
        problems.add(OWN_EVENT, "is nested too deeply")
        return {}
    except ValueError:  # Python reads no number of more than 4,300 digits (docs.python.org, sys.int_info)
        problems.add(OWN_EVENT, "holds a number that loses digits: write it as a string")
        return {}
    return {"events": value if isinstance(value, list) else [value]}
