"""A number, a template and a contact that the simulator knows."""

import pytest

from tests.factories import ContactFactory, DispatchFactory, MessageFactory, PhoneNumberFactory, TemplateFactory


@pytest.fixture
def number(db):
    """The simulator's first number, at its full speed."""
    return PhoneNumberFactory(phone_number_id="200000000000001", account__waba_id="300000000000001", throughput=1000)


@pytest.fixture
def marketing(number):
    """A MARKETING template of the simulator, with the first name in it."""
    return TemplateFactory(
        organization=number.organization,
        account=number.account,
        name="new_arrivals",
        parameter_format="NAMED",
        components=[{"type": "BODY", "text": "Hi {{first_name}}, new things are in."}],
    )


@pytest.fixture
def utility(number):
    return TemplateFactory(
        organization=number.organization,
        account=number.account,
        name="order_update",
        category="UTILITY",
        components=[{"type": "BODY", "text": "Hi {{1}}, your order {{2}} is on its way."}],
    )


@pytest.fixture
def queue(number, marketing, utility):
    """queue(3) puts three marketing messages of one dispatch into the ledger; or queue(1, category="UTILITY")."""

    def put(count=1, *, category="MARKETING", contacts=None, dispatch=None, **fields):
        template = marketing if category == "MARKETING" else utility
        dispatch = dispatch or DispatchFactory(
            organization=number.organization,
            phone_number=number,
            lane=category.lower(),
            variables={"body.first_name": {"field": "first_name"}}
            if category == "MARKETING"
            else {"body.1": {"field": "first_name"}, "body.2": {"text": "A-1"}},
        )
        contacts = contacts or ContactFactory.create_batch(count, organization=number.organization)
        return [
            MessageFactory(
                organization=number.organization, dispatch=dispatch, contact=contact, template=template, **fields
            )
            for contact in contacts
        ]

    return put
