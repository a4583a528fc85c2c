"""The admin, every page, opened and posted to by everybody, with everybody's rows."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.forms import ChoiceField, ModelChoiceField

from kaanha.organizations.access import ROLES, SESSION_KEY, Level
from kaanha.organizations.models import Organization, Role
from kaanha.organizations.owned_admin import OwnedAdmin, SubjectAdmin
from tests.matrix import table, world
from tests.matrix.asking import NEVER, Watch, content_of, nothing_changes, seen, without
from tests.matrix.routes import admin_routes

pytestmark = pytest.mark.django_db

PAGES = [route for route in admin_routes() if route.name != "admin:"]
OWNED = [route for route in PAGES if route.owned_admin]
OF_A_ROW = [route for route in OWNED if route.ids]
LISTS = [route for route in OWNED if route.name.endswith("_changelist")]
ACTIONS: list[Any] = [(route, name) for route in LISTS for name in getattr(route.model_admin, "actions", ()) or ()]
# Owners and admins may the same here: one of each line of the table.
DISTINCT = list({tuple(levels.items()): role for role, levels in reversed(ROLES.items())}.values())
roles = pytest.mark.parametrize("role", DISTINCT, ids=str)
METHODS = ("get", "post")
LOGIN = "/admin/login/"


@pytest.fixture(scope="module")
def before(worlds):
    return world.everything()


@pytest.fixture(scope="module")
def theirs_before(worlds):
    return world.rows_of(worlds.theirs.organization)


def level(route, role):
    area = table.AREAS.get(route.name, route.owned_admin.area)
    return ROLES[role].get(area, Level.NONE)


def row_at(route, of):
    """What stands for the row in the page's address."""
    return dict.fromkeys(route.ids, of.rows[model_of_row(route)].pk)


def model_of_row(route):
    """The model of the row in the page's address."""
    return table.OF_OTHERS.get(route.name, route.model_admin.model)


def subjects(route, of):
    """What a list that is never shown as a whole is asked for."""
    if not isinstance(route.owned_admin, SubjectAdmin) or not route.name.endswith("_changelist"):
        return {}
    return {name: of.rows[model].pk for name, model in list(route.owned_admin.subjects.items())[:1]}


def told_by_rows(worlds):
    """What our organization's rows say of the other one."""
    return worlds.told(world.text_of(worlds.ours.organization))


# --- who ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", PAGES, ids=str)
def test_whoever_is_signed_out_is_asked_to_sign_in(worlds, before, route):
    model = route.model_admin.model
    row = worlds.theirs.rows.get(model)
    address, browser = route.address(dict.fromkeys(route.ids, row.pk if row else 1)), world.browser("")
    with nothing_changes(before):
        for method in METHODS:
            response = getattr(browser, method)(address)
            assert (response.status_code, response.headers["Location"].partition("?")[0]) == (302, LOGIN), method


@pytest.mark.parametrize("route", [route for route in PAGES if not route.owned_admin], ids=str)
@roles
def test_pages_of_the_installation_are_for_superusers(worlds, before, route, role):
    row = worlds.theirs.rows.get(route.model_admin.model)
    pk = row.pk if row else worlds.theirs.people[Role.OWNER]
    browser = world.browser(worlds.ours.browsers[role])
    with nothing_changes(before):
        for method in METHODS:
            for key in (pk, NEVER):
                response = getattr(browser, method)(route.address(dict.fromkeys(route.ids, key)), {"post": "yes"})
                # Django looks for the row first, and leads home from one that there isn't
                there = row is not None and key != NEVER
                assert response.status_code == 403 or (not there and response.status_code in (302, 404)), method
                assert worlds.told(without(content_of(response), key)) == []


