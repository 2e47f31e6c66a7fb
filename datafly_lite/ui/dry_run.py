"""What a change in a form would do to events, in a tab of its own: the form stays as it was typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from datafly_lite.dry_run import DryRun, Outcome, Tried
from datafly_lite.errors import AdminError
from datafly_lite.management import dry_run
from datafly_lite.ui import consent_settings, data_layer
from datafly_lite.ui.dry_run_offer import OWN_EVENT, sample_of
from datafly_lite.ui.forms import Problems, problems_of
from datafly_lite.ui.rows import columns_of, filled, rows_of
from datafly_lite.ui.versioned import Kind
from datafly_lite.ui.visit import Visit

SHOWN_EVENTS = 20
"""Of each group: the others are like them."""
SHOWN_PATHS = 4
INDEX = re.compile(r"\[[0-9]+\]")

ORDER = ("newly_failed", "newly_dropped", "newly_sent", "changed", "unchanged")


class Words(NamedTuple):
    """What each kind of change is called."""

    sent: str
    dropped: str
    failed: str


OF_CHANGE = Words("newly sent", "newly dropped", "newly failing")
OF_RULES = Words("newly let through", "newly dropped", "newly failing")
OF_NEW = Words("would be sent", "would be dropped", "would fail")
"""Of an integration that the pipeline does not have: there is nothing to compare."""


class Group(NamedTuple):
    """Events that the change does the same to. `shown` are some of the `total`."""

    kind: str
    title: str
    total: int
    shown: list[Tried]


# ── The data layer and consent ───────────────────────────────────────────────────────────────


async def try_data_layer(visit: Visit) -> Response:
    """The data layer's form."""
    return await _try_rules(visit, data_layer.KIND, "data_layer")


async def try_consent_settings(visit: Visit) -> Response:
    """The form of the consent settings."""
    return await _try_rules(visit, consent_settings.KIND, "consent_settings")


async def _try_rules(visit: Visit, kind: Kind, name: str) -> Response:
    form, problems = await visit.form(), Problems()
    lists = {one: filled(rows_of(form, one, blank), blank) for one, blank in kind.lists.items()}
    fields = {name: kind.config_of(form, lists), **sample_of(form, problems)}
    if wrong := kind.wrong_rows(lists):
        problems = problems_of(AdminError("VALIDATION_ERROR", "", details=wrong), columns_of(lists))
    return await show(
        visit,
        fields,
        problems,
        names=[*kind.fields, *columns_of(lists), OWN_EVENT],
        field_of=lambda field: kind.field_of(field.removeprefix(f"{name}."), lists),
        labels=kind.labels_of(lists),
        title=kind.title,
        against=f"Against {_in_force(visit, name)}, for all pipelines.",
        back=kind.path,
        words=OF_RULES,
    )


def _in_force(visit: Visit, name: str) -> str:
    rules = visit.services.configuration.current.rules
    version = rules.data_layer_version if name == "data_layer" else rules.consent_version
    return f"version {version}, which is in force" if version else "the defaults, which are in force"


# ── The page ─────────────────────────────────────────────────────────────────────────────────


async def show(
    visit: Visit,
    fields: Mapping[str, Any],
    problems: Problems,
    *,
    names: Iterable[str],
    labels: Mapping[str, str],
    title: str,
    against: str,
    back: str,
    words: Words = OF_CHANGE,
    field_of: Callable[[str], str] = str,
) -> Response:
    """Run it, and show what came out; or what is wrong with the form's fields `names`, as saving would."""
    run: DryRun | None = None
    if not problems:
        try:
            run = await dry_run.dry_run(visit.services, fields, visit.request)
        except AdminError as error:
            problems = problems_of(_moved(error, field_of), names)
    return visit.page(
        "dry_run.html",
        422 if problems else 200,
        title=title,
        against=against,
        back=back,
        problems=problems,
        labels={**labels, OWN_EVENT: "An event of your own"},
        run=run,
        words=words,
        is_real="last" in fields,
        groups=groups_of(run.events, words) if run else [],
    )


def _moved(error: AdminError, field_of: Callable[[str], str]) -> AdminError:
    """With the names that the form has for the API's fields."""
    moved = [
        {**one, "field": OWN_EVENT if one["field"].startswith("events") else field_of(one["field"])}
        for one in error.details
    ]
    return AdminError(error.code, error.message, details=moved)


def groups_of(all_tried: Iterable[Tried], words: Words) -> list[Group]:
    """What matters most first, the larger first among equals."""
    found: dict[tuple[str, str], list[Tried]] = {}
    for one in all_tried:
        found.setdefault((one.change, _title(one, words)), []).append(one)
    groups = [Group(kind, title, len(alike), alike[:SHOWN_EVENTS]) for (kind, title), alike in found.items()]
    return sorted(groups, key=lambda group: (ORDER.index(group.kind), -group.total, group.title))


def _title(one: Tried, words: Words) -> str:
    if one.change == "newly_failed":
        return f"{words.failed} at {one.after.step}"
    if one.change == "newly_dropped":
        return f"{words.dropped} by {_end(one.after)}"
    if one.change == "newly_sent":
        was = f", {one.before.outcome} by {_end(one.before)} before" if one.before else ""
        return words.sent + was
    if one.change == "unchanged":
        return "unchanged"
    if not one.difference and one.before:
        return f"{one.after.outcome} by {_end(one.after)}, by {_end(one.before)} before"
    paths = list(dict.fromkeys(INDEX.sub("[]", change.path) for change in one.difference))
    more = f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
    return f"changed: {', '.join(paths[:SHOWN_PATHS])}{more}"


def _end(outcome: Outcome) -> str:
    return f"{outcome.step} ({(outcome.reason or '').replace('_', ' ')})"
