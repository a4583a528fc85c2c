import json
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaanha.lib.errors import Refusal
from sequences.trees import flatten, parse, read, to_json
from templates_app.models import MessageTemplate
from tests.factories import BusinessAccountFactory, OrganizationFactory, TagFactory, TemplateFactory
from tests.sequences.tree_samples import Chance

DELAY = {"type": "delay", "delay": {"days": 2}}
MESSAGE = {"type": "message", "template": "tpl_x"}
ASK = {"type": "condition", "if": {"tag": "purchased"}, "yes": [DELAY]}


@pytest.fixture
def organization(db):
    return OrganizationFactory()


def refusal(raw):
    with pytest.raises(Refusal) as caught:
        parse(raw)
    assert caught.value.code == "tree_invalid"
    return str(caught.value)


def fields(raw):
    with pytest.raises(Refusal) as caught:
        parse(raw)
    return caught.value.fields


# --- what is given out and turned


def test_ids_are_given_out_where_they_are_missing(organization):
    (kept, given_out, inner) = flatten(parse(read([{**DELAY, "id": "mine"}, ASK], organization)))

    assert kept.key == "mine"
    assert all(len(step.key) == 8 and set(step.key) <= set("0123456789abcdef") for step in (given_out, inner))
    assert given_out.key != inner.key


def test_an_id_that_is_given_out_is_new_in_the_tree(monkeypatch):
    drawn = iter(["00000001", "00000001", "00000001", "00000002"])
    monkeypatch.setattr("sequences.tree_reading.secrets.token_hex", lambda _: next(drawn))

    assert [node.key for node in parse([DELAY, DELAY])] == ["00000001", "00000002"]


def test_what_is_left_out_is_written_in_full(organization):
    assert read([{**MESSAGE, "id": "m", "variables": None, "whenCapped": None}], organization) == [
        {"id": "m", "type": "message", "template": "tpl_x", "variables": {}, "whenCapped": "skip"}
    ]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ({"hours": 48}, {"days": 2}),
        ({"hours": 36}, {"hours": 36}),
        ({"seconds": 7200}, {"hours": 2}),
        ({"minutes": 90}, {"minutes": 90}),
        ({"seconds": 1}, {"seconds": 1}),
        ({"days": 36_525}, {"days": 36_525}),
    ],
)
def test_a_span_is_stored_in_its_largest_unit(organization, written, stored):
    assert read([{"id": "d", "type": "delay", "delay": written}], organization)[0]["delay"] == stored


def test_the_weekdays_are_stored_in_their_order_and_left_out_when_there_are_all_or_none(organization):
    until = [["sun", "mon", "mon"], ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], [], None]
    tree = [{"type": "delay", "until": {"time": "09:00", "weekdays": days, "timezone": None}} for days in until]

    assert [step["until"] for step in read(tree, organization)] == [
        {"time": "09:00", "weekdays": ["mon", "sun"]},
        {"time": "09:00"},
        {"time": "09:00"},
        {"time": "09:00"},
    ]


@pytest.mark.parametrize(
    ("written", "stored"),
    [(30, "30"), (2.5, "2.5"), (1e20, "1" + "0" * 20), (-0.001, "-0.001"), (" 30 ", " 30 "), ("", "")],
)
def test_a_number_to_compare_with_is_stored_as_people_write_it(written, stored):
    tree = [{"type": "condition", "if": {"field": "age", "is": "greaterThan", "value": written}, "yes": [DELAY]}]

    assert parse(tree)[0].test.value == stored


def test_tags_and_templates_are_turned_from_names_into_public_ids(organization, django_assert_num_queries):
    tag = TagFactory(organization=organization, name="Ärger & Lob")
    template = TemplateFactory(organization=organization, name="autumn_sale", language="en_US")
    written = [
        {"name": "autumn_sale", "language": "en_US"},
        {"name": "autumn_sale", "language": "en-US"},
        {"name": " autumn_sale "},
        "autumn_sale",
        "autumn_sale (en_US)",
        template.public_id,
    ]
    tree = [{"type": "condition", "if": {"tag": name}, "yes": [DELAY]} for name in ["ärger  & lob ", tag.public_id]]

    with django_assert_num_queries(2):
        stored = read([{"type": "message", "template": name} for name in written] + tree, organization)

    assert [step["template"] for step in stored[:6]] == [template.public_id] * 6
    assert [step["if"] for step in stored[6:]] == [{"tag": tag.public_id}] * 2


