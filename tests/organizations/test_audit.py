"""The audit log: who did what, in the transaction of the act, never changed, and read by its own organization alone."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib import admin
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from broadcasts import launch
from broadcasts.models import Broadcast, Status
from contacts import consent
from contacts.models import Contact
from kaanha.organizations import audit, keys, members
from kaanha.organizations.audit_admin import AuditEntryAdmin
from kaanha.organizations.models import APIKey, AuditEntry, Membership, Role
from kaanha.organizations.owned_admin import CappedPaginator
from tests.callers import Caller
from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    EndpointFactory,
    MembershipFactory,
    OrganizationFactory,
    UserFactory,
)
from tests.people import browser_of, signed_in, superuser, text

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 20, 30, tzinfo=UTC)
LOG = "/admin/organizations/auditentry/"


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop", slug="shop")


def actions(organization):
    return list(AuditEntry.objects.of(organization).order_by("pk").values_list("action", flat=True))


def entry(organization=None):
    return AuditEntry.objects.filter(organization=organization).latest("pk")


def note(organization, action="organization.settings_changed", **details):
    audit.record(action, organization, **details)
    return entry(organization)


# --- who ---------------------------------------------------------------------------------------------------------


@time_machine.travel(NOW, tick=False)
def test_a_person_of_the_organization(shop):
    member = MembershipFactory(organization=shop, user__is_staff=True, user__email="asha@example.test")
    contact = ContactFactory(organization=shop)
    headers = {"X-Request-Id": "request-7"}
    browser_of(member.user).post(f"/admin/contacts/contact/{contact.pk}/opt-out/", {"proof": "a call"}, headers=headers)

    told = entry(shop)
    assert (told.action, told.at, told.actor_kind, told.actor_name) == (
        "contact.opted_out",
        NOW,
        "person",
        "asha@example.test",
    )
    assert (told.user_id, told.api_key_id, told.ip, told.request_id) == (member.user_id, None, "127.0.0.1", "request-7")
    assert (told.object_kind, told.object_id, told.object_label) == ("contact", contact.public_id, str(contact))
    assert told.details == {"source": "operator"}


def test_platform_staff_are_marked(shop):
    contact = ContactFactory(organization=shop)
    superuser().post(f"/admin/contacts/contact/{contact.pk}/opt-out/", {"proof": "a call"})

    assert entry(shop).get_actor_kind_display() == "Platform staff"
    assert "Platform staff" in text(signed_in(shop).get(LOG))


def test_a_key(shop):
    caller, contact = Caller(shop), ContactFactory(organization=shop)
    caller.post(f"/api/contacts/{contact.public_id}/consent", {"optedIn": False})

    told = entry(shop)
    assert (told.action, told.actor_kind, told.actor_name) == ("contact.opted_out", "key", str(caller.key))
    assert (told.user_id, told.api_key_id) == (None, caller.key.pk)
    assert caller.text not in str(vars(told))


def test_a_command(shop):
    call_command("create_organization", "Zoo", "--api-key", "till", "--json")

    told = AuditEntry.objects.get(action="key.issued")
    assert (told.actor_kind, told.actor_name) == ("command", "manage.py create_organization")
    assert told.ip is None


def test_the_system(shop):
    broadcast = BroadcastFactory(organization=shop, status=Status.QUEUED, queued_at=NOW)
    launch.pause(broadcast, now=NOW, reason="safety")

    told = entry(shop)
    assert (told.action, told.actor_kind, told.details) == ("broadcast.paused", "system", {"reason": "safety"})


@pytest.mark.parametrize(
    ("trusted", "header", "ip"),
    [
        (True, "10.9.9.9, 203.0.113.7", "203.0.113.7"),
        (False, "203.0.113.7", "127.0.0.1"),
        (True, "no address", None),
        (True, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_behind_a_proxy_its_word_counts_and_nobody_elses(shop, settings, trusted, header, ip):
    settings.BEHIND_PROXY = trusted
    key, _ = APIKey.issue(shop, name="till")
    signed_in(shop).post(f"/admin/organizations/apikey/{key.pk}/revoke/", headers={"X-Forwarded-For": header})

    assert entry(shop).ip == ip


# --- what --------------------------------------------------------------------------------------------------------


def test_a_broadcasts_life_is_told(shop):
    sale = BroadcastFactory(organization=shop, status=Status.SCHEDULED, scheduled_at=NOW)
    launch.unschedule(sale)
    Broadcast.objects.filter(pk=sale.pk).update(status=Status.PAUSED)
    sale.refresh_from_db()
    launch.resume(sale, now=NOW)
    launch.cancel(sale, now=NOW)

    assert actions(shop) == ["broadcast.unscheduled", "broadcast.resumed", "broadcast.canceled"]


def test_many_contacts_are_told_as_a_number(shop):
    contacts = [ContactFactory(organization=shop).pk for _ in range(3)]
    consent.opt_out(contacts, source="operator", proof="", at=NOW)

    told = entry(shop)
    assert (told.action, told.object_kind, told.details) == (
        "contact.opted_out",
        "organization",
        {"contacts": 3, "source": "operator"},
    )


def test_what_changes_nothing_and_what_people_write_is_not_told(shop):
    contact = ContactFactory(organization=shop)
    consent.opt_in([contact.pk], source="operator", proof="", at=NOW)
    consent.opt_out([contact.pk], source="inbound", proof="wamid.1", at=NOW)
    key, _ = APIKey.issue(shop, name="till")
    APIKey.objects.update(revoked_at=NOW)
    keys.revoke(key, now=NOW)

    assert actions(shop) == []


def test_settings_and_webhooks_are_told_by_their_fields(shop):
    owner = signed_in(shop)
    fields = {"name": "Store", "timezone": "UTC", "late_limit": "60", "opt_out_words": "", "opt_in_words": ""}
    owner.post(f"/admin/organizations/organization/{shop.pk}/change/", fields)
    assert (entry(shop).action, entry(shop).details) == ("organization.settings_changed", {"fields": ["name"]})

    endpoint = EndpointFactory(organization=shop)
    shown = owner.post(f"/admin/webhooks/endpoint/{endpoint.pk}/rotate-secret/")
    assert (entry(shop).action, entry(shop).details) == ("webhook.changed", {"fields": ["secret"]})
    assert shown.context["secret"] not in str(list(AuditEntry.objects.values()))


def test_accounts_are_a_matter_of_the_installation(shop):
    user = UserFactory(email="asha@example.test")
    secret = "a long enough password"
    superuser().post(
        f"/admin/organizations/user/{user.pk}/password/",
        {"password1": secret, "password2": secret, "usable_password": "true"},
    )

    told = entry()
    assert (told.action, told.object_label, told.details) == ("user.password_changed", "asha@example.test", {})
    assert actions(shop) == []


# --- with the act, and for ever ------------------------------------------------------------------------------------


def cancel(shop):
    sale = BroadcastFactory(organization=shop, status=Status.SCHEDULED, scheduled_at=NOW)
    return lambda: launch.cancel(sale, now=NOW), lambda: Broadcast.objects.get().status == Status.SCHEDULED


def unschedule(shop):
    sale = BroadcastFactory(organization=shop, status=Status.SCHEDULED, scheduled_at=NOW)
    return lambda: launch.unschedule(sale), lambda: Broadcast.objects.get().status == Status.SCHEDULED


def opt_out(shop):
    contact = ContactFactory(organization=shop)
    told = {"source": "operator", "proof": "", "at": NOW}
    return lambda: consent.opt_out([contact.pk], **told), lambda: Contact.objects.get().opted_in


def delete_contact(shop):
    contact = ContactFactory(organization=shop)
    return lambda: consent.delete([contact.pk], at=NOW), lambda: Contact.objects.get().deleted_at is None


def issue(shop):
    return lambda: keys.issue(shop, name="till"), lambda: not APIKey.objects.exists()


def revoke(shop):
    key, _ = APIKey.issue(shop, name="till")
    return lambda: keys.revoke(key, now=NOW), lambda: APIKey.objects.get().revoked_at is None


def demote(shop):
    member = MembershipFactory(organization=shop, role=Role.ADMIN)
    act = members.change_role
    return lambda: act(member, Role.AGENT, by_role=Role.OWNER), lambda: Membership.objects.get().role == Role.ADMIN


def remove(shop):
    member = MembershipFactory(organization=shop, role=Role.ADMIN)
    return lambda: members.remove(member, by_role=Role.OWNER), lambda: Membership.objects.exists()


@pytest.mark.parametrize("case", [cancel, unschedule, opt_out, delete_contact, issue, revoke, demote, remove])
@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_noted_is_not_done(shop, case, monkeypatch):
    act, untouched = case(shop)
    monkeypatch.setattr(AuditEntry.objects, "create", refuse)

    with pytest.raises(DatabaseError):
        act()
    assert untouched()


def refuse(**_):
    raise DatabaseError("no room")


@pytest.mark.parametrize("act", [lambda rows: rows.update(action="x"), lambda rows: rows.delete()])
def test_the_database_keeps_every_line(shop, act):
    note(shop)

    with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
        act(AuditEntry.objects.all())
    assert entry(shop).action == "organization.settings_changed"


def test_a_line_outlives_the_key_and_the_member_that_it_tells_of(shop):
    caller, contact = Caller(shop), ContactFactory(organization=shop)
    caller.delete(f"/api/contacts/{contact.public_id}")
    name = str(caller.key)
    caller.key.delete()

    assert name in text(signed_in(shop).get(LOG))


# --- the page ----------------------------------------------------------------------------------------------------


def test_the_page_shows_the_own_log_the_latest_first(shop):
    with time_machine.travel(NOW, tick=False):
        note(shop, fields=["name"])
    note(shop, "key.issued", role="admin")
    note(OrganizationFactory(name="Foreign"), "key.revoked")

    shown = text(signed_in(shop).get(LOG))
    assert shown.index("Key: issued") < shown.index("Organization: settings changed")
    assert "1 Mar 2026, 20:30 UTC" in shown
    assert "fields: name" in shown
    assert "Foreign" not in shown
    assert "Key: revoked" not in shown


@pytest.mark.parametrize("role", [Role.AGENT, Role.VIEWER])
def test_agents_and_viewers_see_no_log(shop, role):
    told, browser = note(shop), signed_in(shop, role)

    for address in (LOG, f"{LOG}{told.pk}/change/", f"{LOG}export/"):
        assert browser.get(address).status_code == 403


@pytest.mark.parametrize("who", [signed_in, lambda _: superuser()])
def test_nobody_edits_the_log(shop, who):
    told, browser = note(shop), who(shop)

    assert browser.get(f"{LOG}{told.pk}/change/").status_code == 200
    for address in (f"{LOG}add/", f"{LOG}{told.pk}/change/", f"{LOG}{told.pk}/delete/"):
        assert browser.post(address, {"action": "x", "post": "yes"}).status_code == 403
    assert entry(shop).action == "organization.settings_changed"


def test_it_is_filtered_by_person_key_action_and_day(shop):
    asha, key = MembershipFactory(organization=shop, user__is_staff=True).user, APIKey.issue(shop, name="till")[0]
    OrganizationFactory()
    browser = signed_in(shop)
    with time_machine.travel(NOW, tick=False):
        audit.record("member.invited", shop, by=audit.Actor.person(asha))
    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        audit.record("contact.deleted", shop, by=audit.Actor("key", str(key), key_id=key.pk))

    def found(query):
        return [one.action for one in browser.get(LOG + query).context["cl"].result_list]

    assert found("") == ["contact.deleted", "member.invited"]
    assert found(f"?who=user-{asha.pk}") == ["member.invited"]
    assert found(f"?who=api_key-{key.pk}") == ["contact.deleted"]
    assert found("?who=actor_kind-staff") == []
    assert found("?action=contact.deleted") == ["contact.deleted"]
    assert found("?at_from=2026-03-02") == ["contact.deleted"]
    assert found("?at_to=2026-03-01") == ["member.invited"]
    for nonsense in ("?who=organization-1", "?who=user-x", "?at_from=yesterday", "?at_to=9999-12-31"):
        assert len(found(nonsense)) == 2


def test_days_are_those_of_the_organizations_clocks(shop):
    type(shop).objects.filter(pk=shop.pk).update(timezone="Asia/Kolkata")
    with time_machine.travel(NOW, tick=False):
        note(shop)  # on the 2nd of March in India

    browser = signed_in(shop)
    assert len(browser.get(f"{LOG}?at_from=2026-03-02").context["cl"].result_list) == 1
    assert len(browser.get(f"{LOG}?at_to=2026-03-01").context["cl"].result_list) == 0


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        ("asha", 1),
        ("ASH", 1),
        ("asha@example.test", 1),
        ("asha shop", 1),
        ("sha", 0),
        ("o'brien", 0),
        ("asha & | (", 1),
        ("asha !nobody", 0),
        ("'':* \\", 2),
    ],
)
def test_it_is_searched_by_the_beginnings_of_words(shop, typed, count):
    asha = MembershipFactory(organization=shop, user__email="asha@example.test").user
    audit.record("key.issued", shop, by=audit.Actor.person(asha))
    note(shop)

    assert len(signed_in(shop).get(LOG, {"q": typed}).context["cl"].result_list) == count


def test_the_search_uses_its_index(shop):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    request = signed_in(shop).get(LOG).wsgi_request
    page = admin.site._registry[AuditEntry]
    rows, _ = page.get_search_results(request, AuditEntry.objects.all(), "asha")
    assert "audit_words" in rows.order_by().explain()


def test_the_page_costs_the_same_however_many_lines(shop, django_assert_num_queries):
    browser = signed_in(shop)

    def cost():
        # session, user, membership; people, keys and actions of the filters; count, page
        with django_assert_num_queries(8) as queries:
            browser.get(LOG)
        counts = [one["sql"] for one in queries if "COUNT(*)" in one["sql"]]
        assert [f"LIMIT {AuditEntryAdmin.list_per_page * CappedPaginator.PAGES})" in sql for sql in counts] == [True]

    note(shop)
    cost()
    for _ in range(20):
        note(shop)
    cost()


def test_it_is_taken_along_as_csv_without_formulas(shop):
    with time_machine.travel(NOW, tick=False):
        type(shop).objects.filter(pk=shop.pk).update(name="=cmd()", timezone="Asia/Kolkata")
        shop.refresh_from_db()
        note(shop, fields=["name"])
        note(shop, "key.issued")
        note(OrganizationFactory(name="Foreign"))
        answer = signed_in(shop).get(f"{LOG}export/?action=organization.settings_changed")

    header, line, *rest = csv.reader(io.StringIO(answer.getvalue().decode("utf-8-sig")))
    assert header[:4] == ["time", "action", "by", "name"]
    assert line[:2] == ["2026-03-02T02:00:00+05:30", "organization.settings_changed"]
    assert line[6] == "'=cmd()"
    assert rest == []
    assert answer["Content-Disposition"] == 'attachment; filename="audit-shop-2026-03-02.csv"'
    told = entry(shop)
    assert (told.action, told.details["what"]) == ("export.downloaded", "audit log")
