"""What browsers are told: scripts run from our files alone, nobody frames a page, and no page relies on more."""

import json
import os
from collections import Counter

import pytest
from csp.constants import HEADER as CSP
from django.test import Client
from django.utils import timezone

from broadcasts.models import Broadcast, Status
from contacts.models import AutoTagRule, Contact, Import, Tag
from kaanha.inbound.models import Callback
from kaanha.organizations.models import APIKey, Organization
from kaanha.webhooks.models import Endpoint
from kaanha.whatsapp.models import BusinessAccount, PhoneNumber, Portfolio
from sequences.models import Enrollment, Sequence
from templates_app.models import MessageTemplate
from tests.admin_pages import Scripts, pages
from tests.callers import Caller
from tests.factories import BroadcastFactory, MetaAppFactory, OrganizationFactory, UserFactory
from tests.people import signed_in, superuser
from tests.test_admin import OWNED, row_of
from tests.test_settings import GOOD, manage

pytestmark = pytest.mark.django_db

MARK = "mark7"
HOSTILE = f"""{MARK}'"><img src=x onerror=alert(1)><script>alert(2)</script>{{{{7}}}}"""
# What people, customers or Meta write into a row.
WRITTEN = {
    Organization: ("name",),
    Contact: ("name",),
    Tag: ("name",),
    Import: ("file_name",),
    AutoTagRule: ("text",),
    MessageTemplate: ("name", "language", "rejected_reason"),
    APIKey: ("name",),
    BusinessAccount: ("name",),
    Portfolio: ("name",),
    PhoneNumber: ("display_number", "verified_name"),
    Endpoint: ("description", "disabled_reason"),
    Broadcast: ("name", "status_detail"),
    Sequence: ("name",),
}
# Answers that aren't pages, and what ends the session.
NO_PAGES = {"logout", "jsi18n", "autocomplete", "view_on_site", "search", "toggle_sidebar"}


def hostile(organization):
    """A row of everything, with a text in it that would run if it could. By the names that addresses have."""
    rows = {model: row_of(model, organization) for model in OWNED}
    row_of(Enrollment, organization)
    for model, names in WRITTEN.items():
        for name in names:
            room = model._meta.get_field(name).max_length or 1000
            for row in model.objects.all():
                model.objects.filter(pk=row.pk).update(**{name: f"{HOSTILE}{row.pk}"[-room:]})
    Contact.objects.update(attributes={HOSTILE: HOSTILE})
    MessageTemplate.objects.update(components=[{"type": "BODY", "text": f"{HOSTILE} {{{{1}}}}"}])
    return {f"{model._meta.app_label}_{model._meta.model_name}": row for model, row in rows.items()}


def installation():
    """A row of what belongs to the installation, likewise."""
    app = MetaAppFactory()
    callback = Callback.objects.create(
        app=app, body=b'{"a": "%s"}' % HOSTILE.encode(), received_at=timezone.now(), problems=[{"reason": HOSTILE}]
    )
    return {
        "whatsapp_metaapp": app,
        "inbound_callback": callback,
        "organizations_user": UserFactory(first_name=HOSTILE[:150]),
    }


def seen(browser, addresses):
    """How these pages were answered, and what could run in them."""
    statuses, faults = Counter(), {}
    for address in addresses:
        answer = browser.get(address, follow=True)
        statuses[answer.status_code] += 1
        is_page = answer.headers["Content-Type"].startswith("text/html")
        if is_page and (said := Scripts(answer.getvalue().decode(), mark=MARK).faults):
            faults[address] = said
    return statuses, faults


def more_pages(shop, rows):
    """Pages that need more than the id of a row."""
    sequence, contact, message = (
        rows[f"{one}"].pk for one in ("sequences_sequence", "contacts_contact", "messaging_message")
    )
    running = rows["sequences_enrollment"].sequence_id
    dispatch = rows["messaging_message"].dispatch_id
    sending = BroadcastFactory(organization=shop, name=HOSTILE, status=Status.PAUSED, paused_at=timezone.now())
    Broadcast.objects.filter(pk=sending.pk).update(dispatch=dispatch)
    return [
        *(f"/admin/sequences/sequence/{sequence}/step/?kind={kind}" for kind in ("message", "delay", "condition")),
        f"/admin/sequences/sequence/{running}/change/?revision=1",
        f"/admin/sequences/sequence/{running}/steps/?move=m",
        f"/admin/sequences/sequence/{running}/step/?step=m",
        f"/admin/sequences/sequence/{running}/remove/?step=m",
        f"/admin/sequences/enrollment/?sequence={running}",
        f"/admin/sequences/enrollment/?sequence={running}&refused=1",
        f"/admin/sequences/enrollment/?contact={rows['sequences_enrollment'].contact_id}",
        f"/admin/messaging/message/?dispatch={dispatch}",
        f"/admin/messaging/message/?contact={rows['messaging_message'].contact_id}",
        f"/admin/broadcasts/broadcast/{sending.pk}/change/",
        f"/admin/contacts/contact/?q={HOSTILE}",
        f"/admin/contacts/contact/{contact}/enroll/",
        f"/admin/search/?s={MARK}",
        "/admin/search/?s=contact",
        f"/admin/messaging/message/{message}/change/",
    ]


