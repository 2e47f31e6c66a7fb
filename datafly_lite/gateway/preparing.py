"""What clients ask for beside their events.

A challenge token, a way to another site, Segment's settings document, SDK metrics.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from datafly_lite.clock import iso
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.errors import Refused
from datafly_lite.gateway import answers, bodies, callers, origins
from datafly_lite.gateway.answers import Answer
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.challenges import Challenges
from datafly_lite.gateway.crossing import Crossing
from datafly_lite.gateway.handovers import Handovers
from datafly_lite.gateway.rates import RateLimit
from datafly_lite.settings import Settings

MAX_BODY_SIZE_BYTES = 65_536
SYNC_PATH = "/sync"
"""As decorated links have it in the documentation (spec/datafly-signal.md, 6.5)."""
SETTINGS_PATH = ("v1", "projects", "settings")


class Ask(msgspec.Struct):
    """The body of /v1/challenge."""

    pipeline_key: str


decode_ask = msgspec.json.Decoder(Ask).decode


class Preparation(NamedTuple):
    """A path that takes no events: its methods, and what answers them."""

    methods: tuple[str, ...]
    answer: Callable[[Call], Awaitable[Answer]]


class Preparations:
    """The handlers, by path."""

    def __init__(
        self,
        settings: Settings,
        configuration: LiveConfiguration,
        challenges: Challenges,
        handovers: Handovers,
        rates: RateLimit,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._challenges = challenges
        self._rates = rates
        crossing = Crossing(settings, configuration, handovers, self._admitted)
        self._known = {
            "v1/challenge": Preparation(("POST",), self._challenge),
            "v1/cross-domain": Preparation(("POST",), crossing.token),
            "v1/sync": Preparation(("GET", "HEAD"), crossing.sync),
            SYNC_PATH.strip("/"): Preparation(("GET", "HEAD"), crossing.sync),
            "v1/m": Preparation(("POST",), self._sdk_metrics),
        }

    def find(self, path: str) -> Preparation | None:
        """The one of a path, also with a trailing slash and a doubled leading one."""
        parts = path.strip("/").split("/")
        if len(parts) == 4 and (parts[0], parts[1], parts[3]) == SETTINGS_PATH:
            return Preparation(("GET",), self._settings_document)
        return self._known.get("/".join(parts))

    async def _challenge(self, call: Call) -> Answer:
        """`{"success": true, "token": "ct_…", "expires_at": "…Z"}`, under the pipeline's origin rule."""
        ask, _ = bodies.decode(decode_ask, call.body, self._settings.max_json_depth)
        pipeline = self._admitted(call, ask.pipeline_key)
        challenge = await self._challenges.issue(pipeline.id)
        body = {"success": True, "token": challenge.token, "expires_at": iso(challenge.expires_at_ms)}
        return answers.json(msgspec.json.encode(body), call.caller.origin)

    async def _sdk_metrics(self, call: Call) -> Answer:
        """A browser SDK's figures about itself (wire-formats.md, 2.2): not events, and so not kept."""
        return answers.json(answers.SUCCESS, call.caller.origin)

    async def _settings_document(self, call: Call) -> Answer:
        """What analytics-next, Kotlin and Swift fetch before they send anything (wire-formats.md, 2.2)."""
        key = call.path.strip("/").split("/")[2]
        self._admitted(call, key)
        scheme, host = self._address(call)
        segment = {"apiKey": key, "apiHost": f"{host}/v1", "protocol": scheme}
        document = {
            "integrations": {"Segment.io": segment},
            "plan": {},
            "middlewareSettings": {},
            "enabledMiddleware": {},
            "remotePlugins": [],
        }
        answer = answers.json(msgspec.json.encode(document), call.caller.origin)
        answer.headers.append((b"cache-control", b"no-store"))
        return answer

    def _address(self, call: Call) -> tuple[str, str]:
        """Scheme and host for the events: the setting's, else what the client itself reached us by."""
        if not self._settings.public_url and callers.HOST.fullmatch(host := call.caller.host):
            return call.caller.scheme, host
        parts = urlsplit(self._settings.base_url)
        return parts.scheme, parts.netloc + parts.path

    def _admitted(self, call: Call, key: str) -> Pipeline:
        pipeline = self._configuration.current.by_key.get(key)
        if pipeline is None:
            raise Refused("invalid_key", "the pipeline key is unknown or revoked")
        call.pipeline = pipeline
        origins.check(pipeline, call.caller.origin, dev=self._settings.dev)
        asked = call.path.rstrip("/").rpartition("/")[2]
        self._rates.admit(f"{pipeline.id} {asked}", pipeline.rate_limit_rps)  # apart from its events
        return pipeline
