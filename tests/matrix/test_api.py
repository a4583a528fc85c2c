"""The API, every address and method, asked by everybody, with everybody's ids."""

import json
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import Client
from django.utils import timezone

from kaanha.organizations.access import ROLES, Level
from kaanha.organizations.models import APIKey, KeptAnswer, Role
from tests.matrix import table, world
from tests.matrix.asking import (
    alike,
    bodies,
    content_of,
    filled,
    ids_in,
    kinds,
    meant,
    model_of,
    nothing_changes,
    of_nobody,
    operation,
    places,
    put,
    seen,
)
from tests.matrix.routes import METHODS, api_routes

pytestmark = pytest.mark.django_db

SAFE = {"get"}
CASES = [SimpleNamespace(route=route, method=method) for route in api_routes() for method in route.methods]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method.upper()} {case.route}")
roles = pytest.mark.parametrize("role", list(Role), ids=str)


def ask(case, caller, ids, body=None, **request):
    """The answer to a request of the case."""
    sent = b"" if case.method in SAFE | {"delete"} else json.dumps(body if body is not None else {}).encode()
    kind = {"content_type": "application/json"} if sent else {}
    return caller.ask(case.method, case.route.address(ids), sent, **kind, **request)


def may(case, role):
    needed = Level.VIEW if case.method in SAFE else Level.CHANGE
    return ROLES[role].get(case.route.api.area, Level.NONE) >= needed


def missing(case, response):
    """Whether it is said of one of the ids in the address that there is no such row."""
    codes = {f"{model_of(name)._meta.model_name}_not_found" for name in case.route.ids if name not in table.INNER}
    return response.status_code == 404 and response.json()["error"]["code"] in codes


@pytest.fixture(scope="module")
def before(worlds):
    return world.everything()


@pytest.fixture(scope="module")
def theirs_before(worlds):
    return world.rows_of(worlds.theirs.organization)


# --- who ---------------------------------------------------------------------------------------------------------


def strangers(worlds):
    """Clients that nobody knows, by what they show."""
    revoked, revoked_text = APIKey.issue(worlds.ours.organization, name="revoked")
    APIKey.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())
    past = timezone.now() - timedelta(seconds=1)
    _, expired_text = APIKey.issue(worlds.ours.organization, name="expired", expires_at=past)
    for shown in ("", "Bearer", "Bearer kaanha_", "Bearer kaanha_none", "Basic b3duZXI6", f"Bearer {revoked_text}",
                  f"Bearer {expired_text}", revoked_text):  # fmt: skip
        yield Client(headers={"Authorization": shown} if shown else {})
    yield world.browser(worlds.ours.browsers[Role.OWNER])
    yield world.browser(worlds.root)


@pytest.mark.parametrize("route", api_routes(), ids=str)
def test_nobody_is_let_in_without_a_key(worlds, route):
    known = list(strangers(worlds))
    address = route.address(ids_in(route, worlds.ours))
    with nothing_changes(world.everything()):
        for method in (*METHODS, "head", "options"):
            for stranger in known if method in route.methods else known[:1]:
                response = stranger.generic(method.upper(), address, b"{}", content_type="application/json")
                assert response.status_code == 401, (method, response.content)
                assert worlds.told(content_of(response)) == []


@cases
@roles
def test_a_role_may_what_the_table_says(worlds, before, theirs_before, cloud_api, case, role):
    caller, ids = worlds.ours.callers[role], ids_in(case.route, worlds.ours)
    body, changes = filled(bodies(case.route, case.method)[0], worlds.ours), may(case, role) and case.method not in SAFE
    name = operation(case.route, case.method)["operationId"]
    with nullcontext() if changes or name in table.DOWNLOADS else nothing_changes(before):
        response = ask(case, caller, ids, body)

    assert worlds.told(content_of(response)) == []
    if not may(case, role):
        assert response.status_code == 403
        return
    assert response.status_code not in (401, 403, 405), content_of(response)
    assert response.status_code < 500 or (response.status_code == 502 and name in table.ASKS_META)
    assert not missing(case, response)
    if changes:
        assert world.rows_of(worlds.theirs.organization) == theirs_before
        assert world.mixed(worlds.ours.organization) == {}


