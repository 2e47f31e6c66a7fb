"""Every page: method, path, least role, handler. A role of None needs nobody to be signed in."""

from __future__ import annotations

from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from datafly_lite.management.raw_paths import RawRoute
from datafly_lite.services import Services
from datafly_lite.ui import (
    api_docs,
    api_keys,
    audit_logs,
    consent_settings,
    data_layer,
    dead_letters,
    dlq_events,
    dry_run,
    events,
    identities,
    integrations,
    overview,
    pipeline,
    pipelines,
    refused_events,
    revisions,
    sessions,
    users,
    webhook_sources,
)
from datafly_lite.ui.pages import Page, nothing_here
from datafly_lite.ui.static import static_route
from datafly_lite.ui.visit import Handler


class Line(NamedTuple):
    """One line of the table."""

    method: str
    path: str
    role: str | None
    handler: Handler


ATTACHMENT = "/pipelines/{pipeline_id}/integrations/{attachment_id}"

PAGES = tuple(
    Line(*line)
    for line in (
        ("GET", "/setup", None, sessions.show_set_up),
        ("POST", "/setup", None, sessions.set_up),
        ("GET", "/login", None, sessions.show_log_in),
        ("POST", "/login", None, sessions.log_in),
        ("GET", "/sign-in", None, sessions.follow_link),
        ("GET", "/accept-invite", None, users.show_invitation),
        ("POST", "/accept-invite", None, users.accept_invitation),
        ("POST", "/logout", None, sessions.log_out),
        #
        ("GET", "/docs", None, api_docs.show),
        #
        ("GET", "/", "viewer", overview.show),
        #
        ("GET", "/pipelines", "viewer", pipelines.show_list),
        ("GET", "/pipelines/new", "editor", pipelines.show_new),
        ("POST", "/pipelines/new", "editor", pipelines.create),
        ("GET", "/pipelines/{pipeline_id}", "viewer", pipeline.show),
        ("POST", "/pipelines/{pipeline_id}/build", "editor", pipeline.build),
        ("GET", "/pipelines/{pipeline_id}/download", "viewer", pipeline.download),
        ("GET", "/pipelines/{pipeline_id}/settings", "viewer", pipeline.show_settings),
        ("POST", "/pipelines/{pipeline_id}/settings", "editor", pipeline.save_settings),
        ("GET", "/pipelines/{pipeline_id}/rotate", "admin", pipeline.confirm_rotate),
        ("POST", "/pipelines/{pipeline_id}/rotate", "admin", pipeline.rotate),
        ("GET", "/pipelines/{pipeline_id}/delete", "admin", pipeline.confirm_delete),
        ("POST", "/pipelines/{pipeline_id}/delete", "admin", pipeline.delete),
        #
        ("GET", "/pipelines/{pipeline_id}/integrations", "viewer", integrations.show_list),
        ("POST", "/pipelines/{pipeline_id}/integrations", "editor", integrations.attach_existing),
        ("GET", "/pipelines/{pipeline_id}/integrations/new", "editor", integrations.show_new),
        ("POST", "/pipelines/{pipeline_id}/integrations/new", "editor", integrations.create),
        ("GET", ATTACHMENT, "editor", integrations.show_edit),
        ("POST", ATTACHMENT, "editor", integrations.save),
        ("POST", f"{ATTACHMENT}/dry-run", "editor", integrations.try_it),
        ("POST", "/steps/check", "viewer", revisions.check_expression),
        ("POST", f"{ATTACHMENT}/change", "editor", integrations.change),
        ("GET", f"{ATTACHMENT}/detach", "editor", integrations.confirm_detach),
        ("POST", f"{ATTACHMENT}/detach", "editor", integrations.detach),
        #
        ("GET", "/webhook-sources", "viewer", webhook_sources.show_list),
        ("GET", "/webhook-sources/new", "editor", webhook_sources.show_new),
        ("POST", "/webhook-sources/new", "editor", webhook_sources.create),
        ("GET", "/webhook-sources/{source_id}", "editor", webhook_sources.show_edit),
        ("POST", "/webhook-sources/{source_id}", "editor", webhook_sources.save),
        ("GET", "/webhook-sources/{source_id}/delete", "admin", webhook_sources.confirm_delete),
        ("POST", "/webhook-sources/{source_id}/delete", "admin", webhook_sources.delete),
        #
        ("GET", "/data-layer", "viewer", data_layer.show),
        ("POST", "/data-layer", "editor", data_layer.save),
        ("POST", "/data-layer/dry-run", "editor", dry_run.try_data_layer),
        ("POST", "/data-layer/check", "viewer", data_layer.check),
        ("GET", "/data-layer/versions", "viewer", data_layer.show_versions),
        ("GET", "/consent-settings", "viewer", consent_settings.show),
        ("POST", "/consent-settings", "editor", consent_settings.save),
        ("POST", "/consent-settings/dry-run", "editor", dry_run.try_consent_settings),
        ("GET", "/consent-settings/versions", "viewer", consent_settings.show_versions),
        #
        ("GET", "/users", "admin", users.show_list),
        ("GET", "/users/new", "admin", users.show_invite),
        ("POST", "/users/new", "admin", users.invite),
        ("GET", "/users/{user_id}", "admin", users.show_edit),
        ("POST", "/users/{user_id}", "admin", users.save),
        ("POST", "/users/{user_id}/invite-link", "admin", users.invite_again),
        ("GET", "/users/{user_id}/delete", "admin", users.confirm_delete),
        ("POST", "/users/{user_id}/delete", "admin", users.delete),
        ("GET", "/users/{user_id}/owner", "owner", users.confirm_hand_over),
        ("POST", "/users/{user_id}/owner", "owner", users.hand_over),
        #
        ("GET", "/api-keys", "admin", api_keys.show_list),
        ("GET", "/api-keys/new", "admin", api_keys.show_new),
        ("POST", "/api-keys/new", "admin", api_keys.create),
        ("GET", "/api-keys/{key_id}/delete", "admin", api_keys.confirm_delete),
        ("POST", "/api-keys/{key_id}/delete", "admin", api_keys.delete),
        #
        ("GET", "/live", "viewer", events.show_list),
        ("GET", "/live/data", "viewer", events.data),
        ("GET", "/live/{pipeline_id}/{message_id:path}", "viewer", events.show_trace),
        #
        ("GET", "/dead-letters", "viewer", dead_letters.show_list),
        ("POST", "/dead-letters/replay", "editor", dead_letters.replay),
        ("POST", "/dead-letters/discard", "editor", dead_letters.discard),
        #
        ("GET", "/refused-events", "viewer", refused_events.show_list),
        ("GET", "/dlq-events", "viewer", dlq_events.show_list),
        #
        ("GET", "/identities", "viewer", identities.show_list),
        ("GET", "/identities/{anonymous_id}/unlink", "admin", identities.confirm_unlink),
        ("POST", "/identities/{anonymous_id}/unlink", "admin", identities.unlink),
        ("GET", "/identities/{anonymous_id:path}", "viewer", identities.show),
        ("GET", "/audit-logs", "admin", audit_logs.show_list),
    )
)


ELSEWHERE = ("/v1/", "/c/", "/static/", "/demo/")
"""Below these nobody looks for a page."""


def routes(services: Services) -> list[BaseRoute]:
    """All of them, the static files, and at the end a page for what no route knows."""
    methods: dict[str, dict[str, tuple[str | None, Handler]]] = {}
    for method, path, role, handler in PAGES:
        methods.setdefault(path, {})[method] = (role, handler)
    known = [RawRoute(path, Page(services, inside)) for path, inside in methods.items()]
    return [static_route(), *known, Route("/{path:path}", _Otherwise(services), methods=["GET"])]


class _Otherwise:
    """A page for people, the router's plain answer for programs."""

    def __init__(self, services: Services) -> None:
        self._page = Page(services, {"GET": (None, nothing_here)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = "text/html" in Request(scope).headers.get("accept", "")
        if not is_page or scope["path"].startswith(ELSEWHERE):
            raise HTTPException(404)
        await self._page(scope, receive, send)