@pytest.mark.parametrize("route", OWNED, ids=str)
@roles
def test_a_role_sees_and_changes_what_the_table_says(worlds, before, theirs_before, cloud_api, route, role):
    browser, may = world.browser(worlds.ours.browsers[role]), level(route, role)
    address = route.address(row_at(route, worlds.ours))

    opened = nothing_changes(before) if route.name not in table.NOTED else world.rolled_back()
    with opened:
        shown = browser.get(address, {**subjects(route, worlds.ours), **table.OPENED.get(route.name, {})})
        content = content_of(shown)
    assert worlds.told(content) == []
    with world.rolled_back() if may == Level.CHANGE else nothing_changes(before):
        posted = browser.post(address, {"post": "yes"})
        assert worlds.told(content_of(posted)) == []
        assert world.rows_of(worlds.theirs.organization) == theirs_before
    if may == Level.NONE and route.name not in table.FOR_EVERYBODY:
        assert (shown.status_code, posted.status_code) == (403, 403)
    assert shown.status_code in (200, 302, 403)
    assert posted.status_code in (200, 302, 403, 404, 405)
    if may == Level.CHANGE and not refused_to_all(route):
        assert 403 not in (shown.status_code, posted.status_code)


def refused_to_all(route):
    """Pages that Django has for every model, and this one hasn't: nobody may add, change or delete such a row."""
    page, own = route.name.rpartition("_")[2], route.owned_admin
    if route.name in table.SUPERUSERS_ONLY | table.NOT_NOW:
        return True
    if page == "change" and not own.changeable:
        return True  # shown, but posting is refused
    return (page == "add" and not own.addable) or (page == "delete" and not own.deletable)


# --- whose -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", OF_A_ROW, ids=str)
@roles
def test_a_row_of_another_organization_is_one_that_never_was(worlds, before, route, role):
    browser, theirs = world.browser(worlds.ours.browsers[role]), row_at(route, worlds.theirs)["object_id"]
    with nothing_changes(before):
        for method in METHODS:
            answers = [
                seen(getattr(browser, method)(route.address({"object_id": key}), {"post": "yes"}), key)
                for key in (theirs, NEVER)
            ]
            assert answers[0] == answers[1], method
            status, _, content = answers[0]
            assert status in (404, 403) or (status == 302 and route.name.endswith(table.BUTTONS)), method
            assert worlds.told(content) == []


@pytest.mark.parametrize("route", OF_A_ROW, ids=str)
def test_what_is_no_key_of_a_row_is_missing(worlds, before, route):
    browser = world.browser(worlds.ours.browsers[Role.OWNER])
    with nothing_changes(before):
        for odd in ("-1", "0", "9" * 400, "x" * 5_000, "ਸੀਤਾ", "' OR 1=1 --", "1.5", "1_5F", "\x00", "null",
                    worlds.ours.organization.public_id):  # fmt: skip
            for method in METHODS:
                response = getattr(browser, method)(route.address({"object_id": odd}), {"post": "yes"})
                assert response.status_code in (404, 403, 302), (method, odd)


@pytest.mark.parametrize("route", LISTS, ids=str)
def test_a_list_shows_nothing_of_another_organization(worlds, before, route):
    browser, subject = world.browser(worlds.ours.browsers[Role.OWNER]), subjects(route, worlds.ours)
    asked = [{"q": word} for word in ("person", worlds.theirs.digits[:5], '%"')]
    asked += [{"o": "-2.1"}, {"e": "1"}, {"p": "99"}, {"all": ""}, {"_popup": "1", "_to_field": "organization"}]
    with nothing_changes(before):
        for query in ({}, *asked):
            response = browser.get(route.address({}), {**subject, **query})
            assert response.status_code in (200, 302, 400, 404), query
            shown = without(content_of(response), *query.values()) if "q" in query else content_of(response)
            assert worlds.told(shown) == [], query


@pytest.mark.parametrize("route", LISTS, ids=str)
def test_a_filter_by_what_another_organization_has_finds_what_one_by_nothing_does(worlds, before, route):
    browser, subject = world.browser(worlds.ours.browsers[Role.OWNER]), subjects(route, worlds.ours)
    with nothing_changes(before):
        for name in filters_of(route):
            pk = key_for(name, worlds.theirs)
            theirs, nobodys = (browser.get(route.address({}), {**subject, name: key}) for key in (pk, NEVER))
            assert worlds.told(without(content_of(theirs), pk, f"{pk:,}")) == [], name
            assert theirs.status_code == nobodys.status_code, name
            assert nobodys.status_code < 500


