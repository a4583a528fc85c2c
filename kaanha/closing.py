"""Closing an organization, over all apps: what it would stop, and the act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from broadcasts import closing as broadcasts_closing
from broadcasts.models import Broadcast
from broadcasts.models import Status as BroadcastStatus
from contacts.models import Contact
from kaanha.messaging import holding
from kaanha.organizations import closing, invitations, keys
from kaanha.organizations.models import APIKey, Membership, Organization
from kaanha.webhooks import endpoints
from kaanha.webhooks.models import Endpoint
from sequences import running
from sequences.models import Sequence
from sequences.models import Status as SequenceStatus

MANY = 10_000  # contacts that are counted


@dataclass(frozen=True)
class Consequences:
    """What closing an organization would do, to how many."""

    contacts: int  # MANY stands for as many or more
    members: int
    scheduled: int
    queued: int
    sequences: int
    keys: int
    endpoints: int
    sending: Broadcast | None


def consequences(organization: Organization) -> Consequences:
    """What closing it now would do. Eight queries."""
    broadcasts = Broadcast.objects.of(organization)
    return Consequences(
        contacts=Contact.objects.of(organization).filter(deleted_at=None)[:MANY].count(),
        members=Membership.objects.of(organization).count(),
        scheduled=broadcasts.filter(status=BroadcastStatus.SCHEDULED).count(),
        queued=broadcasts.filter(status=BroadcastStatus.QUEUED).count(),
        sequences=Sequence.objects.of(organization).filter(status=SequenceStatus.ACTIVE).count(),
        keys=APIKey.objects.of(organization).filter(revoked_at=None).count(),
        endpoints=Endpoint.objects.of(organization).listening().count(),
        sending=broadcasts.filter(status=BroadcastStatus.SENDING).first(),
    )


def close(organization: Organization, *, now: datetime) -> None:
    """Close it: all of this or nothing. Refusal while a broadcast is sending, and where it is closed already.

    The order of locks: the organization, its broadcasts, its sequences one after the other, with their dispatches.
    """
    with transaction.atomic():
        held = closing.have_alone(organization)
        counts = {
            "broadcasts": broadcasts_closing.stop(held, now=now),
            "sequences": running.pause_all(held, now=now),
            "messages": holding.cancel_single(held.pk, now=now),
            "endpoints": endpoints.turn_off_all(held),
            "keys": keys.revoke_all(held, now=now),
            "invitations": invitations.revoke_all(held, now=now),
        }
        closing.note(held, now=now, **counts)
