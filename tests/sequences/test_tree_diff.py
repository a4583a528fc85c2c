from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sequences.trees import Change, HasTag, Reached, diff, flatten
from tests.sequences.tree_samples import Chance, condition, delay, message

NAMES = {"tpl_a": "autumn_sale (en_US)", "tpl_b": "winter_sale (en_US)", "tag_x": "purchased"}
A, B, C, D = (delay(key, days=days) for days, key in enumerate("abcd", 1))


def changes(old, new):
    return [(change.kind, change.place, change.key) for change in diff(old, new)]


def test_the_same_tree_has_no_changes():
    nodes = (message("m"), condition("ask", yes=(A, B), no=(C,)), D)

    assert diff(nodes, nodes) == []
    assert diff((), ()) == []


def test_steps_added_and_removed_are_told_where_they_are_and_were():
    old = (message("m", "tpl_a"), condition("c", HasTag("tag_x"), yes=(A, B)))
    new = (message("m", "tpl_a"), D, condition("c", HasTag("tag_x"), yes=(B,), no=(message("n", "tpl_b"),)))

    assert diff(old, new, NAMES) == [
        Change("2", "d", "“Wait 4 days” is added.", "added"),
        Change("3 no 1", "n", "“Send winter_sale (en_US)” is added.", "added"),
        Change("2 yes 1", "a", "“Wait 1 day” is removed.", "removed"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        (delay("s", days=1), delay("s", days=2), ["“Wait 1 day” becomes “Wait 2 days”."]),
        (delay("s"), message("s", "tpl_a"), ["“Wait 1 day” becomes “Send autumn_sale (en_US)”."]),
        (
            message("s", "tpl_a"),
            message("s", "tpl_b", variables={"body.1": {"text": "x"}}, when_capped="wait"),
            [
                "“Send autumn_sale (en_US)” becomes “Send winter_sale (en_US)”.",
                "“Send winter_sale (en_US)” is filled differently: body.1.",
                "“Send winter_sale (en_US)” now waits until the cap frees where the frequency cap forbids it.",
            ],
        ),
        (
            message("s", "tpl_a", variables={"body.1": {"text": "x"}, "body.2": {"text": "y"}, "header": {"id": "1"}}),
            message(
                "s", "tpl_a", variables={"body.1": {"text": "x"}, "body.2": {"text": "z"}, "body.3": {"text": "y"}}
            ),
            ["“Send autumn_sale (en_US)” is filled differently: body.2, body.3, header."],
        ),
        (
            message("s", "tpl_a", when_capped="wait"),
            message("s", "tpl_a"),
            ["“Send autumn_sale (en_US)” now is skipped where the frequency cap forbids it."],
        ),
        (
            message("s", "autumn_sale (en_US)"),
            message("s", "tpl_a"),
            ["“Send autumn_sale (en_US)” takes another template of the same name."],
        ),
        (
            condition("s", HasTag("tag_x"), yes=(A,)),
            condition("s", Reached("m", "read"), wait=timedelta(hours=2), yes=(A,)),
            ["“Has the tag purchased?” becomes “Was m read? (waits up to 2 hours for it)”."],
        ),
    ],
)
def test_a_step_that_became_different_says_how(old, new, sentences):
    assert [(change.kind, change.sentence) for change in diff((old,), (new,), NAMES)] == [
        ("changed", sentence) for sentence in sentences
    ]


def test_a_condition_is_not_changed_by_what_stands_on_its_paths():
    old, new = condition("c", yes=(A,)), condition("c", yes=(A, B), no=())

    assert changes((old,), (new,)) == [("added", "1 yes 2", "b")]


def test_no_more_steps_are_moved_than_explain_the_new_order():
    assert changes((A, B, C, D), (D, A, B, C)) == [("moved", "1", "d")]
    assert changes((A, B, C, D), (B, C, D, A)) == [("moved", "4", "a")]
    assert len(changes((A, B), (B, A))) == 1
    assert len(changes((A, B, C, D), (D, C, B, A))) == 3


def test_a_step_between_others_does_not_move_them():
    assert changes((A, B), (A, C, B)) == [("added", "2", "c")]
    assert changes((A, C, B), (A, B)) == [("removed", "2", "c")]


def test_a_step_on_another_path_is_moved_and_says_from_where():
    old = (A, condition("ask", yes=(B,), no=(C,)))
    new = (condition("ask", yes=(replace(A, span=timedelta(days=9)),), no=(B, C)),)

    assert diff(old, new) == [
        Change("1 yes 1", "a", "“Wait 9 days” is moved here from 1.", "moved"),
        Change("1 yes 1", "a", "“Wait 1 day” becomes “Wait 9 days”.", "changed"),
        Change("1 no 1", "b", "“Wait 2 days” is moved here from 2 yes 1.", "moved"),
    ]


def test_the_steps_of_a_moved_condition_stay_on_its_path():
    ask = condition("ask", yes=(A, condition("e", no=(B,))))

    assert changes((ask, C, D), (C, D, ask)) == [("moved", "3", "ask")]


def test_steps_taken_out_of_a_removed_condition_are_moved():
    assert changes((condition("c", yes=(A,), no=(B,)),), (A,)) == [
        ("moved", "1", "a"),
        ("removed", "1", "c"),
        ("removed", "1 no 1", "b"),
    ]


@given(st.randoms(use_true_random=False), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_every_step_that_came_or_went_is_told_once(one, other):
    old, new = Chance(one).path(), Chance(other).path()
    before, after = ({step.key for step in flatten(nodes)} for nodes in (old, new))
    told = changes(old, new)

    assert {key for kind, _, key in told if kind == "added"} == after - before
    assert {key for kind, _, key in told if kind == "removed"} == before - after
    assert {key for kind, _, key in told if kind in ("changed", "moved")} <= before & after
    assert diff(new, new) == []
