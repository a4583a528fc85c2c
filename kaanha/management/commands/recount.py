"""`manage.py recount`: the funnel's numbers, those of a sequence's steps, of Home and of contacts, counted anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.core.management.base import CommandParser

from broadcasts.models import Broadcast
from contacts import counting as contact_counts
from kaanha.lib.commands import KaanhaCommand
from kaanha.lib.errors import Refusal
from kaanha.messaging import counting, quarters
from kaanha.messaging.models import Dispatch
from kaanha.organizations.models import Organization
from sequences import finding, recounting
from sequences.models import Sequence
from sequences.publishing import dispatches


class Command(KaanhaCommand):
    help = "Set counters to what the rows say and tell which had drifted. Exact also while messages are being sent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="ids of broadcasts (bc_…) and sequences (seq_…)")
        parser.add_argument("--all", action="store_true", help="everything that ever asked for messages")

    def perform(self, *, ids: list[str], all: bool, **_: Any) -> dict[str, Any]:  # noqa: A002
        if bool(ids) == all:
            raise Refusal("Name the broadcasts and sequences to recount, or say --all.")
        counted, drifted = 0, []
        for name, count in _everything() if all else [_named(public_id) for public_id in ids]:
            counted += 1
            if count():
                drifted.append(name)
        return {"counted": counted, "drifted": drifted}

    def tell(self, result: dict[str, Any]) -> None:
        for name in result["drifted"]:
            self.stdout.write(f"{name} had drifted and is right again.")
        self.stdout.write(f"Counted: {result['counted']:,}. Drifted: {len(result['drifted']):,}.")


# What has counters, and how they are counted anew.
Counted = tuple[str, Callable[[], bool]]


def _named(public_id: str) -> Counted:
    if public_id.startswith(f"{Sequence.PUBLIC_KIND}_"):
        return public_id, partial(_sequence, finding.sequence(public_id))
    return public_id, partial(counting.recount, _dispatch(public_id))


def _sequence(sequence: Sequence) -> bool:
    """A sequence's people and steps, and the messages of its steps."""
    messages = [counting.recount(dispatch.pk) for dispatch in dispatches(sequence)]
    return recounting.recount(sequence.pk) or any(messages)


def _dispatch(public_id: str) -> int:
    broadcast = Broadcast.objects.all().by_public_id(public_id).first()
    if broadcast is None:
        raise Refusal(f"There is no broadcast {public_id!r}.", code="broadcast_not_found")
    if broadcast.dispatch_id is None:
        raise Refusal(f"Broadcast {public_id} has not begun: it has no messages to count.", code="not_begun")
    return int(broadcast.dispatch_id)


def _everything() -> Iterator[Counted]:
    others = Dispatch.objects.exclude(kind=Dispatch.Kind.STEP).select_related("broadcast")
    for dispatch in others.order_by("pk").iterator():
        broadcast = getattr(dispatch, "broadcast", None)
        yield (broadcast or dispatch).public_id, partial(counting.recount, dispatch.pk)
    for sequence in Sequence.objects.order_by("pk").iterator():
        yield sequence.public_id, partial(_sequence, sequence)
    for organization in Organization.objects.order_by("pk").iterator():
        yield f"Home of {organization.slug}", partial(quarters.recount, organization.pk)
        yield f"Contacts of {organization.slug}", partial(contact_counts.recount, organization.pk)
