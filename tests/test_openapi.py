"""The API's document: complete, without a warning, and shown by a page that needs nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import URLPattern
from django.urls.resolvers import RegexPattern
from drf_spectacular import drainage
from drf_spectacular.validation import validate_schema
from rest_framework.views import APIView

from kaanha import api, api_docs
from kaanha.lib import openapi
from kaanha.organizations.api import OwnedAPI
from tests.callers import Caller, check_documented
from tests.factories import OrganizationFactory

METHODS = ("get", "post", "put", "patch", "delete")


def operations():
    return [
        (path, method, said)
        for path, methods in api_docs.document()["paths"].items()
        for method, said in methods.items()
        if method in METHODS
    ]


def test_the_document_is_valid_and_made_without_a_warning():
    openapi.document.cache_clear()
    drainage.reset_generator_stats()

    document = api_docs.document()

    assert not drainage.GENERATOR_STATS
    validate_schema(document)
    assert document["openapi"] == "3.1.0"


def test_every_handler_of_every_view_is_described():
    documented = {(path, method) for path, method, _ in operations()}
    for pattern in api.urlpatterns:
        view = getattr(pattern.callback, "cls", APIView)
        if isinstance(pattern, URLPattern) and isinstance(pattern.pattern, RegexPattern) and issubclass(view, OwnedAPI):
            path = "/api/" + re.sub(
                r"\(\?P<(\w+)>.*?\)(?=/)", r"{\1}", str(pattern.pattern)[1:].removesuffix(r"/?\Z") + "/"
            )
            for method in METHODS:
                if hasattr(view, method):
                    assert (path.rstrip("/"), method) in documented


def test_operation_ids_are_unique_and_name_resource_and_act():
    ids = [said["operationId"] for _, _, said in operations()]

    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)+", one)] == []


def test_every_operation_needs_a_key_and_has_a_summary_and_the_errors_of_all():
    for path, method, said in operations():
        assert said["security"] == [{"key": []}], path
        assert said["summary"], (path, method)
        assert {"400", "401", "403", "411", "429"} <= said["responses"].keys(), (path, method)
        assert not re.search(r"\bquer(y|ies)\b", said.get("description", "")), (path, method)


def test_a_key_for_repeating_is_documented_where_it_is_heeded_alone():
    heeding = {
        said["operationId"]
        for _, method, said in operations()
        if any(one["name"] == "Idempotency-Key" for one in said.get("parameters", []))
    }
    posts = {said["operationId"] for _, method, said in operations() if method == "post"}

    assert posts - heeding == {"templates_sync", "sequences_move"}
    assert heeding <= posts


def test_nothing_in_it_takes_members_that_are_not_named():
    loose = [
        name
        for name, schema in api_docs.document()["components"]["schemas"].items()
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False
    ]

    assert loose == []


def test_anybody_may_read_it():
    response = Client().get("/api/openapi.json")

    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert response.json() == api_docs.document()


def test_the_page_takes_everything_from_here_and_has_no_inline_script():
    page = Client().get("/api/docs").content.decode()
    script = Client().get("/api/docs?script=")

    assert re.findall(r"https?://", page) == []
    assert re.findall(r"<script[^>]*>\s*(?!</script>)\S", page) == []
    assert 'src="/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"' in page
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "/api/openapi.json" in script.content.decode()


@pytest.mark.django_db
def test_an_answer_that_is_not_documented_is_noticed():
    caller = Caller(OrganizationFactory())
    answer = caller.get("/api/status")
    check_documented("GET", "/api/status", answer)

    answer.json = lambda: {**caller.get("/api/status").json(), "connected": 7}
    with pytest.raises(AssertionError, match="7 is not of type 'boolean'"):
        check_documented("GET", "/api/status", answer)
    answer.json = lambda: {**caller.get("/api/status").json(), "more": 1}
    with pytest.raises(AssertionError, match="more"):
        check_documented("GET", "/api/status", answer)
    answer.status_code = 402
    with pytest.raises(AssertionError, match="402 is not documented"):
        check_documented("GET", "/api/status", answer)


def test_nobody_else_writes_documents():
    """Operation ids are given in one way: with `described`, beside the handler."""
    root = Path(__file__).parents[1]
    users = [
        path.relative_to(root).as_posix()
        for folder in ("kaanha", "contacts", "templates_app", "broadcasts", "sequences")
        for path in (root / folder).rglob("*.py")
        if re.search(r"\bextend_schema\b\(", path.read_text(encoding="utf-8"))
    ]

    assert sorted(users) == ["kaanha/api_docs.py", "kaanha/lib/openapi.py"]
