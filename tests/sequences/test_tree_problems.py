from datetime import time, timedelta

import pytest

from sequences.trees import Delay, Field, HasTag, Problem, Reached, Until, parse, problems, read
from templates_app.models import MessageTemplate
from tests.factories import PhoneNumberFactory, TagFactory, TemplateFactory
from tests.sequences.tree_samples import condition, delay, message

MINUTE = timedelta(minutes=1)


@pytest.fixture
def phone_number(db):
    return PhoneNumberFactory()


@pytest.fixture
def organization(phone_number):
    return phone_number.organization


@pytest.fixture
def template(phone_number):
    return TemplateFactory(organization=phone_number.organization, account=phone_number.account, name="autumn_sale")


@pytest.fixture
def found(phone_number):
    """The problems of some steps, for this number's organization."""

    def found(*nodes, minimum=MINUTE):
        return problems(nodes, organization=phone_number.organization, phone_number=phone_number, minimum=minimum)

    return found


@pytest.fixture
def sentences(found, template):
    """The problems of the steps after one good message step, as (place, sentence)."""
    good = message("good", template.public_id)

    def sentences(*nodes, **options):
        return [(problem.place, problem.sentence) for problem in found(good, *nodes, **options)]

    return sentences


def test_a_good_tree_has_no_problems(organization, template, sentences):
    tag = TagFactory(organization=organization)
    thanks = message("thanks", template.public_id)

    assert (
        sentences(
            delay("d", minutes=1),
            delay("long", days=365),
            Delay("u", until=Until(time(9), timezone="Asia/Kolkata")),
            condition("tag", HasTag(tag.public_id), wait=timedelta(hours=24), yes=(thanks,)),
            condition("asks", Reached("thanks", "read"), no=(message("last", template.public_id),)),
            condition("older", Field("age", "greaterThan", " 30 "), yes=(delay("e"),)),
            condition("named", Field("name", "isSet"), yes=(delay("f"),)),
        )
        == []
    )


def test_a_tree_without_a_message_step_is_refused(found):
    assert found() == [Problem("", "", "There is no message step: add one that sends a template.")]
    assert found(delay("d", seconds=1)) == [
        Problem("", "", "There is no message step: add one that sends a template."),
        Problem("1", "d", "The wait of 1 second is too short: make it 1 minute or longer."),
    ]


def test_all_problems_are_told_in_the_order_of_reading(organization, template, found):
    tag = TagFactory(organization=organization)
    nodes = (
        condition(
            "a",
            HasTag(tag.public_id),
            yes=(message("b", "nowhere"), condition("c", HasTag("nothing"), wait=timedelta(seconds=1), yes=(), no=())),
            no=(message("d", template.public_id, variables={"body.1": {"text": "x"}}),),
        ),
        delay("e", days=3650),
    )

    assert found(*nodes) == [
        Problem("1 yes 1", "b", "There is no template nowhere: choose another, or sync the templates from Meta."),
        Problem("1 yes 2", "c", "There is no tag nothing: create it, or choose another."),
        Problem("1 yes 2", "c", "The wait for the test of 1 second is too short: make it 1 minute or longer."),
        Problem(
            "1 yes 2",
            "c",
            "The Yes path was emptied: add a step to it, or remove the path so that it goes straight on.",
        ),
        Problem(
            "1 yes 2",
            "c",
            "The No path was emptied: add a step to it, or remove the path so that it goes straight on.",
        ),
        Problem("1 no 1", "d", "The template has no variable body.1; it has: none."),
        Problem("2", "e", "The wait of 3650 days is too long: make it 365 days or shorter."),
    ]


