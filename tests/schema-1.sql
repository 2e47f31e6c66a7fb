-- The whole store of datafly_lite, in the order an event meets it.
-- A new database gets this file; migrations bring an old one to the same place (store/migrations.py).
-- Times are milliseconds since 1970 UTC. JSON columns hold text that the program wrote.
-- Ciphertext is AES-256-GCM under the key file beside this database (keyring.py).

-- ── Configuration ────────────────────────────────────────────────────────────────────────────

CREATE TABLE organisation (
    id            TEXT PRIMARY KEY,                  -- org_…; exactly one row
    name          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE pipelines (
    id                       TEXT PRIMARY KEY,       -- pip_…
    name                     TEXT NOT NULL,
    slug                     TEXT NOT NULL,
    type                     TEXT NOT NULL CHECK (type IN ('web', 'app', 'server')),
    pipeline_key             TEXT NOT NULL UNIQUE,   -- dk_…: public, identifies the pipeline at the door
    secret_ciphertext        BLOB NOT NULL,          -- sk_…: readable again because HMAC needs it
    secret_prefix            TEXT NOT NULL,          -- sk_ and four characters, to recognise it by
    domain_allowlist         TEXT NOT NULL,          -- JSON list; empty = all origins
    labels                   TEXT NOT NULL,          -- JSON list
    rate_limit_rps           INTEGER NOT NULL,
    challenge_token_required INTEGER NOT NULL CHECK (challenge_token_required IN (0, 1)),
    parameters               TEXT NOT NULL,          -- JSON object of strings
    config                   TEXT NOT NULL,          -- JSON object
    js_builder_config        TEXT NOT NULL,          -- JSON object
    identity_config          TEXT NOT NULL,          -- JSON object
    source_view              TEXT NOT NULL DEFAULT '{}', -- JSON {"domain", "config"}: what only /sources knows of it
    enabled                  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at_ms            INTEGER NOT NULL,
    updated_at_ms            INTEGER NOT NULL,
    deleted_at_ms            INTEGER                 -- soft delete: the key stops at once
) STRICT;
CREATE UNIQUE INDEX pipelines_slug ON pipelines (slug) WHERE deleted_at_ms IS NULL;

CREATE TABLE collector_builds (
    id            TEXT PRIMARY KEY,                  -- bld_…
    pipeline_id   TEXT NOT NULL REFERENCES pipelines (id),
    status        TEXT NOT NULL CHECK (status IN ('building', 'ready', 'failed')),
    version_hash  TEXT,                              -- first 8 hex digits of the script's SHA-256
    script        BLOB,
    script_gzip   BLOB,
    script_brotli BLOB,
    modules       TEXT NOT NULL DEFAULT '[]',        -- JSON [{"name", "gzip_size_bytes"}]
    report        TEXT NOT NULL DEFAULT '[]',        -- JSON list of remarks, such as a missing minifier
    error         TEXT,
    started_at_ms INTEGER NOT NULL,
    built_at_ms   INTEGER
) STRICT;
CREATE INDEX collector_builds_latest ON collector_builds (pipeline_id, started_at_ms);
CREATE INDEX collector_builds_hash ON collector_builds (pipeline_id, version_hash);

-- An integration is a template; what it does is said by its revisions, which never change.
CREATE TABLE integrations (
    id            TEXT PRIMARY KEY,                  -- tmpl_…
    name          TEXT NOT NULL,
    vendor        TEXT NOT NULL,                     -- a name from the vendors' registry
    description   TEXT NOT NULL DEFAULT '',
    variant       TEXT,                              -- of the vendor's, where it was installed from the catalogue
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER                            -- kept, because traces of old events name it
) STRICT;
CREATE UNIQUE INDEX integrations_name ON integrations (name) WHERE deleted_at_ms IS NULL;

CREATE TABLE revisions (
    id                 TEXT PRIMARY KEY,             -- rev_…
    integration_id     TEXT NOT NULL REFERENCES integrations (id),
    revision_number    INTEGER NOT NULL,
    config             TEXT NOT NULL,                -- JSON object; settings declared secret are "***" here
    secrets_ciphertext BLOB NOT NULL,                -- and here, as a JSON object
    change_summary     TEXT NOT NULL DEFAULT '',
    created_by         TEXT,
    created_at_ms      INTEGER NOT NULL,
    UNIQUE (integration_id, revision_number)
) STRICT;

CREATE TABLE pipeline_integrations (
    id             TEXT PRIMARY KEY,                 -- pi_…
    pipeline_id    TEXT NOT NULL REFERENCES pipelines (id),
    integration_id TEXT NOT NULL REFERENCES integrations (id),
    revision_id    TEXT NOT NULL REFERENCES revisions (id),
    enabled        INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    mode           TEXT NOT NULL CHECK (mode IN ('live', 'paused', 'shadow')),
    trouble        TEXT,                             -- why delivery paused or disabled it, in words
    created_at_ms  INTEGER NOT NULL,
    updated_at_ms  INTEGER NOT NULL,
    detached_at_ms INTEGER,                          -- kept for the traces; attaching again takes up this row
    UNIQUE (pipeline_id, integration_id)
) STRICT;

-- The organisation's rules for all events. A version never changes: events name the one they went through.
-- Version 0, which has no row, is the program's defaults.
CREATE TABLE data_layers (
    version       INTEGER PRIMARY KEY AUTOINCREMENT,
    config        TEXT NOT NULL,                     -- JSON: data_layer.py
    created_by    TEXT,                              -- the user
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE consent_settings (
    version       INTEGER PRIMARY KEY AUTOINCREMENT,
    config        TEXT NOT NULL,                     -- JSON: consent.py
    created_by    TEXT,
    created_at_ms INTEGER NOT NULL
) STRICT;

-- Third parties whose webhooks become a pipeline's events (spec/datafly-signal.md, 3.5).
CREATE TABLE webhook_sources (
    id                TEXT PRIMARY KEY,              -- wh_…: stands in the address that the third party posts to
    pipeline_id       TEXT NOT NULL REFERENCES pipelines (id),
    name              TEXT NOT NULL,
    source_type       TEXT NOT NULL CHECK (source_type IN ('stripe', 'shopify', 'hubspot', 'custom')),
    secret_ciphertext BLOB NOT NULL,                 -- what the third party signs with; empty = unsigned
    config            TEXT NOT NULL,                 -- JSON {"signature_header", "signature_encoding", "event_type_path", "mappings"}
    enabled           INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at_ms     INTEGER NOT NULL,
    updated_at_ms     INTEGER NOT NULL,
    deleted_at_ms     INTEGER                        -- soft delete: nothing is taken from it any more
) STRICT;

-- ── The log: what was accepted, in the order it was ──────────────────────────────────────────

CREATE TABLE raw_events (
    offset         INTEGER PRIMARY KEY AUTOINCREMENT, -- the log's own key: rises by one, never used twice
    pipeline_id    TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    envelope       BLOB NOT NULL,                     -- JSON: what the gateway knew beside the body
    raw            BLOB NOT NULL                      -- the event's own bytes as they came (inflated)
) STRICT;

-- Where each messageId is in the log: for deduplication inside its window, and to find an event.
-- New ones are appended to recent_message_ids, in the log's order; when these are many or old they are
-- sorted into message_ids as one segment. An index that took random ids one by one would dirty a page
-- for each of them, and slow to 0.4 of its speed at 5 million rows.
CREATE TABLE recent_message_ids (
    offset INTEGER PRIMARY KEY,                       -- in raw_events and events
    digest BLOB NOT NULL                              -- BLAKE2b-128 of pipeline and messageId
) STRICT;

CREATE TABLE message_ids (
    segment INTEGER NOT NULL,
    digest  BLOB NOT NULL,
    offset  INTEGER NOT NULL,
    PRIMARY KEY (segment, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE message_id_segments (
    segment      INTEGER PRIMARY KEY,
    closed_at_ms INTEGER NOT NULL                     -- no id in it came later
) STRICT;

CREATE TABLE offsets (
    consumer TEXT PRIMARY KEY,                        -- 'processor'
    offset   INTEGER NOT NULL                         -- the last one it has finished with
) STRICT, WITHOUT ROWID;

-- What the door refused, for its owner to see: bounded in number and size, and kept for 24 hours.
CREATE TABLE refused_events (
    id              INTEGER PRIMARY KEY,             -- rises in the order of arrival
    pipeline_id     TEXT,                            -- none = no known key came with it
    code            TEXT NOT NULL,                   -- the word in the answer: errors.py, Refused.STATUS
    message         TEXT NOT NULL,
    dialect         TEXT,
    path            TEXT NOT NULL,
    library         TEXT,                            -- name/version, as the event says
    user_agent      TEXT,
    origin          TEXT,
    ip              TEXT,
    request_id      TEXT,
    refused_at_ms   INTEGER NOT NULL,
    body            BLOB NOT NULL,                   -- its first bytes
    body_size_bytes INTEGER NOT NULL                 -- all of it
) STRICT;
CREATE INDEX refused_events_by_pipeline ON refused_events (pipeline_id, id);

-- ── Processing: written in one transaction with the processor's offset ───────────────────────

CREATE TABLE events (
    offset          INTEGER PRIMARY KEY,              -- the same as in raw_events
    pipeline_id     TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    type            TEXT NOT NULL,
    event           TEXT,                             -- a track's event, a page's name
    anonymous_id    TEXT,
    user_id         TEXT,
    received_at_ms  INTEGER NOT NULL,
    processed_at_ms INTEGER NOT NULL,
    drop_reason     TEXT,                             -- set when the data layer dropped it for all
    detail          TEXT,                             -- of the reason: the field, the rule, the script's line
    steps           TEXT NOT NULL,                    -- one word a step: 'check_schema:ok put_identity:changed'
    data_layer_version INTEGER NOT NULL,
    consent_settings_version INTEGER NOT NULL,
    inputs          TEXT NOT NULL,                    -- JSON: what the steps took from state
    program         TEXT NOT NULL,                    -- the version of the program that ran them
    body            BLOB NOT NULL                     -- JSON: the event as it goes to the integrations
) STRICT;
CREATE INDEX events_by_pipeline ON events (pipeline_id, offset);
-- The topic dlq-events: what no step could go on with (spec/datafly-signal.md, 4.2, step 1).
CREATE INDEX events_dead ON events (offset) WHERE drop_reason IN ('schema', 'custom_js');

-- What is known of each visitor. Times are those of events: the same log gives the same rows.
CREATE TABLE identities (
    anonymous_id     TEXT PRIMARY KEY,
    user_id          TEXT,                            -- the newest link
    linked_at_ms     INTEGER NOT NULL,                -- when; 0 = never
    group_id         TEXT,
    vendor_ids       TEXT NOT NULL,                   -- JSON {name: {"value", "setAtMs"}}: vendor_ids.py
    consent          TEXT NOT NULL,                   -- JSON {"choices", "atMs", "olderMs"}: consent.py, State
    first_seen_at_ms INTEGER NOT NULL,
    last_seen_at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX identities_by_user ON identities (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX identities_by_group ON identities (group_id) WHERE group_id IS NOT NULL;

-- Links are rows with the event that made them, so that each can be explained and undone.
CREATE TABLE identity_links (
    anonymous_id   TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    offset         INTEGER NOT NULL,                  -- the event that made it
    linked_at_ms   INTEGER NOT NULL,
    unlinked_at_ms INTEGER,                           -- a person undid it
    PRIMARY KEY (anonymous_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_links_by_user ON identity_links (user_id);

-- The traits of users and groups, merged: of each trait the newest.
CREATE TABLE profiles (
    kind      TEXT NOT NULL CHECK (kind IN ('user', 'group')),
    id        TEXT NOT NULL,
    traits    TEXT NOT NULL,                          -- JSON object
    set_at_ms TEXT NOT NULL,                          -- JSON {trait: milliseconds}
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- The newest session of each visitor on each pipeline.
CREATE TABLE sessions (
    pipeline_id   TEXT NOT NULL,
    anonymous_id  TEXT NOT NULL,
    id            TEXT NOT NULL,                      -- digits, because GA4 takes no other
    number        INTEGER NOT NULL,                   -- from 1: how many the visitor has had
    started_at_ms INTEGER NOT NULL,
    last_at_ms    INTEGER NOT NULL,
    ends_at_ms    INTEGER,                            -- when its session_end is due; none = none is wanted, or it was
    has_start     INTEGER NOT NULL CHECK (has_start IN (0, 1)), -- its session_start was made
    PRIMARY KEY (pipeline_id, anonymous_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_ending ON sessions (ends_at_ms) WHERE ends_at_ms IS NOT NULL;

-- What a later event must not repeat, such as an order id (the data layer's deduplication).
CREATE TABLE idempotency_keys (
    digest BLOB PRIMARY KEY,                          -- BLAKE2b-128 of pipeline, event name, path and value
    offset INTEGER NOT NULL,                          -- the first event that had it
    at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at_ms);

-- Each change of a visitor's consent, with the event that made it: the consent audit.
CREATE TABLE consent_changes (
    offset              INTEGER PRIMARY KEY,          -- the event
    pipeline_id         TEXT NOT NULL,
    anonymous_id        TEXT NOT NULL,
    choices_before      TEXT NOT NULL,                -- JSON {category: true or false}
    choices             TEXT NOT NULL,
    cancelled_deliveries INTEGER NOT NULL,            -- that waited for what is no longer consented to
    at_ms               INTEGER NOT NULL
) STRICT;
CREATE INDEX consent_changes_by_visitor ON consent_changes (anonymous_id, offset);

-- Browsers that were seen, to recognise a visitor whose _dfid is gone: only where a pipeline asks for it.
CREATE TABLE devices (
    device_id       TEXT PRIMARY KEY,                 -- _dfdid
    pipeline_id     TEXT NOT NULL,
    anonymous_id    TEXT NOT NULL,
    signals         TEXT NOT NULL,                    -- JSON: what its requests have in common
    last_seen_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- ── Delivery: the outbox ─────────────────────────────────────────────────────────────────────

CREATE TABLE deliveries (
    id                      INTEGER PRIMARY KEY,
    offset                  INTEGER NOT NULL,
    pipeline_id             TEXT NOT NULL,
    pipeline_integration_id TEXT NOT NULL,
    revision_id             TEXT NOT NULL,            -- the configuration whose steps it went through
    anonymous_id            TEXT,                     -- to cancel what a visitor's withdrawal of consent forbids
    status                  TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'dropped', 'dead')),
    reason                  TEXT,                     -- why dropped, or why dead, as one word
    detail                  TEXT,                     -- of the reason: the categories refused, the step and why
    attempts                INTEGER NOT NULL DEFAULT 0,
    next_attempt_at_ms      INTEGER NOT NULL,
    created_at_ms           INTEGER NOT NULL,
    finished_at_ms          INTEGER,
    steps                   TEXT NOT NULL,            -- one word a step of the integration's own
    UNIQUE (offset, pipeline_integration_id)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (pipeline_integration_id, next_attempt_at_ms, id)
    WHERE status = 'pending';
CREATE INDEX deliveries_dead ON deliveries (pipeline_integration_id, id) WHERE status = 'dead';
CREATE INDEX deliveries_waiting ON deliveries (pipeline_integration_id, id) WHERE status = 'pending';
CREATE INDEX deliveries_of_visitors ON deliveries (anonymous_id) WHERE status = 'pending';

-- Requests and answers cannot be recomputed, so they are kept: bounded, secrets redacted.
CREATE TABLE delivery_attempts (
    delivery_id   INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,                   -- from 1, rising through replays
    at_ms         INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    revision_id   TEXT NOT NULL,                      -- the configuration it was made with
    verdict       TEXT NOT NULL,
    status        INTEGER,                            -- HTTP status, where an answer came
    error         TEXT,
    request       TEXT NOT NULL,                      -- JSON {"method", "url", "headers", "body"}
    response      TEXT,                               -- JSON {"headers", "body"}
    PRIMARY KEY (delivery_id, attempt)
) STRICT, WITHOUT ROWID;

-- ── Figures: changed in the transaction of what they count ───────────────────────────────────

CREATE TABLE counters (
    pipeline_id TEXT NOT NULL,
    name        TEXT NOT NULL,                        -- 'stored', 'duplicates', 'refused:' and its code,
                                                      -- 'processed', 'event_dropped:' and its reason
    value       INTEGER NOT NULL,
    PRIMARY KEY (pipeline_id, name)
) STRICT, WITHOUT ROWID;

-- How often each thing happened in a minute, an hour and a day. Nothing is taken back: what was given up
-- and then delivered is in it twice. Old minutes and hours go (store/tallies.py).
CREATE TABLE tallies (
    span_ms     INTEGER NOT NULL,                     -- 60000, 3600000 or 86400000
    start_ms    INTEGER NOT NULL,
    pipeline_id TEXT NOT NULL,
    name        TEXT NOT NULL,                        -- as in counters, or as in delivery_counts
    value       INTEGER NOT NULL,
    PRIMARY KEY (span_ms, start_ms, pipeline_id, name)
) STRICT, WITHOUT ROWID;

-- Where each integration's deliveries stand. 'matched' is written by who makes deliveries; all others by
-- the triggers, whoever changes a delivery: so that the one can be held against the others.
CREATE TABLE delivery_counts (
    pipeline_integration_id TEXT NOT NULL,
    name                    TEXT NOT NULL,            -- 'matched', or a status, with ':' and the reason if any
    value                   INTEGER NOT NULL,
    last_at_ms              INTEGER NOT NULL,         -- when it last rose
    PRIMARY KEY (pipeline_integration_id, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER deliveries_made AFTER INSERT ON deliveries
BEGIN
    INSERT INTO delivery_counts
    VALUES (NEW.pipeline_integration_id, NEW.status || coalesce(':' || NEW.reason, ''), 1, NEW.created_at_ms)
        ON CONFLICT DO UPDATE SET value = value + 1, last_at_ms = excluded.last_at_ms;
END;

CREATE TRIGGER deliveries_moved AFTER UPDATE OF status, reason ON deliveries
    WHEN NEW.status <> OLD.status OR NEW.reason IS NOT OLD.reason
BEGIN
    UPDATE delivery_counts SET value = value - 1
     WHERE pipeline_integration_id = OLD.pipeline_integration_id
       AND name = OLD.status || coalesce(':' || OLD.reason, '');
    INSERT INTO delivery_counts
    VALUES (NEW.pipeline_integration_id, NEW.status || coalesce(':' || NEW.reason, ''), 1,
            coalesce(NEW.finished_at_ms, NEW.next_attempt_at_ms))
        ON CONFLICT DO UPDATE SET value = value + 1, last_at_ms = excluded.last_at_ms;
END;

-- What is finished still counts when it is forgotten; what is open must be dropped first.
CREATE TRIGGER deliveries_lost AFTER DELETE ON deliveries WHEN OLD.status IN ('pending', 'dead')
BEGIN
    UPDATE delivery_counts SET value = value - 1
     WHERE pipeline_integration_id = OLD.pipeline_integration_id
       AND name = OLD.status || coalesce(':' || OLD.reason, '');
END;

CREATE TRIGGER deliveries_finished_at_once AFTER INSERT ON deliveries WHEN NEW.finished_at_ms IS NOT NULL
BEGIN
    INSERT INTO tallies
    SELECT column1, NEW.finished_at_ms - NEW.finished_at_ms % column1, NEW.pipeline_id,
           NEW.status || coalesce(':' || NEW.reason, ''), 1
      FROM (VALUES (60000), (3600000), (86400000)) WHERE true
        ON CONFLICT DO UPDATE SET value = value + 1;
END;

CREATE TRIGGER deliveries_finished AFTER UPDATE OF status, reason ON deliveries
    WHEN NEW.finished_at_ms IS NOT NULL AND (NEW.status <> OLD.status OR NEW.reason IS NOT OLD.reason)
BEGIN
    INSERT INTO tallies
    SELECT column1, NEW.finished_at_ms - NEW.finished_at_ms % column1, NEW.pipeline_id,
           NEW.status || coalesce(':' || NEW.reason, ''), 1
      FROM (VALUES (60000), (3600000), (86400000)) WHERE true
        ON CONFLICT DO UPDATE SET value = value + 1;
END;

-- ── People ───────────────────────────────────────────────────────────────────────────────────

CREATE TABLE users (
    id              TEXT PRIMARY KEY,                 -- usr_…
    email           TEXT NOT NULL UNIQUE,             -- lower case
    name            TEXT NOT NULL DEFAULT '',
    password_hash   TEXT,                             -- Argon2id; none = cannot log in by password
    role            TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    status          TEXT NOT NULL CHECK (status IN ('active', 'invited', 'disabled')),
    last_login_at_ms INTEGER,
    created_at_ms   INTEGER NOT NULL,
    updated_at_ms   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX users_one_owner ON users (role) WHERE role = 'owner';

-- Tokens are opaque and only their SHA-256 is kept, so a stolen file logs nobody in.
CREATE TABLE tokens (
    digest        BLOB PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('setup', 'signin', 'invite', 'access', 'refresh', 'session', 'challenge', 'cross_domain')),
    subject       TEXT,                               -- the user, or for a challenge the pipeline
    family        TEXT,                               -- one login: its access and refresh tokens
    created_at_ms INTEGER NOT NULL,
    last_used_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    used          INTEGER NOT NULL DEFAULT 0          -- a refresh token that was rotated, a link that was followed
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_subject ON tokens (subject);
CREATE INDEX tokens_by_expiry ON tokens (expires_at_ms);

-- Keys for programs. One acts for the person who made it, with no more than that person's present role.
CREATE TABLE api_keys (
    number          INTEGER PRIMARY KEY AUTOINCREMENT, -- rises in the order they were made
    id              TEXT NOT NULL UNIQUE,             -- key_…
    user_id         TEXT NOT NULL REFERENCES users (id),
    name            TEXT NOT NULL,
    digest          BLOB NOT NULL UNIQUE,             -- SHA-256 of ak_…, which is kept nowhere
    prefix          TEXT NOT NULL,                    -- ak_ and four characters, to recognise it by
    role            TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    created_at_ms   INTEGER NOT NULL,
    last_used_at_ms INTEGER,
    expires_at_ms   INTEGER                           -- none = it has no end
) STRICT;
CREATE INDEX api_keys_by_user ON api_keys (user_id);

-- Who changed what, and who came in: written in the transaction of the change, kept for 90 days.
CREATE TABLE audit_logs (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,  -- rises in the order of the changes
    id            TEXT NOT NULL,                      -- log_…
    action        TEXT NOT NULL,                      -- 'pipeline.updated', 'auth.login', …
    user_id       TEXT,                               -- none = the program, its operator, or somebody unknown
    user_email    TEXT,                               -- as it was then; of a failed log-in the one that was tried
    resource_type TEXT NOT NULL,
    resource_id   TEXT,
    changes       TEXT NOT NULL,                      -- JSON {field: {"old", "new"}}, secrets masked
    ip_address    TEXT,
    user_agent    TEXT,
    at_ms         INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_logs_by_action ON audit_logs (action);
CREATE INDEX audit_logs_by_user ON audit_logs (user_id);
CREATE INDEX audit_logs_by_resource ON audit_logs (resource_id);
CREATE TRIGGER audit_logs_never_change BEFORE UPDATE ON audit_logs
BEGIN
    SELECT raise(ABORT, 'an entry of the audit log never changes');
END;
