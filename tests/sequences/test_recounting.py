"""Counters that have drifted are seen and set right; those that haven't are left alone."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from sequences import counting, recounting
from sequences.models import SequenceCount, StepCount

pytestmark = pytest.mark.django_db(transaction=True)


def test_counters_that_drifted_are_set_right(stage):
    sequence = stage.active(stage.message("a"), stage.delay("d", days=1))
    stage.enroll(sequence, stage.contact(), stage.contact())
    stage.settle()
    right = counting.people([sequence.pk]), counting.passages(step.pk for step in sequence.revision.steps.all())
    assert not recounting.recount(sequence.pk)
    StepCount.objects.update(arrived=7, sent=9)
    SequenceCount.objects.update(enrolled=-1)

    assert recounting.recount(sequence.pk, repair=False)
    assert recounting.recount(sequence.pk)

    assert not recounting.recount(sequence.pk)
    assert (
        counting.people([sequence.pk]),
        counting.passages(step.pk for step in sequence.revision.steps.all()),
    ) == right


def test_the_command_recounts_a_sequence_by_its_id_and_all(stage):
    sequence = stage.active(stage.message("a"))
    stage.enroll(sequence, stage.contact())
    SequenceCount.objects.update(enrolled=5)

    # all: the sequence, what Home says of its organization, and its contacts
    for arguments, counted, drifted in (([sequence.public_id], 1, [sequence.public_id]), (["--all"], 3, [])):
        printed = StringIO()
        call_command("recount", *arguments, "--json", stdout=printed)
        assert json.loads(printed.getvalue()) == {"counted": counted, "drifted": drifted}
