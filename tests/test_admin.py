"""The admin as a whole: nothing of another organization anywhere, the home page, what only superusers see."""

import pytest
from django.contrib import admin
from django.contrib.staticfiles import finders
from django.test import Client
from django.utils import timezone

from broadcasts.models import Broadcast
from contacts.models import AutoTagRule, BulkChange, Contact, Import, Tag
from kaanha.inbound.models import Callback
from kaanha.messaging.models import Message
from kaanha.organizations import audit
from kaanha.organizations.models import APIKey, AuditEntry, Membership, Organization, Role
from kaanha.organizations.owned_admin import OwnedAdmin
from kaanha.webhooks.models import Delivery, Endpoint, Event
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber
from sequences import enrolling, publishing
from sequences.models import Enrollment, Sequence, Source
from templates_app import asked_syncs
from templates_app.models import MessageTemplate
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
    SequenceFactory,
    TagFactory,
    TemplateFactory,
    UserFactory,
)
from tests.people import said, signed_in, superuser, text

pytestmark = pytest.mark.django_db
OWNED = {model: page for model, page in admin.site._registry.items() if isinstance(page, OwnedAdmin)}
BEAT = ("periodictask", "intervalschedule", "crontabschedule", "solarschedule", "clockedschedule")


def row_of(model, organization):
    """A row of the organization."""
    now = timezone.now()
    made = {
        Organization: lambda: organization,
        Membership: lambda: MembershipFactory(organization=organization),
        APIKey: lambda: APIKey.issue(organization, name="key")[0],
        AuditEntry: lambda: entry_of(organization),
        BusinessAccount: lambda: BusinessAccountFactory(organization=organization),
        PhoneNumber: lambda: PhoneNumberFactory(organization=organization),
        Event: lambda: Event.record(organization, "broadcast.completed", {"name": "Sale"}, at=now),
        Endpoint: lambda: EndpointFactory(organization=organization),
        Delivery: lambda: delivery_of(organization),
        MessageTemplate: lambda: TemplateFactory(organization=organization),
        Contact: lambda: ContactFactory(organization=organization),
        Tag: lambda: TagFactory(organization=organization),
        AutoTagRule: lambda: AutoTagRule.objects.create(
            organization=organization, match="contains", text="hi", tag=TagFactory(organization=organization)
        ),
        Import: lambda: Import.objects.create(organization=organization, file_name="a.csv", started_at=now),
        BulkChange: lambda: BulkChange.objects.create(organization=organization, act="opt_out", asked_at=now),
        Message: lambda: MessageFactory(organization=organization),
        Broadcast: lambda: BroadcastFactory(organization=organization),
        Enrollment: lambda: enrollment_of(organization),
        Sequence: lambda: SequenceFactory(organization=organization),
    }
    return made[model]()


def entry_of(organization):
    """A line of the audit log."""
    audit.record("organization.settings_changed", organization, fields=["name"])
    return AuditEntry.objects.of(organization).latest("pk")


def enrollment_of(organization):
    """A contact in a sequence of one message."""
    now, number = timezone.now(), PhoneNumberFactory(organization=organization)
    template = TemplateFactory(organization=organization, account=number.account)
    draft = [{"id": "m", "type": "message", "template": template.public_id}]
    sequence = SequenceFactory(organization=organization, phone_number=number, draft=draft)
    publishing.activate(sequence, now=now)
    contact = ContactFactory(organization=organization)
    (outcome,) = enrolling.enroll(sequence, [contact.pk], source=Source.API, now=now)
    return Enrollment.objects.get(pk=outcome.enrollment_id)


def delivery_of(organization):
    """An event on its way to an endpoint."""
    endpoint = EndpointFactory(organization=organization)
    Event.record(organization, "broadcast.completed", {"name": "Sale"}, at=timezone.now())
    return Delivery.objects.get(endpoint=endpoint)