def test_no_page_holds_a_script_whatever_is_written_into_its_rows():
    shop = OrganizationFactory()
    rows = hostile(shop)
    shown = {name: address for name, address in pages(rows).items() if name not in NO_PAGES}

    statuses, faults = seen(signed_in(shop), [*shown.values(), *more_pages(shop, rows)])

    assert faults == {}
    assert statuses[200] > 120
    # 403: what is for superusers, or what nobody may do; 404: the form of a step without the step
    assert set(statuses) <= {200, 403, 404, 405}


def test_no_page_of_the_installation_holds_a_script():
    rows = installation()
    shown = {name: address for name, address in pages(rows).items() if name not in NO_PAGES}

    statuses, faults = seen(superuser(), shown.values())

    assert faults == {}
    assert statuses[200] > 50
    assert set(statuses) <= {200, 403, 405}


def test_the_walk_sees_what_could_run():
    page = (
        '<p onclick="a()"></p><a href=" JavaScript:b()"></a><script src="c.js"></script><script>d()</script>'
        '<script type="application/json">{"e": 1}</script>'
        f"""<div x-data="{{f: '{MARK}'}}" class="{MARK}"></div>"""
    )

    assert Scripts(page, mark=MARK).faults == [
        "<p onclick='a()'>",
        "<a href=' JavaScript:b()'>",
        "<script>d()",
        f"<div x-data=\"{{f: '{MARK}'}}\">",
    ]


# --- headers ---------------------------------------------------------------------------------------------------------


def policy(answer):
    """The Content-Security-Policy as a dictionary."""
    return {name: sources for name, _, sources in (one.partition(" ") for one in answer[CSP].split("; "))}


@pytest.mark.parametrize("address", ["/admin/", "/admin/login/", "/admin/nothing/", "/nothing"])
def test_pages_run_scripts_of_our_own_files_alone(address):
    told = policy(Client().get(address))

    assert told["script-src"] == "'self' 'unsafe-eval'"
    assert (told["default-src"], told["object-src"], told["frame-ancestors"]) == ("'none'",) * 3
    assert (told["base-uri"], told["form-action"], told["img-src"]) == ("'self'", "'self'", "'self' data:")
    assert [name for name, sources in told.items() if "unsafe-inline" in sources] == ["style-src"]


@pytest.mark.parametrize(
    "address", ["/api/status", "/api/contacts/", "/api", "/api/nothing", "/callbacks/x", "/health"]
)
def test_nothing_runs_in_answers_for_programs(address):
    answer = Client().get(address)

    assert policy(answer) == dict.fromkeys(("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'")


def test_the_documentation_of_the_api_runs_no_text_as_a_script():
    answer = Client().get("/api/docs")

    assert policy(answer)["script-src"] == policy(answer)["connect-src"] == "'self'"


def test_every_answer_says_what_else_browsers_may_not_do():
    for address in ("/admin/login/", "/api/status", "/health", "/nothing"):
        told = Client().get(address).headers
        assert told["X-Content-Type-Options"] == "nosniff"
        assert told["X-Frame-Options"] == "DENY"
        assert told["Referrer-Policy"] == told["Cross-Origin-Opener-Policy"] == "same-origin"
        assert told["Cross-Origin-Resource-Policy"] == "same-origin"
        assert {"camera=()", "microphone=()", "geolocation=()"} <= set(told["Permissions-Policy"].split(", "))


def test_no_answer_of_the_api_is_kept_by_anybody():
    caller = Caller(OrganizationFactory())

    assert caller.get("/api/status").headers["Cache-Control"] == "no-store"
    assert Client().get("/api/status").headers["Cache-Control"] == "no-store"
    assert "no-store" in Client().get("/admin/login/").headers["Cache-Control"]


def test_scripts_read_no_cookie_of_ours():
    user = UserFactory(is_staff=True)
    user.set_password("a long enough password")
    user.save()
    browser = Client()
    browser.get("/admin/login/")
    browser.post("/admin/login/", {"username": user.email, "password": "a long enough password"})

    assert browser.cookies.keys() == {"sessionid", "csrftoken"}
    assert {(one["httponly"], one["samesite"], one["path"]) for one in browser.cookies.values()} == {(True, "Lax", "/")}


# Settings are read once: production is a process of its own.
IN_PRODUCTION = """
import django; django.setup()
from django.conf import settings
from django.test import Client
answer = Client().get("/admin/login/", secure=True, headers={"host": "kaanha.example"})
cookies = {name: [one["secure"], one["httponly"], one["samesite"], one["path"], one["domain"]]
           for name, one in answer.cookies.items()}
import json; print(json.dumps([cookies, settings.SESSION_COOKIE_NAME, answer.headers["Strict-Transport-Security"]]))
plain = Client().get("/admin/login/", headers={"host": "kaanha.example"})
print(plain.status_code, plain.headers["Location"])
"""


def test_cookies_in_production_go_over_tls_alone_and_are_this_hosts(tmp_path):
    environment = {**os.environ, **GOOD, "STATIC_ROOT": str(tmp_path), "DJANGO_SETTINGS_MODULE": "kaanha.settings"}
    manage("collectstatic", "--no-input", environment=environment)

    done = manage(IN_PRODUCTION, environment=environment, program=("-c",))

    told, plain = done.stdout.splitlines()
    cookies, session, hsts = json.loads(told)
    assert cookies == {"__Host-csrftoken": [True, True, "Lax", "/", ""]}
    assert session == "__Host-sessionid"
    assert hsts == "max-age=31536000; includeSubDomains; preload"
    assert plain == "301 https://kaanha.example/admin/login/"
