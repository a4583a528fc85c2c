"""Everything about broadcasts from the command line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import CommandParser
from django.db import transaction
from django.utils import timezone

from broadcasts import audience, drafting, duration, launch, preflight, report
from broadcasts.models import Broadcast
from contacts.models import Tag
from kaanha.lib import local_time
from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber
from templates_app import rendering
from templates_app.models import MessageTemplate


class Command(KaanhaCommand):
    help = "Create, duplicate, preview, send, schedule, pause, resume, cancel broadcasts and see what became of them."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="ACT")
        _add_create(acts.add_parser("create", help="make a draft"))
        acts.add_parser("list", help="the newest broadcasts of an organization").add_argument("organization")
        for act, words in _ON_ONE.items():
            one = acts.add_parser(act, help=words)
            one.add_argument("id", help="the broadcast's id, as printed by create (bc_…)")
            if act == "schedule":
                one.add_argument("--at", required=True, help="local to the organization, such as 2026-12-24T09:30")
            if act == "resume":
                one.add_argument("--at-once", action="store_true", help="drop a time that lies ahead, and send it now")

    def perform(self, *, act: str, **options: Any) -> dict[str, Any] | list[Any]:
        if act == "create":
            return create(**options)
        if act == "list":
            newest = Broadcast.objects.of(Organization.named(options["organization"])).order_by("-created_at", "-pk")
            return [_summary(broadcast) for broadcast in newest.select_related("template", "organization")[:50]]
        broadcast = find(options["id"])
        if act == "preview":
            return describe(broadcast)
        if act == "duplicate":
            broadcast = drafting.copy(broadcast)
        elif act != "status":
            _act(act, broadcast, at=options.get("at"), at_once=options.get("at_once", False))
        return _summary(Broadcast.objects.select_related("template", "organization").get(pk=broadcast.pk))

    def tell(self, result: Any) -> None:
        for member in result if isinstance(result, list) else [result]:
            self.stdout.write("\n".join(_lines(member)))


def create(
    *,
    organization: str,
    name: str,
    template: str,
    language: str | None,
    tag: list[str],
    exclude_tag: list[str],
    variable: list[str],
    phone_number_id: str | None,
    **_: Any,
) -> dict[str, Any]:
    """A draft. Refusal for tags, templates or numbers that the organization doesn't have."""
    owner = Organization.named(organization)
    name = name.strip()
    if not 0 < len(name) <= drafting.NAME or not name.isprintable():
        raise Refusal(
            f"The name of a broadcast has 1 to {drafting.NAME} characters, all on one line.", code="name_invalid"
        )
    chosen, number = _template_and_number(owner, template, language, phone_number_id)
    with transaction.atomic():
        broadcast: Broadcast = Broadcast.objects.create(
            organization=owner,
            name=name,
            template=chosen,
            phone_number=number,
            variables=rendering.parse_variables(variable),
        )
        broadcast.tags.set(tags(owner, tag))
        broadcast.excluded_tags.set(tags(owner, exclude_tag))
    return _summary(broadcast) | {"problems": preflight.problems(broadcast)}


def _template_and_number(
    owner: Organization, name: str, language: str | None, phone_number_id: str | None
) -> tuple[MessageTemplate, PhoneNumber]:
    """Both of one WhatsApp account: that of the chosen number, or without a choice that of the template."""
    if phone_number_id is None:
        template = MessageTemplate.named(owner, name, language)
        return template, PhoneNumber.sending_for(owner, account=template.account)
    number = PhoneNumber.sending_for(owner, phone_number_id)
    return MessageTemplate.named(owner, name, language, account=number.account), number


def tags(organization: Organization, names: list[str]) -> list[Tag]:
    """The tags of these names, whatever the case of their letters. Refusal for one that isn't there."""
    known = {tag.name.casefold(): tag for tag in Tag.objects.of(organization)}
    for name in names:
        if name.casefold() not in known:
            there = ", ".join(sorted(tag.name for tag in known.values())[:20]) or "none yet"
            raise Refusal(f"{organization} has no tag {name!r} (there are: {there}).", code="tag_not_found")
    return [known[name.casefold()] for name in names]


def find(public_id: str) -> Broadcast:
    found: Broadcast | None = (
        Broadcast.objects.by_public_id(public_id)
        .select_related("organization", "template", "phone_number__account__portfolio", "dispatch")
        .first()
    )
    if found is None:
        raise Refusal(
            f"There is no broadcast {public_id!r}. List them with: python manage.py broadcast list ORGANIZATION",
            code="broadcast_not_found",
        )
    return found


def describe(broadcast: Broadcast) -> dict[str, Any]:
    """The preview, as data."""
    seen = audience.preview(broadcast, now=timezone.now())
    return {
        "id": broadcast.public_id,
        "name": broadcast.name,
        "total": seen.total,
        "recipients": [{"phone": contact.phone, "name": contact.name} for contact in seen.first],
        "leftOut": {reason.value: count for reason, count in seen.left_out.items()},
        "duration": duration.sentence(seen.total, broadcast.phone_number),
        "problems": preflight.problems(broadcast),
    }


def _summary(broadcast: Broadcast) -> dict[str, Any]:
    return report.summary(broadcast) | {"timezone": broadcast.organization.timezone}


def _act(act: str, broadcast: Broadcast, *, at: str | None, at_once: bool) -> None:
    now = timezone.now()
    if act == "schedule":
        launch.schedule(broadcast, at=local_time.parse(at or "", broadcast.organization.zone), now=now)
        return
    acts: dict[str, Callable[..., None]] = {
        "send": launch.send,
        "pause": launch.pause,
        "resume": partial(launch.resume, at_once=at_once),
        "cancel": launch.cancel,
    }
    acts[act](broadcast, now=now)


def _add_create(parser: CommandParser) -> None:
    parser.add_argument("organization", help="the organization's name in commands (its slug)")
    parser.add_argument("--name", required=True)
    parser.add_argument("--template", required=True, help="a template's name")
    parser.add_argument("--language", help="needed only where the template has several")
    parser.add_argument("--tag", action="append", default=[], help="holders receive it; repeat for more (ANY of them)")
    parser.add_argument("--exclude-tag", action="append", default=[], help="holders don't; repeat for more")
    parser.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="1=contact.first_name|there · 2='30 November' · header=https://…/a.jpg · button.0=contact.code",
    )
    parser.add_argument(
        "--phone-number-id", help="Meta's id of the sending number; left out, the first one that has the template"
    )


def _lines(member: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in member.items():
        if isinstance(value, datetime):
            value = f"{value.astimezone(ZoneInfo(member['timezone'])):%Y-%m-%d %H:%M:%S} {member['timezone']}"
        elif isinstance(value, dict):
            value = ", ".join(f"{key}: {count:,}" for key, count in value.items()) or "none"
        elif name == "recipients":
            value = "".join(f"\n  {row['phone']}  {row['name']}" for row in value) or "nobody"
        elif isinstance(value, list):
            value = " ".join(value) or "none"
        elif isinstance(value, int):
            value = f"{value:,}"
        lines.append(f"{name}: {'' if value is None else value}")
    return [*lines, ""]


_ON_ONE = {
    "preview": "the first 10 recipients and how many there are",
    "duplicate": "make a draft of the same template, tags and variables",
    "send": "send a draft now",
    "schedule": "send a draft at a time in the future",
    "pause": "let nothing more go",
    "resume": "send the rest of a paused one, or let it keep a time that lies ahead",
    "cancel": "end it for good",
    "status": "where it stands, with its funnel",
}
