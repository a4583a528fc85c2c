"""From a draft to an immutable revision: what keeps it from being published, and the publishing itself."""

from __future__ import annotations

from collections.abc import Container, Iterator
from collections.abc import Sequence as Listed
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from contacts.models import Tag
from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Dispatch
from kaanha.messaging.policy import is_marketing
from kaanha.organizations import audit, closing
from kaanha.organizations.models import User
from sequences import enrolling, locks, trees
from sequences.models import Revision, Sequence, Source, Status, Step, Trigger
from sequences.trees import Change, Condition, Flat, HasTag, Message, Node, Problem
from templates_app.models import MessageTemplate

PAUSED = "sequence_paused"  # why the dispatches of a paused sequence are held
PAUSED_DETAIL = "The sequence is paused."


def problems(sequence: Sequence, nodes: tuple[Node, ...] | None = None) -> list[Problem]:
    """Everything that keeps the draft from being published: the settings' problems first, then those of its steps.

    `nodes` is the draft where it has been read already.
    """
    if nodes is None:
        nodes = trees.parse(trees.read(sequence.draft, sequence.organization))
    of_steps = trees.problems(
        nodes,
        organization=sequence.organization,
        phone_number=sequence.phone_number,
        minimum=settings.SEQUENCE_MIN_DELAY,
    )
    return [*_setting_problems(sequence), *of_steps]


def changes(sequence: Sequence) -> list[Change]:
    """What publishing would change about the newest revision's tree; nothing before the first."""
    newest = sequence.revision
    if newest is None:
        return []
    before, after = trees.parse(newest.tree), trees.parse(trees.read(sequence.draft, sequence.organization))
    named = trees.names(before, sequence.organization) | trees.names(after, sequence.organization)
    return trees.diff(before, after, named)


def unpublished(sequence: Sequence, newest: Revision | None) -> bool:
    """Whether the draft, its trigger or its number differ from the newest revision's."""
    tag = sequence.trigger_tag_id if sequence.trigger == Trigger.TAG_ADDED else None
    return newest is None or (sequence.draft, sequence.trigger, tag, sequence.phone_number_id) != (
        newest.tree,
        newest.trigger,
        newest.trigger_tag_id,
        newest.phone_number_id,
    )


def activate(
    sequence: Sequence,
    *,
    now: datetime,
    by: User | None = None,
    enroll_existing: bool = False,
    versions: Container[str] | None = None,
) -> Revision:
    """Publish a draft's first revision and let people in. Refusal with every problem at once.

    `enroll_existing` also takes in whoever holds the trigger's tag already. `versions` are those of the sequence that
    somebody has looked at: Refusal when it is of none of them.
    """
    with transaction.atomic():
        closing.require_open(sequence.organization_id)
        locks.share([sequence.pk])
        held = _locked(sequence, (Status.DRAFT,), "activated", versions)
        if enroll_existing and held.trigger != Trigger.TAG_ADDED:
            raise Refusal("Only a sequence that a tag starts has existing holders to enroll.", code="no_trigger_tag")
        revision = _publish(held, now=now, by=by)
        held.move(Status.ACTIVE, first_activated_at=now)
        if enroll_existing and held.trigger_tag is not None:
            enrolling.ask_for_holders(held, held.trigger_tag, source=Source.EXISTING, now=now)
        audit.record("sequence.activated", held, enrollExisting=enroll_existing)
    sequence.refresh_from_db()
    return revision


def publish(
    sequence: Sequence, *, now: datetime, by: User | None = None, versions: Container[str] | None = None
) -> Revision:
    """Make the draft the next revision of an active or paused sequence: new people take it, those inside stay.

    Refusal with every problem at once, when nothing has changed, and when the version is none of `versions`.
    """
    with transaction.atomic():
        locks.share([sequence.pk])
        held = _locked(sequence, (Status.ACTIVE, Status.PAUSED), "published anew", versions)
        if not unpublished(held, held.revision):
            raise Refusal("Nothing has changed since the last revision: edit a step first.", code="nothing_changed")
        revision = _publish(held, now=now, by=by)
        audit.record("sequence.published", held, revision=revision.number)
    sequence.refresh_from_db()
    return revision


def _locked(sequence: Sequence, statuses: tuple[Status, ...], verb: str, versions: Container[str] | None) -> Sequence:
    rows = Sequence.objects.select_for_update(of=("self",), no_key=True)
    related = rows.select_related("organization", "phone_number", "trigger_tag")
    held: Sequence | None = related.filter(pk=sequence.pk).first()
    if held is None:
        raise Sequence.gone()
    held.require_version(versions)
    if held.status not in statuses:
        raise Refusal(
            f"Sequence {held.name!r} is {held.get_status_display().lower()}: it can't be {verb}.", code="wrong_status"
        )
    return held


