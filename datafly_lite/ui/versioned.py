"""Pages about what is kept version by version: the form of the newest, and who changed what before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import anyio.to_thread
from starlette.responses import Response

from datafly_lite.auth import require
from datafly_lite.errors import AdminError
from datafly_lite.management import fields as f
from datafly_lite.management import versioned
from datafly_lite.management.typed import is_within
from datafly_lite.management.versioned import Rules
from datafly_lite.store import accounts
from datafly_lite.ui.dry_run_offer import offer
from datafly_lite.ui.forms import Form, Problems, problems_of
from datafly_lite.ui.line_differences import Comparison, Difference
from datafly_lite.ui.rows import Lists, Row, after, columns_of, filled, focus_of, press_of, rows_of
from datafly_lite.ui.visit import Visit, with_query

PAGE_SIZE = 10

MAY_SAVE = "admin"
"""Editors have the form too, to try a change; its rows come and go for them as well."""
ONLY_TRIED = "Not saved: what stands below can be tried."

CONFIG = "config."
ROW = re.compile(r"\[(\d{1,9})\]")


class Kind(NamedTuple):
    """One page: where it is, what its form holds, and the ways between form and configuration.

    `fields` are in the order of the page; `lists` are the form's rows, with what a new one holds; `around`
    is what the template needs besides.
    """

    path: str
    template: str
    title: str
    rules: Rules
    fields: tuple[str, ...]
    lists: Mapping[str, Row]
    config_of: Callable[[Form, Lists], dict[str, Any]]
    form_of: Callable[[Mapping[str, Any]], tuple[Form, Lists]]
    labels_of: Callable[[Lists], dict[str, str]]
    around: Callable[[Form, Lists, Problems], dict[str, Any]]
    field_of: Callable[[str, Lists], str] = lambda field, _: field
    """A field of the configuration -> the form's, where it has another name."""
    readable: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config
    """The configuration as people compare two of them."""
    wrong_rows: Callable[[Lists], list[dict[str, str]]] = lambda _: []
    """`{"field", "message"}` of what the rows say and the configuration cannot."""


# ── The form ─────────────────────────────────────────────────────────────────────────────────


async def show(visit: Visit, kind: Kind) -> Response:
    """The newest, or the older version that the query names, to be saved again."""
    newest = await versioned.newest(visit.services, kind.rules)
    opened = newest
    if visit.query("version"):
        opened = await versioned.at(visit.services, kind.rules, number_of(visit.query("version")))
    form, lists = kind.form_of(opened["config"])
    note = f"This is version {opened['version']} as it was. It is in force once it is saved."
    return await _page(visit, kind, newest, form, lists, note="" if opened == newest else note)


async def save(visit: Visit, kind: Kind) -> Response:
    """Save all of it as a new version; or do what a row's button says and save nothing."""
    form = await visit.form()
    lists = {name: rows_of(form, name, blank) for name, blank in kind.lists.items()}
    newest = await versioned.newest(visit.services, kind.rules)
    if press := press_of(form, kind.lists):
        blank = kind.lists[press.name]
        lists[press.name] = after(lists[press.name], press, blank)
        focus = focus_of(lists[press.name], press, blank)
        may_save = visit.can(MAY_SAVE)
        note = "Not saved yet: what stands below is in force once you save it." if may_save else ONLY_TRIED
        return await _page(visit, kind, newest, form, lists, note=note, focus=focus, read=_read(form))
    lists = {name: filled(rows, kind.lists[name]) for name, rows in lists.items()}
    fields = {"config": kind.config_of(form, lists), "version": _read(form)}
    require(visit.somebody, MAY_SAVE)
    try:
        await _replace(visit, kind, fields, kind.wrong_rows(lists))
    except AdminError as error:
        newest = await versioned.newest(visit.services, kind.rules)
        problems = _problems(kind, error, lists, newest["version"])
        read = None if error.code == "CONFLICT" else _read(form)
        return await _page(visit, kind, newest, form, lists, problems, read=read)
    return visit.go(kind.path, "saved")


async def _replace(visit: Visit, kind: Kind, fields: dict[str, Any], wrong: list[dict[str, str]]) -> None:
    if wrong:
        try:
            await versioned.checked_config(kind.rules, fields["config"])
        except AdminError as error:
            wrong = [*wrong, *error.details]
        raise f.invalid(wrong)
    await versioned.replace(visit.services, kind.rules, fields, visit.somebody.id)


