"""Sequences, their published revisions, and the people on their way through them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from datetime import timedelta
from typing import Any, ClassVar, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from contacts.models import Contact, Tag
from kaanha.lib import states
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Dispatch
from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet, User
from kaanha.whatsapp.models import PhoneNumber
from templates_app.models import MessageTemplate

SPREAD_MOST = 60_000  # people a minute: a thousand a second is the most that a number sends


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    ACTIVE = "active", "Active"
    PAUSED = "paused", "Paused"
    ARCHIVED = "archived", "Archived"


TRANSITIONS: dict[str, frozenset[Status]] = {
    Status.DRAFT: frozenset({Status.ACTIVE, Status.ARCHIVED}),
    Status.ACTIVE: frozenset({Status.PAUSED, Status.ARCHIVED}),
    Status.PAUSED: frozenset({Status.ACTIVE, Status.ARCHIVED}),
    Status.ARCHIVED: frozenset(),
}


class Trigger(models.TextChoices):
    TAG_ADDED = "tag_added", "A tag is put on a contact"
    CONTACT_CREATED = "contact_created", "A contact is created"
    MANUAL = "manual", "By hand, by command or by the API"


class WhenLate(models.TextChoices):
    SEND = "send", "Send it late"
    SKIP = "skip", "Skip the messages that are late"
    END = "end", "End the sequence for this contact"


class SequenceQuerySet(OwnedQuerySet):
    def move(self, target: Status, **changes: Any) -> int:
        """Move those that may go to `target` there, with `changes`; how many moved."""
        return self.filter(status__in=states.sources(TRANSITIONS, target)).update(status=target, **changes)


class Sequence(OwnedModel):
    """Steps that each contact takes at its own time.

        draft ──activate──▶ active ⇄ paused      any ──▶ archived

    `draft` is the tree as it is being edited; activating and publishing freeze it as the next revision. The settings
    below the trigger hold at once, for everybody inside, whatever their revision.
    """

    PUBLIC_KIND = "seq"

    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.DRAFT, editable=False)
    draft: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField(default=list, blank=True)

    # Frozen with the tree: what starts it from the next revision on, and the number that sends.
    trigger = models.CharField(max_length=16, choices=Trigger.choices, default=Trigger.MANUAL)
    trigger_tag = models.ForeignKey(Tag, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.PROTECT, related_name="sequences")

    exit_tag = models.ForeignKey(Tag, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    exit_on_reply = models.BooleanField(default=False)
    # A step that is run later than planned by more than this follows `when_late`. None: it is never too late.
    late_limit = models.DurationField(
        null=True,
        blank=True,
        validators=[MinValueValidator(timedelta(minutes=1)), MaxValueValidator(timedelta(days=365))],
    )
    when_late = models.CharField(max_length=4, choices=WhenLate.choices, default=WhenLate.SEND)
    # After a pause or downtime so many overdue people a minute go on.
    spread_per_minute = models.PositiveIntegerField(
        default=600, validators=[MinValueValidator(1), MaxValueValidator(SPREAD_MOST)]
    )

    # Set where the sweep has something to do for everybody inside: nobody moves until it is done.
    spread_asked_at = models.DateTimeField(null=True, editable=False)
    spread_turn = models.PositiveIntegerField(default=0, editable=False)  # how many have theirs
    # Everybody whose enrollment is not newer than this one has to leave.
    exit_up_to = models.BigIntegerField(null=True, editable=False)

    first_activated_at = models.DateTimeField(null=True, editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    archived_at = models.DateTimeField(null=True, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[SequenceQuerySet] = SequenceQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="sequence_status_known"),
            models.CheckConstraint(condition=Q(trigger__in=Trigger.values), name="sequence_trigger_known"),
            models.CheckConstraint(
                condition=Q(spread_per_minute__gte=1, spread_per_minute__lte=SPREAD_MOST), name="sequence_spread"
            ),
        ]
        indexes = [models.Index(fields=["organization", "-created_at"], name="sequence_newest")]  # the list

    def __str__(self) -> str:
        return self.name

    @property
    def revision(self) -> Revision | None:
        """The newest published revision: the one that new people take."""
        return self.revisions.filter(superseded_at=None).first()

    @property
    def version(self) -> str:
        """What changes whenever the draft or a setting does, as an ETag has it."""
        settings = (
            self.name,
            self.trigger,
            self.trigger_tag_id,
            self.phone_number_id,
            self.exit_tag_id,
            self.exit_on_reply,
            str(self.late_limit),
            self.when_late,
            self.spread_per_minute,
        )
        said = json.dumps([*settings, self.draft], sort_keys=True)
        return f'"{hashlib.sha256(said.encode()).hexdigest()[:16]}"'

    def require_version(self, versions: Container[str] | None) -> None:
        """Refusal when its version is none of these; None is for whichever there is."""
        if versions is not None and self.version not in versions:
            raise Refusal(
                "Somebody else has changed this sequence. Read it again, then decide.", code="edited_meanwhile"
            )

    @classmethod
    def gone(cls) -> Refusal:
        """What is said where it was deleted in the meantime."""
        return Refusal("This sequence has been deleted.", code="sequence_not_found")

    def move(self, target: Status, **changes: Any) -> None:
        """Move this sequence to `target` if its state still allows; Refusal with its actual state otherwise."""
        if not type(self).objects.filter(pk=self.pk).move(target, **changes):
            if not type(self).objects.filter(pk=self.pk).exists():
                raise self.gone()
            self.refresh_from_db()
            raise Refusal(
                f"Sequence {self.name!r} is {self.get_status_display().lower()}: it can't become "
                f"{Status(target).label.lower()}.",
                code="wrong_status",
            )
        self.refresh_from_db()


class Revision(OwnedModel):
    """What was published, for ever: its tree, its trigger, its number. In force until the next one."""

    PUBLIC_KIND = "rev"

    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    tree: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = models.JSONField()
    trigger = models.CharField(max_length=16, choices=Trigger.choices)
    trigger_tag = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True, related_name="+")
    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.PROTECT, related_name="+")
    published_at = models.DateTimeField()
    superseded_at = models.DateTimeField(null=True)
    # Set while those inside older revisions are moved to this one: when the next who is due by that gets a turn.
    move_turn_at = models.DateTimeField(null=True)
    published_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["sequence", "number"], name="revision_number_once"),
            models.UniqueConstraint(fields=["sequence"], condition=Q(superseded_at=None), name="revision_one_newest"),
        ]
        indexes = [models.Index(fields=["organization", "trigger", "trigger_tag"], name="revision_triggers")]  # events

    def __str__(self) -> str:
        return f"Revision {self.number}"


class Step(models.Model):
    """A step of a revision. `key` is its identity, the same in every revision that has it."""

    class Kind(models.TextChoices):
        MESSAGE = "message", "Message"
        DELAY = "delay", "Delay"
        CONDITION = "condition", "Condition"

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="steps")
    key = models.CharField(max_length=32)
    # Where it stands, for people: "3 yes 1". `position` counts in reading order.
    place = models.CharField(max_length=200)
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    # The step as in the tree, without the steps inside it.
    spec: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    # Where it goes on; nothing is the end.
    next = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    yes = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    no = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    # Message steps. Steps of two revisions that send the same share one dispatch.
    dispatch = models.ForeignKey(Dispatch, on_delete=models.PROTECT, null=True, related_name="steps")
    template = models.ForeignKey(MessageTemplate, on_delete=models.PROTECT, null=True, related_name="+")
    # Conditions on a tag.
    tag = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["revision", "key"], name="step_key_once")]

    def __str__(self) -> str:
        return f"Step {self.place}"


class Source(models.TextChoices):
    """How somebody came to be enrolled."""

    TAG_ADDED = "tag_added", "A tag was put on"
    CONTACT_CREATED = "contact_created", "The contact was created"
    OPERATOR = "operator", "An operator"
    API = "api", "The API"
    COMMAND = "command", "A command"
    EXISTING = "existing", "Held the tag already"


class Code(models.TextChoices):
    """Why somebody isn't enrolled."""

    ALREADY_ENROLLED = "already_enrolled", "Enrolled before"
    NOT_OPTED_IN = "not_opted_in", "Not opted in"
    CONTACT_DELETED = "contact_deleted", "Contact deleted"
    CONTACT_NOT_FOUND = "contact_not_found", "Unknown contact"
    SEQUENCE_NOT_ACTIVE = "sequence_not_active", "Sequence not active"
    EXIT_TAG = "exit_tag", "Holds the exit tag"


