"""Templates as Meta has them: by a walk through the whole list, and by Meta's callbacks in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from kaanha.webhooks.models import Event, Kind
from kaanha.whatsapp.asking import asking, graph
from kaanha.whatsapp.cloud_api.events import TemplateCategory, TemplateQuality, TemplateStatus, fit
from kaanha.whatsapp.cloud_api.graph import NO_END
from kaanha.whatsapp.cloud_api.text import clean
from kaanha.whatsapp.models import BusinessAccount
from templates_app.models import MessageTemplate, TemplateQuerySet
from templates_app.rendering import unsupported

Status = MessageTemplate.Status

# Callbacks tell whole seconds; what we noted at 12:00:00.7 is not newer than what happened in second 12:00:00.
PRECISION = timedelta(seconds=1)
# Events that aren't named like the status that they lead to. Source: Webhooks, "message_template_status_update".
STATUS_AFTER = {"REINSTATED": Status.APPROVED, "UNARCHIVED": Status.APPROVED, "UNPAUSED": Status.APPROVED}
EXPLAINED = (Status.REJECTED, Status.PAUSED, Status.DISABLED)
GONE = (Status.DELETED, Status.PENDING_DELETION)
WRITTEN = ("meta_id", "category", "status", "parameter_format", "components", "quality", "rejected_reason")


@dataclass(slots=True)
class Outcome:
    """What a walk changed; `problems` are templates that can't be stored or can't be sent, in sentences."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    problems: list[str] = field(default_factory=list)


def sync(account: BusinessAccount, *, now: datetime, name: str | None = None, at_most: timedelta = NO_END) -> Outcome:
    """Bring the account's templates, or all languages of `name`, in line with Meta's list.

    What a complete walk doesn't show is deleted at Meta. A walk that breaks off, or takes longer than `at_most`, is a
    Refusal and changes nothing.
    """
    return write(account, walk(account, name=name, at_most=at_most), now=now, name=name)