def filters_of(route):
    """What the address of a list may be asked for: its own filters, and what Django lets through besides."""
    own, known = route.owned_admin, {"id", "pk", "organization", "organization__id__exact"}
    for one in own.list_filter:
        known.add(getattr(one, "parameter_name", None) or f"{one[0] if isinstance(one, tuple) else one}__exact")
    return sorted(known | set(getattr(own, "subjects", {})))


def key_for(name, of):
    """The key of the row that a filter of this name is about; the organization's where that is none."""
    return next((row.pk for model, row in of.rows.items() if model.__name__.lower() == name), of.organization.pk)


@pytest.mark.parametrize(("route", "action"), ACTIONS, ids=str)
@roles
def test_an_action_on_rows_of_another_organization_does_nothing(worlds, before, theirs_before, route, action, role):
    browser, row = world.browser(worlds.ours.browsers[role]), worlds.theirs.rows[route.owned_admin.model]
    for across in ("0", "1"):
        asked = {"action": action, "_selected_action": [row.pk], "select_across": across, "index": "0"}
        with nothing_changes(before) if across == "0" else world.rolled_back():
            for fields in ({}, {"apply": "1", **chosen(worlds.ours)}):
                response = browser.post(route.address({}), {**asked, **fields})
                assert response.status_code in (200, 302, 403)
                assert worlds.told(without(content_of(response), row.pk)) == []
            assert world.rows_of(worlds.theirs.organization) == theirs_before


@pytest.mark.parametrize(("route", "action"), ACTIONS, ids=str)
def test_an_action_with_a_choice_of_another_organization_does_nothing(worlds, before, route, action):
    browser, row = world.browser(worlds.ours.browsers[Role.OWNER]), worlds.ours.rows[route.owned_admin.model]
    asked = {"action": action, "_selected_action": [row.pk], "index": "0", "apply": "1", **chosen(worlds.theirs)}
    with world.rolled_back():
        response = browser.post(route.address({}), asked)
        assert told_by_rows(worlds) == []
        assert world.mixed(worlds.ours.organization) == {}
    keys = [value for value in chosen(worlds.theirs).values() if value != "yes"]
    assert worlds.told(without(content_of(response), *keys)) == []


def chosen(of):
    """Fields of the forms behind actions."""
    named = {model.__name__: row.pk for model, row in of.rows.items()}
    return {"tag": named["Tag"], "sequence": named["Sequence"], "proof": "yes"}


# --- forms -------------------------------------------------------------------------------------------------------

FORMS = [route for route in OWNED if not route.name.endswith(("_changelist", "_history", "_delete"))]


@pytest.mark.parametrize("route", FORMS, ids=str)
def test_a_form_takes_no_choice_of_another_organization(worlds, theirs_before, cloud_api, route):
    browser, address = world.browser(worlds.ours.browsers[Role.OWNER]), route.address(row_at(route, worlds.ours))
    query = table.OPENED.get(route.name, {})
    with world.rolled_back():
        page = browser.get(address, query)
    for form in forms_of(page):
        typed = {form.add_prefix(name): sent(form, name) for name in form.fields}
        typed = {name: value for name, value in typed.items() if value not in (None, False)}
        for name, field in form.fields.items():
            for value in of_another(field, worlds):
                with world.rolled_back():
                    watch = Watch()
                    with connection.execute_wrapper(watch):
                        response = browser.post(address, {**typed, form.add_prefix(name): value}, query_params=query)
                    assert response.status_code < 500
                    assert worlds.told(without(content_of(response), value)) == [], name
                    if watch.statements:
                        assert world.mixed(worlds.ours.organization) == {}, (name, value)
                        assert told_by_rows(worlds) == [], (name, value)
                        assert world.rows_of(worlds.theirs.organization) == theirs_before, (name, value)


def forms_of(page):
    """The forms of a page."""
    known = [page.context.get(name) for name in ("adminform", "form")] if page.context else []
    found = [getattr(one, "form", one) for one in known if one is not None]
    return [one for one in found if hasattr(one, "fields")]


def sent(form, name):
    """What a browser sends of the field that nobody has touched."""
    value = form[name].value()
    return [str(one) for one in value] if isinstance(value, list | tuple) else value


