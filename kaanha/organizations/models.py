"""Organizations own every other row; users reach them through memberships, other systems through API keys."""

from __future__ import annotations

import base64
import hashlib
import secrets
import zoneinfo
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django_otp.models import Device, ThrottlingMixin
from django_otp.oath import TOTP

from kaanha.lib import public_ids
from kaanha.lib.errors import Refusal
from kaanha.lib.secrets import SecretField


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        """A user known by e-mail address, in lower case."""
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        """Platform staff: a user who may do everything in every organization."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person who signs in with an e-mail address."""

    username = None  # type: ignore[assignment]  # the address is the name
    email = models.EmailField(unique=True)
    # Raised by one to end every session: their hash is made of it and of the password.
    session_round = models.PositiveIntegerField(default=0, editable=False)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.email

    def end_sessions(self) -> None:
        """Sign this user out everywhere."""
        User.objects.filter(pk=self.pk).update(session_round=models.F("session_round") + 1)
        self.refresh_from_db(fields=["session_round"])

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        # Django's, of the password alone, with the round beside it.
        salt = "kaanha.organizations.models.User.get_session_auth_hash"
        return salted_hmac(salt, f"{self.session_round} {self.password}", secret=secret, algorithm="sha256").hexdigest()


def validate_timezone(name: str) -> None:
    """Refuse what isn't a name of the IANA timezone database."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is not a known timezone. Use a name such as Asia/Kolkata or Europe/Madrid.")


class OrganizationQuerySet(models.QuerySet["Organization"]):
    def open(self) -> Self:
        """Those that nobody has closed."""
        return self.filter(closed_at=None)


class Organization(models.Model):
    """A tenant. Every other row belongs to one and is invisible to all others.

    A closed one keeps its rows; nobody works in it, and nothing is sent for it: see closing.py.
    """

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=80, unique=True, help_text="The name used in commands.")
    timezone = models.CharField(max_length=64, default="UTC", validators=[validate_timezone])
    # A broadcast that falls due later than this, because the system was down, is paused instead of sent.
    late_limit = models.DurationField(default=timedelta(hours=1))
    opt_out_words = models.JSONField(
        default=list, blank=True, help_text="Words that opt a contact out, besides STOP and its kin."
    )
    opt_in_words = models.JSONField(default=list, blank=True, help_text="Words that opt a contact in, besides START.")
    second_factor_required = models.BooleanField(
        "members need a second factor",
        default=False,
        help_text="Who has none is led to setting it up, and sees nothing of the organization before.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, editable=False)

    PUBLIC_KIND = "org"

    objects: ClassVar[OrganizationQuerySet] = OrganizationQuerySet.as_manager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return public_ids.encode(self.PUBLIC_KIND, self.pk)

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.timezone)

    @classmethod
    def named(cls, slug: str) -> Organization:
        """The organization of that slug; Refusal with the known ones otherwise."""
        found = cls.objects.filter(slug=slug).first()
        if found is None:
            known = ", ".join(cls.objects.order_by("slug").values_list("slug", flat=True)[:10]) or "none yet"
            raise Refusal(
                f"There is no organization {slug!r} (there are: {known}). "
                "Create one with: python manage.py create_organization NAME",
                code="organization_not_found",
            )
        return found


class OwnedQuerySet(models.QuerySet[Any]):
    """Rows that belong to an organization. Every query starts with `of`."""

    def of(self, organization: Organization | int) -> Self:
        return self.filter(organization=organization)

    def by_public_id(self, public_id: str) -> Self:
        """The row with this public id, as a queryset of one or none."""
        key = public_ids.decode(self.model.PUBLIC_KIND, public_id)
        return self.none() if key is None else self.filter(pk=key)


class OwnedModel(models.Model):
    """A row that belongs to one organization and is known outside by an opaque public id."""

    PUBLIC_KIND: ClassVar[str]

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+")

    objects: ClassVar[OwnedQuerySet] = OwnedQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        abstract = True

    @property
    def public_id(self) -> str:
        return public_ids.encode(self.PUBLIC_KIND, self.pk)


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    AGENT = "agent", "Agent"
    VIEWER = "viewer", "Viewer"


class Membership(OwnedModel):
    """A user's role in an organization.

    OWNER may do everything; ADMIN everything but delete the organization and its owners; AGENT works with contacts
    only; VIEWER reads dashboards and reports.
    """

    PUBLIC_KIND = "mem"

    # An account that belongs to an organization isn't deleted: the last owner could go with it, unasked.
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "member"
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.get_role_display()}"


class InvitationQuerySet(OwnedQuerySet):
    def open(self) -> Self:
        """Neither accepted nor revoked; they may have expired."""
        return self.filter(accepted_at=None, revoked_at=None)

    def usable(self, now: datetime) -> Self:
        """Those whose link opens something."""
        return self.open().filter(expires_at__gt=now, organization__closed_at=None)


class Invitation(OwnedModel):
    """A link that makes the owner of an e-mail address a member. Of its token only the digest is stored.

    Open until it is accepted or revoked; good until it expires. An address has one open invitation at a time.
    """

    PUBLIC_KIND = "inv"

    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects: ClassVar[InvitationQuerySet] = InvitationQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_open_once",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="invitation_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.email} · {self.get_role_display()}"


class APIKey(OwnedModel):
    """A key of another system. Only its digest is stored; the key itself is shown once, at creation."""

    PUBLIC_KIND = "key"
    PREFIX = "kaanha_"

    name = models.CharField(max_length=100)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.ADMIN)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    # The first letters, so that people can tell their keys apart.
    hint = models.CharField(max_length=16, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @classmethod
    def issue(
        cls,
        organization: Organization,
        *,
        name: str,
        role: str = Role.ADMIN,
        expires_at: datetime | None = None,
        created_by: User | None = None,
    ) -> tuple[APIKey, str]:
        """A new key: its row, and the text that is shown this once."""
        text = cls.PREFIX + secrets.token_urlsafe(32)
        key = cls.objects.create(
            organization=organization,
            name=name,
            role=role,
            expires_at=expires_at,
            created_by=created_by,
            digest=cls.digest_of(text),
            hint=text[:12],
        )
        return key, text

    @classmethod
    def usable(cls, text: str, *, now: datetime | None = None) -> APIKey | None:
        """The key behind `text`, unless it is unknown, revoked or expired, or its organization closed."""
        now = now or timezone.now()
        found: APIKey | None = (
            cls.objects.select_related("organization")
            .filter(digest=cls.digest_of(text), revoked_at=None, organization__closed_at=None)
            .exclude(expires_at__lte=now)
            .first()
        )
        return found

    @staticmethod
    def digest_of(text: str) -> str:
        # The key has 256 random bits: a plain digest can't be searched backward, and is found by its index.
        return hashlib.sha256(text.encode()).hexdigest()


class KeptAnswer(OwnedModel):
    """What a request that named an Idempotency-Key was answered. Encrypted: some answers show a secret, this once."""

    PUBLIC_KIND = "idk"

    key = models.CharField(max_length=255)
    digest = models.CharField(max_length=64)  # of the request
    status = models.PositiveSmallIntegerField(null=True)
    headers = models.JSONField(default=dict)
    body = SecretField(default="")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "key"], name="kept_answer_once")]
        indexes = [models.Index(fields=["created_at"], name="kept_answer_age")]  # dropping old ones


class AuditEntry(OwnedModel):
    """Who did what, when and from where. Written with the act itself, and never changed: the database refuses it.

    The names of whoever did it and of what it was done to are kept as texts, so that they outlive their rows; the keys
    beside them are no foreign keys, for neither a deletion nor its cascade may touch a line of the log.
    """

    class ActorKind(models.TextChoices):
        PERSON = "person", "Person"
        STAFF = "staff", "Platform staff"
        KEY = "key", "API key"
        COMMAND = "command", "Command"
        SYSTEM = "system", "System"

    PUBLIC_KIND = "aud"

    # None for what concerns the installation, such as a user's account.
    organization = models.ForeignKey(  # type: ignore[assignment]
        Organization, on_delete=models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    at = models.DateTimeField()
    action = models.CharField(max_length=60)  # object and verb, such as broadcast.sent
    actor_kind = models.CharField(max_length=10, choices=ActorKind.choices)
    actor_name = models.CharField(max_length=254)
    user = models.ForeignKey(
        User, on_delete=models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    api_key = models.ForeignKey(
        APIKey, on_delete=models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    object_kind = models.CharField(max_length=40)
    object_id = models.CharField(max_length=40)  # the public id
    object_label = models.CharField(max_length=200)
    details = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    ip = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=128)

    class Meta:
        verbose_name, verbose_name_plural = "audit entry", "audit log"
        indexes = [
            # the log of an organization, the latest first
            models.Index(fields=["organization", "-at", "-id"], name="audit_of_organization"),
            # what one action was, or what one person or key did
            models.Index(fields=["organization", "action", "-at", "-id"], name="audit_by_action"),
            models.Index(fields=["organization", "user", "-at", "-id"], name="audit_by_user"),
            models.Index(fields=["organization", "api_key", "-at", "-id"], name="audit_by_key"),
            # all organizations, for platform staff
            models.Index(fields=["-at", "-id"], name="audit_of_all"),
            # the search by name, label or id
            GinIndex(SearchVector("actor_name", "object_label", "object_id", config="simple"), name="audit_words"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_name}"


class Authenticator(ThrottlingMixin, Device):
    """A user's second factor: an app that shows another code every 30 seconds (TOTP, RFC 6238).

    shown as a QR code ──its first code──▶ on (confirmed). Turning it off deletes it, with the backup codes.
    """

    PERIOD = 30  # seconds
    TOLERANCE = 1  # periods that a clock may be off
    # Wrong codes make the next wait 1, 2, 4, 8 s … and never longer than 2^10 s.
    MOST_COUNTED = 11

    throttling_failure_count: int

    name = None
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="authenticator")
    secret = SecretField()
    confirmed = models.BooleanField(default=False)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    # How many periods the app's clock is off, and the last period whose code was taken: none is taken twice.
    drift = models.SmallIntegerField(default=0)
    last_period = models.BigIntegerField(default=-1)

    def __str__(self) -> str:
        return f"Second factor of {self.user}"

    @staticmethod
    def new_secret() -> str:
        """160 random bits in base 32, as apps take them."""
        return base64.b32encode(secrets.token_bytes(20)).decode()

    def get_throttle_factor(self) -> int:
        return 1

    def throttle_increment(self, commit: bool = True) -> None:
        super().throttle_increment(commit=False)
        self.throttling_failure_count = min(self.throttling_failure_count, self.MOST_COUNTED)
        if commit:
            self.save()

    def take_code(self, code: str, *, now: datetime) -> bool:
        """Whether the app shows these six digits, which are spent with it. Saves nothing."""
        totp = TOTP(base64.b32decode(self.secret), step=self.PERIOD, drift=self.drift)
        totp.time = now.timestamp()
        if not totp.verify(int(code), self.TOLERANCE, self.last_period + 1):
            return False
        self.last_period, self.drift = totp.t(), totp.drift
        return True


class BackupCode(models.Model):
    """One of ten codes that stand in for the app, each once. Only its digest is stored."""

    authenticator = models.ForeignKey(Authenticator, on_delete=models.CASCADE, related_name="backup_codes")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["authenticator", "digest"], name="backup_code_once")]

    @staticmethod
    def digest_of(code: str) -> str:
        # 80 random bits: as with API keys, a plain digest can't be searched backward.
        return hashlib.sha256(code.encode()).hexdigest()