@pytest.mark.parametrize("status", ["PENDING", "PAUSED", "REJECTED", "DISABLED", "DELETED", "A_NEW_STATUS"])
def test_a_template_that_is_not_approved_is_a_problem(template, sentences, status):
    MessageTemplate.objects.filter(pk=template.pk).update(status=status)

    shown = status.lower().replace("_", " ")
    assert sentences() == [
        (
            "1",
            f"Template autumn_sale (en_US) is {shown} at Meta: choose an approved template, or wait until Meta has "
            "approved it.",
        )
    ]


def test_a_template_of_another_account_than_the_numbers_is_a_problem(organization, phone_number, found):
    other = TemplateFactory(organization=organization, name="elsewhere")
    nodes = (message("m", other.public_id),)

    assert [problem.sentence for problem in found(*nodes)] == [
        f"Template elsewhere (en_US) belongs to another WhatsApp account than the number {phone_number}: choose a "
        "template of the number's account, or another number."
    ]
    assert problems(nodes, organization=organization, phone_number=None, minimum=MINUTE) == []


def test_rows_of_another_organization_are_unknown(sentences):
    tag, template = TagFactory(name="hidden"), TemplateFactory(name="hidden")

    told = sentences(
        message("m", template.public_id),
        condition("c", HasTag(tag.public_id), yes=(delay("d"),)),
        message("n", "hidden"),
    )

    assert told == [
        ("2", f"There is no template {template.public_id}: choose another, or sync the templates from Meta."),
        ("3", f"There is no tag {tag.public_id}: create it, or choose another."),
        ("4", "There is no template hidden: choose another, or sync the templates from Meta."),
    ]


def test_a_template_that_was_typed_says_what_there_is(organization, sentences):
    TemplateFactory(organization=organization, name="welcome", language="en_US")
    TemplateFactory(organization=organization, name="welcome", language="hi")

    assert sentences(message("m", "welcome (de)"), message("n", "welcome")) == [
        (
            "2",
            "There is no template welcome (de): choose another, or sync the templates from Meta. It is there in: "
            "en_US, hi.",
        ),
        ("3", "There are several templates welcome: choose one, with its language and account."),
    ]


def test_the_variables_of_a_message_are_judged(organization, phone_number, found):
    template = TemplateFactory(
        organization=organization,
        account=phone_number.account,
        components=[{"type": "BODY", "text": "Hello {{1}}, until {{2}}."}],
    )
    nodes = (message("m", template.public_id, variables={"body.1": {"field": "name"}, "body.3": {"text": "x"}}),)

    assert [problem.sentence for problem in found(*nodes)] == [
        "The template has no variable body.3; it has: body.1, body.2.",
        "{{2}} in the body (body.2) has no value: map it to a contact's field or a text.",
    ]


def test_a_template_that_kaanha_cannot_send_is_a_problem(organization, phone_number, found):
    template = TemplateFactory(
        organization=organization,
        account=phone_number.account,
        name="cards",
        components=[{"type": "BODY", "text": "Look."}, {"type": "CAROUSEL", "cards": []}],
    )

    assert [problem.sentence for problem in found(message("m", template.public_id))] == [
        "Template cards (en_US) can't be sent. It has a part of the kind CAROUSEL, which Kaanha doesn't send yet. "
        "Choose another template."
    ]


@pytest.mark.parametrize(
    ("span", "sentence"),
    [
        (timedelta(seconds=59), "The wait of 59 seconds is too short: make it 1 minute or longer."),
        (timedelta(days=365, seconds=1), "The wait of 31536001 seconds is too long: make it 365 days or shorter."),
        (timedelta(0), "The wait of 0 seconds is too short: make it 1 minute or longer."),
    ],
)
def test_a_delay_stays_within_its_bounds(sentences, span, sentence):
    assert sentences(Delay("d", span=span)) == [("2", sentence)]


def test_the_shortest_delay_is_a_setting(sentences):
    assert sentences(delay("d", seconds=1), minimum=timedelta(seconds=1)) == []


