"""Writing a draft: another system makes it, changes it, throws it away."""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from broadcasts.models import Broadcast, Status
from contacts import tagging
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from templates_app.choosing import chosen

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