def test_names_are_turned_in_the_depth_of_the_tree_too(organization):
    tag = TagFactory(organization=organization, name="purchased")

    stored = read([{**ASK, "yes": None, "no": [{**ASK, "no": []}]}], organization)

    assert stored[0]["no"][0]["if"] == {"tag": tag.public_id}
    assert (stored[0].get("yes", "left out"), stored[0]["no"][0]["no"]) == ("left out", [])


def test_names_that_mean_nothing_or_more_than_one_thing_are_left_as_typed(organization):
    TemplateFactory(organization=organization, name="two_languages", language="en_US")
    TemplateFactory(organization=organization, name="two_languages", language="hi")
    for _ in range(2):
        account = BusinessAccountFactory(organization=organization)
        TemplateFactory(organization=organization, account=account, name="two_accounts", language="hi")
    TemplateFactory(organization=organization, name="gone", status=MessageTemplate.Status.DELETED)
    written = [
        "two_languages",
        {"name": "two_accounts", "language": "hi"},
        {"name": "two_languages", "language": "de"},
        "gone",
        "nowhere",
    ]

    stored = read([{"type": "message", "template": name} for name in written] + [ASK], organization)

    assert [step["template"] for step in stored[:-1]] == written
    assert stored[-1]["if"] == {"tag": "purchased"}
    assert read(stored, organization) == stored


def test_the_language_as_written_comes_before_another_spelling_of_it(organization):
    meant = TemplateFactory(organization=organization, name="welcome", language="en-US")
    TemplateFactory(organization=organization, account=meant.account, name="welcome", language="en_US")

    stored = read([{"type": "message", "template": {"name": "welcome", "language": "en-US"}}], organization)

    assert stored[0]["template"] == meant.public_id


def test_nothing_of_another_organization_is_found(organization):
    tag, template = TagFactory(name="purchased"), TemplateFactory(name="autumn_sale")
    tree = [{**MESSAGE, "template": "autumn_sale"}, {**MESSAGE, "template": template.public_id}, ASK]
    tree.append({**ASK, "if": {"tag": tag.public_id}})

    stored = read(tree, organization)

    assert [step["template"] for step in stored[:2]] == ["autumn_sale", template.public_id]
    assert [step["if"]["tag"] for step in stored[2:]] == ["purchased", tag.public_id]


def test_nothing_typed_costs_nothing(organization, django_assert_num_queries):
    with django_assert_num_queries(0):
        read([DELAY], organization)


