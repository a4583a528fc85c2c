"""The demo's sequence: its files go together, and its check finds what is off."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from kaanha.demo_sequence import GUEST, STEPS, Basket, Letters
from kaanha.demo_talk import Talk, counted, differences
from kaanha.messaging.models import Message
from kaanha.simulator.samples import SAMPLES
from sequences import enrolling, publishing
from sequences.models import Source
from tests.factories import TemplateFactory
from tests.sequences.conftest import Stage

RIGHT = {
    "greeted": {"+1", "+2", "+3", "+4"},
    "thanked": {"+1"},
    "urged": {"+2"},
    "bought": {"+1", "+3"},
    "unsent": {"+3", "+4"},
}


def letters(**changed):
    return Letters(**{name: frozenset(people) for name, people in (RIGHT | changed).items()})


def test_everybody_on_the_path_of_their_tag_is_right():
    assert letters().faults() == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"urged": {"+1", "+2"}, "bought": set()}, "1 got both thank_you and last_chance: +1"),
        ({"bought": {"+3"}}, "1 got thank_you without the tag purchased: +1"),
        ({"bought": {"+1", "+2"}}, "1 got last_chance in spite of the tag purchased: +2"),
        ({"unsent": {"+4"}}, "1 got cart_saved, then nothing, for no reason: +3"),
        ({"urged": {"+2", GUEST}}, f"1 got last_chance after another marketing message: {GUEST}"),
    ],
)
def test_whoever_is_on_a_wrong_path_is_told(changed, fault):
    assert fault in letters(**changed).faults()


def received(to, template, *statuses):
    return {
        "waId": to.lstrip("+"),
        "template": {"name": template, "language": "en_US"},
        "statuses": [{"status": status} for status in statuses],
    }


def test_a_funnel_is_compared_with_the_receiving_side():
    messages = [
        received("1", "a", "sent", "read"),
        received("2", "a", "sent", "delivered"),
        received("3", "a", "failed"),
    ]

    assert counted(messages) == {"dispatched": 3, "delivered": 2, "read": 1}
    assert differences("A", {"dispatched": 3, "delivered": 2, "read": 1}, messages) == []
    assert differences("A", {"dispatched": 3, "delivered": 1, "read": 1}, messages) == [
        "A: delivered is 1 here and 2 at the simulated WhatsApp"
    ]


@pytest.fixture
def stage(db, settings):
    settings.SEQUENCE_MIN_DELAY = timedelta(seconds=1)
    return Stage()


@pytest.fixture
def told(stage):
    """The basket after four people: one bought, one did not, one left, one had not opted in and one came twice."""
    cart, purchased = stage.tag("cart"), stage.tag("purchased")
    for sample in SAMPLES:
        if sample["name"] in ("cart_saved", "thank_you", "last_chance"):
            words = {name: sample[name] for name in ("name", "category", "components")}
            TemplateFactory(organization=stage.organization, account=stage.number.account, **words)
    sequence = stage.draft(*json.loads(STEPS.read_text()), name="Cart", trigger="tag_added", trigger_tag=cart)
    publishing.activate(sequence, now=stage.now)
    people = [stage.contact() for _ in range(3)]
    stage.put_on(cart, *people, stage.contact(opted_in=False))
    stage.run()
    enrolling.enroll(sequence, [people[0].pk], source=Source.COMMAND, now=stage.now)
    stage.settle()
    stage.put_on(purchased, people[0])
    type(people[2]).objects.filter(pk=people[2].pk).update(opted_in=False)
    stage.wait(seconds=20)
    stage.settle()
    basket = Basket(Talk(Console(file=StringIO())), stage.organization.slug)
    basket.id, basket.imported = sequence.public_id, 3
    return basket, people


def sent():
    rows = Message.objects.select_related("contact", "template")
    return [received(row.contact.phone, row.template.name, "sent") for row in rows]


def test_the_files_of_the_demo_take_everybody_down_one_path(told):
    basket, (bought, looked, left) = told

    result = basket.compare(sent())

    assert basket.faults == []
    assert (result["enrolled"], result["completed"], result["yes"], result["no"]) == (3, 2, 1, 1)
    assert (result["exited"], result["refused"]) == ({"opted_out": 1}, {"already_enrolled": 1, "not_opted_in": 1})
    assert [(step["template"], step["dispatched"], step["skipped"]) for step in result["steps"]] == [
        ("cart_saved", 3, {}),
        ("thank_you", 1, {}),
        ("last_chance", 1, {}),
    ]
    got = {(row["waId"], row["template"]["name"]) for row in sent()}
    assert got == {
        *((contact.phone.lstrip("+"), "cart_saved") for contact in (bought, looked, left)),
        (bought.phone.lstrip("+"), "thank_you"),
        (looked.phone.lstrip("+"), "last_chance"),
    }


def test_a_message_to_the_wrong_person_is_told(told):
    basket, (bought, looked, _) = told
    others = [row for row in sent() if row["template"]["name"] != "thank_you"]

    basket.compare([*others, received(looked.phone, "thank_you", "sent")])

    assert basket.faults == [
        f"1 got both thank_you and last_chance: {looked.phone}",
        f"1 got thank_you without the tag purchased: {looked.phone}",
        f"1 got cart_saved, then nothing, for no reason: {bought.phone}",
    ]


def test_somebody_lost_or_refused_too_often_is_told(told):
    basket, _ = told
    basket.imported = 9
    basket.sequence.refusals.filter(code="already_enrolled").delete()

    basket.compare(sent())

    assert len(basket.faults) == 2
    assert "refused are {'not_opted_in': 1}" in basket.faults[0]
    assert "of 10 people 3 were enrolled" in basket.faults[1]


def test_whoever_is_still_inside_is_told(told, stage):
    basket, _ = told
    stage.put_on(basket.sequence.trigger_tag, stage.contact())
    stage.run()
    basket.imported = 4

    basket.compare(sent())

    assert basket.faults[0] == "Cart: 4 enrolled, 3 completed or exited, 1 inside"