@pytest.mark.parametrize("route", api_routes(), ids=str)
def test_a_method_that_an_address_does_not_take(worlds, before, route):
    caller, address = worlds.ours.callers[Role.OWNER], route.address(ids_in(route, worlds.ours))
    named = {operation(route, method)["operationId"] for method in route.methods}
    with nullcontext() if named & table.DOWNLOADS else nothing_changes(before):
        for method in {*METHODS, "options", "trace", "head"} - set(route.methods):
            response = caller.ask(method, address)
            expected = 200 if method == "head" and "get" in route.methods else 405
            assert response.status_code == expected, method
            assert worlds.told(content_of(response)) == []


# --- whose -------------------------------------------------------------------------------------------------------

POSITIONS = [
    SimpleNamespace(route=case.route, method=case.method, name=name)
    for case in CASES
    for name in case.route.ids
    if name not in table.INNER
]
positions = pytest.mark.parametrize(
    "case", POSITIONS, ids=lambda case: f"{case.method.upper()} {case.route} {case.name}"
)


@positions
@roles
def test_an_id_of_another_organization_is_one_that_never_was(worlds, before, case, role):
    model, ours = model_of(case.name), ids_in(case.route, worlds.ours)
    theirs, unknown = worlds.theirs.public_id(model), of_nobody(model)
    body, caller = filled(bodies(case.route, case.method)[0], worlds.ours), worlds.ours.callers[role]

    with nothing_changes(before):
        answer = seen(ask(case, caller, {**ours, case.name: theirs}, body), theirs)
        nothing = seen(ask(case, caller, {**ours, case.name: unknown}, body), unknown)

    assert answer == nothing
    assert answer[0] == (404 if may(case, role) else 403)
    assert worlds.told(answer[2]) == []


@positions
def test_all_ids_of_another_organization_are_ones_that_never_were(worlds, before, case):
    caller, body = worlds.ours.callers[Role.OWNER], filled(bodies(case.route, case.method)[0], worlds.theirs)

    with nothing_changes(before):
        response = ask(case, caller, ids_in(case.route, worlds.theirs), body)

    assert response.status_code in (404, 422)
    if response.status_code == 404:
        assert worlds.told(content_of(response)) == []


def odd_ids(worlds, model):
    """What is no id of the model."""
    right = worlds.ours.public_id(model)
    yield from (right[:-1], right + "a", right.upper(), right.partition("_")[2], f"{right}\n", f"{right}\x00")
    yield from (worlds.ours.rows[model].pk, worlds.theirs.rows[model].pk, -1, 0, 2**63, "9" * 400)
    yield from [worlds.ours.public_id(other) for other in kinds().values() if other is not model][:3]
    yield from ("x" * 10_000, "ਸੀਤਾ", "ı" * 26, "\u202e", "' OR 1=1 --", "1; DROP TABLE contacts_contact", "../../etc",
                "..", "%2e%2e", "null", "true", "[]", "{}", "%", "*")  # fmt: skip


@positions
def test_what_is_no_id_is_missing(worlds, before, case):
    caller, ours = worlds.ours.callers[Role.OWNER], ids_in(case.route, worlds.ours)
    body = filled(bodies(case.route, case.method)[0], worlds.ours)
    with nothing_changes(before):
        for odd in odd_ids(worlds, model_of(case.name)):
            response = ask(case, caller, {**ours, case.name: odd}, body)
            assert response.status_code == 404, (odd, content_of(response))


REFERENCES = [
    SimpleNamespace(route=case.route, method=case.method, body=body, path=path, placeholder=placeholder)
    for case in CASES
    if case.method not in SAFE
    for body in bodies(case.route, case.method)
    for path, placeholder in places(body)
]