class ExitReason(models.TextChoices):
    OPTED_OUT = "opted_out", "Opted out"
    DELETED = "deleted", "Contact deleted"
    CANCELED = "canceled", "Canceled"
    EXIT_TAG = "exit_tag", "Got the exit tag"
    REPLIED = "replied", "Replied"
    LATE = "late", "A step was overdue for too long"
    ARCHIVED = "archived", "The sequence was archived"


class EnrollmentStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"
    EXITED = "exited", "Exited"


INSIDE = (EnrollmentStatus.ACTIVE, EnrollmentStatus.PAUSED)


class EnrollmentQuerySet(OwnedQuerySet):
    def inside(self) -> Self:
        """Enrollments of people who are still on their way."""
        return self.filter(status__in=INSIDE)


class Enrollment(OwnedModel):
    """A contact on its way through a sequence: once for each contact, on the revision that it started with.

        active ⇄ paused      active ──▶ completed      active, paused ──▶ exited (reason)

    It stands at `step`: not run yet while `entered_at` is empty, waiting in it afterward. `next_run_at` is when it is
    run next; without one it waits for the fate of `message`. Foreign keys carry no constraints, as on the ledger:
    see docs/decisions/ledger-without-foreign-keys.md.
    """

    PUBLIC_KIND = "enr"

    organization = models.ForeignKey(
        Organization, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    sequence = models.ForeignKey(
        Sequence, on_delete=models.DO_NOTHING, related_name="enrollments", db_constraint=False, db_index=False
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.DO_NOTHING, related_name="enrollments", db_constraint=False, db_index=False
    )
    revision = models.ForeignKey(
        Revision, on_delete=models.DO_NOTHING, related_name="enrollments", db_constraint=False, db_index=False
    )
    step = models.ForeignKey(
        Step, on_delete=models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    status = models.CharField(max_length=10, choices=EnrollmentStatus.choices, default=EnrollmentStatus.ACTIVE)
    exit_reason = models.CharField(max_length=10, choices=ExitReason.choices, blank=True, default="")
    source = models.CharField(max_length=16, choices=Source.choices)
    enrolled_at = models.DateTimeField()
    # When the step before ended: what a delay counts from.
    since = models.DateTimeField()
    entered_at = models.DateTimeField(null=True)
    next_run_at = models.DateTimeField(null=True)
    # A message of the ledger: the one of this step, or the one that a condition waits for. Whoever leaves while it is
    # in flight keeps it until its fate is known.
    message = models.BigIntegerField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar[EnrollmentQuerySet] = EnrollmentQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            # at most once per contact and sequence
            models.UniqueConstraint(fields=["sequence", "contact"], name="enrollment_once"),
            models.CheckConstraint(condition=Q(status__in=EnrollmentStatus.values), name="enrollment_status_known"),
            models.CheckConstraint(
                condition=Q(status__in=INSIDE, ended_at=None, step__isnull=False)
                | (~Q(status__in=INSIDE) & Q(ended_at__isnull=False, next_run_at=None)),
                name="enrollment_inside_or_ended",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=INSIDE) | Q(next_run_at__isnull=False) | Q(message__isnull=False),
                name="enrollment_waits_for_something",
            ),
            models.CheckConstraint(
                condition=Q(status=EnrollmentStatus.EXITED) ^ Q(exit_reason=""), name="enrollment_exited_why"
            ),
        ]
        indexes = [
            # timers; a paused one keeps its time but isn't in here
            models.Index(
                fields=["sequence", "next_run_at"],
                name="enrollment_due",
                condition=Q(status=EnrollmentStatus.ACTIVE, next_run_at__isnull=False),
            ),
            # whom a message's fate wakes
            models.Index(fields=["message"], name="enrollment_message", condition=Q(message__isnull=False)),
            # messages in flight whose owner was paused or left meanwhile: a few at any time
            models.Index(
                fields=["id"],
                name="enrollment_loose_end",
                condition=Q(status__in=[EnrollmentStatus.PAUSED, EnrollmentStatus.EXITED], message__isnull=False),
            ),
            # the list of all in the API
            models.Index(fields=["organization", "id"], name="enrollment_list"),
            # the contact's page; whom an event of the contact concerns
            models.Index(fields=["contact"], name="enrollment_contact"),
            # the list by reason, and of those who are paused
            models.Index(
                fields=["sequence", "exit_reason", "contact"],
                name="enrollment_left",
                condition=Q(status=EnrollmentStatus.EXITED),
            ),
            models.Index(fields=["sequence"], name="enrollment_paused", condition=Q(status=EnrollmentStatus.PAUSED)),
        ]

    def __str__(self) -> str:
        return f"{self.contact} in {self.sequence}"


