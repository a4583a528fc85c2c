import logging
import re

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from kaanha.lib.request_ids import Filter, RequestIds


def line():
    """The request id of a line that is logged now."""
    record = logging.makeLogRecord({})
    assert Filter().filter(record)
    return record.request_id


def answer(**headers):
    return RequestIds(lambda request: HttpResponse(line()))(RequestFactory().get("/", headers=headers))


def test_a_request_without_an_id_gets_one():
    response = answer()

    assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])
    assert answer().headers["X-Request-Id"] != response.headers["X-Request-Id"]


@pytest.mark.parametrize("sent", ["a", "4bf92f35-77b3.4da6_a3ce", "x" * 128])
def test_a_well_formed_id_is_taken_over(sent):
    assert answer(**{"X-Request-Id": sent}).headers["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\nERROR forged", "é", "a;b", "\x00"])
def test_any_other_is_replaced(sent):
    assert re.fullmatch("[0-9a-f]{32}", answer(**{"X-Request-Id": sent}).headers["X-Request-Id"])


def test_lines_logged_meanwhile_have_it_and_others_do_not():
    assert answer(**{"X-Request-Id": "shop-7"}).content == b"shop-7"
    assert line() == "-"


def test_after_a_crash_lines_have_no_id():
    def crash(request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RequestIds(crash)(RequestFactory().get("/"))

    assert line() == "-"


@pytest.mark.parametrize(
    "address", ["/api/nothing", "/api/sequences/enroll", "/nothing", "/admin/nothing", "/callbacks/x"]
)
@pytest.mark.django_db
def test_every_answer_has_it(address):
    assert Client().get(address, headers={"X-Request-Id": "shop-7"}).headers["X-Request-Id"] == "shop-7"


def test_a_wrong_host_has_it_too():
    with override_settings(ALLOWED_HOSTS=["kaanha.example"]):
        response = Client().get("/api/nothing", headers={"X-Request-Id": "shop-7"})

    assert (response.status_code, response.headers["X-Request-Id"]) == (400, "shop-7")
