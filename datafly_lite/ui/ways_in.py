"""How to send to a pipeline with what somebody has already: the client keeps its code, host and key change.

The settings of each client are those of wire-formats.md, 3.1; the tests run what stands here.
"""

from __future__ import annotations

from typing import NamedTuple


class WayIn(NamedTuple):
    """A client, what to know of it, and the code with this pipeline's address and key in it."""

    name: str
    text: str
    code: str


SEGMENT_PYTHON = """\
import segment.analytics as analytics

analytics.write_key = "{key}"
analytics.host = "{url}"
analytics.track("user-1", "Signed Up", {"plan": "pro"})
analytics.flush()"""

SEGMENT_NODE = """\
import { Analytics } from "@segment/analytics-node";

const analytics = new Analytics({ writeKey: "{key}", host: "{url}" });
analytics.track({ userId: "user-1", event: "Signed Up", properties: { plan: "pro" } });
await analytics.closeAndFlush();"""

SEGMENT_BROWSER = """\
import { AnalyticsBrowser } from "@segment/analytics-next";

const analytics = AnalyticsBrowser.load({ writeKey: "{key}", cdnURL: "{url}" });
analytics.track("Signed Up", { plan: "pro" });"""

RUDDERSTACK_PYTHON = """\
import rudderstack.analytics as analytics

analytics.write_key = "{key}"
analytics.dataPlaneUrl = "{url}"
analytics.track("user-1", "Signed Up", {"plan": "pro"})
analytics.flush()"""

RUDDERSTACK_NODE = """\
import RudderAnalytics from "@rudderstack/rudder-sdk-node";

const analytics = new RudderAnalytics("{key}", { dataPlaneUrl: "{url}" });
analytics.track({ userId: "user-1", event: "Signed Up", properties: { plan: "pro" } });
analytics.flush();"""

DREAMDATA = """\
curl -u "{key}:" -X POST {url}/v1/batch \\
  -H "Content-Type: application/json" \\
  -d '{"batch": [{"type": "track", "userId": "user-1", "event": "Signed Up"}]}'"""

COMMANDERS_ACT = """\
curl -X POST "{url}/events?tc_s=1&token={key}" \\
  -H "Content-Type: application/json" \\
  -d '{"event_name": "sign_up", "method": "email", "user": {"id": "user-1", "consent_categories": ["1"]}}'"""

SIGNED = """\
body='{"type": "track", "event": "Order Completed", "userId": "user-1"}'
time_ms=$(date +%s%3N)
signature=$(printf '%s.%s' "$time_ms" "$body" | openssl dgst -sha256 -hmac "${SECRET:?}" -hex | sed 's/.* //')
curl -X POST {url}/v1/events \\
  -H "Authorization: Bearer {key}" \\
  -H "X-Timestamp: $time_ms" -H "X-Signature: sha256=$signature" \\
  -d "$body\""""

PIXEL = """\
<img src="{url}/v1/pixel/track?wk={key}&amp;e=Email+Opened&amp;uid=user-1&amp;p.campaign_id=spring" \
width="1" height="1" alt="">"""

WAYS_IN = (
    WayIn("Segment, Python", "Also identify, page, screen, group and alias.", SEGMENT_PYTHON),
    WayIn("Segment, Node.js", "Give the host without a path: the SDK drops it.", SEGMENT_NODE),
    WayIn(
        "Segment, browser",
        "The SDK asks this server for its settings first, and so learns where to send.",
        SEGMENT_BROWSER,
    ),
    WayIn("RudderStack, Python", "Its gzip bodies are taken as they are.", RUDDERSTACK_PYTHON),
    WayIn("RudderStack, Node.js", "Its gzip bodies are taken as they are.", RUDDERSTACK_NODE),
    WayIn("Dreamdata", "Its SDKs for Node.js and Go take this server as their host.", DREAMDATA),
    WayIn(
        "Commanders Act",
        "HTTP tracking API 2.0 and 1.0; the batch is at /events/batch. tc_s is kept with each event.",
        COMMANDERS_ACT,
    ),
    WayIn(
        "Signed, from your server",
        "SECRET is the pipeline's secret, shown once when the pipeline was made. Sent again within five "
        "minutes the same request counts once.",
        SIGNED,
    ),
    WayIn("Pixel, in an email", "Without JavaScript. t.* are traits, mid is the messageId.", PIXEL),
)


def ways_in(base_url: str, pipeline_key: str) -> list[WayIn]:
    """All of them for one pipeline. Replaced, not formatted: the code has braces of its own."""
    return [
        way._replace(code=way.code.replace("{url}", base_url).replace("{key}", pipeline_key))
        for way in WAYS_IN
    ]
