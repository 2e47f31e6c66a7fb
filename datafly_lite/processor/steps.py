"""What happens to an event, as two lists that read aloud.

A step takes the event's passage and gives True where it changed the event, False where it did not, or the
reason why the event goes no further. `put_` steps enrich, `drop_` steps filter, and the rest do what they
say. A step is pure: the same passage gives the same bytes. The order of the data layer's is that of
spec/datafly-signal.md, 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from datafly_lite import bots, consent, identity, pii, sessions, vendor_ids
from datafly_lite.clock import iso
from datafly_lite.configuration import Attachment
from datafly_lite.engine_scripts import run_script, script_words
from datafly_lite.errors import ScriptError, StepFailed
from datafly_lite.events import DropReason, Event
from datafly_lite.expressions import Scope
from datafly_lite.processor.describing import put_campaign, put_client, put_device, put_geo, put_page
from datafly_lite.processor.passage import Passage, is_visitors_own
from datafly_lite.vendors import VENDORS

Step = Callable[[Passage], bool | DropReason]
IntegrationStep = Callable[[Passage, Attachment], bool | DropReason]

REQUIRED: dict[str, Callable[[Event], str | None]] = {
    "track": lambda event: None if event.event else "event",
    "identify": lambda event: None if event.user_id or event.anonymous_id else "userId",
    "group": lambda event: None if event.group_id else "groupId",
    "alias": lambda event: None if event.user_id else "userId",
}
"""Type -> the field that an event of it lacks (seed 000; identify as Segment's browser SDK sends it)."""


def check_schema(passage: Passage) -> bool | DropReason:
    """What its type requires; other events go to dlq-events (4.2, step 1).

    Types of values and times are settled where a wire format is read: what is no time there is the time
    of receipt, and the sender's own word stays in originalTimestamp.
    """
    event = passage.event
    missing = REQUIRED[event.type](event) if event.type in REQUIRED else None
    if missing:
        passage.detail = f"Field '{missing}' is required"
        return DropReason.SCHEMA
    return False


def put_consent(passage: Passage) -> bool:
    """context.consent.canonical: the visitor's choices in the product's own categories.

    What the event says goes before what the visitor said earlier, and that before the organisation's
    default policy; what the event says is also what is known of the visitor from then on.
    """
    event, rules = passage.event, passage.rules.consent
    stated = consent.stated(event, rules)
    has_gpc = passage.envelope.has_gpc
    kept = consent.with_gpc(stated, rules, has_gpc)
    passage.consent = consent.after(passage.inputs.consent, kept, passage.at_ms)
    passage.choices = consent.effective(stated, passage.inputs.consent, rules, has_gpc)
    if not passage.choices:
        return False
    said = event.context.get("consent")
    own = said if isinstance(said, dict) else {}
    found: dict[str, Any] = {**own, "canonical": {**_object(own.get("canonical")), **passage.choices}}
    if rules.google_consent_mode and (signals := consent.google_consent_mode(passage.choices)):
        found["googleConsentMode"] = signals
    return passage.put_context({"consent": found}) if found != said else False


def enforce_consent(passage: Passage) -> bool | DropReason:
    """Allow, drop, or strip what is personal, as the consent settings say (4.2, step 2)."""
    outcome, passage.detail = consent.outcome(passage.choices, passage.rules.consent)
    if outcome == "drop":
        return DropReason.CONSENT
    if outcome == "strip":
        passage.is_stripped = True
        return bool(pii.strip(passage.event))
    return False


def mark_bots(passage: Passage) -> bool | DropReason:
    """context.bot says why an event looks like a robot's; only what the data layer blocks is dropped."""
    rules = passage.rules.data_layer.bot_filtering
    user_agent = passage.event.context.get("userAgent")
    is_own = is_visitors_own(passage.envelope, passage.event)
    if not rules.enabled or (user_agent is None and not is_own):
        return False
    bot = bots.recognise(user_agent if isinstance(user_agent, str) else None, rules)
    if bot is None:
        return False
    passage.is_bot = True
    passage.detail = f"{bot.reason}: {bot.detail}" if bot.detail else bot.reason
    if rules.blocks(bot):
        return DropReason.BOT
    return passage.put_context({"bot": msgspec.to_builtins(bot)})


def protect_pii(passage: Passage) -> bool:
    """Hash and redact what the data layer names or finds; keep, cut or drop the visitor's address."""
    event = passage.event
    nobody = {name: own for name in ("user_id", "group_id") if (own := _nobody(getattr(event, name)))}
    changed = pii.protect(event, passage.rules.data_layer.pii_rules)
    for name, own in nobody.items():
        if getattr(event, name) != own:
            setattr(event, name, None)  # the digest of nobody would be somebody
    passage.detail = ", ".join(changed)
    return bool(changed)


def _nobody(own: str | None) -> str | None:
    return own if own is not None and identity.is_nonsense(own) else None


def put_session(passage: Passage) -> bool:
    """context.session: the visitor's session on this pipeline. An event from before it has none."""
    if passage.envelope.session:
        return passage.put_context({"session": passage.envelope.session})
    event, rules, before = passage.event, passage.rules.data_layer.session, passage.inputs.session
    if not event.anonymous_id or passage.is_bot:
        return False
    session = passage.session = sessions.after(before, passage.at_ms, rules)
    if not sessions.holds(session, passage.at_ms):
        return False
    is_changed = passage.put_context({"session": sessions.context_of(session)})
    about = (passage.pipeline_id, event.anonymous_id)
    if before is not None and before.id != session.id and before.ends_at_ms is not None:
        passage.generated = ((before, sessions.moment_of("session_end", before, *about)),)
    if rules.track_session_start and not session.has_start:
        passage.start = sessions.moment_of("session_start", session, *about, event)
    return is_changed


def put_identity(passage: Passage) -> bool:
    """After identify, all later events of the visitor carry both ids (seed 000); groups, vendors' ids and the
    known user's traits likewise. An event whose personal data was stripped gets none of them.
    """
    is_changed = not passage.is_stripped and _identify(passage)
    passage.said = msgspec.structs.replace(passage.event)
    return is_changed


def _identify(passage: Passage) -> bool:
    event, known = passage.event, passage.inputs.known
    found = vendor_ids.found(event, passage.envelope.cookies, passage.at_ms)
    allowed = vendor_ids.allowed(passage.choices) & vendor_ids.allowed(passage.consent.choices)
    passage.known = identity.after(event, known, found, passage.at_ms, allowed)
    # RudderStack's SDKs put what identify says of a user there (wire-formats.md, 3.3).
    own = _object(event.context.get("traits"))
    passage.traits = {**own, **event.traits} if event.type == "identify" else event.traits
    before = (event.user_id, event.group_id, event.vendor_ids, event.context)
    _set_nobody_aside(event)
    event.user_id, event.group_id = identity.carried(event, passage.known)
    event.vendor_ids = vendor_ids.current(passage.known.vendor_ids, passage.at_ms)
    if event.user_id and passage.inputs.traits:
        event.context = {**event.context, "traits": {**passage.inputs.traits, **own}}
    rules = passage.rules.data_layer.pii_rules
    if rules.hash_fields or rules.redact_fields or rules.auto_detect != "off":
        pii.protect(
            event, rules
        )  # what is known may be from before these rules; what is hashed stays as it is
    return before != (event.user_id, event.group_id, event.vendor_ids, event.context)


def _set_nobody_aside(event: Event) -> None:
    """An id that names nobody, such as `undefined`, is nobody's, and stays to be seen in `original`."""
    said = {"userId": event.user_id, "groupId": event.group_id}
    if nobody := {name: own for name, own in said.items() if _nobody(own) is not None}:
        event.original = {**event.original, **nobody}


def drop_duplicates(passage: Passage) -> bool | DropReason:
    """An earlier event had the same idempotency key (4.1, step 9)."""
    first = passage.inputs.duplicate_of
    if first is None:
        return False
    passage.detail = f"the event at offset {first} had the same idempotency key"
    return DropReason.DUPLICATE


def run_custom_js(passage: Passage) -> bool | DropReason:
    """The organisation's own script over the event (4.5). None from it drops the event."""
    script = passage.rules.script
    if script is None:
        return False
    event = passage.event
    try:
        after = run_script(
            script,
            event,
            _script_context(passage),
            seed=event.message_id,
            now_ms=passage.envelope.received_at_ms,
        )
    except (ScriptError, StepFailed) as error:
        passage.detail = script_words(error) if isinstance(error, ScriptError) else str(error)
        return DropReason.CUSTOM_JS if passage.rules.data_layer.custom_js.on_error == "fail" else False
    if after is None:
        passage.detail = "the script returned null"
        return DropReason.FILTER
    is_changed = after != event
    for name in Event.__struct_fields__:
        setattr(event, name, getattr(after, name))
    return is_changed


def route(passage: Passage) -> bool | DropReason:
    """The first rule whose condition holds decides (4.1, step 11)."""
    if not passage.rules.routing:
        return False
    scope = Scope(passage.event, {}, None, passage.envelope.received_at_ms)
    for number, (condition, action) in enumerate(passage.rules.routing, 1):
        try:
            holds = condition.evaluate(scope) is True
        except StepFailed as error:  # what cannot be answered for this event does not hold
            passage.detail = f"rule {number} could not be worked out: {error}"
            continue
        if holds:
            passage.detail = f"rule {number}: {action}"
            return DropReason.ROUTING if action == "drop" else False
    return False


def _script_context(passage: Passage) -> dict[str, Any]:
    """What a script may know beside the event; it can change none of it."""
    return {
        "pipeline": {"id": passage.pipeline_id, "name": passage.inputs.pipeline},
        "now": iso(passage.envelope.received_at_ms),
    }


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


DATA_LAYER: tuple[Step, ...] = (
    check_schema,
    put_client,
    put_page,
    put_campaign,
    put_consent,
    enforce_consent,
    mark_bots,
    protect_pii,
    put_geo,
    put_device,
    put_session,
    put_identity,
    drop_duplicates,
    run_custom_js,
    route,
)
"""Once an event, whatever it is routed to."""


def drop_switched_off(passage: Passage, attachment: Attachment) -> bool | DropReason:
    """The client named the integrations it wants, and not this one (Segment's `integrations`).

    It is known by its vendor's key or title and by its own name, in any letters.
    """
    event = passage.event
    if not event.integrations:
        return False
    said = {name.casefold(): value for name, value in event.integrations.items()}
    title = VENDORS[attachment.vendor].label if attachment.vendor in VENDORS else ""
    names = (attachment.integration_name, attachment.vendor, title, "All")
    wanted = next((said[name.casefold()] for name in names if name.casefold() in said), True)
    return DropReason.ROUTING if wanted is False or wanted == "false" else False


def drop_unconsented(passage: Passage, attachment: Attachment) -> bool | DropReason:
    """The visitor said no to what this integration is for."""
    refused = consent.refused(passage.choices, attachment.consent_categories)
    passage.detail = ", ".join(refused)
    return DropReason.CONSENT if refused else False


INTEGRATION: tuple[IntegrationStep, ...] = (
    drop_switched_off,
    drop_unconsented,
)
"""Once for each integration that is attached and enabled, before the steps of its own revision."""
