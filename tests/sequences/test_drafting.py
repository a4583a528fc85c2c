"""Edits of a draft: each does what it says and nothing else, and leaves a tree that can be read."""

import copy
import threading
from random import Random

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from kaanha.lib.errors import Refusal
from sequences import drafting, trees
from sequences.drafting import Gap
from sequences.models import Sequence, Status
from sequences.tree_reading import MAX_STEPS
from tests.factories import SequenceFactory, TagFactory, TemplateFactory
from tests.sequences.tree_samples import Chance


def delay(key, days=1):
    return {"id": key, "type": "delay", "delay": {"days": days}}


def message(key):
    return {"id": key, "type": "message", "template": "tpl_sample", "variables": {}, "whenCapped": "skip"}


def asks(key, about=None, **paths):
    test = {"step": about, "reached": "read"} if about else {"tag": "vip"}
    return {"id": key, "type": "condition", "if": test, **paths}


def ids(tree):
    """The tree by its ids alone: a condition is its id with those of its paths."""
    return [
        (step["id"], {path: ids(step[path]) for path in ("yes", "no") if path in step})
        if step["type"] == "condition"
        else step["id"]
        for step in tree
    ]


def code_of(act):
    with pytest.raises(Refusal) as refused:
        act()
    return refused.value.code


TREE = [message("a"), asks("b", yes=[delay("c"), message("d")], no=[message("e")]), delay("f")]


# --- adding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Gap(before="a"), ["x", "a", ("b", {"yes": ["c", "d"], "no": ["e"]}), "f"]),
        (Gap(before="b"), ["a", "x", ("b", {"yes": ["c", "d"], "no": ["e"]}), "f"]),
        (Gap(before="d"), ["a", ("b", {"yes": ["c", "x", "d"], "no": ["e"]}), "f"]),
        (Gap(end="b.yes"), ["a", ("b", {"yes": ["c", "d", "x"], "no": ["e"]}), "f"]),
        (Gap(end="b.no"), ["a", ("b", {"yes": ["c", "d"], "no": ["e", "x"]}), "f"]),
        (Gap(), ["a", ("b", {"yes": ["c", "d"], "no": ["e"]}), "f", "x"]),
    ],
)
def test_a_step_is_put_into_its_gap(gap, expected):
    assert ids(drafting.insert(TREE, delay("x"), gap)) == expected


@pytest.mark.parametrize("path", [{}, {"no": []}])
def test_a_path_that_goes_straight_on_or_was_emptied_takes_a_first_step(path):
    assert ids(drafting.insert([asks("b", **path)], delay("x"), Gap(end="b.no"))) == [("b", {"no": ["x"]})]


def test_a_step_whose_place_is_gone_is_refused():
    assert code_of(lambda: drafting.insert(TREE, delay("x"), Gap(before="gone"))) == "step_gone"
    assert code_of(lambda: drafting.insert(TREE, delay("x"), Gap(end="gone.yes"))) == "step_gone"
    assert code_of(lambda: drafting.insert(TREE, delay("x"), Gap(end="b.maybe"))) == "path_unknown"
    assert code_of(lambda: drafting.insert(TREE, delay("x"), Gap(end="a.yes"))) == "path_unknown"


def test_a_form_that_is_sent_twice_adds_one_step():
    once = drafting.insert(TREE, delay("x"), Gap())
    assert code_of(lambda: drafting.insert(once, delay("x"), Gap())) == "step_there"


# --- changing ----------------------------------------------------------------------------------------------------


def test_a_changed_condition_keeps_its_id_and_its_paths():
    changed = drafting.replace(
        TREE, "b", {"type": "condition", "if": {"tag": "buyer"}}, seen=drafting.fingerprint(TREE[1])
    )
    assert changed == [TREE[0], {**TREE[1], "if": {"tag": "buyer"}}, TREE[2]]


def test_a_step_that_was_changed_since_it_was_opened_is_refused():
    seen = drafting.fingerprint(TREE[2])
    by_somebody = drafting.replace(TREE, "f", {"type": "delay", "delay": {"days": 9}}, seen=seen)

    late = {"type": "delay", "delay": {"days": 3}}
    assert code_of(lambda: drafting.replace(by_somebody, "f", late, seen=seen)) == "step_changed"


def test_a_condition_is_unchanged_while_steps_are_added_inside_it():
    seen = drafting.fingerprint(TREE[1])
    filled = drafting.insert(TREE, delay("x"), Gap(end="b.yes"))

    changed = drafting.replace(filled, "b", {"type": "condition", "if": {"tag": "buyer"}}, seen=seen)
    assert ids(changed) == ["a", ("b", {"yes": ["c", "d", "x"], "no": ["e"]}), "f"]


