"""Every route of the management API: method, path below /v1/admin, least role, handler, what it is for, what
it gives and takes (schemas.py), and the error codes that do not follow from these (operations.py).

A role of None needs nobody to be logged in. The document at /openapi.json and the page /docs come from here.
"""

from __future__ import annotations

from starlette.routing import BaseRoute, Mount, Router, WebSocketRoute

from datafly_lite.auth_limits import Ceiling
from datafly_lite.dry_run import DryRun
from datafly_lite.management import handlers as h
from datafly_lite.management import handlers_figures as figures
from datafly_lite.management import handlers_identities as visitors
from datafly_lite.management import handlers_people as users
from datafly_lite.management import handlers_rules as rules
from datafly_lite.management import handlers_sources as legacy
from datafly_lite.management import schemas_accounts as people
from datafly_lite.management import schemas_audit_logs as audit
from datafly_lite.management import schemas_data_layer as layers
from datafly_lite.management import schemas_dry_run as trials
from datafly_lite.management import schemas_events as events
from datafly_lite.management import schemas_identities as identities
from datafly_lite.management import schemas_integrations as integrations
from datafly_lite.management import schemas_pipelines as pipelines
from datafly_lite.management import schemas_sources as sources
from datafly_lite.management import schemas_webhook_sources as webhooks
from datafly_lite.management.catalog import CatalogVendor, CatalogVendorDetail
from datafly_lite.management.deliveries import Delivery, DeliveryDetail
from datafly_lite.management.http import ErrorLayer, Gate, Resource, nothing_here
from datafly_lite.management.integrations_health import IntegrationHealth
from datafly_lite.management.openapi import document_route
from datafly_lite.management.operations import Operation
from datafly_lite.management.raw_paths import RawRoute
from datafly_lite.management.revision_diff import RevisionDiff
from datafly_lite.management.schemas import File, Page, PageQuery
from datafly_lite.management.stats import Ledger, Stats
from datafly_lite.management.stream import RECHECK_S, stream
from datafly_lite.services import Services
from datafly_lite.trace import Trace

PREFIX = "/v1/admin"
__all__ = ["OPERATIONS", "Operation", "routes"]


