"""Contacts, tags and the events that higher floors act upon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Exists, F, Func, OuterRef, Q, Value
from django.db.models.functions import Collate, Lower

from kaanha.organizations.models import Organization, OwnedModel, OwnedQuerySet, User

NEWEST, OFTEN = 2_000, 50  # what is common: a page of the list among so many
UNBOUNDED = Q()


class Pieces(Func):
    """Every three letters in a row of a text, in capitals: what a search for part of a name finds by its index.

    A function of ours in the database, see docs/decisions/names-are-found-by-their-pieces.md.
    """

    LENGTH = 3

    function = "contacts_pieces"
    arity = 1
    output_field = ArrayField(models.TextField())


def _beginning_of_phone(term: str) -> str:
    """The beginning of a number as we keep it, where the term is one."""
    digits = "".join(letter for letter in term if letter.isdigit())
    return f"+{digits.removeprefix('00')}" if digits and not any(letter.isalpha() for letter in term) else ""


class ConsentSource(models.TextChoices):
    """How a consent came about, or was withdrawn."""

    INBOUND = "inbound", "The contact wrote"
    OPERATOR = "operator", "An operator"
    IMPORT = "import", "An import"
    API = "api", "The API"


class ContactQuerySet(OwnedQuerySet):
    def active(self) -> Self:
        """Contacts that aren't deleted."""
        return self.filter(deleted_at=None)

    def reachable(self) -> Self:
        """Contacts we are allowed to message: opted in, and not deleted."""
        return self.filter(opted_in=True, deleted_at=None)

    def with_phone(self) -> Self:
        """Contacts that a broadcast can address. Others are known only by Meta's user id."""
        return self.filter(phone__isnull=False)

    def matching(self, term: str, *, common: bool = False) -> Self:
        """Those found by the beginning of a number, for which there is an index, or by every word in the name.

        Words of three letters and more have an index; shorter ones are looked for in every name, and so are those that
        are said to be `common`: of them the newest are found sooner without it.
        """
        if phone := _beginning_of_phone(term):
            return self.filter(phone__startswith=phone)
        found = self
        for word in term.split():
            found = found.filter(name__icontains=word)
            if len(word) >= Pieces.LENGTH and not common:
                found = found.alias(pieces=Pieces("name")).filter(pieces__contains=Pieces(Value(word)))
        return found

    def is_common(self, term: str) -> bool:
        """Whether the newest of these contacts often have such a name. One query, where there is an index to spare."""
        words = [word.upper() for word in term.split()]
        if _beginning_of_phone(term) or not any(len(word) >= Pieces.LENGTH for word in words):
            return False
        newest = self.order_by("-pk").values_list("name", flat=True)[:NEWEST]
        return sum(all(word in name for word in words) for name in map(str.upper, newest)) >= OFTEN

    def beginning(self, term: str) -> Self:
        """Those whose number or whole name begins with this, by an index: at once also among a million."""
        if phone := _beginning_of_phone(term):
            return self.filter(phone__startswith=phone).order_by("phone")
        folded = self.active().alias(folded=Collate(Lower("name"), "C"))
        return folded.filter(folded__startswith=Lower(Value(term))).order_by("folded", "pk")

    def having(self, field: str) -> Self:
        """Contacts with a value for a variable: a field of their own, or an attribute with or without `attributes.`"""
        if field in ("name", "first_name"):
            return self.exclude(name="")
        if field == "email":
            return self.exclude(email="")
        if field == "phone":
            return self.with_phone()
        # Not the lookups of JSONField: they read the names of attributes as paths and numbers.
        key = Value(field.removeprefix("attributes."))
        value = Func(F("attributes"), key, function="jsonb_extract_path_text", output_field=models.TextField())
        return self.alias(wanted=value).filter(wanted__gt="")

    def tagged_any(self, tags: Iterable[Tag | int], within: Q = UNBOUNDED) -> Self:
        """Contacts holding at least one of `tags`, each contact once; `within` bounds the rows of ContactTag.

        EXISTS rather than a join: a contact holding three of the tags would come back three times,
        and DISTINCT over a million contacts sorts them all.
        """
        return self.filter(Exists(ContactTag.objects.filter(within, contact=OuterRef("pk"), tag__in=tags)))

    def tagged_none(self, tags: Iterable[Tag | int], within: Q = UNBOUNDED) -> Self:
        """Contacts holding none of `tags`."""
        return self.filter(~Exists(ContactTag.objects.filter(within, contact=OuterRef("pk"), tag__in=tags)))


