"""Can this broadcast work? Judged before anything is sent."""

from __future__ import annotations

from broadcasts import audience
from broadcasts.models import Broadcast
from kaanha.lib.errors import Refusal
from templates_app import rendering


def check(broadcast: Broadcast) -> None:
    """Refusal with every problem that keeps the broadcast from being sent, each in a sentence."""
    found = problems(broadcast)
    if found:
        raise Refusal(" ".join(found), code="not_ready")


def problems(broadcast: Broadcast) -> list[str]:
    """What keeps the broadcast from being sent; empty when it can go."""
    found = [*_template_problems(broadcast), *_number_problems(broadcast)]
    if not broadcast.tags.exists():
        found.append("It has no tags: choose at least one tag whose holders receive it.")
    elif not audience.recipients(broadcast).exists():
        found.append("There is nobody to send to: no opted-in contact with a phone number has any of its tags.")
    elif not found:
        found += _empty_fields(broadcast)
    return found


def _template_problems(broadcast: Broadcast) -> list[str]:
    template = broadcast.template
    found = []
    if not template.sendable:
        found.append(f"{template.standing}: only approved templates can be sent.")
    return found + rendering.problems(template.components, template.parameter_format, broadcast.variables)


def _empty_fields(broadcast: Broadcast) -> list[str]:
    """Variables that would come out empty for everybody, so that everybody would be skipped."""
    template, found = broadcast.template, []
    for slot in rendering.slots(template.components, template.parameter_format):
        mapping = broadcast.variables.get(slot.key) or {}
        field = mapping.get("field")
        if field and not mapping.get("fallback") and not audience.recipients(broadcast).having(field).exists():
            found.append(
                f"{slot.label} ({slot.key}) is filled with contact.{field}, which none of the recipients has: correct "
                "the field's name, import a column of that name, or say what to use instead."
            )
    return found


def _number_problems(broadcast: Broadcast) -> list[str]:
    number = broadcast.phone_number
    if number.disconnected_at is not None:
        return [f"The number {number} is disconnected: choose another one."]
    if number.account_id != broadcast.template.account_id:
        return [f"Template {broadcast.template} belongs to another WhatsApp account than the number {number}."]
    return []
