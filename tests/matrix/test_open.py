"""Addresses outside of the API's views and the admins of models: they reveal nothing of an organization."""

from contextlib import nullcontext

import pytest

from kaanha.organizations.models import Role
from tests.matrix import table, world
from tests.matrix.asking import content_of, nothing_changes
from tests.matrix.routes import other_routes
from tests.matrix.table import Who

pytestmark = pytest.mark.django_db

OPEN = [route for route in other_routes() if route.template in table.OPEN]
METHODS = ("get", "post", "put", "delete", "head", "options")


@pytest.fixture(scope="module")
def before(worlds):
    return world.everything()


def asked(worlds, route, session, of):
    """The answers to every method, by the method."""
    address, browser = route.address(table.OPEN[route.template].ids(of)), world.browser(session)
    for method in METHODS:
        for query in ("", f"?q=person&s=person&term=a&next=/admin/&search={of.digits[:3]}"):
            yield method, getattr(browser, method)(address + query)


@pytest.mark.parametrize("route", OPEN, ids=str)
def test_strangers_learn_nothing(worlds, before, route):
    with nothing_changes(before):
        for method, response in asked(worlds, route, "", worlds.theirs):
            assert response.status_code < 500, method
            assert worlds.told(content_of(response)) == [], method
            if table.OPEN[route.template].who != Who.ANYBODY and method in ("get", "post"):
                assert response.status_code == 302, method
                assert response.headers["Location"].partition("?")[0] in ("/admin/login/", "/admin/"), method


@pytest.mark.parametrize("route", OPEN, ids=str)
@pytest.mark.parametrize("role", list(Role), ids=str)
def test_members_learn_nothing_of_another_organization(worlds, before, route, role):
    with nullcontext() if table.OPEN[route.template].own else nothing_changes(before):
        for method, response in asked(worlds, route, worlds.ours.browsers[role], worlds.theirs):
            assert response.status_code < 500, method
            assert worlds.told(content_of(response)) == [], method
            if table.OPEN[route.template].who == Who.SUPERUSERS:
                assert response.status_code in (403, 405), method


def test_a_callback_is_not_answered_with_what_it_is_about(worlds, before):
    address = f"/callbacks/{table.OPEN['/callbacks/{callback_key}'].ids(worlds.theirs)['callback_key']}"
    with nothing_changes(before):
        for method in METHODS:
            response = getattr(world.browser(worlds.ours.browsers[Role.OWNER]), method)(address)
            assert response.status_code in (401, 403, 405)
            assert len(content_of(response)) < 100


def test_static_files_are_the_packages_own(worlds):
    for path in ("../kaanha/settings.py", "%2e%2e/manage.py", "kaanha/../../.env", ""):
        assert world.browser("").get(f"/static/{path}").status_code == 404