class Contact(OwnedModel):
    """One person of an organization, one row for ever: deleting marks it, coming back revives it with its history.

    Known by phone, by Meta's business-scoped user id, or both.
    """

    PUBLIC_KIND = "ct"

    # The unique constraints below begin with it: no index of its own.
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    phone = models.CharField(max_length=16, null=True, blank=True, help_text="International, with plus: +919876543210")  # noqa: DJ001
    # The number as WhatsApp normalizes it, without plus, where it differs from `phone` (Brazil, Mexico, Argentina).
    wa_id = models.CharField(max_length=20, null=True, blank=True, editable=False)  # noqa: DJ001
    user_id = models.CharField(max_length=128, null=True, blank=True, editable=False)  # noqa: DJ001
    # Two letters; empty where the number belongs to no known country.
    country = models.CharField(max_length=2, blank=True, editable=False)
    name = models.CharField(max_length=200, blank=True)
    email = models.EmailField(blank=True)
    attributes = models.JSONField(default=dict, blank=True)

    opted_in = models.BooleanField(default=False)
    opted_in_at = models.DateTimeField(null=True, blank=True, editable=False)
    opt_in_source = models.CharField(max_length=10, choices=ConsentSource.choices, blank=True, editable=False)
    opt_in_proof = models.CharField(max_length=256, blank=True, editable=False)
    opted_out_at = models.DateTimeField(null=True, blank=True, editable=False)
    opt_out_source = models.CharField(max_length=10, choices=ConsentSource.choices, blank=True, editable=False)
    # Meta's own switch: the person told Meta to stop our marketing. Says nothing about utility messages.
    marketing_opted_out_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When that switch was last turned, to either side: word of an earlier turn may come later.
    marketing_switched_at = models.DateTimeField(null=True, blank=True, editable=False)

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    tags: models.ManyToManyField[Tag, ContactTag] = models.ManyToManyField(
        "Tag", through="ContactTag", related_name="contacts", blank=True
    )

    objects: ClassVar[ContactQuerySet] = ContactQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "phone"], name="contact_phone_once"),
            models.UniqueConstraint(fields=["organization", "user_id"], name="contact_user_id_once"),
            models.CheckConstraint(
                condition=Q(phone__isnull=False) | Q(user_id__isnull=False), name="contact_known_somehow"
            ),
        ]
        indexes = [
            # inbound messages of people whose WhatsApp number is spelled differently
            models.Index(fields=["organization", "wa_id"], name="contact_wa_id", condition=Q(wa_id__isnull=False)),
            # audiences, which are counted and frozen without reading the contacts themselves; lists: the newest first
            models.Index(
                fields=["organization", "id"],
                include=["opted_in", "phone", "marketing_opted_out_at", "country", "name"],
                name="contact_audience",
                condition=Q(deleted_at=None),
            ),
            models.Index(fields=["organization", "name", "-id"], name="contact_by_name", condition=Q(deleted_at=None)),
            # the deleted on request; how many hold a tag
            models.Index(fields=["organization", "-id"], name="contact_deleted", condition=Q(deleted_at__isnull=False)),
            # the search by name
            GinIndex(Pieces("name"), name="contact_name_pieces"),
            # the command palette
            models.Index(
                F("organization"),
                Collate(Lower("name"), "C"),
                name="contact_name_begins",
                condition=Q(deleted_at=None),
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.phone or self.user_id or "Contact"

    @property
    def first_name(self) -> str:
        return first_name(self.name)


def first_name(name: str) -> str:
    """What a greeting calls somebody: the first word, without the comma of "O'Brien, Pat"."""
    words = name.split(maxsplit=1)
    return words[0].rstrip(",") if words else ""


class ConsentChange(OwnedModel):
    """One line of a contact's consent history. Appended, never changed."""

    PUBLIC_KIND = "cc"

    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="consent_changes")
    opted_in = models.BooleanField()
    source = models.CharField(max_length=10, choices=ConsentSource.choices)
    # When and where the person agreed: a timestamp, a message reference, the import and its row.
    proof = models.CharField(max_length=256, blank=True)
    by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    at = models.DateTimeField()

    class Meta:
        indexes = [
            # how many opted out since a day, on Home
            models.Index(fields=["organization", "at"], name="consent_change_opt_outs", condition=Q(opted_in=False))
        ]

    def __str__(self) -> str:
        return f"{'opted in' if self.opted_in else 'opted out'} by {self.get_source_display()}"


class Tag(OwnedModel):
    """A label on contacts. Its name is unique in the organization, whatever the case of its letters."""

    PUBLIC_KIND = "tag"

    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(F("organization"), Lower("name"), name="tag_name_once")]

    def __str__(self) -> str:
        return self.name


class ContactTag(models.Model):
    """A tag on a contact, with the moment it was put on."""

    pk = models.CompositePrimaryKey("contact_id", "tag_id")
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="+", db_index=False)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="+", db_index=False)
    added_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["tag", "contact"], name="contact_tag_holders")]  # audiences

    def __str__(self) -> str:
        return f"{self.tag_id} on {self.contact_id}"


class ContactEvent(OwnedModel):
    """Something that a sequence may start from or end by.

    Appended in the transaction that did it, handled once by a sweep.
    """

    PUBLIC_KIND = "ce"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)

    class Kind(models.TextChoices):
        CREATED = "created", "Contact created"
        TAG_ADDED = "tag_added", "Tag added"
        OPTED_OUT = "opted_out", "Opted out"
        DELETED = "deleted", "Contact deleted"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, related_name="+", db_index=False)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    source = models.CharField(max_length=10)
    at = models.DateTimeField()
    handled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            # the sweep's work list: never longer than what is not handled yet
            models.Index(fields=["id"], name="contact_event_open", condition=Q(handled_at=None)),
            # the contact's timeline
            models.Index(fields=["contact", "id"], name="contact_event_contact"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:%Y-%m-%d %H:%M:%S}"


