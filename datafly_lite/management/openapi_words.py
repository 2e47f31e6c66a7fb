"""What the API's document says in words: the introduction, its sections, what codes and parameters mean."""

from __future__ import annotations

INTRODUCTION = """\
Two interfaces in one program.

**Collection** takes events from browsers, apps, servers and third parties, in the formats of several
products. Every path also answers with a trailing slash. Bodies are JSON whatever their Content-Type says, and
are inflated where they are gzip. Every answer has CORS headers. Errors are `Refusal`.

**Management**, below `/v1/admin`, needs `Authorization: Bearer` with an access token from `auth/login` or an
API key. Roles: viewer, editor, admin, owner; each may do what the ones before it may. Errors are `Error`. A
HEAD is answered as a GET; unknown and empty parameters are ignored, unknown fields of a body refused.

`GET /v1/admin/debug/stream` is a WebSocket for viewers: after `{"action": "subscribe", "filters": {}}` it
sends `{"stage", "timestamp", "pipeline_id", "message_id", "integration_id", "data"}` for whatever happens,
and `{"missed": n}` to a reader that is too slow.

Any operation can also answer 500 with the code `INTERNAL_ERROR`: that is a bug, and the program's log has the
request's id."""

TAGS = {
    "setup": "The first owner.",
    "auth": "Logging in, tokens, one's own password.",
    "users": "People, their roles, and invitations by one-time link.",
    "api-keys": "Keys for programs, with a role and an end. None can call `auth`, or change users or keys.",
    "pipelines": "Where events come in: a key, a secret, and what is allowed.",
    "sources": "Pipelines as the older interface calls them: two views of one record.",
    "collector": "A pipeline's JavaScript: built, looked at, downloaded.",
    "catalog": "The vendors that events can go to, and what each asks for.",
    "integration-templates": "A vendor with its settings. These change by new revisions.",
    "integrations": "Integrations on a pipeline, each pinned to a revision.",
    "dry-run": "What a change would make of events, before it is saved.",
    "webhook-sources": "Third parties that post their own events.",
    "data-layer": "The rules for every event of every pipeline. Each save is a version, which never changes.",
    "consent-settings": "What is said of consent: codes, what holds unsaid, what must be agreed to.",
    "expressions": "The language of conditions and mappings.",
    "events": "Events that were taken, and the whole way of each.",
    "deliveries": "An event and an integration: where it stands.",
    "integrations-health": "How every attached integration does.",
    "stats": "Figures by the minute, hour or day.",
    "ledger": "Whether all that came in is accounted for.",
    "dead-letters": "Deliveries that were given up, until they are sent again or discarded.",
    "refused-events": "What was turned away at the door, and why.",
    "dlq-events": "Events that were taken and could not be processed: what came, and what is wrong with it.",
    "identities": "Visitors: who they turned out to be, what they agreed to, and how vendors know them.",
    "audit-logs": "Who changed what.",
    "collect-events": "Events in Datafly's and Segment's format.",
    "collect-pixels": "Events without JavaScript: a query, and a transparent dot as the answer.",
    "collect-commanders-act": (
        "Events in Commanders Act's formats. An event that cannot be used is answered 200 with "
        "`rejected`, and is listed as refused."
    ),
    "collect-webhooks": "What third parties post to a webhook source.",
    "collect-scripts": "The JavaScript that pages load. Small, compressed, and cached by browsers.",
    "collect-beside": "What clients ask for beside their events.",
}

CODES = {
    "INVALID_JSON": "the body is not JSON",
    "VALIDATION_ERROR": "a field or parameter cannot be used: see `details`",
    "INVALID_CREDENTIALS": "the e-mail address or the password is wrong",
    "INVALID_TOKEN": "the token is missing, unknown or revoked",
    "EXPIRED_TOKEN": "the token has expired",
    "INVALID_REFRESH_TOKEN": "the refresh token is unknown, expired or was used before",
    "ACCOUNT_LOCKED": "too many wrong passwords from this address: come again later",
    "FORBIDDEN": "the caller's role may not do this",
    "CROSS_SITE_REQUEST": "another site's page sent it",
    "NOT_FOUND": "there is no such thing",
    "METHOD_NOT_ALLOWED": "the path does not know the method",
    "REQUEST_TIMEOUT": "the body did not arrive in time",
    "CONFLICT": "it cannot be done as things stand",
    "GONE": "it was used before",
    "PAYLOAD_TOO_LARGE": "the body is larger than 1 MB",
    "RATE_LIMITED": "too many requests: come again later",
    "INTERNAL_ERROR": "a bug",
    "STORAGE_UNAVAILABLE": "the store cannot be used now: come again later",
    "invalid_json": "the body is not JSON",
    "invalid_payload": "the body is no event",
    "batch_too_large": "the batch is too large",
    "event_too_large": "the event is too large",
    "invalid_key": "the key is missing, unknown or revoked",
    "invalid_signature": "the signature is missing or wrong",
    "timestamp_expired": "the signature's time is too far from now",
    "challenge_required": "the pipeline asks for a challenge token",
    "origin_not_allowed": "the pipeline does not take events from this origin",
    "pipeline_disabled": "the pipeline is switched off",
    "not_found": "nothing is collected at this path",
    "method_not_allowed": "the path does not know the method",
    "request_timeout": "the body did not arrive in time",
    "body_too_large": "the body is too large",
    "rate_limited": "the pipeline's rate is exceeded: come again later",
    "storage_unavailable": "the store cannot be used now: come again later",
    "overloaded": "more comes than can be written: come again later",
}

PARAMETERS = {
    "pipeline_id": "The pipeline's id.",
    "pipeline_key": "The pipeline's key, dk_…",
    "script_filename": "Its name, d.js unless the pipeline has another, or the hash of a build and .js.",
    "pi_id": "The id of the integration on this pipeline.",
    "integration_id": "The integration's id.",
    "vendor": "The vendor's key in the catalogue.",
    "number": "The revision's number.",
    "old": "A revision's number.",
    "new": "A revision's number.",
    "source_id": "The webhook source's id.",
    "src_id": "The source's id.",
    "message_id": "The event's messageId; a slash in it may stay as it is.",
    "delivery_id": "The delivery's id.",
    "anonymous_id": "The visitor's anonymousId; a slash in it may stay as it is.",
    "user_id": "The user's id.",
    "key_id": "The API key's id.",
    "version": "The version's number; 0 is the program's defaults.",
}
