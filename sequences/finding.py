"""Sequences and contacts as people name them in commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from contacts.models import Contact, Tag
from kaanha.lib import phone, public_ids
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from sequences import enrolling
from sequences.models import Code, Sequence


def sequence(public_id: str) -> Sequence:
    """The sequence with this id; Refusal otherwise."""
    found: Sequence | None = (
        Sequence.objects.by_public_id(public_id)
        .select_related("organization", "phone_number", "trigger_tag", "exit_tag")
        .first()
    )
    if found is None:
        raise Refusal(
            f"There is no sequence {public_id!r}. List them with: python manage.py sequence list ORGANIZATION",
            code="sequence_not_found",
        )
    return found


def tag(organization: Organization, name: str) -> Tag:
    """The organization's tag of this name, whatever the case of its letters; Refusal otherwise."""
    found: Tag | None = Tag.objects.of(organization).filter(name__iexact=name.strip()).first()
    if found is None:
        known = ", ".join(Tag.objects.of(organization).order_by("name").values_list("name", flat=True)[:20])
        raise Refusal(f"{organization} has no tag {name!r} (there are: {known or 'none yet'}).", code="tag_not_found")
    return found


INVALID_PHONE = "invalid_phone"


@dataclass(frozen=True, slots=True)
class Named:
    """A contact as somebody names it: by id or by phone. `given` are that somebody's own words."""

    given: Any
    id: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Who a text names: the key of a contact, or why there is none."""

    key: int | None
    code: str = ""
    message: str = ""


UNKNOWN = Found(None, Code.CONTACT_NOT_FOUND.value, enrolling.SENTENCES[Code.CONTACT_NOT_FOUND])


def contacts(organization: Organization, named: Iterable[Named]) -> list[Found]:
    """The contacts that are named, in the order given. One query at the most.

    Ids are read, not looked up: whose contacts they are is for enrolling to say.
    """
    read = [_read(one) for one in named]
    wanted = {number for number in read if isinstance(number, str)}
    known = Contact.objects.of(organization).filter(phone__in=wanted).values_list("phone", "pk")
    keys = dict(known) if wanted else {}
    return [one if isinstance(one, Found) else Found(keys[one]) if one in keys else UNKNOWN for one in read]


def _read(named: Named) -> Found | str:
    """The key behind an id, or the international form of a phone, or why neither can be read."""
    if named.id is not None:
        key = public_ids.decode(Contact.PUBLIC_KIND, named.id)
        return UNKNOWN if key is None else Found(key)
    try:
        return phone.parse(named.phone or "").e164
    except phone.InvalidPhone as invalid:
        return Found(None, INVALID_PHONE, str(invalid))
