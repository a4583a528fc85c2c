"""An organization with one of everything, whose every name, number and id is unmistakable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction
from django.test import Client
from django.utils import timezone

from contacts.models import AutoTagRule, BulkChange, ConsentChange, ContactEvent, ContactTag, Import, ImportRemark
from kaanha.inbound.models import Callback
from kaanha.messaging.models import DispatchCount, InboundMessage
from kaanha.organizations import invitations
from kaanha.organizations.models import APIKey, AuditEntry, KeptAnswer, Organization, OwnedModel, Role
from kaanha.webhooks.models import Attempt, Delivery, Event
from sequences import enrolling, publishing
from sequences.models import Enrollment, EnrollmentRefusal, Intake, Revision, Source, StepRun
from templates_app.models import TemplateSync
from tests.callers import Caller
from tests.factories import (
    BroadcastFactory,
    BusinessAccountFactory,
    ContactFactory,
    DispatchFactory,
    EndpointFactory,
    MembershipFactory,
    MessageFactory,
    MetaAppFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    PortfolioFactory,
    SequenceFactory,
    TagFactory,
    TemplateFactory,
)
from tests.people import browser_of

SECONDS_AGO = timedelta(seconds=30)


class World:
    """`rows` has one row of each model, the one that addresses and bodies name."""

    def __init__(self, word: str, digits: str) -> None:
        self.word, self.digits = word, digits
        self.organization: Any = OrganizationFactory(name=f"{word} Traders", slug=word.lower())
        self.rows: dict[type[models.Model], Any] = {Organization: self.organization}
        self.browsers: dict[str, str] = {}  # the session of a member, by role
        self.callers: dict[str, Caller] = {}  # by role
        self.people: dict[str, int] = {}  # the key of the user, by role
        self._people()
        self._whatsapp()
        self._contacts()
        self._messages()
        self._sequences()
        self._webhooks()

    def public_id(self, model: type[Any]) -> str:
        known: str = self.rows[model].public_id
        return known

    def _keep(self, row: Any) -> Any:
        self.rows.setdefault(type(row), row)
        return row

    def _people(self) -> None:
        for role in Role:
            email = f"{role}@{self.word.lower()}.test"
            member: Any = MembershipFactory(
                organization=self.organization, role=role, user__email=email, user__is_staff=True
            )
            # A member that may be changed and removed: not the only owner.
            if role == Role.AGENT:
                self._keep(member)
            self.people[role] = member.user.pk
            self.browsers[role] = session_of(member.user)
            self.callers[role] = Caller(self.organization, role)
        self._keep(APIKey.issue(self.organization, name=f"{self.word} shop")[0])
        told = {"by_role": Role.OWNER, "by": member.user, "now": timezone.now()}
        invited = f"guest@{self.word.lower()}.test"
        invitation, self.token = invitations.invite(self.organization, invited, Role.AGENT, **told)
        self._keep(invitation)
        # Their use is noted for long: from here on asking writes nothing.
        APIKey.objects.of(self.organization).update(last_used_at=timezone.now() + timedelta(days=1))
        told = {"object_kind": "contact", "object_id": "ct_", "object_label": self.word, "details": {"name": self.word}}
        by = {"actor_kind": "person", "actor_name": email, "user": member.user, "at": timezone.now()}
        self._keep(AuditEntry.objects.create(organization=self.organization, action="contact.created", **by, **told))
        kept = {"digest": self.word, "body": f'{{"name": "{self.word}"}}', "created_at": timezone.now()}
        self._keep(KeptAnswer.objects.create(organization=self.organization, key="same", status=201, **kept))

    def _whatsapp(self) -> None:
        owner = {"organization": self.organization}
        app = self._keep(MetaAppFactory(app_id=f"4{self.digits}", secret=f"secret of {self.word}"))
        portfolio = self._keep(PortfolioFactory(meta_id=f"7{self.digits}", name=f"{self.word} portfolio", **owner))
        named = {"waba_id": f"3{self.digits}", "name": f"{self.word} WhatsApp"}
        account = self._keep(BusinessAccountFactory(app=app, portfolio=portfolio, **named, **owner))
        shown = {"display_number": f"+91 {self.digits[:5]} 00009", "verified_name": f"{self.word} Ltd"}
        self._keep(PhoneNumberFactory(account=account, phone_number_id=f"2{self.digits}", **shown, **owner))
        body = [{"type": "BODY", "text": f"{self.word} greets you."}]
        name = f"{self.word.lower()}_hello"
        self._keep(TemplateFactory(account=account, meta_id=f"6{self.digits}", name=name, components=body, **owner))
        synced = {"asked_at": timezone.now(), "finished_at": timezone.now(), "changes": [f"{name} (en_US): new"]}
        self._keep(TemplateSync.objects.create(account=account, **synced))
        problems = [{"reason": f"{self.word} sent nonsense"}]
        self._keep(
            Callback.objects.create(app=app, body=self.word.encode(), received_at=timezone.now(), problems=problems)
        )

    def _contacts(self) -> None:
        now, owner = timezone.now(), {"organization": self.organization}
        tag = self._keep(TagFactory(name=f"{self.word} tag", **owner))
        contact = self._keep(self.person(1))
        ContactTag.objects.create(contact=contact, tag=tag, added_at=now)
        told = {"contact": contact, "at": now, **owner}
        self._keep(ConsentChange.objects.create(opted_in=True, source="api", proof=f"{self.word} order", **told))
        self._keep(ContactEvent.objects.create(kind="tag_added", tag=tag, source="api", **told))
        self._keep(AutoTagRule.objects.create(match="contains", text=f"{self.word} hi", tag=tag, **owner))
        upload = self._keep(Import.objects.create(file_name=f"{self.word}.csv", started_at=now, **owner))
        said = f"{self.word} asked on the phone"
        self._keep(BulkChange.objects.create(act="opt_out", proof=said, asked_at=now, total=3, **owner))
        ImportRemark.objects.create(upload=upload, line=2, rejected=True, reason=f"{self.word}", row=[self.word])

    def person(self, number: int) -> Any:
        """A contact whose every column tells whose it is."""
        return ContactFactory(
            organization=self.organization,
            phone=f"+91{self.digits[:5]}{number:05}",
            name=f"{self.word} person {number}",
            email=f"person{number}@{self.word.lower()}.test",
            attributes={"city": self.word},
        )

    def _messages(self) -> None:
        owner = {"organization": self.organization}
        number, template, contact = (self._of(name) for name in ("PhoneNumber", "MessageTemplate", "Contact"))
        sent = {"phone_number": number, "template": template, **owner}
        tags = [self._of("Tag")]
        self._keep(BroadcastFactory(name=f"{self.word} draft", tags=tags, **sent))
        dispatch = self._keep(DispatchFactory(phone_number=number, **owner))
        now = timezone.now()
        running = {"status": "paused", "paused_at": now, "started_at": now, "dispatch": dispatch}
        BroadcastFactory(name=f"{self.word} running", tags=tags, **running, **sent)
        named = {"wamid": f"wamid.{self.word}", "contact": contact, "template": template, "dispatch": dispatch}
        message = self._keep(
            MessageFactory(status="sent", due_at=None, accepted_at=now, parameters=[self.word], **named, **owner)
        )
        DispatchCount.objects.create(dispatch=dispatch, slot=0, total=1, dispatched=1, sent=1)
        written = {"kind": "text", "text": f"{self.word} asks", "payload": {"from": self.word}, "written_at": now}
        told = {"phone_number": number, "contact": contact, "reply_to": message, **written, **owner}
        self._keep(InboundMessage.objects.create(wamid=f"wamid.in.{self.word}", **told))

    def _sequences(self) -> None:
        now, owner = timezone.now() - SECONDS_AGO, {"organization": self.organization}
        tag, contact, template = self._of("Tag"), self._of("Contact"), self._of("MessageTemplate")
        hello = {"id": "hello", "type": "message", "template": template.public_id}
        draft = [
            hello,
            {"id": "pause", "type": "delay", "delay": {"days": 1}},
            {"id": "fork", "type": "condition", "if": {"tag": tag.public_id}, "yes": [dict(hello, id="again")]},
        ]
        told = {"phone_number": self._of("PhoneNumber"), "draft": draft, **owner}
        sequence = self._keep(SequenceFactory(name=f"{self.word} sequence", **told))
        publishing.activate(sequence, now=now)
        self._keep(Revision.objects.get(sequence=sequence))
        enrolling.enroll(sequence, [contact.pk], source=Source.API, now=now)
        enrollment = self._keep(Enrollment.objects.get(sequence=sequence))
        StepRun.objects.create(enrollment=enrollment, step=enrollment.step, key="hello", at=now)
        refused = {"code": "already_enrolled", "source": Source.API, "at": now}
        EnrollmentRefusal.objects.create(sequence=sequence, contact=contact, **refused)
        self._keep(Intake.objects.create(sequence=sequence, tag=tag, source=Source.API, asked_at=now, **owner))
        SequenceFactory(name=f"{self.word} draft of a sequence", **told)

    def _webhooks(self) -> None:
        now, owner = timezone.now(), self.organization
        # Refused without asking anybody where it is: tests don't look names up.
        url = f"https://10.0.0.1/{self.word.lower()}"
        named = {"url": url, "description": f"{self.word} hooks", "secret": f"whsec_{self.word}"}
        endpoint = self._keep(EndpointFactory(organization=owner, **named))
        event = self._keep(Event.record(owner, "broadcast.completed", {"name": self.word}, at=now))
        delivery = self._keep(Delivery.objects.get(endpoint=endpoint, event=event))
        Delivery.objects.filter(pk=delivery.pk).update(status="failed", next_attempt_at=None, attempts=1)
        Attempt.objects.create(delivery=delivery, number=1, at=now, milliseconds=5, excerpt=f"{self.word} is away")

    def _of(self, name: str) -> Any:
        return next(row for model, row in self.rows.items() if model.__name__ == name)


@dataclass
class Worlds:
    ours: World
    theirs: World
    root: str  # the session of platform staff
    marks: frozenset[str]

    def told(self, content: str) -> list[str]:
        """What of the others' an answer tells."""
        lowered = content.lower()
        return sorted(mark for mark in self.marks if mark in lowered)


