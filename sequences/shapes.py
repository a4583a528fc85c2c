"""Sequences and enrollments as the API takes and gives them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.serializers import BooleanField, DateTimeField, IntegerField

from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.errors import Refusal
from kaanha.lib.pagination import PageQuery
from kaanha.messaging.api import NumberNamed
from kaanha.messaging.models import Status as MessageStatus
from sequences import editing, trees
from sequences.models import (
    SPREAD_MOST,
    EnrollmentStatus,
    ExitReason,
    Outcome,
    Source,
    Status,
    Step,
    Trigger,
    WhenLate,
)
from sequences.step_shapes import Steps
from sequences.tree_nodes import measure
from templates_app.api import Choice

LATE_LEAST, LATE_MOST = timedelta(minutes=1), timedelta(days=365)
NAMED = 120  # letters of an id or a name

# --- what is taken -----------------------------------------------------------------------------------------------


class Name(Text):
    """A sequence's name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=editing.NAME, **options)

    def to_internal_value(self, data: Any) -> str:
        try:
            return editing.name_of(super().to_internal_value(data))
        except Refusal as refusal:
            raise serializers.ValidationError(str(refusal)) from refusal


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": SPREAD_MOST})
class Rate(serializers.Field[int, Any, Any, Any]):
    """People a minute."""

    default_error_messages = dict.fromkeys(
        ("invalid", "null"), f"Write a whole number from 1 to {SPREAD_MOST:,}, without quotes."
    )

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int or not 1 <= data <= SPREAD_MOST:
            self.fail("invalid")
        return data