class Outcome(models.TextChoices):
    """What became of a step. A message step also has its message, whose story may go on."""

    WAITING = "", "Waiting"
    SENT = "sent", "Sent"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    UNCONFIRMED = "unconfirmed", "Unconfirmed"
    WAITED = "waited", "Waited"
    YES = "yes", "If Yes"
    NO = "no", "If No"
    LEFT = "left", "Left here"


class StepRun(models.Model):
    """A step that a contact took: when, what happened, which message, which branch and why.

    Once for each enrollment and step, whatever the revision.
    """

    enrollment = models.ForeignKey(
        Enrollment, on_delete=models.DO_NOTHING, related_name="runs", db_constraint=False, db_index=False
    )
    step = models.ForeignKey(
        Step, on_delete=models.DO_NOTHING, related_name="runs", db_constraint=False, db_index=False
    )
    key = models.CharField(max_length=32)
    at = models.DateTimeField()
    # Until when it waits at the most.
    until = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=12, choices=Outcome.choices, blank=True, default="")
    reason = models.CharField(max_length=300, blank=True, default="")
    message = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            # a step is taken once; also the path of a contact
            models.UniqueConstraint(fields=["enrollment", "key"], name="step_run_once"),
        ]
        indexes = [
            # a step's counters, counted anew
            models.Index(fields=["step"], name="step_run_step"),
            # whose answer a reply is
            models.Index(fields=["message"], name="step_run_message", condition=Q(message__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.outcome}"


class EnrollmentRefusal(models.Model):
    """Somebody who wasn't enrolled, and why. One row for each contact, sequence and reason; `at` is the last time."""

    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="refusals", db_index=False)
    contact = models.ForeignKey(
        Contact, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    code = models.CharField(max_length=20, choices=Code.choices)
    source = models.CharField(max_length=16, choices=Source.choices)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sequence", "contact", "code"], name="enrollment_refusal_once"),
        ]
        indexes = [models.Index(fields=["contact"], name="enrollment_refusal_contact")]  # the contact's page

    def __str__(self) -> str:
        return f"{self.contact_id} {self.code}"


class Intake(OwnedModel):
    """A request to enroll everybody who holds a tag, or many who were chosen, done by the sweep in batches.

    `after` is the contact up to which it has come. Who was chosen stands in `IntakeContact` until it is decided.
    """

    PUBLIC_KIND = "itk"

    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="intakes")
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, null=True, related_name="+")
    source = models.CharField(max_length=16, choices=Source.choices)
    after = models.BigIntegerField(default=0)
    enrolled = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["id"], name="intake_open", condition=Q(finished_at=None))]  # the sweep

    def __str__(self) -> str:
        return f"{self.tag or 'chosen contacts'} into {self.sequence}"