def pages_of(model, row):
    """Every address of the admin that names the row."""
    name = f"{model._meta.app_label}/{model._meta.model_name}"
    routes = [str(pattern.pattern) for pattern in OWNED[model].get_urls() if "object_id" in str(pattern.pattern)]
    return [f"/admin/{name}/{route.replace('<path:object_id>', str(row.pk))}" for route in routes]


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_another_organizations_row_is_found_on_no_page(model):
    owner = signed_in(OrganizationFactory())
    row = row_of(model, OrganizationFactory())
    addresses = pages_of(model, row)

    assert len(addresses) >= 4
    for address in addresses:
        nowhere = address.replace(f"/{row.pk}/", "/987654321/")
        for ask in (owner.get, owner.post):
            answer, unknown = (ask(one, {"post": "yes"}, follow=True) for one in (address, nowhere))
            # what nobody may do is forbidden before anything is looked up
            assert answer.status_code == unknown.status_code, address
            assert answer.status_code in (403, 404) or "delete" in address
    assert type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_rows_of_the_own_organization_open_for_owners(model):
    organization = OrganizationFactory()
    row = row_of(model, organization)
    browser = signed_in(organization)
    name = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    query = f"?dispatch={row.dispatch_id}" if model is Message else ""

    # a draft of a sequence is at home on the page of its steps
    assert browser.get(f"{name}{row.pk}/change/", follow=True).status_code == 200
    assert browser.get(f"{name}{row.pk}/history/").status_code == 200
    assert browser.get(name + query, follow=True).status_code == 200


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_lists_show_the_own_rows_only(model):
    mine, theirs = OrganizationFactory(), OrganizationFactory()
    own, foreign = row_of(model, mine), row_of(model, theirs)
    request = signed_in(mine).get("/admin/").wsgi_request

    rows = set(OWNED[model].get_queryset(request))
    assert own in rows
    assert foreign not in rows


@pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)
def test_choices_are_of_the_own_organization(model):
    mine = OrganizationFactory()
    PhoneNumberFactory(organization=mine)
    for other in (Tag, MessageTemplate, PhoneNumber, Contact):
        row_of(other, OrganizationFactory())
    request = signed_in(mine).get("/admin/").wsgi_request
    form = OWNED[model].get_form(request, row_of(model, mine), change=True)

    fields = [field for field in form.base_fields.values() if hasattr(field, "queryset")]
    for field in fields:
        assert {row.organization_id for row in field.queryset if hasattr(row, "organization_id")} <= {mine.pk}


@pytest.mark.parametrize("role", Role)
def test_nobody_deletes_rows_for_good_but_rules(role):
    organization = OrganizationFactory()
    browser = signed_in(organization, role)
    for model in set(OWNED) - {AutoTagRule}:
        row = row_of(model, organization)
        address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/{row.pk}/delete/"
        assert browser.post(address, {"post": "yes"}).status_code == 403
        assert type(row).objects.filter(pk=row.pk).exists()


def test_the_login_page_leads_to_the_home_page():
    user = UserFactory(is_staff=True)
    user.set_password("a long enough password")
    user.save()
    browser = Client()
    page = browser.get("/admin/login/")
    assert "Kaanha" in text(page)

    answer = browser.post("/admin/login/", {"username": user.email, "password": "a long enough password"})
    assert answer.url == "/admin/"
    assert "You don't belong to an organization yet." in text(browser.get(answer.url))


def test_pages_ask_for_a_login():
    for model in OWNED:
        address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert Client().get(address).url == f"/admin/login/?next={address}"
    assert Client().get("/admin/organizations/organization/choose/").status_code == 302


def test_a_rehearsal_is_named_on_every_page(settings):
    browser = signed_in(OrganizationFactory())
    settings.WHATSAPP_API_URL = "http://127.0.0.1:9100/v25.0"
    assert "Simulated WhatsApp" in text(browser.get("/admin/"))

    settings.WHATSAPP_API_URL = "https://graph.facebook.com/v25.0"
    assert "Simulated WhatsApp" not in text(browser.get("/admin/"))


def test_home_shows_the_first_steps_until_a_broadcast_has_gone_out():
    shop = OrganizationFactory()
    owner = signed_in(shop)
    steps = owner.get("/admin/").context["steps"]
    assert [(step["title"], step["done"]) for step in steps] == [
        ("Connect WhatsApp", False),
        ("Sync templates", False),
        ("Import contacts", False),
        ("Send a broadcast", False),
    ]
    for step in steps:
        assert owner.get(step["link"]).status_code == 200

    ContactFactory(organization=shop)
    TemplateFactory(organization=shop)
    assert [step["done"] for step in owner.get("/admin/").context["steps"]] == [True, True, True, False]
    BroadcastFactory(organization=shop, dispatch=DispatchFactory(organization=shop))
    assert owner.get("/admin/").context["steps"] == []


def test_home_of_an_agent_shows_no_numbers():
    context = signed_in(OrganizationFactory(), Role.AGENT).get("/admin/").context

    assert "tiles" not in context
    assert "steps" not in context