# fmt: off
OPERATIONS = (
    Operation("POST", "/setup", None, h.set_up,
              "Make the owner, once, with the one-time token", people.Person,
              takes=people.SetUp, status=201, errors=("INVALID_TOKEN", "EXPIRED_TOKEN", "GONE")),
    Operation("POST", "/auth/login", None, h.login,
              "Log in", people.Tokens,
              takes=people.Login, errors=("INVALID_CREDENTIALS", "ACCOUNT_LOCKED", "RATE_LIMITED")),
    Operation("POST", "/auth/refresh", None, h.refresh,
              "Get new tokens for a refresh token", people.Tokens,
              takes=people.Refresh, errors=("INVALID_REFRESH_TOKEN",)),
    Operation("POST", "/auth/logout", "viewer", h.logout,
              "Log out: the tokens of this log-in end", None),
    Operation("GET", "/auth/me", "viewer", h.me,
              "Who the caller is", people.Person),
    Operation("POST", "/auth/password", "viewer", h.change_password,
              "Change one's own password", people.Tokens,
              takes=people.PasswordChange, errors=("INVALID_CREDENTIALS", "ACCOUNT_LOCKED")),
    Operation("POST", "/auth/accept-invite", None, users.accept_invite,
              "Choose a password, with the one-time token of an invitation", people.Person,
              takes=people.Acceptance, errors=("INVALID_TOKEN", "EXPIRED_TOKEN", "GONE", "RATE_LIMITED")),
    #
    Operation("GET", "/users", "admin", users.list_users,
              "List people, in the order they were invited", Page[people.Person], query=PageQuery),
    Operation("POST", "/users", "admin", users.invite,
              "Invite somebody; the one-time link is shown once", people.Invitation,
              takes=people.NewPerson, status=201, errors=("CONFLICT",)),
    Operation("GET", "/users/{user_id}", "admin", users.get_user,
              "Get somebody", people.Person),
    Operation("PUT", "/users/{user_id}", "admin", users.update_user,
              "Change a name, role or status; the owner hands over with the role owner", people.Person,
              takes=people.PersonChange, errors=("CONFLICT",)),
    Operation("DELETE", "/users/{user_id}", "admin", users.delete_user,
              "Remove somebody; their sessions, tokens and API keys end at once", None, errors=("CONFLICT",)),
    Operation("POST", "/users/{user_id}/invite-link", "admin", users.invite_again,
              "Make a new link for somebody invited; the one before ends", people.Invitation,
              errors=("CONFLICT",)),
    #
    Operation("GET", "/api-keys", "admin", users.list_api_keys,
              "List everybody's API keys, oldest first", Page[people.ApiKey], query=PageQuery),
    Operation("POST", "/api-keys", "admin", users.create_api_key,
              "Make an API key; it is shown once", people.ApiKeyCreated,
              takes=people.NewApiKey, status=201, errors=("CONFLICT",)),
    Operation("DELETE", "/api-keys/{key_id}", "admin", users.delete_api_key,
              "Delete an API key; it is refused at once", None),
    #
    Operation("GET", "/pipelines", "viewer", h.list_pipelines,
              "List pipelines, oldest first", pipelines.PipelineList, query=pipelines.PipelineFilters),
    Operation("POST", "/pipelines", "editor", h.create_pipeline,
              "Make a pipeline; its secret is shown once", pipelines.PipelineCreated,
              takes=pipelines.NewPipeline, status=201, errors=("CONFLICT",)),
    Operation("GET", "/pipelines/{pipeline_id}", "viewer", h.get_pipeline,
              "Get a pipeline", pipelines.Pipeline),
    Operation("PUT", "/pipelines/{pipeline_id}", "editor", h.update_pipeline,
              "Change a pipeline's fields", pipelines.Pipeline,
              takes=pipelines.PipelineChange, errors=("CONFLICT",)),
    Operation("DELETE", "/pipelines/{pipeline_id}", "admin", h.delete_pipeline,
              "Delete a pipeline", pipelines.PipelineDeleted),
    Operation("POST", "/pipelines/{pipeline_id}/rotate-secret", "admin", h.rotate_secret,
              "Replace the secret; the old one ends at once", pipelines.PipelineSecret),
    Operation("POST", "/pipelines/{pipeline_id}/tokens", "editor", h.create_token,
              "Issue a challenge token", pipelines.ChallengeToken),
    Operation("POST", "/pipelines/{pipeline_id}/collector/build", "editor", h.start_build,
              "Start building the collector", pipelines.BuildStarted),
    Operation("GET", "/pipelines/{pipeline_id}/collector/status", "viewer", h.build_status,
              "See how the newest build goes", pipelines.BuildStatus),
    Operation("GET", "/pipelines/{pipeline_id}/collector/download", "viewer", h.download_collector,
              "Take the newest collector that is ready", File("application/javascript")),
    Operation("GET", "/pipelines/{pipeline_id}/integrations", "viewer", h.list_attachments,
              "List a pipeline's integrations", Page[integrations.Attachment], query=PageQuery),
    Operation("POST", "/pipelines/{pipeline_id}/integrations", "editor", h.attach,
              "Put an integration on a pipeline", integrations.Attachment,
              takes=integrations.NewAttachment, status=201, errors=("CONFLICT",)),
    Operation("PUT", "/pipelines/{pipeline_id}/integrations/{pi_id}", "editor", h.update_attachment,
              "Pin another revision, pause, or go on", integrations.Attachment,
              takes=integrations.AttachmentChange),
    Operation("DELETE", "/pipelines/{pipeline_id}/integrations/{pi_id}", "editor", h.detach,
              "Take an integration off a pipeline; what waits for it is dropped", None),
    #
    Operation("GET", "/sources", "viewer", legacy.list_sources,
              "List sources, oldest first", Page[sources.SourceSummary], query=PageQuery),
    Operation("POST", "/sources", "editor", legacy.create_source,
              "Make a source, and the pipeline that it is", sources.Source,
              takes=sources.NewSource, status=201),
    Operation("GET", "/sources/{src_id}", "viewer", legacy.get_source,
              "Get a pipeline as a source", sources.SourceWithBuild),
    Operation("PUT", "/sources/{src_id}", "editor", legacy.update_source,
              "Replace a source, all of it", sources.Source, takes=sources.SourceReplacement),
    Operation("DELETE", "/sources/{src_id}", "admin", legacy.delete_source,
              "Delete a source and all that belongs to it, for ever", None),
    Operation("POST", "/sources/{src_id}/collector/build", "editor", legacy.build_source,
              "Start building the collector of a source", sources.SourceBuildStarted),
    Operation("GET", "/sources/{src_id}/collector/download", "editor", legacy.download_source,
              "Take the newest collector, or the default one before the first",
              File("application/javascript")),
    #
    Operation("GET", "/catalog", "viewer", h.catalog,
              "List all vendors and their settings", Page[CatalogVendor], query=PageQuery),
    Operation("GET", "/catalog/{vendor}", "viewer", h.get_vendor,
              "Get a vendor, with examples", CatalogVendorDetail),
    Operation("POST", "/catalog/{vendor}/install", "editor", h.install_vendor,
              "Make an integration of a vendor", integrations.IntegrationWithRevision,
              takes=integrations.Installation, status=201, errors=("CONFLICT",)),
    Operation("GET", "/integration-templates", "viewer", h.list_integrations,
              "List integrations, oldest first", Page[integrations.Integration], query=PageQuery),
    Operation("POST", "/integration-templates", "editor", h.create_integration,
              "Make an integration with its revision 1", integrations.IntegrationWithRevision,
              takes=integrations.NewIntegration, status=201, errors=("CONFLICT",)),
    Operation("GET", "/integration-templates/{integration_id}", "viewer", h.get_integration,
              "Get an integration, with its newest revision", integrations.IntegrationWithRevision),
    Operation("PUT", "/integration-templates/{integration_id}", "editor", h.update_integration,
              "Change the name or description", integrations.IntegrationWithRevision,
              takes=integrations.IntegrationChange, errors=("CONFLICT",)),
    Operation("DELETE", "/integration-templates/{integration_id}", "admin", h.delete_integration,
              "Delete an integration that no pipeline has", None, errors=("CONFLICT",)),
    Operation("GET", "/integration-templates/{integration_id}/revisions", "viewer", h.list_revisions,
              "List revisions, newest first", Page[integrations.Revision], query=PageQuery),
    Operation("POST", "/integration-templates/{integration_id}/revisions", "editor", h.create_revision,
              "Make a new revision", integrations.Revision, takes=integrations.NewRevision, status=201),
    Operation("GET", "/integration-templates/{integration_id}/revisions/{number}", "viewer", h.get_revision,
              "Get a revision", integrations.Revision),
    Operation("GET", "/integration-templates/{integration_id}/revisions/{old}/diff/{new}",
              "viewer", h.diff_revisions, "Compare two revisions", RevisionDiff),
    #
    Operation("POST", "/dry-run", "editor", h.try_change,
              "Try a change on real or given events; nothing is changed, nothing sent", DryRun,
              takes=trials.NewDryRun),
    #
    Operation("GET", "/webhook-sources", "viewer", h.list_webhook_sources,
              "List webhook sources, oldest first", Page[webhooks.WebhookSource], query=PageQuery),
    Operation("POST", "/webhook-sources", "editor", h.create_webhook_source,
              "Make a webhook source", webhooks.WebhookSource, takes=webhooks.NewWebhookSource, status=201),
    Operation("GET", "/webhook-sources/{source_id}", "viewer", h.get_webhook_source,
              "Get a webhook source", webhooks.WebhookSource),
    Operation("PUT", "/webhook-sources/{source_id}", "editor", h.update_webhook_source,
              "Change a webhook source's fields", webhooks.WebhookSource, takes=webhooks.WebhookSourceChange),
    Operation("DELETE", "/webhook-sources/{source_id}", "admin", h.delete_webhook_source,
              "Delete a webhook source", None),
    #
    Operation("GET", "/data-layer", "viewer", rules.get_data_layer,
              "Get the rules for every event", layers.DataLayerVersion),
    Operation("PUT", "/data-layer", "admin", rules.replace_data_layer,
              "Replace the rules for every event, all of them; in force at once", layers.DataLayerVersion,
              takes=layers.DataLayerReplacement, errors=("CONFLICT",)),
    Operation("GET", "/data-layer/versions", "viewer", rules.list_data_layer_versions,
              "List the versions of the data layer, newest first", Page[layers.VersionSummary],
              query=PageQuery),
    Operation("GET", "/data-layer/versions/{version}", "viewer", rules.get_data_layer_version,
              "Get a version of the data layer", layers.DataLayerVersion),
    Operation("GET", "/consent-settings", "viewer", rules.get_consent_settings,
              "Get what is said of consent", layers.ConsentSettingsVersion),
    Operation("PUT", "/consent-settings", "admin", rules.replace_consent_settings,
              "Replace what is said of consent, all of it; in force at once", layers.ConsentSettingsVersion,
              takes=layers.ConsentSettingsReplacement, errors=("CONFLICT",)),
    Operation("GET", "/consent-settings/versions", "viewer", rules.list_consent_settings_versions,
              "List the versions of the consent settings, newest first", Page[layers.VersionSummary],
              query=PageQuery),
    Operation("GET", "/consent-settings/versions/{version}", "viewer", rules.get_consent_settings_version,
              "Get a version of the consent settings", layers.ConsentSettingsVersion),
    Operation("POST", "/expressions/check", "viewer", rules.check_expression,
              "Say whether an expression can be read, and where not", layers.ExpressionCheck,
              takes=layers.ExpressionToCheck),
    #
    Operation("GET", "/events", "viewer", h.list_events,
              "Find events, newest first", Page[events.EventSummary], query=events.EventFilters),
    Operation("GET", "/events/{pipeline_id}/{message_id:path}", "viewer", h.get_event,
              "Trace an event: each step, each request, each answer", Trace),
    Operation("GET", "/deliveries", "viewer", figures.list_deliveries,
              "Find deliveries, newest first", Page[Delivery], query=events.DeliveryFilters),
    Operation("GET", "/deliveries/{delivery_id}", "viewer", figures.get_delivery,
              "Get a delivery with its attempts", DeliveryDetail),
    Operation("GET", "/integrations-health", "viewer", figures.list_health,
              "How every attached integration does", Page[IntegrationHealth], query=PageQuery),
    Operation("GET", "/stats", "viewer", figures.get_stats,
              "What happened, by the minute, hour or day", Stats, query=events.StatsFilters),
    Operation("GET", "/ledger", "viewer", figures.get_ledger,
              "The sums of all events and deliveries, and whether they balance", Ledger),
    Operation("GET", "/dead-letters", "viewer", h.list_dead_letters,
              "Find deliveries that were given up", Page[events.DeadLetter], query=events.DeadLetterFilters),
    Operation("DELETE", "/dead-letters", "editor", h.discard_dead_letters,
              "Discard dead letters", events.Discarded, takes=events.Selection),
    Operation("POST", "/dead-letters/replay", "editor", h.replay_dead_letters,
              "Send dead letters again", events.Replayed, takes=events.Selection),
    Operation("GET", "/refused-events", "viewer", h.list_refused_events,
              "Find what the door refused, newest first", Page[events.RefusedEvent],
              query=events.RefusedEventFilters),
    Operation("GET", "/refused-events/counts", "viewer", h.count_refused_events,
              "Count refusals by reason", events.RefusedCounts, query=events.RefusedCountsFilter),
    Operation("GET", "/dlq-events", "viewer", visitors.list_dlq_events,
              "Find events that could not be processed, newest first", Page[identities.DlqEvent],
              query=identities.DlqEventFilters),
    #
    Operation("GET", "/identities", "viewer", visitors.list_identities,
              "Find visitors, in the order of their ids", Page[identities.Identity],
              query=identities.IdentityFilters),
    Operation("DELETE", "/identities/{anonymous_id}/links/{user_id}", "admin",
              visitors.unlink_identity,
              "Undo the link of a visitor to a user; its next events carry no user", None),
    Operation("GET", "/identities/{anonymous_id:path}", "viewer", visitors.get_identity,
              "Get all that is known of a visitor", identities.IdentityDetail),
    #
    Operation("GET", "/audit-logs", "admin", h.list_audit_logs,
              "Who changed what, and who came in, newest first", Page[audit.AuditLogEntry],
              query=audit.AuditLogFilters),
)
# fmt: on

STREAM = "/debug/stream"
"""The WebSocket, for viewers (stream.py)."""


def routes(services: Services, stream_recheck_s: float = RECHECK_S) -> list[BaseRoute]:
    """All of them, with the one shape of errors also for paths and methods that do not exist."""
    ceiling = Ceiling(services.settings.management_rate_limit_rpm, services.clock)
    methods: dict[str, dict[str, Gate]] = {}
    for one in OPERATIONS:
        methods.setdefault(one.path, {})[one.method] = Gate(one.role, one.for_people, one.handler)
    resources: list[BaseRoute] = [
        RawRoute(path, Resource(services, ceiling, known)) for path, known in methods.items()
    ]
    inside = Router(
        [*resources, WebSocketRoute(STREAM, stream(services, stream_recheck_s))],
        redirect_slashes=False,
        default=nothing_here,
    )
    return [document_route(PREFIX, OPERATIONS), Mount(PREFIX, ErrorLayer(inside))]
