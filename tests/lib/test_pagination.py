import pytest
from django.http import QueryDict
from rest_framework.serializers import ValidationError

from contacts.models import Tag
from kaanha.lib import pagination, secrets
from kaanha.lib.pagination import CursorQuery, PageQuery
from tests.factories import OrganizationFactory, TagFactory

BY = ("name", "pk")


def asked(query="", known=PageQuery):
    return pagination.asked(QueryDict(query), known)


def names(rows):
    return [row.name for row in rows]


def page(query="", by=BY):
    return pagination.paged(Tag.objects.all(), asked(query), by=by, shown=names)


@pytest.fixture
def tags(db):
    organization = OrganizationFactory()
    return [TagFactory(organization=organization, name=name) for name in ("a", "b", "c", "d", "e")]


def test_the_first_twenty_are_the_default():
    assert asked() == {"limit": 20}


@pytest.mark.parametrize(
    "text", ["0", "-1", "101", "100000", "9" * 400, "1.0", "1e1", "x", "", "%20 1", "%00", "١", "1%0A", "None"]
)
def test_a_limit_is_a_whole_number_up_to_a_hundred(text):
    with pytest.raises(ValidationError) as caught:
        asked(f"limit={text}")

    assert caught.value.detail == {"limit": ["Write a whole number from 1 to 100."]}


@pytest.mark.parametrize("text", ["0", "-1", "9" * 400, "1.0", "x", "", "%00"])
def test_a_page_is_a_whole_number(text):
    with pytest.raises(ValidationError) as caught:
        asked(f"page={text}")

    assert caught.value.detail == {"page": ["Write a whole number from 1 to 1,000,000,000."]}


@pytest.mark.parametrize("query", ["page=1&page=2", "limit=1&limit=1", "sort=x", "cursor=x&page=1"])
def test_what_comes_twice_or_is_unknown_is_refused(query):
    with pytest.raises(ValidationError):
        asked(query)


def test_a_page_or_a_cursor():
    with pytest.raises(ValidationError) as caught:
        asked(f"page=1&cursor={pagination.sealed((1,))}")

    assert caught.value.detail == {"cursor": ["Send either a page or a cursor."]}


def test_a_list_of_cursors_has_no_pages():
    with pytest.raises(ValidationError):
        asked("page=1", CursorQuery)


@pytest.mark.parametrize("text", ["", "x", "%00", "é", "a" * 5_000, "gAAAAA"])
def test_only_our_cursors_are_taken(text):
    with pytest.raises(ValidationError) as caught:
        asked(f"cursor={text}")

    assert caught.value.detail == {"cursor": [pagination.NO_CURSOR]}


def test_another_secret_or_a_changed_cursor_is_none():
    for text in (secrets.encrypt('["secret", 1]'), pagination.sealed((1,))[:-4] + "AAAA"):
        with pytest.raises(ValueError, match="no cursor"):
            pagination.opened(text)


def test_a_cursor_tells_nothing():
    assert pagination.opened(pagination.sealed((12345,))) == (12345,)
    assert "12345" not in pagination.sealed((12345,))
    assert pagination.sealed((12345,)) != pagination.sealed((12345,))


def test_pages_by_number_have_the_total(tags):
    first, last = page("limit=3"), page("limit=3&page=2")

    assert (first["data"], first["page"], first["limit"], first["total"]) == (["a", "b", "c"], 1, 3, 5)
    assert (last["data"], last["page"], last["total"], last["nextCursor"]) == (["d", "e"], 2, 5, None)


def test_a_page_behind_the_last_is_empty(tags, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert page("page=1000000000&limit=100")["data"] == []


@pytest.mark.parametrize("by", [("pk",), ("-pk",), ("name", "pk"), ("-name", "-pk")])
def test_pages_by_number_lead_through_all_rows_once(tags, by, django_assert_num_queries):
    seen = []
    for number in (1, 2, 3):
        with django_assert_num_queries(2):
            seen += page(f"limit=2&page={number}", by)["data"]

    assert seen == sorted("abcde", reverse=by[0].startswith("-"))


def test_a_page_far_in_heeds_what_is_asked_for(tags):
    TagFactory(name="ab")
    rows = Tag.objects.filter(organization=tags[0].organization, name__in="abde")

    answer = pagination.paged(rows, asked("limit=2&page=2"), by=("-pk",), shown=names)

    assert (answer["data"], answer["total"], answer["nextCursor"]) == (["b", "a"], 4, None)


@pytest.mark.parametrize("by", [("pk",), ("-pk",), ("name", "pk"), ("-name", "-pk")])
def test_cursors_lead_through_all_rows_once(tags, by):
    seen, query = [], "limit=2"
    while query:
        answer = page(query, by)
        seen += answer["data"]
        query = answer["nextCursor"] and f"limit=2&cursor={answer['nextCursor']}"

    assert seen == sorted("abcde", reverse=by[0].startswith("-"))


def test_a_cursor_keeps_its_place_when_rows_come_and_go(tags):
    cursor = page("limit=2")["nextCursor"]
    TagFactory(organization=tags[0].organization, name="aa")
    tags[0].delete()
    tags[1].delete()

    answer = page(f"limit=2&cursor={cursor}")

    assert answer["data"] == ["c", "d"]
    assert answer.keys() == {"data", "limit", "nextCursor"}


def test_a_page_by_cursor_counts_nothing(tags, django_assert_num_queries):
    cursor = page("limit=2")["nextCursor"]

    with django_assert_num_queries(1):
        page(f"limit=2&cursor={cursor}")


@pytest.mark.parametrize("key", [(1,), ("a", "b"), ("a", 1, 2), ()])
def test_a_cursor_of_another_list_is_refused(tags, key):
    with pytest.raises(ValidationError) as caught:
        page(f"cursor={pagination.sealed(key)}")

    assert caught.value.detail == {"cursor": [pagination.NO_CURSOR]}