def test_the_wait_for_a_test_has_the_bounds_of_a_delay(organization, sentences):
    tag = TagFactory(organization=organization).public_id
    ask = [
        condition(f"c{days}", HasTag(tag), wait=timedelta(days=days), yes=(delay(f"d{days}"),)) for days in (365, 366)
    ]

    assert sentences(*ask) == [("3", "The wait for the test of 366 days is too long: make it 365 days or shorter.")]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "america/new_york", "../../etc/passwd", "America", "GMT+25"])
def test_an_unknown_timezone_is_a_problem(sentences, zone):
    assert sentences(Delay("d", until=Until(time(9), timezone=zone))) == [
        ("2", f"'{zone}' is not a known timezone. Use a name such as Asia/Kolkata or Europe/Madrid.")
    ]


def test_a_condition_without_paths_is_one_problem(organization, sentences):
    tag = HasTag(TagFactory(organization=organization).public_id)

    assert sentences(condition("c", tag)) == [
        ("2", "Neither path has steps: add some to the Yes path or the No path, or remove the condition.")
    ]
    assert sentences(condition("c", tag, yes=())) == [
        ("2", "The Yes path was emptied: add a step to it, or remove the path so that it goes straight on.")
    ]


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("nowhere", "the step nowhere, which doesn't exist"),
        ("ask", "step 2, which sends no message"),
        ("pause", "step 2 no 1, which sends no message"),
        ("other", "step 2 no 2, which stands on the other path"),
        ("later", "step 3, which comes later"),
        ("inside", "step 2 yes 2 yes 1, which comes later"),
    ],
)
def test_a_condition_asks_about_an_earlier_message_step(template, sentences, asked, fault):
    def sends(key):
        return message(key, template.public_id)

    asking = condition("asks", Reached(asked, "read"), yes=(sends("inside"),))
    tree = condition("ask", Reached("good", "sent"), yes=(sends("near"), asking), no=(delay("pause"), sends("other")))

    assert sentences(tree, sends("later")) == [
        ("2 yes 2", f"It asks about {fault}: choose a message step before it: 1, 2 yes 1.")
    ]


def test_where_no_message_step_comes_before_a_condition_that_is_said(template, found):
    asking = condition("asks", Reached("later", "read"), yes=(delay("d"),))

    assert found(asking, message("later", template.public_id)) == [
        Problem(
            "1",
            "asks",
            "It asks about step 2, which comes later: put a message step before the condition.",
        )
    ]


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (Field("city", "equals"), "It compares city with nothing: give it a value, or ask whether the field is set."),
        (
            Field("city", "contains", " "),
            "It compares city with nothing: give it a value, or ask whether the field is set.",
        ),
        (Field("age", "lessThan"), "It compares age with nothing: give it a value, or ask whether the field is set."),
        (
            Field("age", "greaterThan", "thirty"),
            "It compares age with “thirty”, which is no number: write it like 30 or 2.5.",
        ),
        (
            Field("age", "lessThan", "nan"),
            "It compares age with “nan”, which is no number: write it like 30 or 2.5.",
        ),
    ],
)
def test_a_comparison_needs_something_to_compare_with(sentences, test, sentence):
    assert sentences(condition("c", test, yes=(delay("d"),))) == [("2", sentence)]


@pytest.mark.parametrize("steps", [1, 60])
def test_two_queries_judge_any_number_of_steps(organization, phone_number, django_assert_num_queries, steps):
    tree = [
        part
        for number in range(steps)
        for part in (
            {
                "type": "message",
                "template": TemplateFactory(organization=organization, account=phone_number.account).public_id,
            },
            {
                "type": "condition",
                "if": {"tag": TagFactory(organization=organization).public_id},
                "yes": [{"id": f"d{number}", "type": "delay", "delay": {"days": 1}}],
            },
        )
    ]
    nodes = parse(read(tree, organization))

    with django_assert_num_queries(2):
        assert problems(nodes, organization=organization, phone_number=phone_number, minimum=MINUTE) == []
