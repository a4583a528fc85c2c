from datetime import time, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequences.trees import (
    Condition,
    Delay,
    Field,
    HasTag,
    Kind,
    Message,
    Reached,
    Until,
    earlier_messages,
    flatten,
    number,
    parse,
    to_json,
)
from tests.sequences.tree_samples import Chance, condition, delay, message

# Both paths of `ask` come together at `last`; `deep` ends the No path of a condition that ends the Yes path of `ask`.
NESTED = (
    message("first"),
    condition(
        "ask",
        yes=(message("thanks"), condition("inner", no=(message("deep"),))),
        no=(delay("pause"), message("chance")),
    ),
    delay("rest"),
    message("last"),
)


def ways(nodes):
    return {step.key: (step.place, step.next, step.yes, step.no) for step in flatten(nodes)}


def test_steps_are_numbered_and_joined_in_the_order_of_reading():
    assert ways(NESTED) == {
        "first": ("1", "ask", None, None),
        "ask": ("2", "rest", "thanks", "pause"),
        "thanks": ("2 yes 1", "inner", None, None),
        "inner": ("2 yes 2", "rest", "rest", "deep"),
        "deep": ("2 yes 2 no 1", "rest", None, None),
        "pause": ("2 no 1", "chance", None, None),
        "chance": ("2 no 2", "rest", None, None),
        "rest": ("3", "last", None, None),
        "last": ("4", None, None, None),
    }
    assert list(ways(NESTED)) == ["first", "ask", "thanks", "inner", "deep", "pause", "chance", "rest", "last"]


def test_what_follows_a_condition_at_the_end_is_the_end():
    nodes = (condition("ask", yes=(message("thanks"),), no=()),)

    assert ways(nodes) == {"ask": ("1", None, "thanks", None), "thanks": ("1 yes 1", None, None, None)}


def test_an_emptied_path_leads_to_the_step_after_the_condition_like_one_left_out():
    assert ways((condition("ask", yes=(), no=None), message("last")))["ask"] == ("1", "last", "last", "last")


def test_no_steps_are_no_ways():
    assert flatten(()) == []


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("first", []),
        ("ask", ["first"]),
        ("inner", ["first", "thanks"]),
        ("deep", ["first", "thanks"]),
        ("chance", ["first"]),  # neither thanks nor deep: they stand on the other path
        ("last", ["first", "thanks", "deep", "chance"]),
        ("nowhere", []),
    ],
)
def test_a_step_may_ask_about_messages_before_it_but_not_on_the_other_path(key, known):
    assert [node.key for node in earlier_messages(NESTED, key)] == known


def test_the_json_of_every_kind_of_step():
    tree = [
        {
            "id": "hello",
            "type": "message",
            "template": "tpl_x",
            "variables": {"body.1": {"field": "first_name", "fallback": "there"}},
            "whenCapped": "wait",
        },
        {"id": "d", "type": "delay", "delay": {"days": 2}},
        {
            "id": "u",
            "type": "delay",
            "until": {"time": "09:00", "weekdays": ["mon", "tue"], "timezone": "Asia/Kolkata"},
        },
        {
            "id": "c",
            "type": "condition",
            "if": {"step": "hello", "reached": "read"},
            "waitFor": {"hours": 36},
            "yes": [{"id": "f", "type": "condition", "if": {"field": "city", "is": "isSet"}, "no": []}],
        },
        {
            "id": "t",
            "type": "condition",
            "if": {"tag": "tag_x"},
            "yes": [{"id": "v", "type": "delay", "delay": {"seconds": 90}}],
        },
        {"id": "n", "type": "condition", "if": {"field": "attributes.age", "is": "lessThan", "value": "30"}, "no": []},
        {"id": "e", "type": "delay", "until": {"time": "17:30"}},
        {
            "id": "typed",
            "type": "message",
            "template": {"name": "autumn_sale", "language": "en_US"},
            "variables": {},
            "whenCapped": "skip",
        },
    ]
    nodes = (
        Message("hello", "tpl_x", {"body.1": {"field": "first_name", "fallback": "there"}}, "wait"),
        Delay("d", span=timedelta(days=2)),
        Delay("u", until=Until(time(9), frozenset({0, 1}), "Asia/Kolkata")),
        Condition(
            "c", Reached("hello", "read"), timedelta(hours=36), yes=(Condition("f", Field("city", "isSet"), no=()),)
        ),
        Condition("t", HasTag("tag_x"), yes=(Delay("v", span=timedelta(seconds=90)),)),
        Condition("n", Field("attributes.age", "lessThan", "30"), no=()),
        Delay("e", until=Until(time(17, 30))),
        Message("typed", "autumn_sale (en_US)"),
    )

    assert parse(tree) == nodes
    assert to_json(nodes) == tree
    assert [node.kind for node in nodes[:4]] == [Kind.MESSAGE, Kind.DELAY, Kind.DELAY, Kind.CONDITION]


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_tree_comes_back_from_its_json(random):
    nodes = Chance(random).path()

    assert parse(to_json(nodes)) == nodes


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_from_every_step_each_way_leads_forward_and_to_the_end(random):
    steps = flatten(Chance(random).path())
    order = {step.key: number for number, step in enumerate(steps)}

    assert len(order) == len(steps)
    for step in steps:
        targets = {step.next, step.yes, step.no} - {None}
        assert all(order[target] > order[step.key] for target in targets)
    # All but the first step are reached from some other one.
    assert {target for step in steps for target in (step.next, step.yes, step.no) if target} == set(list(order)[1:])


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30), (" -2.50 ", Decimal("-2.5")), ("+.5", Decimal("0.5")), ("7.", 7), ("9" * 400, int("9" * 400))],
)
def test_a_text_may_be_a_number(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", " ", "abc", "1,000", "1_000", "NaN", "Infinity", "1e5", "३०", ".", "1 2", "0x1f"])
def test_what_is_no_number(text):
    assert number(text) is None
