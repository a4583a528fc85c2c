"""Invitations: a link by e-mail lets the owner of one address into one organization, once.

    written ──accept──▶ accepted        written ──revoke, or another one for the address──▶ revoked
       └── seven days ──▶ expired

Only the link holds the token; its digest is stored. It makes an account for an address that has none, and asks whoever
has one to sign in with it: the link alone, which an inviter without a mail server holds too, opens nobody's account.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from datetime import datetime, timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.urls import reverse

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit, members
from kaanha.organizations.models import Invitation, Membership, Organization, User

LIFETIME = timedelta(days=7)
MOST_OPEN = 100  # of an organization: each is a letter to somebody who hasn't asked for it
GONE = "invitation_gone"

logger = logging.getLogger(__name__)


def invite(
    organization: Organization, email: str, role: str, *, by_role: str, by: User | None, now: datetime
) -> tuple[Invitation, str]:
    """An invitation and its token, which is nowhere else. An earlier one for the address ends.

    Refusal for a member, where too many are open, and where the one who asks may not. Sends nothing: see `send`, after
    the transaction. Whether the address has an account makes no difference.
    """
    members.require_rank(by_role, role)
    email = email.strip().lower()
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        members.lock(organization.pk)
        if Membership.objects.of(organization).filter(user__email=email).exists():
            raise Refusal(f"{email} is a member already: change the role instead.", code="member_already")
        waiting = Invitation.objects.of(organization).open()
        waiting.filter(email=email).update(revoked_at=now)
        if waiting.count() >= MOST_OPEN:
            raise Refusal(f"{MOST_OPEN} invitations wait already: revoke those that nobody answers.", code="too_many")
        invitation: Invitation = Invitation.objects.create(
            organization=organization,
            email=email,
            role=role,
            digest=digest_of(token),
            invited_by=by,
            created_at=now,
            expires_at=now + LIFETIME,
        )
        audit.record("member.invited", invitation, role=role)
    return invitation, token


def revoke(invitation: Invitation, *, by_role: str, now: datetime) -> None:
    """Let the link open nothing any more. Refusal when it was used, and where the one who asks may not."""
    members.require_rank(by_role, invitation.role)
    with transaction.atomic():
        if not Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=now):
            raise Refusal(f"The invitation of {invitation.email} isn't open any more.", code=GONE)
        audit.record("member.invitation_revoked", invitation)


def revoke_all(organization: Organization, *, now: datetime) -> int:
    """Revoke every open invitation, in the transaction that closes the organization; how many."""
    return Invitation.objects.of(organization).open().update(revoked_at=now)


def link_of(token: str) -> str:
    """The address that accepts it: known to the invited, and to the inviter where no mail leaves."""
    return settings.PUBLIC_URL + reverse("invitation", args=[token])


def send(invitation: Invitation, token: str) -> bool:
    """Mail the link; whether that worked. Never inside a transaction: it takes as long as the mail server does.

    Bounded by `EMAIL_TIMEOUT` for every answer of the server. False at once where no mail leaves this installation.
    """
    organization, name = invitation.organization, " ".join(str(invitation.organization).split())
    by = f"{invitation.invited_by} invites you" if invitation.invited_by else "You are invited"
    message = EmailMessage(
        subject=f"Invitation to {name} on Kaanha",
        body=f"{by} to work in {name} on Kaanha, as {invitation.get_role_display()}.\n\n"
        f"Open this link to accept. It is for {invitation.email} alone, and good once, until "
        f"{invitation.expires_at.astimezone(organization.zone):%-d %b %Y, %H:%M %Z}:\n\n{link_of(token)}\n\n"
        "If you don't know what this is about, ignore it: nothing happens.\n",
        to=[invitation.email],
    )
    try:
        message.send()
    except (SMTPException, OSError):
        logger.exception("The mail server didn't take the invitation %s", invitation.pk)
        return False
    return settings.EMAIL_LEAVES


def opened(token: str, *, now: datetime) -> Invitation | None:
    """The invitation behind a link, while it can be accepted. One query."""
    usable = Invitation.objects.usable(now).select_related("organization", "invited_by")
    found: Invitation | None = usable.filter(digest=digest_of(token)).first()
    return found


def has_account(invitation: Invitation) -> bool:
    """Whether the address has an account, which is then signed in with. For whoever holds the link alone."""
    return User.objects.filter(email=invitation.email).exists()


def accept(token: str, user: User, *, now: datetime) -> Membership:
    """Make the user, whose address it must be, a member. Refusal for a link that opens nothing (any more)."""
    with transaction.atomic():
        invitation = _claimed(token, now=now)
        if user.email != invitation.email:
            raise Refusal(f"This invitation is for {invitation.email}. Sign in with that address.", code="not_yours")
        return _join(invitation, user, by=audit.Actor.present(), now=now)


def accept_as_new(token: str, *, password: str, first_name: str, last_name: str, ip: str | None, now: datetime) -> User:
    """An account for the address of the link, with this password, and its membership. Refusal as for `accept`.

    Refusal, too, where the address has an account: then its owner signs in.
    """
    with transaction.atomic():
        invitation = _claimed(token, now=now)
        user = User(email=invitation.email, first_name=first_name, last_name=last_name, is_staff=True)
        user.set_password(password)
        try:
            with transaction.atomic():
                user.save()
        except IntegrityError as error:
            message = f"{invitation.email} has an account already: sign in with it."
            raise Refusal(message, code="account_exists") from error
        _join(invitation, user, by=audit.Actor.person(user, ip=ip), now=now)
    return user


def _claimed(token: str, *, now: datetime) -> Invitation:
    """The invitation, with its organization locked, as it stands then: of two who come at once the second is late."""
    invitation = opened(token, now=now)
    if invitation is not None:
        members.lock(invitation.organization_id)
        invitation = opened(token, now=now)
    if invitation is None:
        raise Refusal("This invitation can't be used any more. Ask for a new one.", code=GONE)
    return invitation


def _join(invitation: Invitation, user: User, *, by: audit.Actor, now: datetime) -> Membership:
    Invitation.objects.filter(pk=invitation.pk).update(accepted_at=now)
    membership: Membership
    # Somebody may have become a member otherwise meanwhile: then the role is the one that was given there.
    membership, new = Membership.objects.get_or_create(
        organization=invitation.organization, user=user, defaults={"role": invitation.role}
    )
    if new:
        audit.record("member.joined", membership, by=by, role=membership.role)
    return membership


def digest_of(token: str) -> str:
    # As with API keys: 256 random bits.
    return hashlib.sha256(token.encode()).hexdigest()
