import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaanha.lib import public_ids


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_a_public_id_leads_back_to_its_key(key):
    assert public_ids.decode("msg", public_ids.encode("msg", key)) == key


def test_many_lead_back_each_to_its_own_key():
    ours, another, largest = (public_ids.encode(*each) for each in (("msg", 7), ("ct", 7), ("msg", 2**63 - 1)))

    assert public_ids.decode_many("msg", [ours, "nothing", another, largest, ""]) == [7, None, None, 2**63 - 1, None]
    assert public_ids.decode_many("msg", []) == []


def test_a_public_id_has_a_prefix_and_26_letters():
    public_id = public_ids.encode("ct", 1)

    prefix, _, letters = public_id.partition("_")
    assert prefix == "ct"
    assert len(letters) == 26
    assert letters == letters.lower()


def test_neighbors_look_nothing_alike():
    first, second = public_ids.encode("ct", 1), public_ids.encode("ct", 2)

    assert sum(a == b for a, b in zip(first[3:], second[3:], strict=True)) < 10


def test_an_id_of_another_kind_is_none():
    public_id = public_ids.encode("ct", 7)

    assert public_ids.decode("tag", public_id) is None
    assert public_ids.decode("tag", public_id.replace("ct_", "tag_")) is None


@pytest.mark.parametrize("text", ["", "ct_", "7", "ct_7", "ct_" + "a" * 26, "ct_" + "1" * 26, "ct_" + "é" * 26])
def test_what_is_no_id_is_none(text):
    assert public_ids.decode("ct", text) is None


def test_only_the_spelling_that_we_write_is_an_id():
    public_id = public_ids.encode("ct", 7)

    assert public_ids.decode("ct", public_id.upper()) is None
    assert public_ids.decode("ct", f"ct_{public_id[3:].upper()}") is None
    # The last letter carries two bits that belong to no byte.
    others = [public_id[:-1] + letter for letter in "abcdefghijklmnopqrstuvwxyz234567" if letter != public_id[-1]]
    assert [public_ids.decode("ct", other) for other in others] == [None] * 31


def test_another_key_gives_other_ids(settings):
    settings.PUBLIC_ID_KEY = "one"
    public_id = public_ids.encode("ct", 7)
    settings.PUBLIC_ID_KEY = "another"

    assert public_ids.encode("ct", 7) != public_id
    assert public_ids.decode("ct", public_id) is None


def test_every_thread_finds_the_same_ids():
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(public_ids.encode("ct", 7))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [public_ids.encode("ct", 7)] * 4


def test_letters_that_grow_in_upper_case_are_no_id_and_spoil_none_that_follow():
    right = public_ids.encode("msg", 7)

    assert public_ids.decode("msg", "msg_" + "a" * 22 + "\ufb03" * 4) is None

    assert public_ids.decode("msg", right) == 7