@pytest.mark.parametrize(
    "case",
    REFERENCES,
    ids=lambda case: f"{case.method.upper()} {case.route} {'.'.join(map(str, case.path))} of {len(case.body)}",
)
def test_an_id_of_another_organization_in_a_body_is_one_that_never_was(worlds, before, theirs_before, cloud_api, case):
    caller, ids, ours = worlds.ours.callers[Role.OWNER], ids_in(case.route, worlds.ours), worlds.ours
    name, answers = operation(case.route, case.method)["operationId"], []
    for owner in (worlds.theirs, None, ours):
        given = meant(case.placeholder, owner)
        with world.rolled_back():
            response = ask(case, caller, ids, put(filled(case.body, ours), case.path, given))
            answers.append(seen(response, given))
            assert world.rows_of(worlds.theirs.organization) == theirs_before
            assert world.mixed(ours.organization) == {}
            refused = response.status_code in (404, 422) and world.everything() == before
        assert owner or refused or name in table.TAKEN, (
            f"{name} answers {response.status_code} to {given} of nobody's. Refuse it, or say why not in TAKEN of "
            "tests/matrix/table.py."
        )
    theirs, nobodys, own = map(alike, answers)

    assert worlds.told(answers[0][2]) == []
    assert theirs == nobodys
    assert theirs != own or name in table.TAKEN, f"{name} doesn't look at {case.placeholder}: {own}"


ASKED_FOR = [
    SimpleNamespace(route=case.route, method=case.method, name=one["name"])
    for case in CASES
    for one in operation(case.route, case.method).get("parameters", [])
    if one["in"] == "query" and one["name"] in table.ROWS_ASKED_FOR
]


@pytest.mark.parametrize("case", ASKED_FOR, ids=lambda case: f"{case.route}?{case.name}=")
def test_a_list_of_what_belongs_to_another_organization_is_one_of_what_never_was(worlds, before, case):
    caller, ids = worlds.ours.callers[Role.OWNER], ids_in(case.route, worlds.ours)
    model = table.ROWS_ASKED_FOR[case.name]
    with nothing_changes(before):
        answers = [
            seen(ask(case, caller, ids, query_params={case.name: given}), given)
            for given in (worlds.theirs.public_id(model), of_nobody(model))
        ]
        own = ask(case, caller, ids, query_params={case.name: worlds.ours.public_id(model)})

    assert answers[0] == answers[1]
    assert worlds.told(answers[0][2]) == []
    assert own.status_code == 200


@pytest.mark.parametrize("case", [case for case in CASES if case.method in SAFE], ids=lambda case: str(case.route))
def test_a_search_finds_nothing_of_another_organization(worlds, before, case):
    caller, ids = worlds.ours.callers[Role.OWNER], ids_in(case.route, worlds.ours)
    known = {one["name"] for one in operation(case.route, case.method).get("parameters", []) if one["in"] == "query"}
    with nothing_changes(before):
        for asked in ({"limit": 100}, {"search": worlds.theirs.word}, {"search": "+9197700"}, {"search": ""}):
            if asked.keys() <= known:
                response = ask(case, caller, ids, query_params=asked)
                assert (response.status_code, worlds.told(content_of(response))) == (200, [])


@pytest.mark.parametrize("case", [one for one in CASES if one.method == "post"], ids=lambda case: str(case.route))
def test_a_kept_answer_is_the_own_organizations(worlds, cloud_api, case):
    """Both have asked something with the key `same`: theirs is never what we are answered."""
    KeptAnswer.objects.filter(organization=worlds.ours.organization).delete()
    body = filled(bodies(case.route, case.method)[0], worlds.ours)
    headers = {"Idempotency-Key": "same"}

    response = ask(case, worlds.ours.callers[Role.OWNER], ids_in(case.route, worlds.ours), body, headers=headers)

    assert not missing(case, response)
    assert worlds.told(content_of(response)) == []
    assert "Idempotent-Replayed" not in response.headers
