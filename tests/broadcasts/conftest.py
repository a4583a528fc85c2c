import pytest

from tests.factories import (
    BroadcastFactory,
    ContactFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    TagFactory,
    TemplateFactory,
)


@pytest.fixture
def organization(db):
    return OrganizationFactory(timezone="Asia/Kolkata")


@pytest.fixture
def number(organization):
    return PhoneNumberFactory(
        organization=organization, phone_number_id="200000000000001", account__waba_id="300000000000001"
    )


@pytest.fixture
def template(organization, number):
    return TemplateFactory(
        organization=organization,
        account=number.account,
        name="new_arrivals",
        parameter_format="NAMED",
        components=[{"type": "BODY", "text": "Hi {{first_name}}, new things are in."}],
    )


@pytest.fixture
def tag(organization):
    return TagFactory(organization=organization, name="newsletter")


@pytest.fixture
def people(organization, tag):
    """people(3) makes three opted-in holders of the tag."""

    def make(count, *, tags=(tag,), **fields):
        contacts = ContactFactory.create_batch(count, organization=organization, **fields)
        for contact in contacts:
            contact.tags.set(tags, through_defaults={"added_at": contact.created_at})
        return contacts

    return make


@pytest.fixture
def draft(organization, number, template, tag):
    """draft() is a draft to the tag that could be sent."""

    def make(**fields):
        basis = {
            "organization": organization,
            "phone_number": number,
            "template": template,
            "tags": [tag],
            "variables": {"body.first_name": {"field": "first_name", "fallback": "there"}},
        }
        return BroadcastFactory(**basis | fields)

    return make
