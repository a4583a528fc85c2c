"""Templates in the admin: what the list shows, and what it says where there is none."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kaanha.organizations.models import Role
from templates_app.models import MessageTemplate
from templates_app.reasons import why
from tests.factories import BusinessAccountFactory, OrganizationFactory, TemplateFactory
from tests.people import signed_in, text

pytestmark = pytest.mark.django_db
LIST = "/admin/templates_app/messagetemplate/"
NO_BRACES = (
    "Its variables or links aren't written as Meta wants them: number them {{1}}, {{2}} without a gap, put none "
)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        ("APPROVED", "INVALID_FORMAT", ""),
        ("PENDING", "", ""),
        ("PONDERED", "SCAM", ""),
        ("REJECTED", "", "Meta gave no reason: WhatsApp Manager may show one."),
        ("REJECTED", "PROMOTIONAL", "It advertises, which its category doesn't allow. Submit it as Marketing."),
        (
            "REJECTED",
            "PROMOTIONAL · Mend it. · Or not.",
            "It advertises, which its category doesn't allow. Submit it as Marketing. Meta says: Mend it. Or not.",
        ),
        ("REJECTED", "TOO_LOUD", "Meta's reason: too loud."),
        ("REJECTED", "TOO_LOUD · Be quiet.", "Meta's reason: too loud. Meta says: Be quiet."),
        ("PAUSED", "Low quality", "Meta says: Low quality"),
        (
            "PAUSED",
            "",
            "Too many people blocked or reported it. Meta lets it go on after some hours; a third time disables it.",
        ),
        ("DISABLED", "", "It was paused too often, or breaks Meta's rules. Make a new one, with other words."),
        ("DELETED", "", "It isn't at Meta any more. Make it anew there, then sync."),
    ],
)
def test_why_a_template_is_not_sent_is_said_in_words(status, reason, words):
    assert why(MessageTemplate(status=status, rejected_reason=reason)) == words


def test_the_list_shows_messages_as_people_get_them_with_the_reason_of_a_rejection():
    shop = OrganizationFactory()
    components = [
        {"type": "HEADER", "format": "TEXT", "text": "Sale"},
        {"type": "BODY", "text": "Hi *{{1}}*,\n<b>now</b>", "example": {"body_text": [["Asha"]]}},
        {"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Shop", "url": "https://shop.example/"}]},
    ]
    refused = {"status": "REJECTED", "rejected_reason": "INVALID_FORMAT"}
    TemplateFactory(organization=shop, name="sale", language="hi", components=components, **refused)
    TemplateFactory(name="theirs")

    page = signed_in(shop).get(LIST)

    [bubble] = re.findall(r'<div class="k-phone.*?</div></div>', page.content.decode(), re.DOTALL)
    assert bubble.startswith('<div class="k-phone k-compact">')
    assert "Hi <strong>Asha</strong>,<br>&lt;b&gt;now&lt;/b&gt;" in bubble
    assert 'title="https://shop.example/">Shop</div>' in bubble
    shown = text(page)
    assert "sale hi" in shown
    assert f"Rejected {NO_BRACES}" in shown
    assert "theirs" not in shown
    assert "No templates yet" not in shown


def test_the_list_costs_the_same_however_many_templates():
    shop = OrganizationFactory()
    owner = signed_in(shop)
    TemplateFactory(organization=shop)
    owner.get(LIST)
    with CaptureQueriesContext(connection) as one:
        owner.get(LIST)
    TemplateFactory.create_batch(4, organization=shop, status="REJECTED")
    with CaptureQueriesContext(connection) as five:
        owner.get(LIST)

    assert len(one) == len(five)
    # the templates: their number, and a page of them
    assert sum('FROM "templates_app_messagetemplate"' in query["sql"] for query in five.captured_queries) == 2


def test_an_empty_list_says_what_to_do_first():
    shop = OrganizationFactory()
    TemplateFactory()
    owner, viewer = signed_in(shop), signed_in(shop, Role.VIEWER)

    first = owner.get(LIST)
    assert "No templates yet Connect WhatsApp, then sync" in text(first)
    assert 'href="/admin/whatsapp/businessaccount/add/"' in first.content.decode().partition("k-nothing")[2][:900]
    assert "No templates yet Connect WhatsApp, then sync" in text(viewer.get(LIST))
    assert '/businessaccount/add/"' not in viewer.get(LIST).content.decode()

    BusinessAccountFactory(organization=shop)
    then = owner.get(LIST)
    assert "Write templates in WhatsApp Manager; a sync brings them here" in text(then)
    assert f'href="{LIST}sync-from-meta/"' in then.content.decode().partition("k-nothing")[2][:900]

    seen = viewer.get(LIST)
    assert "No templates yet Meta has to approve" in text(seen)
    assert f'{LIST}sync-from-meta/"' not in seen.content.decode().partition("k-nothing")[2][:900]

    assert "No templates yet" not in text(owner.get(f"{LIST}?q=nothing"))
