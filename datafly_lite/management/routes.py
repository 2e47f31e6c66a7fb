"""Every route of the management API: method, path below /v1/admin, least role, handler.

A role of None needs nobody to be logged in.
"""

from __future__ import annotations

from typing import NamedTuple

from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from datafly_lite.auth_limits import Ceiling
from datafly_lite.management import handlers as h
from datafly_lite.management.http import ErrorLayer, Handler, Resource, nothing_here
from datafly_lite.management.stream import RECHECK_S, stream
from datafly_lite.services import Services

PREFIX = "/v1/admin"


class Operation(NamedTuple):
    """One line of the table."""

    method: str
    path: str
    role: str | None
    handler: Handler


OPERATIONS = tuple(
    Operation(*line)
    for line in (
        ("POST", "/setup", None, h.set_up),
        ("POST", "/auth/login", None, h.login),
        ("POST", "/auth/refresh", None, h.refresh),
        ("POST", "/auth/logout", "viewer", h.logout),
        ("GET", "/auth/me", "viewer", h.me),
        ("POST", "/auth/password", "viewer", h.change_password),
        #
        ("GET", "/pipelines", "viewer", h.list_pipelines),
        ("POST", "/pipelines", "editor", h.create_pipeline),
        ("GET", "/pipelines/{pipeline_id}", "viewer", h.get_pipeline),
        ("PUT", "/pipelines/{pipeline_id}", "editor", h.update_pipeline),
        ("DELETE", "/pipelines/{pipeline_id}", "admin", h.delete_pipeline),
        ("POST", "/pipelines/{pipeline_id}/rotate-secret", "admin", h.rotate_secret),
        ("POST", "/pipelines/{pipeline_id}/tokens", "editor", h.create_token),
        ("POST", "/pipelines/{pipeline_id}/collector/build", "editor", h.start_build),
        ("GET", "/pipelines/{pipeline_id}/collector/status", "viewer", h.build_status),
        ("GET", "/pipelines/{pipeline_id}/collector/download", "viewer", h.download_collector),
        ("GET", "/pipelines/{pipeline_id}/integrations", "viewer", h.list_attachments),
        ("POST", "/pipelines/{pipeline_id}/integrations", "editor", h.attach),
        ("PUT", "/pipelines/{pipeline_id}/integrations/{pi_id}", "editor", h.update_attachment),
        ("DELETE", "/pipelines/{pipeline_id}/integrations/{pi_id}", "editor", h.detach),
        #
        ("GET", "/catalog", "viewer", h.catalog),
        ("GET", "/integration-templates", "viewer", h.list_integrations),
        ("POST", "/integration-templates", "editor", h.create_integration),
        ("GET", "/integration-templates/{integration_id}", "viewer", h.get_integration),
        ("DELETE", "/integration-templates/{integration_id}", "admin", h.delete_integration),
        ("GET", "/integration-templates/{integration_id}/revisions", "viewer", h.list_revisions),
        ("POST", "/integration-templates/{integration_id}/revisions", "editor", h.create_revision),
        ("GET", "/integration-templates/{integration_id}/revisions/{number}", "viewer", h.get_revision),
        #
        ("GET", "/webhook-sources", "viewer", h.list_webhook_sources),
        ("POST", "/webhook-sources", "editor", h.create_webhook_source),
        ("GET", "/webhook-sources/{source_id}", "viewer", h.get_webhook_source),
        ("PUT", "/webhook-sources/{source_id}", "editor", h.update_webhook_source),
        ("DELETE", "/webhook-sources/{source_id}", "admin", h.delete_webhook_source),
        #
        ("GET", "/events", "viewer", h.list_events),
        ("GET", "/events/{pipeline_id}/{message_id:path}", "viewer", h.get_event),
        ("GET", "/dead-letters", "viewer", h.list_dead_letters),
        ("DELETE", "/dead-letters", "editor", h.discard_dead_letters),
        ("POST", "/dead-letters/replay", "editor", h.replay_dead_letters),
        ("GET", "/refused-events", "viewer", h.list_refused_events),
        ("GET", "/refused-events/counts", "viewer", h.count_refused_events),
    )
)

STREAM = "/debug/stream"
"""The WebSocket, for viewers (stream.py)."""


def routes(services: Services, stream_recheck_s: float = RECHECK_S) -> list[BaseRoute]:
    """All of them, with the one shape of errors also for paths and methods that do not exist."""
    ceiling = Ceiling(services.settings.management_rate_limit_rpm, services.clock)
    methods: dict[str, dict[str, tuple[str | None, Handler]]] = {}
    for method, path, role, handler in OPERATIONS:
        methods.setdefault(path, {})[method] = (role, handler)
    resources: list[BaseRoute] = [
        Route(path, Resource(services, ceiling, known)) for path, known in methods.items()
    ]
    inside = Router(
        [*resources, WebSocketRoute(STREAM, stream(services, stream_recheck_s))],
        redirect_slashes=False,
        default=nothing_here,
    )
    return [Mount(PREFIX, ErrorLayer(inside))]