def _publish(sequence: Sequence, *, now: datetime, by: User | None) -> Revision:
    if found := problems(sequence):
        raise _not_ready(found)
    sequence.draft = trees.read(sequence.draft, sequence.organization)
    sequence.save(update_fields=["draft", "updated_at"])
    newest = sequence.revision
    sequence.revisions.filter(superseded_at=None).update(superseded_at=now)
    revision: Revision = Revision.objects.create(
        organization_id=sequence.organization_id,
        sequence=sequence,
        number=newest.number + 1 if newest else 1,
        tree=sequence.draft,
        trigger=sequence.trigger,
        trigger_tag=sequence.trigger_tag if sequence.trigger == Trigger.TAG_ADDED else None,
        phone_number=sequence.phone_number,
        published_at=now,
        published_by=by,
    )
    _add_steps(sequence, revision, now=now)
    return revision


def _not_ready(found: Listed[Problem]) -> Refusal:
    fields: dict[str, list[str]] = {}
    for problem in found:
        fields.setdefault(problem.path, []).append(problem.sentence)
    return Refusal(" ".join(_sentence(problem) for problem in found), code="not_ready", fields=fields)


def _sentence(problem: Problem) -> str:
    return f"Step {problem.place}: {problem.sentence}" if problem.place else problem.sentence


def _setting_problems(sequence: Sequence) -> Iterator[Problem]:
    if sequence.trigger == Trigger.TAG_ADDED and sequence.trigger_tag_id is None:
        yield Problem("", "", "No tag starts it: choose the tag, or another trigger.", "tag")
    if sequence.exit_tag_id is not None and sequence.exit_tag_id == sequence.trigger_tag_id:
        yield Problem("", "", "The tag that starts it also ends it: choose another exit tag.", "exitTag")
    if (number := sequence.phone_number).disconnected_at is not None:
        yield Problem("", "", f"The number {number} is disconnected: choose another one.", "phoneNumberId")


def _add_steps(sequence: Sequence, revision: Revision, *, now: datetime) -> None:
    flat = trees.flatten(trees.parse(revision.tree))
    before = _former(sequence)
    steps = [_step(sequence, revision, position, one, before, now=now) for position, one in enumerate(flat)]
    by_key = {step.key: step for step in Step.objects.bulk_create(steps)}
    for one in flat:
        step = by_key[one.key]
        step.next, step.yes, step.no = (by_key.get(key or "") for key in (one.next, one.yes, one.no))
    Step.objects.bulk_update(by_key.values(), ["next", "yes", "no"])


def _former(sequence: Sequence) -> dict[str, Step]:
    """The latest message step of each identity."""
    steps = Step.objects.filter(revision__sequence=sequence, dispatch__isnull=False).select_related("dispatch")
    return {step.key: step for step in steps.order_by("revision__number")}


def _step(
    sequence: Sequence, revision: Revision, position: int, flat: Flat, before: dict[str, Step], *, now: datetime
) -> Step:
    step = Step(
        revision=revision,
        key=flat.key,
        place=flat.place,
        position=position,
        kind=flat.node.kind,
        spec=_alone(flat.node),
    )
    if isinstance(flat.node, Message):
        step.template = MessageTemplate.objects.of(sequence.organization).by_public_id(flat.node.template).get()
        step.dispatch = _same(step, before.get(flat.key), sequence, flat.node) or _dispatch(
            sequence, step.template, flat.node, now=now
        )
    elif isinstance(flat.node, Condition) and isinstance(flat.node.test, HasTag):
        step.tag_id = public_ids.decode(Tag.PUBLIC_KIND, flat.node.test.tag)
    return step


def _alone(node: Node) -> dict[str, Any]:
    """The step without those inside it."""
    spec: dict[str, Any] = trees.to_json([node])[0]
    return {name: member for name, member in spec.items() if name not in ("yes", "no")}


def _same(step: Step, former: Step | None, sequence: Sequence, message: Message) -> Dispatch | None:
    """The dispatch of the step in an earlier revision, where it sends the very same."""
    dispatch = former.dispatch if former else None
    if dispatch is None or former is None or dispatch.canceled_at is not None:
        return None
    lane = _lane(step.template) if step.template else ""
    same = (former.template_id, dispatch.phone_number_id, dispatch.lane, dispatch.when_capped, dispatch.variables) == (
        step.template_id,
        sequence.phone_number_id,
        lane,
        message.when_capped,
        message.variables,
    )
    return dispatch if same else None


def _dispatch(sequence: Sequence, template: MessageTemplate, message: Message, *, now: datetime) -> Dispatch:
    paused = sequence.status == Status.PAUSED
    dispatch: Dispatch = Dispatch.objects.create(
        organization_id=sequence.organization_id,
        kind=Dispatch.Kind.STEP,
        phone_number_id=sequence.phone_number_id,
        lane=_lane(template),
        when_capped=message.when_capped,
        variables=message.variables,
        held_at=now if paused else None,
        hold_reason=PAUSED if paused else "",
        hold_detail=PAUSED_DETAIL if paused else "",
    )
    return dispatch


def _lane(template: MessageTemplate) -> str:
    return Dispatch.Lane.MARKETING if is_marketing(template.category) else Dispatch.Lane.UTILITY


def dispatches(sequence: Sequence | int) -> Listed[Dispatch]:
    """The dispatches of all message steps of all revisions, each once."""
    return list(Dispatch.objects.filter(steps__revision__sequence=sequence).distinct().order_by("pk"))
