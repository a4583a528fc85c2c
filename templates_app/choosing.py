"""The template that somebody names, and the number that sends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Q

from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber
from templates_app.models import MessageTemplate, in_language

SHOWN = 10  # choices that a sentence lists


def chosen(
    organization: Organization, said: Mapping[str, Any], *, before: tuple[MessageTemplate, PhoneNumber] | None = None
) -> tuple[MessageTemplate, PhoneNumber]:
    """The template of `template_id`, or of `template` with its `name` and `language`, and the number that sends it.

    The number is that of `phone_number_id`, else the one of `before` where it has the template, else the only one that
    has. Refusal where there is none, or a choice is left. Two queries at the most.
    """
    numbers = list(PhoneNumber.objects.of(organization).usable().order_by("pk"))
    wanted = said.get("phone_number_id")
    number = None if wanted is None else _number(numbers, wanted)
    if before is not None and not {"template_id", "template"} & said.keys():
        template = before[0]
    else:
        template = _template(organization, said, account=None if number is None else number.account_id)
    if number is None:
        number = _only(numbers, template, before[1] if before else None)
    if number.account_id != template.account_id:
        raise Refusal(
            f"Template {template} belongs to another WhatsApp account than the number {number}. "
            f"Send a phoneNumberId of its own: {_listed(numbers, template.account_id)}.",
            code="phone_number_of_another_account",
        )
    return template, number


def _number(numbers: Sequence[PhoneNumber], wanted: str) -> PhoneNumber:
    """The number of this id, ours or Meta's."""
    found = next((one for one in numbers if wanted in (one.public_id, one.phone_number_id)), None)
    if found is None:
        raise Refusal(
            "There is no connected phone number of this id in your organization. Check phoneNumberId.",
            code="phone_number_not_found",
        )
    return found


def _only(numbers: Sequence[PhoneNumber], template: MessageTemplate, before: PhoneNumber | None) -> PhoneNumber:
    fitting = [one for one in numbers if one.account_id == template.account_id]
    if before is not None and before in fitting:
        return before
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise Refusal(f"No connected phone number has the template {template}. Connect one.", code="not_connected")
    raise Refusal(
        f"Several phone numbers can send {template}. Choose one with phoneNumberId: "
        f"{_listed(numbers, template.account_id)}.",
        code="phone_number_needed",
    )


def _listed(numbers: Sequence[PhoneNumber], account: int) -> str:
    fitting = [f"{one.public_id} ({one})" for one in numbers if one.account_id == account]
    return ", ".join(fitting[:SHOWN]) or "none is connected"


def _template(organization: Organization, said: Mapping[str, Any], *, account: int | None) -> MessageTemplate:
    rows = MessageTemplate.objects.of(organization).select_related("account")
    if (public_id := said.get("template_id")) is not None:
        template: MessageTemplate | None = rows.by_public_id(public_id).first()
        if template is None:
            raise _missing("There is no template of this id in your organization. Check templateId.")
        return template
    name, language = said["template"]["name"], said["template"].get("language")
    of_account = Q() if account is None else Q(account=account)
    known = list(rows.filter(of_account, name=name).exclude(status=MessageTemplate.Status.DELETED))
    found = known if language is None else in_language(known, language)
    if len(found) == 1:
        return found[0]
    raise _choice(found) if found else _unknown(name, known)


def _choice(found: Sequence[MessageTemplate]) -> Refusal:
    """What is left to choose: first the language, then the account."""
    name = found[0].name
    if len({one.language for one in found}) > 1:
        languages = ", ".join(sorted({one.language for one in found}))
        return Refusal(
            f"Template {name} has several languages: {languages}. Name one.", code="template_language_needed"
        )
    return Refusal(
        f"Template {name} stands in several WhatsApp accounts. Send its templateId, or the phoneNumberId.",
        code="template_account_needed",
    )


def _unknown(name: str, known: Sequence[MessageTemplate]) -> Refusal:
    if known:
        languages = ", ".join(sorted({one.language for one in known}))
        return _missing(f"Template {name} isn't there in this language; it has: {languages}.")
    return _missing("There is no template of this name in your organization. Check it, or sync the templates.")


def _missing(sentence: str) -> Refusal:
    return Refusal(sentence, code="template_not_found")