# The others' rows have keys from here on, so that no page can name one by chance. Those in between never existed.
FAR = 770_000_000_000
NEVER = FAR + 99_999


def two_worlds() -> Worlds:
    """Theirs, with keys of their own, then ours."""
    with far_keys():
        theirs = World("Zanzibar", "977001234567")
    ours = World("Kyoto", "981101234567")
    root = browser_of(ours_superuser())
    return Worlds(ours, theirs, root.cookies["sessionid"].value, marks_of(theirs))


def ours_superuser() -> Any:
    return apps.get_model("organizations.User").objects.create_superuser("root@kaanha.test")


def session_of(user: Any) -> str:
    """The cookie of a browser in which the user has signed in."""
    return browser_of(user).cookies["sessionid"].value


def browser(session: str) -> Client:
    """A browser that shows this cookie; one of nobody's for an empty one."""
    client = Client()
    if session:
        client.cookies["sessionid"] = session
    return client


def marks_of(world: World) -> frozenset[str]:
    """Whatever tells of this world, in lower case: its word, its numbers at Meta, its keys and its public ids."""
    known = [world.word, world.digits[:5], f"{world.digits[:5]} ", str(FAR)[:6], f"{FAR:,}"[:7]]
    for model in owned_models():
        if issubclass(model, OwnedModel):
            known += [row.public_id for row in model.objects.of(world.organization)]
    known += [world.organization.public_id]
    for key in APIKey.objects.of(world.organization):
        known += [key.hint, key.digest]
    return frozenset(mark.lower() for mark in known)


