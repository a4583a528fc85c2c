"""A copy of a broadcast: what it takes along, and what it is called."""

import pytest
from django.utils import timezone

from broadcasts import drafting, launch
from broadcasts.models import Status
from tests.factories import TagFactory, UserFactory


@pytest.mark.parametrize(
    ("name", "copied"),
    [
        ("Sale", "Sale (copy)"),
        ("Sale (copy)", "Sale (copy 2)"),
        ("Sale (copy 9)", "Sale (copy 10)"),
        ("Sale (copy 0)", "Sale (copy 0) (copy)"),
        ("(copy)", "(copy) (copy)"),
        ("x" * 200, "x" * 193 + " (copy)"),
        ("x" * 193 + " (copy)", "x" * 191 + " (copy 2)"),
    ],
)
def test_a_copy_has_a_name_of_its_own(name, copied):
    assert drafting.copy_name(name) == copied
    assert len(copied) <= drafting.NAME


def test_a_copy_is_a_draft_of_the_same_message_to_the_same_people(organization, draft, people, tag):
    people(1)
    writer = UserFactory()
    broadcast = draft(name="Sale", variables={"body.first_name": {"field": "first_name", "fallback": "there"}})
    broadcast.excluded_tags.add(excluded := TagFactory(organization=organization))
    launch.send(broadcast, now=timezone.now())
    launch.sweep(now=timezone.now())
    broadcast.refresh_from_db()

    copy = drafting.copy(broadcast, by=writer)

    copy.refresh_from_db()
    assert (copy.name, copy.status, copy.created_by, copy.organization) == (
        "Sale (copy)", Status.DRAFT, writer, organization,
    )  # fmt: skip
    assert (copy.template, copy.phone_number, copy.variables) == (
        broadcast.template, broadcast.phone_number, broadcast.variables,
    )  # fmt: skip
    assert (list(copy.tags.all()), list(copy.excluded_tags.all())) == ([tag], [excluded])
    assert (copy.dispatch, copy.queued_at, copy.started_at, copy.status_detail) == (None, None, None, "")
    broadcast.refresh_from_db()
    assert (broadcast.name, broadcast.status) == ("Sale", Status.SENDING)


def test_a_copy_has_no_time(draft):
    broadcast = draft(scheduled_at=timezone.now())

    assert drafting.copy(broadcast).scheduled_at is None
