"""The API's addresses, and its answers to requests that come to none of them or break."""

from http import HTTPStatus

import pytest
from django.test import Client, override_settings
from django.urls import include, path, reverse
from rest_framework.response import Response

from kaanha import api, urls
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from tests.callers import Caller, error
from tests.factories import OrganizationFactory


class EchoAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def post(self, request):
        return Response(request.data)


class BrokenAPI(OwnedAPI):
    area = Area.CAMPAIGNS

    def get(self, request):
        raise ZeroDivisionError("hush")

    def post(self, request):
        return Response({"never": object()})


handler400, handler500 = urls.handler400, urls.handler500
urlpatterns = [
    path("api/", include([api.at("echo", EchoAPI, "echo"), api.at("broken", BrokenAPI, "broken")])),
    *urls.urlpatterns,
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def caller():
    return Caller(OrganizationFactory(), raise_request_exception=False)


def test_an_address_is_the_same_with_and_without_a_slash(caller):
    assert reverse("echo") == "/api/echo"
    for address in ("/api/echo", "/api/echo/"):
        assert caller.post(address, {"a": [1, "सीता"]}).json() == {"a": [1, "सीता"]}


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
@pytest.mark.parametrize("address", ["/api", "/api/", "/api/nothing", "/api/echo/more", "/api/echo//", "/api/a%0Ab/"])
def test_everything_else_is_nothing(method, address):
    response = getattr(Client(), method)(address)

    assert response.status_code == 404
    if method != "head":
        assert error(response) == (404, "not_found")


@pytest.mark.parametrize("address", ["/apish", "/nothing"])
def test_outside_of_the_api_pages_are_missing_as_they_always_were(address):
    response = Client().get(address)

    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "trace"])
def test_a_method_that_an_address_does_not_take(caller, method):
    response = getattr(caller._client, method)("/api/echo")

    assert error(response) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", "application/jsonp"],
)
def test_only_json_is_read(caller, content_type):
    assert error(caller.post("/api/echo", b"{}", content_type)) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON ; charset=utf-8", "application/json;"])
def test_json_is_read_however_it_is_announced(caller, content_type):
    assert caller.post("/api/echo", b'{"a": 1}', content_type).json() == {"a": 1}


@pytest.mark.parametrize("accept", ["text/html", "application/json; indent=4", "application/xml", ""])
@pytest.mark.parametrize("address", ["/api/echo", "/api/echo?format=api", "/api/echo?format=html"])
def test_the_answer_is_json_whatever_is_asked_for(caller, accept, address):
    response = caller.post(address, {"a": 1}, headers={"Accept": accept})

    assert (response.headers["Content-Type"], response.content) == ("application/json", b'{"a":1}')


@pytest.mark.parametrize(
    "body",
    [b"{", b'"\xff"', b"[" * 500_000, b"9" * 100_000, b"1e999", b"NaN", rb'"\ud800"', rb'"\u0000"', b'{"a":1,"a":2}'],
)
def test_what_can_not_be_read_is_malformed(caller, body):
    assert error(caller.post("/api/echo", body)) == (400, "malformed")


def test_a_body_of_one_megabyte_is_the_largest(caller):
    largest = b'"' + b"x" * (1024 * 1024 - 2) + b'"'

    assert len(caller.post("/api/echo", largest).content) == 1024 * 1024
    assert error(caller.post("/api/echo", largest + b" ")) == (413, "too_large")
    assert error(caller.post("/api/echo", b" " * 4_000_000)) == (413, "too_large")


def test_a_chunked_body_is_not_taken_for_an_empty_one(caller):
    response = caller.post("/api/echo", b"", headers={"Transfer-Encoding": "chunked"})

    assert error(response) == (411, "length_required")


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_fault_of_ours_is_told_in_the_same_shape_and_says_nothing_more(caller, method, caplog):
    response = caller.get("/api/broken") if method == "get" else caller.post("/api/broken", {})

    assert error(response) == (HTTPStatus.INTERNAL_SERVER_ERROR, "server_error")
    assert b"hush" not in response.content
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


def test_a_wrong_host_is_told_in_the_same_shape(caller):
    with override_settings(ALLOWED_HOSTS=["kaanha.example"]):
        assert error(caller.post("/api/echo", {})) == (400, "malformed")
        assert Client().get("/health/").headers["Content-Type"].startswith("text/html")
