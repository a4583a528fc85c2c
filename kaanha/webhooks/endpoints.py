"""What people and other systems do with an endpoint: add it, change it, test it, replay what went to it.

Everything here fits inside a transaction: nobody is asked on the network.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Model

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.models import Organization
from kaanha.webhooks import delivering
from kaanha.webhooks.models import ENDPOINT_OFF, Delivery, DeliveryQuerySet, Endpoint, Status

MOST = 20  # endpoints of an organization: each takes part in the threads that deliver
REPLAYED = 10_000  # deliveries in one replay


def create(organization: Organization, said: Mapping[str, Any], *, now: datetime) -> Endpoint:
    """A new endpoint as `said`, with a secret of its own; a test event goes to it. Refusal where there are too many."""
    with transaction.atomic():
        endpoint = add(organization, said)
        _test_if_listening(endpoint, now)
    return endpoint


def add(organization: Organization, said: Mapping[str, Any]) -> Endpoint:
    """The same without the test event. Locks the organization: two at once don't both find room for the last one."""
    with transaction.atomic():
        owner = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if Endpoint.objects.of(owner).present().count() >= MOST:
            raise Refusal(f"An organization has at most {MOST} endpoints. Delete one first.", code="too_many_endpoints")
        made: Endpoint = Endpoint.objects.create(organization=owner, secret=Endpoint.new_secret(), **said)
        audit.record("webhook.changed", made, fields=sorted(said), added=True)
    return made


def edit(
    endpoint: Endpoint, said: Mapping[str, Any], *, versions: Container[str] | None, now: datetime
) -> tuple[Endpoint, list[str]]:
    """The endpoint with what is `said`, and the names of what has changed by it. A test event goes to it then.

    Refusal when its version is none of `versions`.
    """
    with transaction.atomic():
        held = locked(endpoint, versions)
        changed = [name for name, value in said.items() if getattr(held, name) != value]
        for name in changed:
            setattr(held, name, said[name])
        if changed:
            held.save(update_fields=changed)
            audit.record("webhook.changed", held, fields=changed)
            _test_if_listening(held, now)
    return held, changed


def delete(endpoint: Endpoint, *, versions: Container[str] | None, now: datetime) -> None:
    """Take the endpoint away, with its secret. What is pending fails; its log stays until it is old."""
    with transaction.atomic():
        held = locked(endpoint, versions)
        held.active, held.deleted_at, held.secret = False, now, ""
        held.save(update_fields=["active", "deleted_at", "secret"])
        audit.record("webhook.changed", held, deleted=True)


def rotate(endpoint: Endpoint) -> Endpoint:
    """The endpoint with a new secret, which signs from now on, attempts of earlier events included."""
    with transaction.atomic():
        held = locked(endpoint, None)
        held.secret = Endpoint.new_secret()
        held.save(update_fields=["secret"])
        audit.record("webhook.changed", held, fields=["secret"])
    return held


def enable(endpoint: Endpoint) -> Endpoint:
    """The endpoint, turned on again whatever turned it off."""
    with transaction.atomic():
        held = locked(endpoint, None)
        held.enable()
        audit.record("webhook.changed", held, fields=["active"])
    return held


def turn_off_all(organization: Organization) -> int:
    """Turn every endpoint of the organization off, in the transaction that closes it; how many listened."""
    return Endpoint.objects.of(organization).listening().update(active=False)


def test(endpoint: Endpoint, *, now: datetime) -> Delivery:
    """A test event, sent with the next sweep. Refusal for an endpoint that is off."""
    if not endpoint.listening:
        raise Refusal("This endpoint is off. Turn it on, then test it.", code="endpoint_off")
    return delivering.ask_for_test(endpoint, now=now)


def locked(endpoint: Endpoint, versions: Container[str] | None) -> Endpoint:
    """The endpoint as it stands now, locked. Refusal when it is deleted, or its version none of `versions`."""
    held: Endpoint | None = Endpoint.objects.present().select_for_update(no_key=True).filter(pk=endpoint.pk).first()
    if held is None:
        raise Refusal("This endpoint has been deleted.", code="endpoint_not_found")
    if versions is not None and held.version not in versions:
        raise Refusal("Somebody else has changed this endpoint. Read it again, then decide.", code="edited_meanwhile")
    return held


def replay_one(delivery: Delivery, *, now: datetime) -> None:
    """Deliver it once more. Refusal where it can't be, see `Delivery.require_replayable`."""
    alone = Delivery.objects.filter(pk=delivery.pk)
    with transaction.atomic():
        held = alone.select_related("event", "endpoint").select_for_update(of=("self",)).first()
        if held is None:
            raise Refusal("This delivery is gone: what is old is dropped.", code="delivery_gone")
        held.require_replayable()
        if not replay(alone, delivery, now=now)[0]:  # turned off in this very moment
            raise Refusal(ENDPOINT_OFF, code="endpoint_off")


def replay_range(
    endpoint: Endpoint, since: datetime, until: datetime, statuses: Container[str], *, now: datetime
) -> tuple[int, bool]:
    """Deliver once more what happened from `since` until before `until`; how many, and whether there are more.

    Refusal for an endpoint that is off.
    """
    if not endpoint.listening:
        raise Refusal("This endpoint is off. Turn it on, then replay.", code="endpoint_off")
    return replay(between(endpoint, since, until, statuses), endpoint, now=now)


def between(endpoint: Endpoint, since: datetime, until: datetime, statuses: Container[str]) -> DeliveryQuerySet:
    """The endpoint's deliveries of events of that time that have come to one of these ends."""
    happened = Delivery.objects.filter(endpoint=endpoint, event__occurred_at__gte=since, event__occurred_at__lt=until)
    wanted = [status for status in (Status.FAILED, Status.DELIVERED) if status in statuses]
    return happened.filter(status__in=wanted)


def replay(chosen: DeliveryQuerySet, row: Model, *, now: datetime) -> tuple[int, bool]:
    """Deliver these once more, the oldest first and at most 10,000 at a time; how many, and whether there are more.

    `row` is what the audit log names as replayed.
    """
    with transaction.atomic():
        keys = list(chosen.replayable().order_by("pk").values_list("pk", flat=True)[: REPLAYED + 1])
        count = Delivery.objects.filter(pk__in=keys[:REPLAYED]).replay(now=now)
        if count:
            audit.record("webhook.replayed", row, deliveries=count)
    return count, len(keys) > REPLAYED


def _test_if_listening(endpoint: Endpoint, now: datetime) -> None:
    if endpoint.listening:
        delivering.ask_for_test(endpoint, now=now)