def number_of(text: str) -> int:
    """A version's number. Raises NOT_FOUND."""
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    raise AdminError("NOT_FOUND", "there is no such version")


def whole(form: Form, name: str) -> int | str:
    """A whole number, or what was typed in its place, for the API to refuse."""
    text = form.word(name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else text


def _read(form: Form) -> int:
    """The version that the form was filled from."""
    return number_of(form.word("version"))


def _problems(kind: Kind, error: AdminError, lists: Lists, newest: int) -> Problems:
    if error.code == "CONFLICT":
        found = Problems()
        found.general.append(
            f"Somebody else saved version {newest} meanwhile. What you typed still stands below: look at "
            "what that version changed, and save again if yours is to take its place."
        )
        return found
    moved = [
        {**one, "field": kind.field_of(one["field"].removeprefix(CONFIG), lists)} for one in error.details
    ]
    told = AdminError(error.code, error.message, details=sorted(moved, key=partial(_place_of, kind)))
    return problems_of(told, [*kind.fields, *columns_of(lists)])


def _place_of(kind: Kind, detail: Mapping[str, str]) -> tuple[int, int]:
    """Where on the page it is: mistakes are told from its top to its end."""
    places = [number for number, field in enumerate(kind.fields) if is_within(detail["field"], [field])]
    row = ROW.search(detail["field"])
    return max(places, default=len(kind.fields)), int(row[1]) if row else 0


async def _page(
    visit: Visit,
    kind: Kind,
    newest: Mapping[str, Any],
    form: Form,
    lists: Lists,
    problems: Problems | None = None,
    *,
    note: str = "",
    focus: str = "",
    read: int | None = None,
) -> Response:
    """`read` is the version that the form began with; by default the newest."""
    told = problems or Problems()
    return visit.page(
        kind.template,
        422 if told else 200,
        kind=kind,
        newest=newest,
        read=newest["version"] if read is None else read,
        who=(await _names(visit, [newest["updated_by"]]))[newest["updated_by"]],
        form=form,
        lists=lists,
        problems=told,
        labels=kind.labels_of(lists),
        note=note,
        focus=focus,
        offer=await offer(visit, form=form),
        **kind.around(form, lists, told),
    )


# ── The versions before ──────────────────────────────────────────────────────────────────────


async def show_versions(visit: Visit, kind: Kind) -> Response:
    """Newest first: who, when, and each line that another one took the place of."""
    cursor = visit.query("cursor") or None
    found = await versioned.versions(visit.services, kind.rules, cursor=cursor, limit=PAGE_SIZE)
    pairs = [await _pair(visit, kind, one["version"]) for one in found["data"]]
    told = await anyio.to_thread.run_sync(_compared, kind, pairs)  # it may take a moment
    names = await _names(visit, [one["updated_by"] for one in found["data"]])
    older = with_query(f"{kind.path}/versions", {"cursor": found["next_cursor"] or ""})
    return visit.page(
        "versions.html",
        kind=kind,
        versions=[{**one, "differences": each} for one, each in zip(found["data"], told, strict=True)],
        names=names,
        newest=f"{kind.path}/versions",
        is_newest=cursor is None,
        older=older if found["next_cursor"] else None,
    )


Pair = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The configurations of a version: of the one before it, and its own."""


async def _pair(visit: Visit, kind: Kind, version: int) -> Pair:
    old = await versioned.at(visit.services, kind.rules, version - 1)
    new = await versioned.at(visit.services, kind.rules, version)
    return old["config"], new["config"]


def _compared(kind: Kind, pairs: Iterable[Pair]) -> list[list[Difference]]:
    comparison = Comparison()
    return [comparison.differences(kind.readable(old), kind.readable(new)) for old, new in pairs]


async def _names(visit: Visit, ids: Iterable[str | None]) -> dict[str | None, str]:
    """Who they are, by the ids of users."""
    found: dict[str | None, str] = {None: "nobody known"}
    for id_ in {one for one in ids if one}:
        row = await visit.services.store.read(accounts.user, id_)
        found[id_] = "somebody who was removed since" if row is None else row["name"] or row["email"]
    return found