class AutoTagRule(OwnedModel):
    """Puts a tag on whoever writes a matching text."""

    PUBLIC_KIND = "atr"

    class Match(models.TextChoices):
        CONTAINS = "contains", "contains"
        EXACT = "exact", "is exactly"
        STARTS_WITH = "startsWith", "starts with"

    match = models.CharField(max_length=10, choices=Match.choices)
    text = models.CharField(max_length=200)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="+")
    active = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"{self.get_match_display()} {self.text!r} → {self.tag}"

    def matches(self, text: str) -> bool:
        """Whether a message of this text gets the tag; letters' case and outer spaces don't matter."""
        said, wanted = text.strip().casefold(), self.text.strip().casefold()
        if self.match == self.Match.EXACT:
            return said == wanted
        if self.match == self.Match.STARTS_WITH:
            return said.startswith(wanted)
        return wanted in said


class Import(OwnedModel):
    """One upload of contacts, with what became of its rows."""

    PUBLIC_KIND = "imp"

    file_name = models.CharField(max_length=255)
    by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    total = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    warnings = models.PositiveIntegerField(default=0)
    # Only the outcome of each row was found out; nothing was written.
    dry_run = models.BooleanField(default=False)
    header = models.JSONField(default=list)
    # Why it ended before the file did, in words.
    problem = models.TextField(blank=True)

    class Meta:
        indexes = [
            # the sweep
            models.Index(fields=["id"], name="import_unfinished", condition=models.Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} at {self.started_at:%Y-%m-%d %H:%M %Z}"


class ImportRemark(models.Model):
    """A row of an import that was rejected, or taken with a warning: the line, the reason in words, the row itself."""

    upload = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="remarks")
    line = models.PositiveIntegerField()
    rejected = models.BooleanField()
    reason = models.CharField(max_length=300)
    row = models.JSONField()

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class ImportFile(models.Model):
    """An uploaded file, until its rows are taken: kept here, since web and workers may be different machines.

    Whoever takes the rows holds it by `token` until `lease_until`, and says so with each chunk's transaction.
    """

    upload = models.OneToOneField(Import, on_delete=models.CASCADE, related_name="file")
    default_country = models.CharField(max_length=2, blank=True)
    size = models.PositiveIntegerField()  # bytes
    read = models.PositiveIntegerField(default=0)  # bytes of it, as far as its rows are taken
    tries = models.PositiveSmallIntegerField(default=0)
    token = models.BigIntegerField(null=True)
    lease_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"The file of {self.upload}"


class ImportPiece(models.Model):
    """A megabyte of an uploaded file."""

    file = models.ForeignKey(ImportFile, on_delete=models.CASCADE, related_name="pieces")
    position = models.PositiveIntegerField()
    content = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "position"], name="import_piece_once")]

    def __str__(self) -> str:
        return f"Piece {self.position} of {self.file}"


class BulkChange(OwnedModel):
    """What is done to a selection of contacts that is too large for one request, and how far that is."""

    PUBLIC_KIND = "blk"

    class Act(models.TextChoices):
        ADD_TAG = "add_tag", "Add a tag"
        REMOVE_TAG = "remove_tag", "Remove a tag"
        OPT_OUT = "opt_out", "Opt out"

    act = models.CharField(max_length=16, choices=Act.choices)
    tag = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True, related_name="+")
    proof = models.CharField(max_length=256, blank=True)
    by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    asked_at = models.DateTimeField()
    worked_at = models.DateTimeField(null=True)  # the last portion: the others' turn comes first
    finished_at = models.DateTimeField(null=True)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)  # for whom it was news
    # Why it ended before everybody was done, in words.
    problem = models.TextField(blank=True)

    class Meta:
        indexes = [
            # the sweep
            models.Index(fields=["id"], name="bulk_change_open", condition=models.Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.get_act_display()}: {self.tag}" if self.tag_id else str(self.get_act_display())


class BulkPortion(models.Model):
    """Some of the contacts that a bulk change is still to be done to, in the order of their keys."""

    change = models.ForeignKey(BulkChange, on_delete=models.CASCADE, related_name="portions")
    contacts = ArrayField(models.BigIntegerField())

    def __str__(self) -> str:
        return f"{len(self.contacts)} contacts of {self.change_id}"


class ContactCount(models.Model):
    """So many contacts of an organization more or fewer: their sum is how many it has that aren't deleted.

    Written by triggers of the database in the transaction of the change, whoever makes it, and only ever added, so that
    two who add contacts don't wait for each other. `counting.fold` makes one row of many. Without a foreign key: that
    contacts go with their organization is noted, too.
    """

    organization_id = models.BigIntegerField()
    contacts = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["organization_id"], name="contact_count_organization")]

    def __str__(self) -> str:
        return f"{self.organization_id}: {self.contacts:+}"
