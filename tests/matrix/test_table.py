"""Nothing is outside of the matrix: a route, an id or a model that it doesn't know fails here, with what to add."""

import pytest
from rest_framework.views import APIView

from kaanha.organizations.access import Area
from kaanha.organizations.models import OwnedModel
from kaanha.organizations.owned_admin import OwnedAdmin
from tests.matrix import table
from tests.matrix.asking import bodies, kinds, members, model_of, operation, places
from tests.matrix.routes import admin_routes, api_routes, other_routes, routes
from tests.matrix.world import owned_models

pytestmark = pytest.mark.django_db


def test_there_are_routes():
    assert len(api_routes()) >= 9
    assert len(admin_routes()) >= 150
    assert len(routes()) == len(api_routes()) + len(admin_routes()) + len(other_routes())


@pytest.mark.parametrize("route", other_routes(), ids=str)
def test_every_other_address_is_listed_with_a_reason(route):
    assert route.template in table.OPEN, (
        f"{route.template} is neither an OwnedAPI nor a page of a ModelAdmin. Make it one, with an area; or add it to "
        "OPEN in tests/matrix/table.py, with who may see it and why that reveals nothing of an organization."
    )
    assert not issubclass(getattr(route.view, "cls", object), APIView) or route.template.startswith("/api")


def test_what_is_listed_exists():
    assert sorted(set(table.OPEN) - {route.template for route in other_routes()}) == []


@pytest.mark.parametrize("route", api_routes(), ids=str)
def test_every_id_in_an_address_of_the_api_is_known(route):
    assert isinstance(route.api.area, Area)
    assert route.methods
    for name in route.ids:
        assert name in table.INNER or model_of(name), (
            f"{{{name}}} in {route.template} is called like no model. Add it to MODELS in tests/matrix/table.py, with "
            "the model whose public id it is; or to INNER, where another id in the address already says whose it is."
        )


@pytest.mark.parametrize("route", api_routes(), ids=str)
def test_every_parameter_of_a_list_is_known(route):
    for method in route.methods:
        asked = {one["name"] for one in operation(route, method).get("parameters", []) if one["in"] == "query"}
        unknown = asked - table.PLAIN - set(table.ROWS_ASKED_FOR)
        assert not unknown, (
            f"{method.upper()} {route.template} takes {sorted(unknown)}. Add each to ROWS_ASKED_FOR in "
            "tests/matrix/table.py, with the model whose row it names; or to PLAIN, where it names none."
        )


@pytest.mark.parametrize("route", api_routes(), ids=str)
def test_every_member_of_a_body_that_names_a_row_is_tried(route):
    for method in route.methods:
        name = operation(route, method)["operationId"]
        naming = {one for one in members(route, method) if one in table.NAMING or one.endswith(("Id", "Ids"))}
        tried = {path[0] for body in bodies(route, method) for path, _ in places(body)}
        assert naming <= tried, (
            f"{name} takes {sorted(naming - tried)}. Add bodies with ids in their place to BODIES in "
            "tests/matrix/table.py, such as {'contactId': 'ct_…'}."
        )


@pytest.mark.parametrize("route", admin_routes(), ids=str)
def test_every_page_of_the_admin_has_an_area_or_is_for_superusers(route):
    if isinstance(route.model_admin, OwnedAdmin):
        assert isinstance(route.model_admin.area, Area)
    assert set(route.ids) <= ({"object_id"} if route.owned_admin else {"object_id", "id"}), (
        f"{route.template} has an id of another name than object_id. Call it so: the page of a row is found by it."
    )


def test_the_worlds_have_a_row_of_everything(worlds):
    missing = {model.__name__ for model in owned_models() if issubclass(model, OwnedModel)} - {
        model.__name__ for model in worlds.ours.rows
    }
    assert not missing, f"Add rows of {sorted(missing)} to the World in tests/matrix/world.py: one of everything."


def test_every_page_of_a_row_has_one_in_the_worlds(worlds):
    for route in admin_routes():
        if route.owned_admin:
            assert route.owned_admin.model in worlds.ours.rows, (
                f"{route.template} shows a {route.owned_admin.model.__name__}: add one to the World in "
                "tests/matrix/world.py."
            )


def test_the_kinds_of_ids_are_all_different(worlds):
    named = [model for model in owned_models() if issubclass(model, OwnedModel)]
    assert len(kinds()) == len(named)
    for model in named:
        ours, theirs = worlds.ours.public_id(model), worlds.theirs.public_id(model)
        assert ours != theirs
        assert (worlds.told(ours), worlds.told(theirs)) == ([], [theirs])
