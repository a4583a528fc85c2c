"""The connection in the API."""

from datetime import UTC, datetime

import pytest

from kaanha.organizations.models import Role
from tests.callers import Caller, error
from tests.factories import OrganizationFactory, PhoneNumberFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def organization():
    return OrganizationFactory(name="Sample Store")


def test_who_is_not_connected(organization):
    PhoneNumberFactory()
    PhoneNumberFactory(organization=organization, disconnected_at=datetime(2026, 3, 1, tzinfo=UTC))

    assert Caller(organization).get("/api/status").json() == {
        "connected": False,
        "phoneNumber": None,
        "connectionType": "cloud_api",
        "businessName": None,
    }


@pytest.mark.parametrize("role", Role.values)
def test_every_role_sees_the_connection(organization, role, django_assert_num_queries):
    PhoneNumberFactory(organization=organization, display_number="+1 555 555 0001", verified_name="Sample")
    PhoneNumberFactory(organization=organization)
    caller = Caller(organization, role).ready()

    with django_assert_num_queries(2):
        answer = caller.get("/api/status")

    assert answer.json() == {
        "connected": True,
        "phoneNumber": "+15555550001",
        "connectionType": "cloud_api",
        "businessName": "Sample",
    }


@pytest.mark.parametrize(("account", "shown"), [("Sample account", "Sample account"), ("", "Sample Store")])
def test_a_business_without_a_verified_name(organization, account, shown):
    PhoneNumberFactory(organization=organization, account__name=account)

    assert Caller(organization).get("/api/status").json()["businessName"] == shown


def test_status_is_only_read(organization):
    assert error(Caller(organization).post("/api/status", {})) == (405, "method_not_allowed")
