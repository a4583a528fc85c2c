"""What keeps a broadcast from being sent although its mapping is complete."""

import pytest

from broadcasts import preflight
from tests.factories import TagFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def problems(draft):
    """problems("city") is what is wrong when the only variable is filled with that field."""

    def ask(field, **more):
        return preflight.problems(draft(variables={"body.first_name": {"field": field, **more}}))

    return ask


def sentence(field):
    return (
        f"{{{{first_name}}}} in the body (body.first_name) is filled with contact.{field}, which none of the "
        "recipients has: correct the field's name, import a column of that name, or say what to use instead."
    )


@pytest.mark.parametrize(
    "field", ["nosuchfield", "attributes.nosuchfield", "blank", "nothing", "city.name", "name", "first_name", "email"]
)
def test_a_field_that_nobody_has_is_refused_by_its_name(problems, people, field):
    people(2, name="", attributes={"city": "Pune", "blank": "", "nothing": None})

    assert problems(field) == [sentence(field)]


@pytest.mark.parametrize(
    "field",
    ["city", "attributes.city", "0", "order__number", "order number", "no", "name", "first_name", "email", "phone"],
)
def test_a_field_that_one_of_them_has_is_fine(problems, people, field):
    people(1, name="")
    attributes = {"city": "Pune", "0": "zero", "order__number": "A-1", "order number": 7, "no": False}
    people(1, name="Asha", email="asha@example.test", attributes=attributes)

    assert problems(field) == []


def test_with_a_fallback_nobody_needs_the_field(problems, people):
    people(1)

    assert problems("nosuchfield", fallback="there") == []


def test_people_outside_the_audience_do_not_count(problems, people, organization):
    people(1)
    people(1, opted_in=False, attributes={"city": "Pune"})
    people(1, tags=[TagFactory(organization=organization, name="vip")], attributes={"city": "Pune"})

    assert problems("city") == [sentence("city")]


def test_with_nobody_to_send_to_that_is_all_there_is_to_say(problems):
    assert problems("nosuchfield") == [
        "There is nobody to send to: no opted-in contact with a phone number has any of its tags."
    ]