# --- removing ----------------------------------------------------------------------------------------------------


def test_a_removed_step_leaves_an_emptied_path_and_what_asks_about_it():
    tree = [message("a"), asks("b", about="a", no=[message("e")])]
    tree = drafting.remove(drafting.remove(tree, "e"), "a")
    assert tree == [asks("b", about="a", no=[])]


def test_a_condition_with_steps_inside_goes_only_with_as_many_as_somebody_was_told():
    assert code_of(lambda: drafting.remove(TREE, "b")) == "steps_inside"
    assert code_of(lambda: drafting.remove(TREE, "b", least=2)) == "steps_inside"
    assert ids(drafting.remove(TREE, "b", least=3)) == ["a", "f"]


def test_an_emptied_path_goes_straight_on_when_asked_and_a_filled_one_stays():
    assert drafting.straighten([asks("b", yes=[message("c")], no=[])], "b", "no") == [asks("b", yes=[message("c")])]
    assert code_of(lambda: drafting.straighten(TREE, "b", "no")) == "steps_inside"
    assert code_of(lambda: drafting.straighten(TREE, "b", "maybe")) == "path_unknown"
    assert code_of(lambda: drafting.straighten(TREE, "a", "variables")) == "path_unknown"


# --- copying -----------------------------------------------------------------------------------------------------


def test_a_copy_has_new_ids_and_asks_about_its_own_steps_and_those_outside():
    inner = [message("c"), asks("d", about="c", yes=[delay("e")]), asks("f", about="a", yes=[delay("g")])]
    [first, original, copied, last] = drafting.duplicate([message("a"), asks("b", yes=inner), delay("z")], "b")

    assert (first, original, last) == (message("a"), asks("b", yes=inner), delay("z"))
    assert not {spot.step["id"] for spot in drafting.spots([copied])} & set("abcdefgz")
    sent, about_sent, about_outside = copied["yes"]
    assert about_sent["if"] == {"step": sent["id"], "reached": "read"}
    assert about_outside["if"] == {"step": "a", "reached": "read"}


# --- moving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "by", "expected"),
    [
        ("b", -1, [("b", {"yes": ["c", "d"], "no": ["e"]}), "a", "f"]),
        ("b", 1, ["a", "f", ("b", {"yes": ["c", "d"], "no": ["e"]})]),
        ("d", -1, ["a", ("b", {"yes": ["d", "c"], "no": ["e"]}), "f"]),
        ("c", -1, ["a", "c", ("b", {"yes": ["d"], "no": ["e"]}), "f"]),
        ("d", 1, ["a", ("b", {"yes": ["c"], "no": ["e"]}), "d", "f"]),
        ("e", 1, ["a", ("b", {"yes": ["c", "d"], "no": []}), "e", "f"]),
    ],
)
def test_up_and_down_swap_neighbors_and_leave_the_condition_at_a_paths_edge(key, by, expected):
    assert ids(drafting.shift(TREE, key, by)) == expected


def test_nothing_goes_beyond_the_first_and_the_last_place():
    assert code_of(lambda: drafting.shift(TREE, "a", -1)) == "at_the_edge"
    assert code_of(lambda: drafting.shift(TREE, "f", 1)) == "at_the_edge"


@pytest.mark.parametrize(
    ("key", "gap", "expected"),
    [
        ("a", Gap(end="b.yes"), [("b", {"yes": ["c", "d", "a"], "no": ["e"]}), "f"]),
        ("a", Gap(before="e"), [("b", {"yes": ["c", "d"], "no": ["a", "e"]}), "f"]),
        ("e", Gap(), ["a", ("b", {"yes": ["c", "d"], "no": []}), "f", "e"]),
        ("b", Gap(before="a"), [("b", {"yes": ["c", "d"], "no": ["e"]}), "a", "f"]),
        ("b", Gap(before="b"), ids(TREE)),
    ],
)
def test_a_step_moves_to_another_place_with_all_that_is_inside_it(key, gap, expected):
    assert ids(drafting.move(TREE, key, gap)) == expected


@pytest.mark.parametrize("gap", [Gap(before="c"), Gap(end="b.yes")])
def test_a_condition_is_not_put_inside_itself(gap):
    assert code_of(lambda: drafting.move(TREE, "b", gap)) == "inside_itself"


# --- all of them -------------------------------------------------------------------------------------------------


