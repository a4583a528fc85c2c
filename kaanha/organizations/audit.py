"""The audit log: who did what, when and from where. It is written in the transaction of the act, or neither is.

    with transaction.atomic():
        broadcast.move(Status.CANCELED, completed_at=now)
        audit.record("broadcast.canceled", broadcast)

Acts record themselves, so that the admin, the API and commands are told apart here and no door has to remember it: the
actor is whoever the present request or command belongs to. What the workers do by themselves isn't recorded unless it
changes what a person has decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone

from kaanha.lib import doors, request_ids
from kaanha.organizations.models import APIKey, AuditEntry, Membership, Organization, User

ActorKind = AuditEntry.ActorKind
LABEL, NAME = 200, 254  # letters that are kept


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever acts: a person, platform staff, an API key, a command, or the system itself."""

    kind: str
    name: str
    user_id: int | None = None
    key_id: int | None = None
    ip: str | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Actor:
        """Who stands behind a request, of the admin and of the API alike."""
        ip, key = doors.address_of(request), getattr(request, "auth", None)
        if isinstance(key, APIKey):
            return cls(ActorKind.KEY, str(key), key_id=key.pk, ip=ip)
        user = getattr(request, "user", None) or AnonymousUser()
        if isinstance(user, User):
            return cls.person(user, ip=ip)
        return cls(ActorKind.PERSON, "somebody who isn't signed in", ip=ip)

    @classmethod
    def person(cls, user: User, *, ip: str | None = None) -> Actor:
        return cls(ActorKind.STAFF if user.is_superuser else ActorKind.PERSON, user.email, user_id=user.pk, ip=ip)

    @classmethod
    def present(cls) -> Actor:
        """Who acts at this moment."""
        if (request := doors.request()) is not None:
            return cls.of(request)
        if name := doors.command_name():
            return cls(ActorKind.COMMAND, f"manage.py {name}")
        return cls(ActorKind.SYSTEM, "Kaanha")


def record(
    action: str,
    row: Model,
    *,
    by: Actor | None = None,
    organization: Organization | int | None = None,
    **details: Any,
) -> None:
    """Write down that `action` was done to `row`. Call it in the transaction of the act. One statement.

    `action` is the object and the verb in the past, such as `key.revoked`. The organization is that of the row, unless
    it is given; a row that belongs to none is a matter of the installation. `details` is what a reader needs besides,
    ready for JSON, and never a secret, a message's text or a whole list of people: a count says enough. `by` is for
    those whom the request doesn't know yet.
    """
    actor = by or Actor.present()
    owner = organization if organization is not None else _owner(row)
    AuditEntry.objects.create(
        organization_id=owner.pk if isinstance(owner, Organization) else owner,
        at=timezone.now(),
        action=action,
        actor_kind=actor.kind,
        actor_name=actor.name[:NAME],
        user_id=actor.user_id,
        api_key_id=actor.key_id,
        object_kind=str(row._meta.verbose_name),
        object_id=str(getattr(row, "public_id", row.pk)),
        object_label=str(row)[:LABEL],
        details=details,
        ip=actor.ip,
        request_id=request_ids.current(),
    )


def record_of_person(action: str, user: User, **details: Any) -> None:
    """The same for what was done to somebody's account: a line in the log of each organization that he belongs to.

    One query, and a statement for each of them. Of somebody without one it is a matter of the installation.
    """
    memberships = Membership.objects.filter(user=user).order_by("pk")
    owners: list[int | None] = list(memberships.values_list("organization_id", flat=True))
    for owner in owners or [None]:
        record(action, user, organization=owner, **details)


def _owner(row: Model) -> int | None:
    return row.pk if isinstance(row, Organization) else getattr(row, "organization_id", None)