@given(st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_tree_that_was_read_is_read_the_same_again(random):
    tree = json.loads(json.dumps(to_json(Chance(random).path())))

    assert to_json(parse(tree)) == tree


# --- what is refused


def test_every_fault_is_told_at_once_with_its_place():
    tree = [
        {"type": "delay", "delay": {"days": 0}},
        {"type": "goto", "next": "a"},
        {
            **ASK,
            "waitFor": {"weeks": 1},
            "yes": [{"type": "message", "template": " "}, {**ASK, "if": {}, "no": [{**DELAY, "id": "a b"}]}],
        },
    ]

    assert refusal(tree) == (
        'Step 1: "delay" takes one of days, hours, minutes, seconds with a whole number above 0 (100 years at most), '
        'as in {"days": 2}. '
        'Step 2: A step is an object whose "type" is one of: message, delay, condition. '
        'Step 3: "waitFor" takes one of days, hours, minutes, seconds with a whole number above 0 (100 years at most), '
        'as in {"days": 2}. '
        'Step 3 yes 1: "template" is missing: give it a text. '
        'Step 3 yes 2: "if" asks one thing: {"tag": "purchased"}, {"field": "city", "is": "equals", "value": "Pune"} '
        'or {"step": "welcome", "reached": "read"}. '
        'Step 3 yes 2 no 1: "id" has 1 to 32 letters, digits, _ and -: leave it out to have one given.'
    )


def test_a_member_that_would_make_a_cycle_is_unknown():
    assert refusal([{**DELAY, "id": "a"}, {**DELAY, "next": "a", "goto": "a"}]) == (
        "Step 2: There is no 'next', 'goto' here: leave it out. What may stand here: id, type, delay, until."
    )


def test_an_id_stands_once_in_the_whole_tree():
    tree = [{**DELAY, "id": "a"}, {**ASK, "yes": [{**DELAY, "id": "a"}]}]

    assert refusal(tree) == 'Step 2 yes 1: The id "a" stands at 1 already: leave it out of a copied step.'


@pytest.mark.parametrize("amount", [0, -1, 1.5, 2.0, 10**30, 36_526, True, "2", None, math.nan, math.inf, [2], {}])
def test_a_delay_needs_a_whole_number_above_zero(amount):
    assert refusal([{"type": "delay", "delay": {"days": amount}}]).startswith('Step 1: "delay" takes one of days')


@pytest.mark.parametrize("span", [{}, {"days": 1, "hours": 1}, {"weeks": 1}, {"Days": 1}, 2, "2 days", [], {None: 1}])
def test_a_delay_has_exactly_one_known_unit(span):
    assert refusal([{"type": "delay", "delay": span}]).startswith('Step 1: "delay" takes one of days')


@pytest.mark.parametrize("parts", [{}, {"delay": {"days": 1}, "until": {"time": "09:00"}}, {"delay": None}])
def test_a_delay_has_a_span_or_a_time_of_day(parts):
    assert refusal([{"type": "delay", **parts}]) == (
        'Step 1: A delay has either "delay", as {"days": 2}, or "until", as {"time": "09:00"}.'
    )


@pytest.mark.parametrize("clock", ["9:00", "24:00", "09:60", "09:00:00", "09:00\n", "०९:००", "", None, 9, ["09:00"]])
def test_a_time_of_day_is_written_with_24_hours(clock):
    assert refusal([{"type": "delay", "until": {"time": clock}}]) == (
        'Step 1: "time" is written with 24 hours, like "09:00" or "17:30".'
    )


@pytest.mark.parametrize(
    "days", ["mon", ["monday"], ["Mon"], [0], [None], [["mon"]], {"mon": True}, ["mon"] * 8, False]
)
def test_weekdays_are_a_list_of_short_names(days):
    assert refusal([{"type": "delay", "until": {"time": "09:00", "weekdays": days}}]) == (
        'Step 1: "weekdays" is a list of mon, tue, wed, thu, fri, sat, sun; leave it out for every day.'
    )


@pytest.mark.parametrize("zone", ["", "Europe/Berlin\n", "a b", "x" * 65, "../../etc", 5, ["UTC"], "\0"])
def test_a_timezone_looks_like_one(zone):
    assert refusal([{"type": "delay", "until": {"time": "09:00", "timezone": zone}}]) == (
        'Step 1: "timezone" is a name such as Asia/Kolkata; leave it out for the organization\'s.'
    )


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"template": None}, '"template" is missing: give it a text.'),
        ({"template": 5}, '"template" takes a text.'),
        ({"template": "x" * 541}, '"template" is longer than 540 characters: shorten it.'),
        ({"template": "a\0"}, '"template" has characters that can\'t be stored (NUL, half a pair): type it again.'),
        ({"template": {"language": "en"}}, '"name" is missing: give it a text.'),
        ({"template": {"name": "a", "language": "e n"}}, 'The template\'s "language" is written like en_US.'),
        ({"template": {"name": "a", "language": 5}}, 'The template\'s "language" is written like en_US.'),
        (
            {"template": {"name": "a", "id": "b"}},
            "There is no 'id' here: leave it out. What may stand here: name, language.",
        ),
        ({"whenCapped": "send"}, '"whenCapped" is one of: skip, wait.'),
        ({"whenCapped": False}, '"whenCapped" is one of: skip, wait.'),
        ({"whenCapped": ["skip"]}, '"whenCapped" is one of: skip, wait.'),
        (
            {"variables": ["a"]},
            '"variables" is an object such as {"body.1": {"field": "first_name"}}, with at most 100.',
        ),
        (
            {"variables": {str(key): {} for key in range(101)}},
            '"variables" is an object such as {"body.1": {"field": "first_name"}}, with at most 100.',
        ),
        (
            {"variables": {"body.1": "x"}},
            'The variable \'body.1\' is an object such as {"field": "city"} or {"text": "x"}.',
        ),
        (
            {"variables": {"body.1": {"value": "x"}}},
            "There is no 'value' here: leave it out. What may stand here: field, fallback, text, link, id, filename.",
        ),
        ({"variables": {"body.1": {"text": 5}}}, '"text" takes a text.'),
        ({"variables": {"body.1": {"text": "x" * 2049}}}, '"text" is longer than 2048 characters: shorten it.'),
        (
            {"variables": {"body.1": {"text": "\ud800"}}},
            '"text" has characters that can\'t be stored (NUL, half a pair): type it again.',
        ),
        ({"variables": {"": {"text": "x"}}}, '"the name of a variable" is missing: give it a text.'),
    ],
)
def test_what_is_wrong_with_a_message_step(part, sentence):
    assert refusal([{**MESSAGE, **part}]) == f"Step 1: {sentence}"


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ({"tag": 5}, '"tag" takes a text.'),
        ({"tag": "x" * 121}, '"tag" is longer than 120 characters: shorten it.'),
        ({"tag": "x", "value": "y"}, "There is no 'value' here: leave it out. What may stand here: tag."),
        (
            {"field": "city", "is": "like", "value": "x"},
            '"is" is one of: equals, notEquals, contains, startsWith, isSet, isNotSet, greaterThan, lessThan.',
        ),
        ({"field": "city", "is": "isSet", "value": ""}, '"isSet" compares with nothing: leave "value" out.'),
        ({"field": "attributes.", "is": "isSet"}, '"field" names no attribute: write it like attributes.city.'),
        ({"field": "age", "is": "lessThan", "value": math.nan}, '"value" takes a text.'),
        ({"field": "age", "is": "lessThan", "value": math.inf}, '"value" takes a text.'),
        ({"field": "age", "is": "lessThan", "value": 10**5000}, '"value" takes a text.'),
        ({"field": "age", "is": "equals", "value": True}, '"value" takes a text.'),
        ({"field": "age", "is": "equals", "value": ["Pune"]}, '"value" takes a text.'),
        ({"step": "a", "reached": "clicked"}, '"reached" is one of: sent, delivered, read, failed, replied.'),
        ({"step": "a"}, '"reached" is one of: sent, delivered, read, failed, replied.'),
        ({"step": ["a"], "reached": "read"}, '"step" takes a text.'),
    ],
)
def test_what_is_wrong_with_the_test_of_a_condition(test, sentence):
    assert refusal([{**ASK, "if": test}]) == f"Step 1: {sentence}"