@contextmanager
def far_keys() -> Iterator[None]:
    """Inside, rows get keys above `FAR`."""
    before = {}
    with connection.cursor() as cursor:
        for model in owned_models():
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [model._meta.db_table, "id"])
            [name] = cursor.fetchone()
            cursor.execute(f"SELECT last_value, is_called FROM {name}")
            before[name] = cursor.fetchone()
            cursor.execute("SELECT setval(%s, %s)", [name, FAR])
        yield
        for name, (value, called) in before.items():
            cursor.execute("SELECT setval(%s, %s, %s)", [name, value, called])


# --- whose rows --------------------------------------------------------------------------------------------------


@cache
def owned_models() -> list[type[Any]]:
    """Every model whose rows belong to an organization and have a key of their own, and people."""
    rows = [model for model in apps.get_models() if model is Organization or owner_sql(model)]
    return [model for model in rows if isinstance(model._meta.pk, models.BigAutoField)]


@cache
def owner_sql(model: type[models.Model]) -> str:
    """The condition, in SQL, for rows of the organization :owner; empty for models of the installation.

    A row without an organization of its own belongs to the one of the first row that it points at and can't be
    without.
    """
    if model is Organization:
        return "id = :owner"
    links = [one for one in model._meta.local_fields if isinstance(one, models.ForeignKey)]
    if own := next((one for one in links if one.related_model is Organization), None):
        return f"{own.column} = :owner"
    for link in links:
        if not link.null and link.related_model is not model and (above := owner_sql(link.related_model)):
            return f"{link.column} IN (SELECT id FROM {link.related_model._meta.db_table} WHERE {above})"
    return ""


