from datetime import time, timedelta

import pytest

from sequences.trees import Delay, Field, HasTag, Reached, Until, names, span, words
from tests.factories import OrganizationFactory, TagFactory, TemplateFactory
from tests.sequences.tree_samples import condition, delay, message

NAMES = {"tpl_x": "autumn_sale (en_US)", "tag_x": "purchased", "hello": "autumn_sale (step 1)"}


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (message("m", "tpl_x"), "Send autumn_sale (en_US)"),
        (message("m", "welcome (hi)"), "Send welcome (hi)"),
        (delay("d", days=2), "Wait 2 days"),
        (delay("d", hours=1), "Wait 1 hour"),
        (delay("d", minutes=90), "Wait 90 minutes"),
        (
            Delay("d", until=Until(time(9), frozenset({1, 0}), "Asia/Kolkata")),
            "Wait until 09:00 on Mon, Tue (Asia/Kolkata)",
        ),
        (Delay("d", until=Until(time(17, 5))), "Wait until 17:05"),
        (condition("c", HasTag("tag_x")), "Has the tag purchased?"),
        (
            condition("c", HasTag("tag_y"), wait=timedelta(hours=24)),
            "Has the tag tag_y? (waits up to 1 day for it)",
        ),
        (condition("c", Reached("hello", "sent")), "Was autumn_sale (step 1) sent?"),
        (condition("c", Reached("hello", "delivered")), "Was autumn_sale (step 1) delivered?"),
        (condition("c", Reached("hello", "read")), "Was autumn_sale (step 1) read?"),
        (condition("c", Reached("hello", "failed")), "Did autumn_sale (step 1) fail?"),
        (condition("c", Reached("gone", "replied")), "Was gone answered?"),
        (condition("c", Field("attributes.city", "equals", "{Pune}")), "Is city “{Pune}”?"),
        (condition("c", Field("attributes.name", "equals", "x")), "Is attributes.name “x”?"),
        (condition("c", Field("city", "notEquals", "Pune")), "Is city not “Pune”?"),
        (condition("c", Field("email", "contains", "@")), "Does email contain “@”?"),
        (condition("c", Field("phone", "startsWith", "+91")), "Does phone start with “+91”?"),
        (condition("c", Field("name", "isSet")), "Is name set?"),
        (condition("c", Field("name", "isNotSet")), "Is name not set?"),
        (condition("c", Field("age", "greaterThan", "30")), "Is age greater than 30?"),
        (condition("c", Field("age", "lessThan", "30")), "Is age less than 30?"),
    ],
)
def test_a_step_in_one_line(node, line):
    assert words(node, NAMES) == line


def test_a_length_of_time_in_words():
    spans = [timedelta(days=365), timedelta(hours=25), timedelta(seconds=61), timedelta(milliseconds=1500), timedelta()]

    assert [span(length) for length in spans] == ["365 days", "25 hours", "61 seconds", "1 second", "0 seconds"]


@pytest.mark.django_db
def test_people_call_rows_and_steps_by_name_and_number(django_assert_num_queries):
    organization = OrganizationFactory()
    tag = TagFactory(organization=organization, name="purchased")
    template = TemplateFactory(organization=organization, name="autumn_sale")
    nodes = (
        message("m", template.public_id),
        condition("c", HasTag(tag.public_id), yes=(delay("d"), message("typed", "welcome (hi)"))),
    )

    with django_assert_num_queries(2):
        called = names(nodes, organization)

    assert called == {
        tag.public_id: "purchased",
        template.public_id: "autumn_sale (en_US)",
        "m": "autumn_sale (step 1)",
        "c": "step 2",
        "d": "step 2 yes 1",
        "typed": "welcome (step 2 yes 2)",
    }


@pytest.mark.django_db
def test_rows_of_another_organization_have_no_name():
    tag, template = TagFactory(), TemplateFactory()
    nodes = (message("m", template.public_id), condition("c", HasTag(tag.public_id)))

    assert names(nodes, OrganizationFactory()) == {"m": f"{template.public_id} (step 1)", "c": "step 2"}