def any_edit(random, tree):
    """An edit that somebody could make on this tree, or has made on an older page of it."""
    keys = [spot.step["id"] for spot in drafting.spots(tree)] or ["gone"]
    key, other = random.choice([*keys, "gone"]), random.choice(keys)
    gap = random.choice([Gap(before=other), Gap(end=f"{other}.{random.choice(['yes', 'no'])}"), Gap()])
    return random.choice(
        [
            lambda: drafting.insert(tree, delay(drafting.new_id()), gap),
            lambda: drafting.remove(tree, key, least=random.choice([0, 1000])),
            lambda: drafting.duplicate(tree, key),
            lambda: drafting.shift(tree, key, random.choice([-1, 1])),
            lambda: drafting.move(tree, key, gap),
            lambda: drafting.straighten(tree, key, random.choice(["yes", "no"])),
        ]
    )


def seen_from(tree, made):
    """The ids that an edit brought and took."""
    before, after = ([spot.step["id"] for spot in drafting.spots(one)] for one in (tree, made))
    assert len(after) == len(set(after))
    return set(after) - set(before), set(before) - set(after)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_after_any_edits_the_tree_can_be_read_and_its_steps_are_themselves(seed):
    random = Random(seed)
    tree = trees.to_json(Chance(random).path())
    for _ in range(6):
        was = copy.deepcopy(tree)
        try:
            made = any_edit(random, tree)()
        except Refusal:
            made = tree
        assert tree == was  # pure
        assert trees.to_json(trees.parse(made)) == made
        brought, taken = seen_from(tree, made)
        assert not (brought and taken)  # a copy brings, a removal takes, nothing else changes who is there
        kept = {spot.step["id"]: drafting.bare(spot.step) for spot in drafting.spots(tree)}
        for spot in drafting.spots(made):
            if spot.step["id"] not in brought:
                assert drafting.bare(spot.step) == kept[spot.step["id"]]
        tree = made


# --- the row -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_edit_is_made_on_the_draft_as_it_is_by_now_and_names_become_ids():
    sequence = SequenceFactory(draft=[delay("a")])
    tag = TagFactory(organization=sequence.organization, name="VIP")
    Sequence.objects.filter(pk=sequence.pk).update(draft=[delay("a"), asks("b", yes=[delay("c")])])

    drafting.edit(sequence, lambda tree: drafting.insert(tree, delay("x"), Gap(end="b.yes")))

    stored = Sequence.objects.get()
    assert stored.draft == sequence.draft
    assert ids(stored.draft) == ["a", ("b", {"yes": ["c", "x"]})]
    assert stored.draft[1]["if"] == {"tag": tag.public_id}
    assert stored.updated_at == sequence.updated_at


@pytest.mark.django_db
def test_an_edit_saves_nothing_but_the_draft():
    sequence = SequenceFactory(draft=[delay("a")])
    Sequence.objects.filter(pk=sequence.pk).update(name="Renamed", status=Status.ACTIVE)

    drafting.edit(sequence, lambda tree: drafting.remove(tree, "a"))

    stored = Sequence.objects.get()
    assert (stored.name, stored.status, stored.draft) == ("Renamed", Status.ACTIVE, [])


@pytest.mark.django_db
def test_an_archived_sequence_stays_as_it_is_and_so_does_one_whose_edit_is_refused():
    archived = SequenceFactory(draft=[delay("a")], status=Status.ARCHIVED)
    full = SequenceFactory(draft=[delay(f"s{number}") for number in range(MAX_STEPS)])

    assert code_of(lambda: drafting.edit(archived, lambda tree: drafting.remove(tree, "a"))) == "wrong_status"
    assert code_of(lambda: drafting.edit(full, lambda tree: drafting.duplicate(tree, "s1"))) == "tree_invalid"
    archived.refresh_from_db()
    full.refresh_from_db()
    assert (archived.draft, len(full.draft)) == ([delay("a")], 200)


@pytest.mark.django_db
def test_a_template_of_another_organization_is_not_taken_for_ones_own():
    TemplateFactory(name="sale")
    sequence = SequenceFactory()
    drafting.edit(sequence, lambda tree: drafting.insert(tree, {**message("a"), "template": "sale"}, Gap()))
    assert sequence.draft[0]["template"] == "sale"


@pytest.mark.django_db(transaction=True)
def test_edits_of_two_windows_at_once_are_both_kept():
    sequence = SequenceFactory(draft=[delay("a")])
    barrier = threading.Barrier(2)

    def add(key):
        try:
            mine = Sequence.objects.get(pk=sequence.pk)
            barrier.wait(10)
            drafting.edit(mine, lambda tree: drafting.insert(tree, delay(key), Gap()))
        finally:
            connection.close()

    for _ in range(5):
        Sequence.objects.filter(pk=sequence.pk).update(draft=[delay("a")])
        threads = [threading.Thread(target=add, args=[key]) for key in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(ids(Sequence.objects.get(pk=sequence.pk).draft)) == ["a", "x", "y"]
