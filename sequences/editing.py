"""A sequence as a whole, created, changed and deleted by other systems: its settings and the tree of its draft."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from django.db import transaction

from contacts import tagging
from contacts.models import Tag
from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber
from sequences import trees
from sequences.models import Sequence, Status, Trigger

SETTINGS = ("name", "trigger", "exit_on_reply", "late_limit", "when_late", "spread_per_minute")
NAME = 200  # letters


def create(organization: Organization, said: Mapping[str, Any]) -> Sequence:
    """A new draft as `said`, see `edit`. Refusal where the organization has no number that it could send from."""
    with transaction.atomic():
        sequence = Sequence(organization=organization)
        if "phone_number_id" not in said:
            sequence.phone_number = _first_number(organization)
        _apply(sequence, said)
        sequence.save(force_insert=True)
        audit.record("sequence.created", sequence)
    return sequence


def edit(sequence: Sequence, said: Mapping[str, Any], *, versions: Container[str] | None) -> Sequence:
    """The sequence with its settings and its draft as `said`; what isn't said stays.

    `said` has SETTINGS, `steps` (a tree as somebody wrote it), `tag` and `exit_tag` (ids or names, None for none) and
    `phone_number_id`. Refusal when its version is none of `versions`, and for what can't be.
    """
    with transaction.atomic():
        held = _held(sequence, versions)
        if held.status == Status.ARCHIVED:
            raise Refusal(f"Sequence {held.name!r} is archived: it stays as it is.", code="wrong_status")
        before = _columns(held)
        _apply(held, said)
        if changed := [column for column, value in _columns(held).items() if before[column] != value]:
            held.save(update_fields=[*changed, "updated_at"])
            audit.record("sequence.changed", held, fields=changed)
    return held


def delete(sequence: Sequence, *, versions: Container[str] | None) -> None:
    """Delete a draft. Refusal once it has been activated, and when its version is none of `versions`."""
    with transaction.atomic():
        held = _held(sequence, versions)
        if held.first_activated_at is not None:
            raise Refusal(
                f"Sequence {held.name!r} has been activated: its numbers and what it sent stay. Archive it instead.",
                code="wrong_status",
            )
        audit.record("sequence.deleted", held)
        held.delete()


def name_of(given: str) -> str:
    """The name as it is stored. Refusal for one that isn't a line of at most 200 letters."""
    name = given.strip()
    if not 0 < len(name) <= NAME or not name.isprintable():
        raise Refusal(f"The name of a sequence has 1 to {NAME} characters, all on one line.", code="name_invalid")
    return name


def _held(sequence: Sequence, versions: Container[str] | None) -> Sequence:
    """The sequence, locked and as it stands now."""
    rows = Sequence.objects.select_for_update(of=("self",), no_key=True)
    held: Sequence | None = rows.select_related(*RELATED).filter(pk=sequence.pk).first()
    if held is None:
        raise Sequence.gone()
    held.require_version(versions)
    return held


def _apply(sequence: Sequence, said: Mapping[str, Any]) -> None:
    for column in SETTINGS:
        if column in said:
            setattr(sequence, column, said[column])
    if "phone_number_id" in said:
        sequence.phone_number = _number(sequence.organization, said["phone_number_id"])
    if "exit_tag" in said:
        sequence.exit_tag = _tag(sequence.organization, said["exit_tag"])
    if "tag" in said:
        sequence.trigger_tag = _tag(sequence.organization, said["tag"])
    if "steps" in said:
        sequence.draft = trees.read(said["steps"], sequence.organization)
    _settle_tags(sequence, said)


def _settle_tags(sequence: Sequence, said: Mapping[str, Any]) -> None:
    """Drop the tag of a trigger that needs none any more. Refusal for tags that can't stand together."""
    if sequence.trigger != Trigger.TAG_ADDED:
        if said.get("tag") is not None:
            _refuse("tag", "Only the trigger tag_added has a tag. Choose that trigger, or leave the tag out.")
        sequence.trigger_tag = None
    elif sequence.trigger_tag is not None and sequence.trigger_tag == sequence.exit_tag:
        _refuse("exitTag", "The tag that starts it can't also end it. Choose another one.")


def _refuse(member: str, sentence: str) -> None:
    raise Refusal(f"{member}: {sentence}", code="invalid", fields={member: [sentence]})


def _tag(organization: Organization, text: str | None) -> Tag | None:
    """The tag of this id or name; it stays until the end of the transaction."""
    if text is None:
        return None
    tag = tagging.found(organization, text)
    held: Tag | None = Tag.objects.select_for_update(no_key=True).filter(pk=tag.pk).first()
    return held or tagging.found(organization, text)


def _number(organization: Organization, public_id: str) -> PhoneNumber:
    number: PhoneNumber | None = PhoneNumber.objects.of(organization).by_public_id(public_id).first()
    if number is None:
        raise Refusal(
            "There is no such phone number in your organization. Check its id.", code="phone_number_not_found"
        )
    return number


def _first_number(organization: Organization) -> PhoneNumber:
    number: PhoneNumber | None = PhoneNumber.objects.of(organization).usable().order_by("pk").first()
    if number is None:
        raise Refusal(
            "Your organization has no connected phone number to send from. Connect one first.", code="not_connected"
        )
    return number


def _columns(sequence: Sequence) -> dict[str, Any]:
    keys = ("trigger_tag_id", "exit_tag_id", "phone_number_id", "draft")
    return {column.removesuffix("_id"): getattr(sequence, column) for column in (*SETTINGS, *keys)}


RELATED = ("organization", "phone_number", "trigger_tag", "exit_tag")
