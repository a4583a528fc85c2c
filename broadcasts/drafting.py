"""Writing a draft: it is made, copied from another broadcast, changed, thrown away."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from broadcasts.models import Broadcast, Status
from contacts import tagging
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization, User
from templates_app.choosing import chosen

NAME = 200  # letters of a broadcast's name
TICK = timedelta(microseconds=1)  # what a stored time can tell apart
TAGS = ("tags", "excluded_tags")

Versions = Container[str] | None


def create(organization: Organization, said: Mapping[str, Any]) -> Broadcast:
    """A draft as `said`. Refusal for a template, a number or a tag that isn't there; what is missing may come later."""
    template, number = chosen(organization, said)
    with transaction.atomic():
        draft: Broadcast = Broadcast.objects.create(
            organization=organization,
            name=said["name"],
            template=template,
            phone_number=number,
            variables=said.get("variables", {}),
        )
        _tag(draft, said)
    return draft


def copy(broadcast: Broadcast, *, name: str = "", by: User | None = None) -> Broadcast:
    """A draft of the same template, number, variables and tags, called `name` or as `copy_name` says.

    Never of the same time, and whatever became of the template meanwhile: the check before sending says what is wrong.
    """
    with transaction.atomic():
        draft: Broadcast = Broadcast.objects.create(
            organization=broadcast.organization,
            name=name or copy_name(broadcast.name),
            template=broadcast.template,
            phone_number=broadcast.phone_number,
            variables=broadcast.variables,
            created_by=by,
        )
        for tags in TAGS:
            getattr(draft, tags).set(getattr(broadcast, tags).all())
    return draft


def copy_name(name: str) -> str:
    """What a copy is called: "Sale (copy)", and the copy of that "Sale (copy 2)"."""
    found = _COPY.fullmatch(name)
    base, turn = (found["base"], int(found["turn"] or 1)) if found else (name, 0)
    suffix = f" (copy {turn + 1})" if turn else " (copy)"
    return f"{base[: NAME - len(suffix)].rstrip()}{suffix}"


def edit(broadcast: Broadcast, said: Mapping[str, Any], *, versions: Versions, at: datetime) -> Broadcast:
    """The draft with what is `said`; what isn't said stays.

    Refusal when it is no draft any more, or of none of these versions. Variables that are said replace all of them.
    """
    with transaction.atomic():
        draft = held(broadcast, versions, verb="edited")
        before = (draft.template, draft.phone_number)
        draft.template, draft.phone_number = chosen(draft.organization, said, before=before)
        draft.name = said.get("name", draft.name)
        draft.variables = said.get("variables", draft.variables)
        later = max(at, draft.updated_at + TICK)  # a version never comes back
        draft.save(update_fields=["name", "template", "phone_number", "variables"])
        Broadcast.objects.filter(pk=draft.pk).update(updated_at=later)
        draft.updated_at = later
        _tag(draft, said)
    return draft


def delete(broadcast: Broadcast, *, versions: Versions) -> None:
    """Delete the draft. Refusal when it is none any more, or of none of these versions."""
    with transaction.atomic():
        held(broadcast, versions, verb="deleted").delete()


def held(broadcast: Broadcast, versions: Versions, *, verb: str) -> Broadcast:
    """The draft as it is written now, locked. Refusal when it is none any more, or of none of these versions."""
    rows = Broadcast.objects.select_for_update(of=("self",)).filter(pk=broadcast.pk)
    draft = rows.select_related("organization", "template", "phone_number").first()
    if draft is None:
        raise Refusal("This broadcast was deleted meanwhile.", code="broadcast_not_found")
    if draft.status != Status.DRAFT:
        standing = draft.get_status_display().lower()
        raise Refusal(f"Broadcast {draft.name!r} is {standing}: only a draft can be {verb}.", code="wrong_status")
    if versions is not None and draft.version not in versions:
        raise Refusal("Somebody else has changed this draft. Read it again, then decide.", code="edited_meanwhile")
    return draft


def _tag(draft: Broadcast, said: Mapping[str, Any]) -> None:
    for name in TAGS:
        if name in said:
            getattr(draft, name).set(tagging.all_found(draft.organization, said[name]))


_COPY = re.compile(r"(?P<base>.*) \(copy(?: (?P<turn>[1-9][0-9]{0,5}))?\)", re.DOTALL)
