"""Every error has one shape, and its code says its status."""

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions

from kaanha.lib import api_errors
from kaanha.lib.api_errors import answer
from kaanha.lib.errors import Refusal


def told(error):
    response = answer(error, {})
    return response.status_code, response.data["error"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("already_enrolled", 409),
        ("sequence_not_active", 409),
        ("wrong_status", 409),
        ("sequence_not_found", 404),
        ("contact_not_found", 404),
        ("not_opted_in", 422),
        ("anything_else", 422),
    ],
)
def test_a_refusal_keeps_its_code_and_sentence(code, status):
    assert told(Refusal("Do this instead.", code=code)) == (status, {"code": code, "message": "Do this instead."})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.ParseError("No."), 400, "malformed"),
        (exceptions.AuthenticationFailed("No."), 401, "unauthorized"),
        (exceptions.PermissionDenied("No."), 403, "forbidden"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.NotFound(), 404, "not_found"),
        (Http404("No Contact matches the given query."), 404, "not_found"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method_not_allowed"),
        (api_errors.LengthRequired(), 411, "length_required"),
        (api_errors.TooLarge("No."), 413, "too_large"),
        (exceptions.UnsupportedMediaType("text/csv"), 415, "unsupported_media_type"),
        (exceptions.Throttled(), 429, "too_many_requests"),
    ],
)
def test_what_is_wrong_with_a_request_has_a_code_of_its_own(error, status, code):
    found, shaped = told(error)

    assert (found, shaped["code"]) == (status, code)
    assert shaped.keys() == {"code", "message"}
    assert "matches the given query" not in shaped["message"]


def test_who_comes_too_often_hears_when_to_come_again():
    assert answer(exceptions.Throttled(wait=7.5), {})["Retry-After"] == "8"


def test_faults_in_the_body_are_told_by_their_places():
    error = exceptions.ValidationError(
        {"contacts": {3: ["Write a phone.", "Or an id."]}, "steps": [{}, {"delay": ["Too short."]}], "name": ["Empty."]}
    )

    assert told(error) == (
        422,
        {
            "code": "invalid",
            "message": "contacts.3: Write a phone.",
            "fields": {
                "contacts.3": ["Write a phone.", "Or an id."],
                "steps.1.delay": ["Too short."],
                "name": ["Empty."],
            },
        },
    )


@pytest.mark.parametrize("detail", [["Send one."], {"non_field_errors": ["Send one."]}, "Send one."])
def test_a_fault_of_the_whole_body_names_no_field(detail):
    assert told(exceptions.ValidationError(detail)) == (422, {"code": "invalid", "message": "Send one."})


def test_what_nobody_foresaw_is_not_answered_here():
    assert answer(ZeroDivisionError(), {}) is None
