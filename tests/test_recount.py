"""`manage.py recount`."""

import json
from datetime import UTC, datetime

import pytest
from django.core.management import call_command

from kaanha.lib.errors import Refusal
from kaanha.messaging import counting
from kaanha.messaging.models import DispatchCount, QuarterCount
from tests.factories import BroadcastFactory, DispatchFactory, MessageFactory, TemplateFactory

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def drifted():
    """A broadcast of one queued message, whose counters say seven."""
    dispatch = DispatchFactory()
    broadcast = BroadcastFactory(
        organization=dispatch.organization, phone_number=dispatch.phone_number, dispatch=dispatch
    )
    MessageFactory(organization=dispatch.organization, dispatch=dispatch, template=broadcast.template)
    DispatchCount.objects.create(dispatch=dispatch, slot=2, total=7)
    return broadcast


def recount(capsys, *arguments):
    capsys.readouterr()
    call_command("recount", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_one_broadcast_is_set_right_and_said_to_have_drifted(drifted, capsys):
    assert recount(capsys, drifted.public_id) == {"counted": 1, "drifted": [drifted.public_id]}
    assert counting.funnel(drifted.dispatch_id) == counting.Funnel(1)
    assert recount(capsys, drifted.public_id) == {"counted": 1, "drifted": []}


def test_all_means_also_what_no_broadcast_asked_for(drifted, capsys):
    other = DispatchFactory()
    DispatchCount.objects.create(dispatch=other, slot=0, failed=1)

    QuarterCount.objects.create(organization=other.organization, at=NOW, error_code=-1, slot=1, sent=3)

    names = [drifted.public_id, other.public_id, f"Home of {other.organization.slug}"]
    assert recount(capsys, "--all") == {"counted": 6, "drifted": names}
    assert not QuarterCount.objects.exists()


def test_it_says_so_in_words(drifted, capsys):
    call_command("recount", drifted.public_id)

    assert capsys.readouterr().out == f"{drifted.public_id} had drifted and is right again.\nCounted: 1. Drifted: 1.\n"


def test_it_refuses_what_it_cannot_count(drifted):
    for arguments, words in (
        ([], "or say --all"),
        (["--all", drifted.public_id], "or say --all"),
        (["bc_nothing"], "no broadcast 'bc_nothing'"),
        ([BroadcastFactory(template=TemplateFactory()).public_id], "has not begun"),
    ):
        with pytest.raises(Refusal, match=words):
            call_command("recount", *arguments)