def _limits(unit: str) -> dict[str, Any]:
    size = trees.UNITS[unit]
    number = {"type": "integer", "minimum": max(LATE_LEAST // size, 1), "maximum": LATE_MOST // size}
    return {"type": "object", "properties": {unit: number}, "required": [unit], "additionalProperties": False}


@extend_schema_field({"oneOf": [*map(_limits, trees.UNITS)]})
class LateLimit(serializers.Field[timedelta, Any, Any, Any]):
    """A length of time, as in a delay."""

    default_error_messages = {
        "invalid": f'Write from a minute to a year, in one of {", ".join(trees.UNITS)}, as in {{{{"hours": 2}}}}; '
        "or null for no limit."
    }

    def to_internal_value(self, data: Any) -> timedelta:
        [(unit, amount)] = data.items() if isinstance(data, dict) and len(data) == 1 else [("", None)]
        if unit not in trees.UNITS or type(amount) is not int or not 0 < amount <= LATE_MOST // trees.UNITS[unit]:
            self.fail("invalid")
        length = amount * trees.UNITS[unit]
        if length < LATE_LEAST:
            self.fail("invalid")
        return length

    def to_representation(self, value: timedelta) -> dict[str, int]:
        unit, amount = measure(value)
        return {unit: amount}


class SequenceChange(Body):
    """What PATCH takes: what isn't sent stays as it is."""

    name = Name(required=False)
    trigger = Choice(Trigger.values, required=False)
    tag = Text(required=False, allow_null=True, max_length=NAMED)
    phone_number_id = Text(required=False, max_length=NAMED)
    exit_tag = Text(required=False, allow_null=True, max_length=NAMED)
    exit_on_reply = YesNo(required=False)
    late_limit = LateLimit(required=False, allow_null=True)
    when_late = Choice(WhenLate.values, required=False)
    spread_per_minute = Rate(required=False)
    steps = Steps(required=False)


class NewSequence(SequenceChange):
    name = Name()


class Activation(Body):
    enroll_holders = YesNo(required=False, help_text="Also enroll whoever holds the trigger's tag already.")


class SequencesQuery(PageQuery):
    search = Text(required=False, allow_blank=True, max_length=editing.NAME)
    status = Choice(Status.values, required=False)


class EnrollmentsQuery(PageQuery):
    sequence = Text(required=False, max_length=NAMED)
    contact = Text(required=False, max_length=NAMED)
    status = Choice(EnrollmentStatus.values, required=False)


# --- what is given -----------------------------------------------------------------------------------------------


class SequenceTagShown(Body):
    id = Text()
    name = Text()


class SequencePeopleShown(Body):
    enrolled = IntegerField()
    inside = IntegerField(help_text="Still on their way.")
    completed = IntegerField()
    exited = IntegerField()


class SequenceLineShown(Body):
    """A sequence in a list: everything but its steps."""

    id = Text()
    name = Text()
    status = Choice(Status.values)
    trigger = Choice(Trigger.values)
    tag = SequenceTagShown(allow_null=True)
    phone_number = NumberNamed()
    exit_tag = SequenceTagShown(allow_null=True)
    exit_on_reply = BooleanField()
    late_limit = LateLimit(allow_null=True)
    when_late = Choice(WhenLate.values)
    spread_per_minute = Rate()
    revision = IntegerField(allow_null=True, help_text="The newest that is published: the one that new people take.")
    unpublished_changes = BooleanField(help_text="Whether the draft differs from that revision.")
    people = SequencePeopleShown()
    activated_at = DateTimeField(allow_null=True)
    paused_at = DateTimeField(allow_null=True)
    archived_at = DateTimeField(allow_null=True)
    created_at = DateTimeField()
    updated_at = DateTimeField()


class SequenceProblemShown(Body):
    step = Text(allow_null=True, help_text="The step's id; null where it is about no single step.")
    place = Text(allow_null=True, help_text="Where the step stands, for people: 3 yes 1.")
    field = Text(help_text="The same as an error has it: steps.2.yes.0, or another member.")
    message = Text()


class SequenceShown(SequenceLineShown):
    steps = Steps(help_text="The draft.")
    problems = SequenceProblemShown(many=True, help_text="What keeps the draft from being published.")


class RevisionLineShown(Body):
    number = IntegerField()
    trigger = Choice(Trigger.values)
    tag = SequenceTagShown(allow_null=True)
    phone_number = NumberNamed()
    published_at = DateTimeField()
    superseded_at = DateTimeField(allow_null=True)


class RevisionShown(RevisionLineShown):
    steps = Steps()


class SequenceMovedShown(Body):
    moved = IntegerField()
    stayed = IntegerField(help_text="Still inside an older revision.")
    moving = IntegerField(help_text="Are being moved in the background.")


class ReasonCountShown(Body):
    reason = Text()
    count = IntegerField()


class StepFunnelShown(Body):
    """total = waiting + sent + failed + skipped + unconfirmed; delivered and read are among those sent."""

    total = IntegerField()
    waiting = IntegerField()
    dispatched = IntegerField(help_text="All that Meta ever accepted, what failed later included.")
    sent = IntegerField()
    delivered = IntegerField()
    read = IntegerField()
    failed = IntegerField()
    skipped = IntegerField()
    unconfirmed = IntegerField()


class StepStatsShown(Body):
    """arrived = waiting + passed + left."""

    id = Text()
    place = Text()
    type = Choice(Step.Kind.values)
    words = Text(help_text="What it does.")
    arrived = IntegerField()
    waiting = IntegerField()
    passed = IntegerField()
    left = IntegerField(help_text="Left the sequence here.")
    yes = IntegerField(allow_null=True, help_text="For a condition.")
    no = IntegerField(allow_null=True)
    funnel = StepFunnelShown(allow_null=True, help_text="For a message.")
    skipped_by_reason = ReasonCountShown(many=True)
    held = Text(allow_null=True, help_text="Why nothing of it is sent at the moment.")


class SequenceStatsShown(SequencePeopleShown):
    sequence_id = Text()
    revision = IntegerField(allow_null=True)
    exited_by_reason = ReasonCountShown(many=True)
    refused_by_reason = ReasonCountShown(many=True)
    steps = StepStatsShown(many=True, help_text="Those of the newest revision, with their numbers in all of them.")


class EnrollmentStepShown(Body):
    id = Text()
    place = Text()
    words = Text()


class EnrollmentLineShown(Body):
    """An enrollment in a list: where it stands, without its way."""

    id = Text()
    sequence_id = Text()
    contact_id = Text()
    phone = Text(allow_null=True)
    status = Choice(EnrollmentStatus.values)
    exit_reason = Choice(ExitReason.values, allow_null=True)
    source_ = Choice(Source.values)
    revision = IntegerField()
    step = EnrollmentStepShown(allow_null=True)
    goes_on_at = DateTimeField(allow_null=True, help_text="At the latest; null where nobody knows.")
    waits_for = Text(allow_null=True, help_text="What keeps it waiting beside the time.")
    enrolled_at = DateTimeField()
    ended_at = DateTimeField(allow_null=True)


class StepTakenShown(Body):
    step = Text()
    place = Text()
    words = Text()
    at = DateTimeField()
    until = DateTimeField(allow_null=True)
    ended_at = DateTimeField(allow_null=True)
    outcome = Choice([outcome.value or "waiting" for outcome in Outcome])
    reason = Text(allow_null=True)
    message_id = Text(allow_null=True)
    message_status = Choice(MessageStatus.values, allow_null=True)


class EnrollmentShown(EnrollmentLineShown):
    path = StepTakenShown(many=True)