def of_another(field, worlds):
    """Choices that are another organization's. Fields that offer no rows aren't tried."""
    if isinstance(field, ModelChoiceField):
        return [row.pk for model, row in worlds.theirs.rows.items() if model is field.queryset.model]
    offered = {str(value) for value, _ in field.choices} if isinstance(field, ChoiceField) else set()
    return [
        theirs
        for model, row in worlds.ours.rows.items()
        if hasattr(row, "public_id") and row.public_id in offered
        for theirs in (worlds.theirs.rows[model].public_id, worlds.theirs.rows[model].pk)
    ]


# --- platform staff, and working elsewhere -----------------------------------------------------------------------


@pytest.mark.parametrize("route", PAGES, ids=str)
def test_platform_staff_sees_everything(worlds, route):
    browser = world.browser(worlds.root)
    row = worlds.theirs.rows.get(model_of_row(route))
    if route.ids and row is None:
        return  # of the timetable and of accounts the worlds have no rows of their own
    query = {**subjects(route, worlds.theirs), **table.OPENED.get(route.name, {})} if row else {}
    response = browser.get(route.address(dict.fromkeys(route.ids, row and row.pk)), query)
    content_of(response)
    refusing = not route.owned_admin or refused_to_all(route)
    assert response.status_code in ((200, 302, 403) if refusing else (200, 302))


@pytest.mark.parametrize("route", OF_A_ROW, ids=str)
def test_platform_staff_that_works_in_one_organization_finds_nothing_of_another(worlds, before, route):
    browser = world.browser(worlds.root)
    session = browser.session
    session[SESSION_KEY] = worlds.ours.organization.pk
    session.save()
    theirs = row_at(route, worlds.theirs)["object_id"]
    with nothing_changes(before):
        for method in METHODS:
            answers = [
                seen(getattr(browser, method)(route.address({"object_id": key}), {"post": "yes"}), key)
                for key in (theirs, NEVER)
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] in (404, 403, 302)


@roles
def test_nobody_works_in_an_organization_that_they_do_not_belong_to(worlds, before, role):
    browser, address = world.browser(worlds.ours.browsers[role]), "/admin/organizations/organization/choose/"
    with nothing_changes(before):
        assert worlds.told(content_of(browser.get(address))) == []
        for asked in (worlds.theirs.organization.pk, NEVER, "all", "", "-1", "x" * 5_000):
            assert browser.post(address, {"organization": asked}).status_code == 404
        session = browser.session
        session[SESSION_KEY] = worlds.theirs.organization.pk
        session.save()
        home = browser.get("/admin/")
    assert home.status_code == 200
    assert worlds.told(content_of(home)) == []
    assert worlds.ours.organization.name in content_of(home)


# No page of ours completes a field, and most admins have no order of their own for it.
@pytest.mark.filterwarnings("ignore::django.core.paginator.UnorderedObjectListWarning")
def test_completions_of_fields_name_nothing_of_another_organization(worlds, before):
    """Of every field that points at another row, asked by everybody."""
    links = [
        (model._meta.app_label, model._meta.model_name, field.name)
        for model, page in admin.site._registry.items()
        for field in (*model._meta.local_fields, *model._meta.local_many_to_many)
        if isinstance(page, OwnedAdmin) and field.is_relation
    ]
    assert len(links) >= 20
    with nothing_changes(before):
        for role in Role:
            browser = world.browser(worlds.ours.browsers[role])
            for app, model, field in links:
                asked = {"app_label": app, "model_name": model, "field_name": field, "term": ""}
                response = browser.get("/admin/autocomplete/", asked)
                assert response.status_code in (200, 403, 404)
                assert worlds.told(content_of(response)) == [], (model, field)


def test_the_pages_that_lead_to_a_row_lead_everybody_there():
    """Django's old addresses: they look at nothing."""
    old = [route for route in admin_routes() if route.name == "admin:"]
    assert old
    assert all(re.fullmatch(r"/admin/\w+/\w+/{object_id}/", route.template) for route in old)


def test_there_is_one_of_each():
    assert Organization in {route.owned_admin.model for route in OF_A_ROW}
    assert len(OF_A_ROW) >= 90
    assert len(ACTIONS) >= 4