# Written by whoever asks, whatever the answer: sessions with their messages.
RESTLESS = {"django_session"}


@cache
def _all_sums() -> str:
    tables = sorted({model._meta.db_table for model in apps.get_models(include_auto_created=True)} - RESTLESS)
    return " UNION ALL ".join(_sum(table) for table in tables)


def _sum(table: str, condition: str = "TRUE") -> str:
    return (
        f"SELECT '{table}' AS name, count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) "
        f"FROM {table} t WHERE {condition}"
    )


@cache
def _owned_sums() -> str:
    owned = {model._meta.db_table: owner_sql(model) for model in apps.get_models() if owner_sql(model)}
    return " UNION ALL ".join(_sum(table, condition) for table, condition in sorted(owned.items()))


def everything() -> dict[str, tuple[int, int]]:
    """Rows and a checksum of every table. One query."""
    return _read(_all_sums())


def rows_of(organization: Organization) -> dict[str, tuple[int, int]]:
    """The same of what belongs to the organization. One query."""
    return _read(_owned_sums().replace(":owner", str(organization.pk)))


def _read(statement: str) -> dict[str, tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return {name: (rows, sum_) for name, rows, sum_ in cursor.fetchall()}


@cache
def _mixed() -> str:
    """Counts, by link, the rows that point at a row of another organization."""
    parts = []
    for model in apps.get_models():
        for link in model._meta.local_fields:
            if not isinstance(link, models.ForeignKey) or link.related_model is Organization:
                continue
            mine, above = owner_sql(model), owner_sql(link.related_model)
            if mine and above:
                there = f"{link.column} IN (SELECT id FROM {link.related_model._meta.db_table} WHERE {above})"
                name = f"{model.__name__}.{link.name}"
                where = f"({mine}) AND {link.column} IS NOT NULL AND NOT ({there})"
                parts.append(f"SELECT '{name}', count(*) FROM {model._meta.db_table} WHERE {where}")
    return " UNION ALL ".join(parts)


def mixed(organization: Organization) -> dict[str, int]:
    """The links by which rows of the organization point at rows of another one. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_mixed().replace(":owner", str(organization.pk)))
        return {name: count for name, count in cursor.fetchall() if count}


@cache
def _texts() -> str:
    owned = {model._meta.db_table: owner_sql(model) for model in apps.get_models() if owner_sql(model)}
    return " UNION ALL ".join(
        f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t WHERE {condition}"
        for table, condition in sorted(owned.items())
    )


def text_of(organization: Organization) -> str:
    """Everything that the organization's rows say. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_texts().replace(":owner", str(organization.pk)))
        return "\n".join(text for (text,) in cursor.fetchall())


@contextmanager
def rolled_back() -> Iterator[None]:
    """Whatever happens inside hasn't happened afterwards."""
    undone: Any = transaction.atomic()
    undone._from_testcase = True  # as in Django's own tests: acts that insist on the outermost transaction may run
    with undone:
        yield
        transaction.set_rollback(True)