class IntakeContact(models.Model):
    """Somebody who was chosen to be enrolled, and isn't decided yet. Gone with the decision, or with the request."""

    pk = models.CompositePrimaryKey("intake_id", "contact_id")
    intake = models.ForeignKey(Intake, on_delete=models.CASCADE, related_name="chosen", db_index=False)
    contact = models.ForeignKey(
        Contact, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )

    def __str__(self) -> str:
        return f"{self.contact_id} in {self.intake_id}"


class SequenceCount(models.Model):
    """A sequence's people, counted in a few slots, as the messages of a dispatch are."""

    SLOTS = 4

    pk = models.CompositePrimaryKey("sequence_id", "slot")
    sequence = models.ForeignKey(Sequence, on_delete=models.CASCADE, related_name="counts", db_index=False)
    slot = models.SmallIntegerField()
    enrolled = models.BigIntegerField(default=0)
    completed = models.BigIntegerField(default=0)
    exited = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.sequence_id}/{self.slot}"


class StepCount(models.Model):
    """Who came to a step and how they went on; who is waiting there is what the others leave of `arrived`."""

    SLOTS = 4

    pk = models.CompositePrimaryKey("step_id", "slot")
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="counts", db_index=False)
    slot = models.SmallIntegerField()
    arrived = models.BigIntegerField(default=0)
    # By what became of the step, see Outcome.
    sent = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    unconfirmed = models.BigIntegerField(default=0)
    waited = models.BigIntegerField(default=0)
    yes = models.BigIntegerField(default=0)
    no = models.BigIntegerField(default=0)
    left = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.step_id}/{self.slot}"


class Pulse(models.Model):
    """When the sweep last looked: a long silence means downtime, after which overdue people are spread out."""

    name = models.CharField(max_length=20, primary_key=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"