def walk(
    account: BusinessAccount,
    *,
    name: str | None = None,
    at_most: timedelta = NO_END,
    told: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Meta's list, complete, or a Refusal. `told` hears of each page how many templates it has."""
    with asking(f"The templates of account {account.waba_id}"):
        return list(graph(account.access_token, at_most=at_most).templates(account.waba_id, name=name, told=told))


def write(
    account: BusinessAccount, rows: Iterable[Mapping[str, Any]], *, now: datetime, name: str | None = None
) -> Outcome:
    """Write what a walk that began at `now` has found."""
    outcome = Outcome()
    listed = _read_all(rows, outcome)
    if name is not None:  # Meta's filter finds the name within others too
        listed = {key: fields for key, fields in listed.items() if key[0] == name}
    with transaction.atomic():
        BusinessAccount.objects.select_for_update().get(pk=account.pk)  # one sync at a time
        known = MessageTemplate.objects.filter(account=account, **({"name": name} if name is not None else {}))
        _write_all(account, listed, known, outcome, now=now)
    return outcome


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of several accounts as one."""
    return Outcome(
        created=sum(outcome.created for outcome in outcomes),
        updated=sum(outcome.updated for outcome in outcomes),
        unchanged=sum(outcome.unchanged for outcome in outcomes),
        deleted=sum(outcome.deleted for outcome in outcomes),
        problems=[problem for outcome in outcomes for problem in outcome.problems],
    )


def _write_all(
    account: BusinessAccount,
    listed: Mapping[tuple[str, str], dict[str, Any]],
    known: TemplateQuerySet,
    outcome: Outcome,
    *,
    now: datetime,
) -> None:
    rows: dict[tuple[str, str], MessageTemplate] = {(row.name, row.language): row for row in known}
    before = {row.pk: row.status for row in rows.values()}
    for key, fields in listed.items():
        template = rows.get(key)
        if template is None:
            template = MessageTemplate(organization=account.organization, account=account, name=key[0], language=key[1])
            outcome.created += 1
        elif _differs(template, fields, now=now):
            outcome.updated += 1
        else:
            outcome.unchanged += 1
        _write(template, fields, now=now)
    absent = known.filter(pk__in=[row.pk for key, row in rows.items() if key not in listed], created_at__lte=now)
    outcome.deleted = absent.exclude(status=Status.DELETED).update(status=Status.DELETED, synced_at=now)
    _tell(MessageTemplate.objects.filter(pk__in=before), before, at=now)


def _tell(rows: Iterable[MessageTemplate], before: Mapping[int, str], *, at: datetime) -> None:
    """Note of those whose status isn't the one of before that it has changed."""
    changed = [(row, before[row.pk]) for row in rows if row.status != before[row.pk]]
    told = [(row.organization_id, Kind.TEMPLATE_STATUS_CHANGED.value, _told(row, old)) for row, old in changed]
    Event.record_many(told, at=at)


def _told(template: MessageTemplate, before: str) -> dict[str, Any]:
    return {
        "templateId": template.public_id,
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
        "previousStatus": before,
        "reason": template.rejected_reason,
    }


def _differs(template: MessageTemplate, fields: Mapping[str, Any], *, now: datetime) -> bool:
    return any(getattr(template, name) != fields[name] for name in _writable(template, now=now))


def _writable(template: MessageTemplate, *, now: datetime) -> Iterable[str]:
    """What the walk may write: not the status, where a callback has told a newer one meanwhile."""
    newer = template.synced_at is not None and template.synced_at > now
    return [name for name in WRITTEN if not (newer and name in ("status", "rejected_reason"))]


def _write(template: MessageTemplate, fields: Mapping[str, Any], *, now: datetime) -> None:
    for name in _writable(template, now=now):
        setattr(template, name, fields[name])
    template.synced_at = max(template.synced_at or now, now)
    template.save()


# --- reading Meta's rows -----------------------------------------------------------------------------------------


def _read_all(rows: Iterable[Mapping[str, Any]], outcome: Outcome) -> dict[tuple[str, str], dict[str, Any]]:
    """The fields of every usable row by name and language; what isn't usable is told and left out."""
    listed: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        # As listed, for a message has to name exactly this: only callbacks write it in other ways.
        name, language = _text(row.get("name"), 512), _text(row.get("language"), 20)
        if not name or not language:
            missing = "language" if name else "name"
            outcome.problems.append(f"Template {name or _text(row.get('id'), 64) or '?'} has no {missing}: left out.")
            continue
        fields = _fields(row)
        listed[name, language] = fields
        if sentence := unsupported(fields["components"]):
            outcome.problems.append(f"{name} ({language}) can't be sent. {sentence}")
        if fields["category"] not in MessageTemplate.Category.values:
            shown = fields["category"] or "empty"
            outcome.problems.append(f"{name} ({language}) has a category that Kaanha doesn't know: {shown}.")
    return listed


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    score, reason = row.get("quality_score"), _text(row.get("rejected_reason"), 1000)
    components, named = row.get("components"), _text(row.get("parameter_format"), 12).upper() == "NAMED"
    formats = MessageTemplate.ParameterFormat
    return {
        "meta_id": _text(row.get("id"), 64),
        "category": _text(row.get("category"), 20).upper(),
        "status": _text(row.get("status"), 30).upper() or Status.PENDING,
        "parameter_format": formats.NAMED if named else formats.POSITIONAL,
        "components": fit([each for each in components if isinstance(each, dict)])
        if isinstance(components, list)
        else [],
        "quality": _text(score.get("score"), 10).upper() if isinstance(score, dict) else "",
        "rejected_reason": "" if reason == "NONE" else reason,
    }


def _text(value: Any, limit: int) -> str:
    """Ids are texts here and numbers in callbacks; anything but those is nothing."""
    return clean(str(value), limit) if isinstance(value, str | int) and not isinstance(value, bool) else ""


# --- callbacks ---------------------------------------------------------------------------------------------------


def apply_status(event: TemplateStatus) -> MessageTemplate | None:
    """Note Meta's decision. The template if its status changed; None if unknown, told before, or told too late."""
    status = STATUS_AFTER.get(event.event, event.event)[:30]
    with transaction.atomic():
        template = _find(event)
        if template is None or (template.synced_at is not None and template.synced_at >= event.at + PRECISION):
            return None
        if status in GONE and event.meta_id and template.meta_id not in ("", event.meta_id):
            return None  # the predecessor of a template that was created anew
        before = template.status
        template.status, template.synced_at = status, max(event.at, template.synced_at or event.at)
        template.meta_id = event.meta_id or template.meta_id
        told = dict.fromkeys(filter(None, (event.reason, event.title, event.detail)))
        template.rejected_reason = " · ".join(told) if status in EXPLAINED else ""
        template.save(update_fields=["status", "synced_at", "meta_id", "rejected_reason"])
        _tell([template], {template.pk: before}, at=event.at)
    return template if before != status else None


def apply_category(event: TemplateCategory) -> MessageTemplate | None:
    """Note the category that a template has now; a warning ahead changes nothing yet. The template if it changed."""
    return _apply(event, "category", event.current[:20])


def apply_quality(event: TemplateQuality) -> MessageTemplate | None:
    """Note the quality of a template. The template if it changed."""
    return _apply(event, "quality", event.score[:10])


def _apply(event: TemplateCategory | TemplateQuality, name: str, value: str) -> MessageTemplate | None:
    with transaction.atomic():
        template = _find(event)
        late = template is not None and template.synced_at is not None and template.synced_at >= event.at + PRECISION
        if template is None or late or getattr(template, name) == value:
            return None
        setattr(template, name, value)
        # Not `synced_at`: it orders statuses, and one that comes after this may be older than it.
        template.save(update_fields=[name])
    return template


def _find(event: TemplateStatus | TemplateCategory | TemplateQuality) -> MessageTemplate | None:
    """The template that an event is about, locked: by Meta's id, else by name and language."""
    of_account = MessageTemplate.objects.select_for_update().filter(account__waba_id=event.waba_id)
    by_name = Q(name=event.name, language__in=(event.language, event.language.replace("_", "-")))
    found: MessageTemplate | None = None
    if event.meta_id:
        found = of_account.filter(meta_id=event.meta_id).first()
    return found or of_account.filter(by_name).first()
