"""Dispatches (what asked), messages (one per addressee), the marketing cap, counters and what people wrote to us."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self

from django.contrib.postgres.indexes import HashIndex
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models
from django.db.models import Q

from contacts.models import Contact
from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet
from kaanha.whatsapp.models import MetaApp, PhoneNumber, Portfolio
from templates_app.models import MessageTemplate

CAP_WINDOW = timedelta(hours=24)  # MARKETING at most once per contact in it
REPLY_WINDOW = timedelta(hours=72)  # a reply without a quote belongs to the last message within it
PUT_OFF = datetime(9999, 1, 1, tzinfo=UTC)  # `due_at` of a message that waits until further notice


SIDE_BY_SIDE = timedelta(minutes=15)  # no transaction that writes messages takes longer


class Dispatch(OwnedModel):
    """What asked for messages: a broadcast, a step of a sequence, a request of the API, somebody who tries a template.

    Only hold, resume and cancel ever update a row, each in a transaction of its own: claims share-lock it, so once a
    hold has committed nothing more is claimed.
    """

    PUBLIC_KIND = "dsp"

    class Kind(models.TextChoices):
        BROADCAST = "broadcast", "Broadcast"
        STEP = "step", "Sequence step"
        API = "api", "API request"
        TEST = "test", "Test"  # outside of the cap and of what is counted; nothing else tells it from a message

    class Lane(models.TextChoices):
        UTILITY = "utility", "Utility and authentication"
        MARKETING = "marketing", "Marketing"

    class WhenCapped(models.TextChoices):
        SKIP = "skip", "Skip the contact"
        WAIT = "wait", "Wait until the cap frees"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.PROTECT, related_name="dispatches")
    lane = models.CharField(max_length=10, choices=Lane.choices)
    when_capped = models.CharField(max_length=4, choices=WhenCapped.choices, default=WhenCapped.SKIP)
    # How the template's variables are filled: {"body.1": {"field": "name", "fallback": "there"}, …}
    variables = models.JSONField(default=dict)
    held_at = models.DateTimeField(null=True)
    hold_reason = models.CharField(max_length=40, blank=True)
    hold_detail = models.TextField(blank=True)
    canceled_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "dispatches"

    # Dispatches of one message each, which nobody resumes once they are held.
    SINGLE = (Kind.API, Kind.TEST)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.public_id}"


class Status(models.TextChoices):
    QUEUED = "queued", "Queued"
    SENDING = "sending", "Sending"
    SENT = "sent", "Sent"
    DELIVERED = "delivered", "Delivered"
    READ = "read", "Read"
    FAILED = "failed", "Failed"
    SKIPPED = "skipped", "Skipped"
    UNCONFIRMED = "unconfirmed", "Unconfirmed"


RECEIVED = frozenset({Status.SENT, Status.DELIVERED, Status.READ})
WAITING = frozenset({Status.QUEUED, Status.SENDING})
OPEN = "waiting"  # what the funnel calls both of them
# The column that is set for messages in a status, and indexed; receipts write to none of the others' rows.
NOTED: dict[str, str] = {
    Status.QUEUED: "due_at",
    Status.SENDING: "lease_until",
    Status.FAILED: "failed_at",
    Status.SKIPPED: "closed_at",
    Status.UNCONFIRMED: "closed_at",
}

TRANSITIONS: dict[str, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.SENDING, Status.SKIPPED, Status.FAILED}) | RECEIVED,
    Status.SENDING: frozenset({Status.QUEUED, Status.FAILED, Status.SKIPPED, Status.UNCONFIRMED}) | RECEIVED,
    # Meta may report read before delivered, or never report delivered at all.
    Status.SENT: frozenset({Status.DELIVERED, Status.READ, Status.FAILED}),
    Status.DELIVERED: frozenset({Status.READ}),
    Status.READ: frozenset(),
    # A receipt wins over anything we believed.
    Status.UNCONFIRMED: frozenset({Status.FAILED}) | RECEIVED,
    Status.FAILED: RECEIVED,  # SENT only where no callback reported the failure
    Status.SKIPPED: RECEIVED,
}


class SkipReason(models.TextChoices):
    OPTED_OUT = "opted_out", "Opted out"
    DELETED = "deleted", "Contact deleted"
    FREQUENCY_CAP = "frequency_cap", "Had a marketing message in the last 24 hours"
    MISSING_VARIABLE = "missing_variable", "A variable had no value"
    MARKETING_OPTED_OUT = "marketing_opted_out", "Stopped marketing at WhatsApp"
    CANCELED = "canceled", "Canceled"
    INVALID_PHONE = "invalid_phone", "No usable phone number"
    COUNTRY_BLOCKED = "country_blocked", "Meta delivers no marketing to this country"


class MessageQuerySet(OwnedQuerySet):
    def waiting(self) -> Self:
        """Rows whose fate is open: neither settled nor given up."""
        return self.filter(status__in=WAITING)

    def standing(self, status: str) -> Self:
        """Those in this status, or `waiting`; found by the index that knows it, however few they are."""
        if status == OPEN:
            return self.waiting().filter(Q(due_at__isnull=False) | Q(lease_until__isnull=False))
        column = NOTED.get(status)
        noted = self if column is None else self.filter(**{f"{column}__isnull": False})
        if status == Status.UNCONFIRMED:  # few, among the many that were skipped for a reason
            noted = noted.filter(skip_reason="")
        return noted.filter(status=status)

    def skipped(self) -> Self:
        """Those with a reason, which the skipped have alone. Not by their status, which the index of reasons lacks."""
        return self.filter(closed_at__isnull=False).exclude(skip_reason="")

    def failed(self) -> Self:
        """Those with a time of failure, which the failed have alone. Not by their status, as above."""
        return self.filter(failed_at__isnull=False)

    def since(self, organization: Organization, moment: datetime) -> Self:
        """The organization's messages that were asked for at that moment or later. One small query besides its own.

        Ids rise with the time, but for what was written side by side: the first id is sought as in a dictionary, a
        little early, so that what is older costs nothing.
        """
        with connection.cursor() as cursor:
            cursor.execute(_FIRST_SINCE, {"owner": organization.pk, "moment": moment - SIDE_BY_SIDE})
            (before,) = cursor.fetchone()
        return self.of(organization).filter(pk__gt=before, created_at__gte=moment)


class Message(OwnedModel):
    """One template to one contact, and what became of it.

        queued ─claim─▶ sending ─▶ sent ─▶ delivered ─▶ read
          │  ▲             │ │ └──▶ failed (code, text)
          │  └─refused, ───┘ └────▶ unconfirmed (may or may not be with Meta)
          │    retry later
          └──▶ skipped (reason)

    `due_at` is set while it may be claimed, `lease_until` while a process has it; never both. `status` stands in no
    index, so that receipts update the row in place. Foreign keys carry no constraints here: see
    docs/decisions/ledger-without-foreign-keys.md.
    """

    PUBLIC_KIND = "msg"

    organization = models.ForeignKey(
        Organization, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    dispatch = models.ForeignKey(
        Dispatch, on_delete=models.DO_NOTHING, related_name="messages", db_constraint=False, db_index=False
    )
    contact = models.ForeignKey(
        Contact, on_delete=models.DO_NOTHING, related_name="messages", db_constraint=False, db_index=False
    )
    template = models.ForeignKey(
        MessageTemplate, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.QUEUED)
    skip_reason = models.CharField(max_length=20, choices=SkipReason.choices, blank=True, default="")
    # What Meta said, or what we concluded. `error_in_callback`: a callback said it, so that no later guess undoes it.
    error_code = models.IntegerField(null=True)
    error_text = models.CharField(max_length=500, blank=True, default="")
    error_in_callback = models.BooleanField(default=False)

    due_at = models.DateTimeField(null=True)
    lease_until = models.DateTimeField(null=True)
    lease_token = models.BigIntegerField(null=True)
    # Requests made; goes to Meta with the id, so that a receipt names the attempt that it is about.
    attempt = models.SmallIntegerField(default=0)
    # Refusals that count against the limit of five in an hour, and when the first of them came.
    tries = models.SmallIntegerField(default=0)
    first_tried_at = models.DateTimeField(null=True)

    wamid = models.CharField(max_length=256, null=True)  # noqa: DJ001
    # What the variables were filled with: the `components` of the request.
    parameters = models.JSONField(null=True)
    held_by_meta = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    accepted_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    # Skipped or given up as unconfirmed.
    closed_at = models.DateTimeField(null=True)
    replied_at = models.DateTimeField(null=True)

    objects: ClassVar[MessageQuerySet] = MessageQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            # nobody gets a thing twice
            models.UniqueConstraint(fields=["dispatch", "contact"], name="message_once"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="message_status_known"),
            models.CheckConstraint(
                condition=Q(due_at=None) | Q(lease_until=None, status=Status.QUEUED), name="message_due_or_leased"
            ),
            models.CheckConstraint(
                condition=Q(lease_until=None) | Q(status=Status.SENDING), name="message_lease_is_sending"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.SENDING) | Q(lease_until__isnull=False), name="message_sending_is_leased"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.QUEUED) | Q(due_at__isnull=False), name="message_queued_is_due"
            ),
        ]
        indexes = [
            # claims
            models.Index(fields=["dispatch", "due_at"], name="message_due", condition=Q(due_at__isnull=False)),
            # the lease sweep
            models.Index(fields=["lease_until"], name="message_leased", condition=Q(lease_until__isnull=False)),
            # the contact's timeline; which message a reply belongs to
            models.Index(fields=["contact", "id"], name="message_contact"),
            # the list in the API
            models.Index(fields=["organization", "id"], name="message_newest"),
            # recipients that failed, or were skipped or given up, however few
            models.Index(fields=["dispatch", "contact"], name="message_failed", condition=Q(failed_at__isnull=False)),
            models.Index(fields=["dispatch", "contact"], name="message_closed", condition=Q(closed_at__isnull=False)),
            # those of one code or reason; how many have each
            models.Index(
                fields=["dispatch", "error_code", "contact"],
                name="message_code",
                condition=Q(failed_at__isnull=False),
            ),
            models.Index(
                fields=["dispatch", "skip_reason", "contact"],
                name="message_reason",
                condition=Q(closed_at__isnull=False),
            ),
            # a broadcast's numbers: held by Meta, replied
            models.Index(fields=["dispatch"], name="message_held", condition=Q(held_by_meta=True)),
            models.Index(fields=["dispatch"], name="message_replied", condition=Q(replied_at__isnull=False)),
            # receipts that carry no id of ours, quoted replies
            HashIndex(fields=["wamid"], name="message_wamid", condition=Q(wamid__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.public_id} {self.status}"


# Half of what is left with each step: some thirty steps of an index for a thousand million messages.
_FIRST_SINCE = """
WITH RECURSIVE halves (low, high) AS (
  SELECT 0::bigint, coalesce(
    (SELECT id FROM messaging_message WHERE organization_id = %(owner)s ORDER BY id DESC LIMIT 1), 0)
  UNION ALL
  SELECT CASE WHEN older THEN probe.id ELSE low END, CASE WHEN older THEN high ELSE (low + high) / 2 END
  FROM halves, LATERAL (
    SELECT id, created_at < %(moment)s AS older FROM messaging_message
    WHERE organization_id = %(owner)s AND id > (low + high) / 2 ORDER BY id LIMIT 1) probe
  WHERE low < high
)
SELECT max(low) FROM halves
"""


class StepNews(models.Model):
    """A message of a sequence's step whose fate changed, or that was answered.

    Appended in the transaction of the change, read up and deleted by the sequences. What happened is read from the
    message; several rows may tell of the same one. See `step_news`.
    """

    message_id = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "step news"

    def __str__(self) -> str:
        return f"message {self.message_id}"


class DispatchCount(models.Model):
    """A dispatch's messages, counted. A few slots per dispatch, so that two settles seldom wait for each other.

    The sum over the slots counts; `counting.recount` computes it anew from the ledger. `sent`, `delivered` and `read`
    are "at least": a read message counts in all three. `waiting` is what the others leave of `total`.
    """

    SLOTS = 4

    pk = models.CompositePrimaryKey("dispatch_id", "slot")
    dispatch = models.ForeignKey(Dispatch, on_delete=models.CASCADE, related_name="counts", db_index=False)
    slot = models.SmallIntegerField()
    total = models.BigIntegerField(default=0)
    dispatched = models.BigIntegerField(default=0)
    sent = models.BigIntegerField(default=0)
    delivered = models.BigIntegerField(default=0)
    read = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    unconfirmed = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.dispatch_id}/{self.slot}"


class QuarterCount(models.Model):
    """An organization's messages but tests, by the quarter of an hour in which Meta took them: what Home reads.

    A quarter, because every timezone's hours and days begin at one. A message that Meta never took counts where it
    failed. Those that failed stand in the rows of their `error_code`, the others in that of NO_CODE. `delivered` and
    `read` are "at least"; of those that failed, `refused` were never taken. The sum over the slots counts;
    `quarters.recount` computes it anew from the ledger.
    """

    SLOTS = 4
    NO_CODE = -1  # not failed, or for a reason that has no code

    pk = models.CompositePrimaryKey("organization_id", "at", "error_code", "slot")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    error_code = models.IntegerField()
    slot = models.SmallIntegerField()
    sent = models.BigIntegerField(default=0)
    delivered = models.BigIntegerField(default=0)
    read = models.BigIntegerField(default=0)
    replied = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.at:%Y-%m-%d %H:%M}"


class MarketingCap(models.Model):
    """One narrow row per contact: MARKETING is free again when `until <= now`, and to the message that holds it."""

    contact = models.OneToOneField(
        Contact, on_delete=models.DO_NOTHING, primary_key=True, related_name="marketing_cap", db_constraint=False
    )
    message = models.BigIntegerField()
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"contact {self.contact_id} until {self.until}"


class Reach(models.Model):
    """When a portfolio last sent a template to a contact: what Meta's messaging limit counts.

    Kept in the claim, for portfolios that have a limit. A claim whose message then fails still counts: rather a little
    less than Meta allows than more.
    """

    pk = models.CompositePrimaryKey("portfolio_id", "contact_id")
    portfolio = models.ForeignKey(Portfolio, on_delete=models.CASCADE, related_name="+", db_index=False)
    contact = models.ForeignKey(
        Contact, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["portfolio", "at"], name="reach_window")]  # how many within 24 h

    def __str__(self) -> str:
        return f"{self.portfolio_id} → {self.contact_id} at {self.at}"


class SendSlot(models.Model):
    """A lease on sending for one phone number: at most `SEND_SLOTS` processes at a time, 10 s unless renewed."""

    pk = models.CompositePrimaryKey("phone_number_id", "slot")
    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.CASCADE, related_name="+", db_index=False)
    slot = models.SmallIntegerField()
    holder = models.CharField(max_length=64)
    leased_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.phone_number_id}/{self.slot}"


class UnmatchedReceipt(models.Model):
    """A receipt for a message that we don't know (yet). Kept 30 days, applied when it can be."""

    app = models.ForeignKey(MetaApp, on_delete=models.CASCADE, related_name="+")
    wamid = models.CharField(max_length=256)
    status = models.CharField(max_length=20)
    receipt = models.JSONField(encoder=DjangoJSONEncoder)
    received_at = models.DateTimeField()
    next_try_at = models.DateTimeField(null=True)

    class Meta:
        # A receipt is known by (wamid, status): Meta repeats itself.
        constraints = [models.UniqueConstraint(fields=["wamid", "status"], name="unmatched_receipt_once")]
        indexes = [
            models.Index(fields=["next_try_at"], name="unmatched_receipt_due"),  # the sweep
            models.Index(fields=["received_at"], name="unmatched_receipt_old"),  # the clean-up
        ]

    def __str__(self) -> str:
        return self.wamid


class InboundMessage(OwnedModel):
    """What a person wrote, once, however often Meta tells us."""

    PUBLIC_KIND = "in"

    phone_number = models.ForeignKey(PhoneNumber, on_delete=models.CASCADE, related_name="+")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="inbound_messages")
    wamid = models.CharField(max_length=256)
    kind = models.CharField(max_length=30)
    text = models.TextField(blank=True)
    payload = models.JSONField()
    # The message that it answers: the quoted one, else the last within 72 h.
    reply_to = models.ForeignKey(
        Message, on_delete=models.DO_NOTHING, null=True, related_name="+", db_constraint=False, db_index=False
    )
    written_at = models.DateTimeField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "wamid"], name="inbound_once")]

    def __str__(self) -> str:
        return self.text[:60] or self.kind