@pytest.mark.parametrize("test", [None, {}, [], "tag", {"tag": "a", "field": "b"}, {"tag": None}])
def test_a_condition_asks_exactly_one_thing(test):
    assert refusal([{**ASK, "if": test}]).startswith('Step 1: "if" asks one thing: {"tag": "purchased"}')


@pytest.mark.parametrize("raw", [None, {}, "[]", 5, True, (), {"steps": []}])
def test_the_steps_are_a_list(raw):
    assert refusal(raw) == 'Steps stand in a list, as in [{"type": "delay", "delay": {"days": 2}}].'


@pytest.mark.parametrize("path", [{}, "x", 0, False])
def test_a_path_is_a_list(path):
    assert refusal([{**ASK, "no": path}]).startswith("Step 1 no: Steps stand in a list")


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä", "x" * 33, 5, True, ["a"], {}, "\0"])
def test_an_id_has_plain_letters(key):
    assert refusal([{**DELAY, "id": key}]).startswith('Step 1: "id" has 1 to 32 letters')


def test_two_hundred_steps_are_enough():
    assert len(parse([DELAY] * 200)) == 200
    assert refusal([{**ASK, "yes": [DELAY] * 150}, *[DELAY] * 10**5]) == (
        "There are more than 200 steps: continue in another sequence."
    )


def nested(depth):
    tree = [DELAY]
    for _ in range(depth):
        tree = [{**ASK, "yes": None, "no": tree}]
    return tree


def test_conditions_stand_twenty_deep():
    assert len(flatten(parse(nested(20)))) == 21
    place = "1" + " no 1" * 20
    assert refusal(nested(21)) == (
        f"Step {place}: Conditions stand at most 20 deep in each other: continue in another sequence."
    )


