"""How a visitor leaves for another site: by a link through here, or with a token that the page asks for.

`GET /v1/sync?wk=dk_…&to=https://…` is followed by people, and HEAD by programs that look at links; the
collector asks `POST /v1/cross-domain` (spec/datafly-signal.md, 6.5, old flow; docs/cross-domain.md).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from datafly_lite import cross_domain
from datafly_lite.clock import iso
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.cross_domain import Target
from datafly_lite.errors import Refused
from datafly_lite.gateway import answers, bodies, callers, origins
from datafly_lite.gateway.answers import Answer
from datafly_lite.gateway.calls import Call
from datafly_lite.gateway.handovers import Handover, Handovers
from datafly_lite.settings import Settings

Admit = Callable[[Call, str], Pipeline]
"""The pipeline of a key, where the caller may use it now; raises Refused."""


class Ask(msgspec.Struct):
    """The body of /v1/cross-domain."""

    pipeline_key: str
    to: str


decode_ask = msgspec.json.Decoder(Ask).decode


class Crossing:
    """The two paths."""

    def __init__(
        self, settings: Settings, configuration: LiveConfiguration, handovers: Handovers, admit: Admit
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._handovers = handovers
        self._admit = admit

    async def sync(self, call: Call) -> Answer:
        """302 to `to`, with a token where there is a visitor to hand over. Raises Refused.

        Who has no `_dfid` is given none here: any page could send people here, and an id for them is no
        more than their first event on the other site makes as well.
        """
        asked = dict(callers.parameters(call.query))
        pipeline = self._admit(call, asked.get("wk", ""))
        target = _listed(pipeline, asked.get("to", ""))
        if "from" in asked:
            _check_from(pipeline, asked["from"], dev=self._settings.dev)
        is_followed = call.method == "GET"
        handover = await self._handover(call, pipeline, target) if is_followed else None
        return answers.redirect(
            cross_domain.with_token(target.url, handover.token)
            if handover
            else cross_domain.strip_token(target.url)
        )

    async def token(self, call: Call) -> Answer:
        """`{"success", "token", "expires_at", "parameter"}`; null where there is nobody to hand over."""
        ask, _ = bodies.decode(decode_ask, call.body, self._settings.max_json_depth)
        pipeline = self._admit(call, ask.pipeline_key)
        handover = await self._handover(call, pipeline, _listed(pipeline, ask.to))
        body = {
            "success": True,
            "token": handover.token if handover else None,
            "expires_at": iso(handover.expires_at_ms) if handover else None,
            "parameter": cross_domain.PARAMETER,
        }
        answer = answers.json(msgspec.json.encode(body), call.caller.origin)
        answer.headers.append(answers.NO_STORE)
        return answer

    async def _handover(self, call: Call, pipeline: Pipeline, target: Target) -> Handover | None:
        """None for a browser without `_dfid`, one that says `Sec-GPC: 1`, and a visitor who refused."""
        caller = call.caller
        if caller.visitor is None or call.headers.get(b"sec-gpc") == b"1":
            return None
        policy = self._configuration.current.rules.consent.default_policy
        return await self._handovers.issue(
            pipeline.id, caller.visitor, target.host, caller.user_agent, policy
        )


def _listed(pipeline: Pipeline, to: str) -> Target:
    """Where to go, if the pipeline's visitors may go there. Raises Refused, and then nobody goes anywhere."""
    if not pipeline.identity_config.get("cross_domain_enabled"):
        raise Refused("invalid_payload", "cross-domain is switched off for this pipeline")
    try:
        target = cross_domain.target(to)
    except ValueError as error:
        raise Refused("invalid_payload", f"to {error}") from None
    if not _is_listed(pipeline, target.host):
        raise Refused("invalid_payload", "to is on none of this pipeline's cross_domain_domains")
    return target


def _is_listed(pipeline: Pipeline, host: str) -> bool:
    domains = pipeline.identity_config.get("cross_domain_domains") or ()
    return any(origins.matches(entry.lower(), host) for entry in domains)


def _check_from(pipeline: Pipeline, given: str, *, dev: bool) -> None:
    """A host or an address of the site that the link stands on: one that may send events, or a listed one."""
    origin = given if "://" in given else f"https://{given}"
    host = origins.host_of("/".join(origin.split("/", 3)[:3]))
    if host is None or not (
        _is_listed(pipeline, host) or origins.is_allowed(pipeline, f"https://{host}", dev=dev)
    ):
        raise Refused("invalid_payload", "from is none of this pipeline's sites")