@pytest.mark.parametrize(
    "name",
    ["whatsapp/metaapp", "inbound/callback", "organizations/user", *(f"django_celery_beat/{one}" for one in BEAT)],
)
def test_the_installation_is_for_superusers(name):
    address = f"/admin/{name}/"

    assert signed_in(OrganizationFactory()).get(address).status_code == 403
    assert superuser().get(address).status_code == 200


def test_the_timetable_can_be_edited_by_superusers():
    for name in BEAT:
        assert superuser().get(f"/admin/django_celery_beat/{name}/add/").status_code == 200


def test_callbacks_with_problems_are_shown_and_others_are_not():
    app = MetaAppFactory()
    now = timezone.now()
    Callback.objects.create(app=app, body=b'{"fine": true}', received_at=now, applied_at=now)
    troubled = Callback.objects.create(
        app=app,
        body='{"text": "¿Qué?"}'.encode(),
        received_at=now,
        problems=[{"where": "entry", "reason": "no such thing"}],
    )
    root = superuser()

    assert "1 callback" in text(root.get("/admin/inbound/callback/"))
    shown = text(root.get(f"/admin/inbound/callback/{troubled.pk}/change/"))
    assert "no such thing" in shown
    assert "¿Qué?" in shown
    assert root.post(f"/admin/inbound/callback/{troubled.pk}/change/", {}).status_code == 403


def test_secrets_go_in_and_never_come_out():
    shop = OrganizationFactory()
    account = BusinessAccountFactory(
        organization=shop,
        access_token="token-of-the-shop",
        app__secret="secret-of-the-app",
        app__verify_token="verify-me",
    )
    owner, root = signed_in(shop), superuser()
    address = f"/admin/whatsapp/businessaccount/{account.pk}/change/"
    app = f"/admin/whatsapp/metaapp/{account.app_id}/change/"

    for answer in (owner.get(address), root.get(address), root.get(app)):
        page = answer.content.decode()
        assert answer.status_code == 200
        assert not [secret for secret in ("token-of-the-shop", "secret-of-the-app", "verify-me") if secret in page]

    owner.post(address, {"name": "Renamed", "access_token": ""})
    root.post(app, {"app_id": account.app.app_id, "secret": "", "previous_secret": "older", "verify_token": ""})
    account, meta = BusinessAccount.objects.get(), MetaApp.objects.get()
    assert (account.name, account.access_token) == ("Renamed", "token-of-the-shop")
    assert (meta.secret, meta.previous_secret, meta.verify_token) == ("secret-of-the-app", "older", "verify-me")

    owner.post(address, {"name": "Renamed", "access_token": "fresh"})
    assert BusinessAccount.objects.get().access_token == "fresh"


def test_whatsapp_is_connected_by_hand_and_templates_are_synced(cloud_api):
    shop = OrganizationFactory()
    owner = signed_in(shop)
    fields = {
        "waba_id": "300000000000001",
        "access_token": "wrong",
        "app_id": "400000000000001",
        "app_secret": "s3cret",
    }
    assert "access token" in text(owner.post("/admin/whatsapp/businessaccount/add/", fields))
    assert not BusinessAccount.objects.exists()

    right = {**fields, "access_token": "sim-access-token"}
    shown = owner.post("/admin/whatsapp/businessaccount/add/", right, follow=True)
    account = BusinessAccount.objects.get()
    assert account.organization == shop
    assert account.app.callback_url in text(shown)
    assert account.app.verify_token in text(shown)
    assert account.numbers.exists()

    assert not MessageTemplate.objects.exists()
    assert "Meta is asked for every template" in text(owner.get("/admin/templates_app/messagetemplate/sync-from-meta/"))
    assert said(owner.post("/admin/templates_app/messagetemplate/sync-from-meta/"))[-1] == "The sync begins."
    asked_syncs.sweep()
    synced = owner.get("/admin/templates_app/messagetemplate/syncing/")
    assert f"Templates synced: {MessageTemplate.objects.count()} created, 0 updated" in text(synced)
    assert MessageTemplate.objects.of(shop).approved().exists()


def test_an_apps_secret_cannot_be_changed_by_one_of_its_organizations():
    app = MetaAppFactory(secret="theirs")
    owner = signed_in(OrganizationFactory())
    fields = {"waba_id": "1", "access_token": "token", "app_id": app.app_id, "app_secret": "mine"}
    refused = owner.post("/admin/whatsapp/businessaccount/add/", fields)

    assert f"App {app.app_id} is known with another secret." in text(refused)
    assert MetaApp.objects.get().secret == "theirs"


def test_the_static_files_are_there():
    assert finders.find("kaanha/admin.css")
    assert finders.find("kaanha/favicon.svg")