def test_what_contains_itself_comes_to_an_end():
    endless = {**ASK}
    endless["yes"] = endless["no"] = [endless]

    assert "There are more than 200 steps" in refusal([endless])


def test_names_in_the_refusal_are_short_and_can_be_written():
    said = refusal([{**DELAY, **{f"\ud800{'x' * 99}{number}": 1 for number in range(1000)}, 5: 6}])

    assert len(said) < 500
    assert said.encode().startswith(b"Step 1: There is no '\\ud800xxx")
    assert said.count(" …") == 1


MEMBERS = (
    *("id", "type", "template", "variables", "whenCapped", "delay", "until", "if", "waitFor", "yes", "no", "days"),
    *("time", "weekdays", "timezone", "tag", "field", "is", "value", "step", "reached", "name", "language", "next"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**30)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["message", "delay", "condition", "tpl_x", "\0", "\ud800", "isSet", "equals", "read", "a"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=30,
)


def read_or_refused(raw, read=lambda raw: to_json(parse(raw))):
    """What was read; None where it was refused, in a sentence that can be written. Nothing else may be raised."""
    try:
        return read(raw)
    except Refusal as refused:
        return None if (refused.code, bool(str(refused).encode())) == ("tree_invalid", True) else pytest.fail("what?")


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_read_or_refused(raw):
    tree = read_or_refused(raw)

    assert tree is None or to_json(parse(tree)) == tree


WRONG: list[object] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    10**5000,
    math.nan,
    math.inf,
    "",
    "\0",
    "\ud800",
    "x" * 10**5,
    [],
    {},
    [[]],
    {"": []},
    {5: 6},
]


def spoiled(value, random):
    """`value` with one place in it replaced by something wrong, or with something added."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(list(value))
        return {**value, key: spoiled(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        place = random.randrange(len(value))
        return [*value[:place], spoiled(value[place], random), *value[place + 1 :]]
    return random.choice(WRONG)


def test_good_trees_spoiled_in_one_place_are_read_or_refused(organization):
    random = Random(4)
    spoils = [spoiled(to_json(Chance(random).path()), random) for _ in range(1000)]
    outcomes = [read_or_refused(tree, lambda raw: read(raw, organization)) for tree in spoils]

    assert 300 < outcomes.count(None) < 1000


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        ({}, ["steps"]),
        ([DELAY] * 201, ["steps"]),
        ([7], ["steps.0"]),
        ([DELAY, {**DELAY, "goto": "a"}], ["steps.1"]),
        ([{**DELAY, "id": "a b"}], ["steps.0.id"]),
        ([{**DELAY, "id": "a"}, {**DELAY, "id": "a"}], ["steps.1.id"]),
        ([{"type": "delay", "delay": {"days": 10**40}}], ["steps.0.delay"]),
        ([DELAY, DELAY, {**ASK, "yes": [{"type": "delay", "delay": 1}]}], ["steps.2.yes.0.delay"]),
        ([{**ASK, "no": {}}], ["steps.0.no"]),
        ([{**ASK, "if": {}}], ["steps.0.if"]),
        ([{**ASK, "if": {"field": "age", "is": "older", "value": []}}], ["steps.0.if.is", "steps.0.if.value"]),
        ([{**ASK, "if": {"step": 7, "reached": 7}}], ["steps.0.if.reached", "steps.0.if.step"]),
        ([{**ASK, "waitFor": {}}], ["steps.0.waitFor"]),
        ([{"type": "delay", "until": {"time": 9, "weekdays": 1, "timezone": 1}}],
         ["steps.0.until.time", "steps.0.until.weekdays", "steps.0.until.timezone"]),
        ([{**MESSAGE, "whenCapped": 1, "variables": {"body.1": 7, "body.2": {"text": 7}}}],
         ["steps.0.variables.body.1", "steps.0.variables.body.2.text", "steps.0.whenCapped"]),
        ([{"type": "message", "template": {"name": 1}}], ["steps.0.template.name"]),
    ],
)  # fmt: skip
def test_every_fault_has_its_place_as_the_api_writes_it(tree, paths):
    assert list(fields(tree)) == paths
    assert all(len(sentences) == 1 for sentences in fields(tree).values())
