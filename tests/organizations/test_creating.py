"""Creating an organization, by function and by command."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations import invitations
from kaanha.organizations.creating import create_organization, invitation_for
from kaanha.organizations.models import APIKey, Membership, Organization, Role, User
from tests.factories import OrganizationFactory

pytestmark = pytest.mark.django_db


def command(*argv):
    out = StringIO()
    call_command("create_organization", *argv, stdout=out)
    return out.getvalue()


def test_the_slug_is_made_of_the_name():
    organization = create_organization("  Sample Shop & Co  ", timezone="Asia/Kolkata")

    assert (organization.name, organization.slug, organization.timezone) == (
        "Sample Shop & Co",
        "sample-shop-co",
        "Asia/Kolkata",
    )


def test_a_name_without_latin_letters_needs_a_slug():
    with pytest.raises(Refusal, match="choose one with --slug"):
        create_organization("दुकान")

    assert create_organization("दुकान", slug="dukan").slug == "dukan"


@pytest.mark.parametrize("slug", ["", "two words", "a/b", "ä", "x" * 81])
def test_a_slug_that_is_none_is_refused(slug):
    with pytest.raises(Refusal):
        create_organization("Shop", slug=slug)

    assert not Organization.objects.exists()


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0b", "x" * 201])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(Refusal, match="1 to 200 characters"):
        create_organization(name, slug="shop")


def test_a_slug_that_is_taken_is_refused():
    OrganizationFactory(slug="shop")

    with pytest.raises(Refusal, match="'shop' is taken") as refusal:
        create_organization("Shop")

    assert refusal.value.code == "slug_taken"
    assert Organization.objects.count() == 1


@pytest.mark.parametrize(
    ("zone", "nearest"),
    [
        ("Kolkata", "Asia/Kolkata"),
        ("asia/kolkata", "Asia/Kolkata"),
        ("Asia/Kolkatta", "Asia/Kolkata"),
        ("new york", "America/New_York"),
        ("Europe/Madird", "Europe/Madrid"),
        ("", "UTC"),
    ],
)
def test_an_unknown_timezone_is_refused_with_near_ones(zone, nearest):
    with pytest.raises(Refusal, match=nearest):
        create_organization("Shop", timezone=zone)

    assert not Organization.objects.exists()


def test_who_cannot_sign_in_yet_becomes_the_owner_by_invitation():
    answer = json.loads(command("Shop", "--owner-email", " Asha@Example.test ", "--json"))

    assert answer["ownerEmail"] == "asha@example.test"
    token = answer["invitation"].rpartition("/")[2]
    assert not Membership.objects.exists()
    user = invitations.accept_as_new(token, password="x", first_name="A", last_name="", ip=None, now=timezone.now())
    membership = Membership.objects.get()
    assert (membership.user, membership.role, membership.organization.slug) == (user, Role.OWNER, "shop")


def test_a_user_who_exists_becomes_the_owner():
    User.objects.create_user("asha@example.test", "a long enough password")

    organization = create_organization("Shop", owner_email="ASHA@example.test")

    assert Membership.objects.of(organization).get().user.email == "asha@example.test"
    assert User.objects.get().is_staff
    assert invitation_for(organization, "asha@example.test") == ""


def test_an_address_that_is_none_leaves_nothing_behind():
    with pytest.raises(Refusal, match="no e-mail address"):
        create_organization("Shop", owner_email="asha")
    with pytest.raises(Refusal, match="more than 254 characters"):
        create_organization("Shop", owner_email=f"{'a' * 250}@example.test")

    assert (Organization.objects.count(), User.objects.count()) == (0, 0)


def test_the_command_answers_with_json():
    answer = json.loads(command("Shop", "--timezone", "Europe/Madrid", "--json"))

    organization = Organization.objects.get()
    assert answer == {
        "organization": "shop",
        "id": organization.public_id,
        "name": "Shop",
        "timezone": "Europe/Madrid",
    }


def test_an_api_key_is_shown_once():
    answer = json.loads(command("Shop", "--api-key", "the till", "--json"))

    key = APIKey.usable(answer["apiKey"])
    assert key is not None
    assert (key.name, key.organization.slug) == ("the till", "shop")
    assert answer["apiKey"] not in str(APIKey.objects.values())


def test_the_command_tells_people_what_to_do_next():
    told = command("Shop", "--owner-email", "asha@example.test", "--api-key", "the till")

    assert "Created Shop: shop in commands" in told
    assert "By this link asha@example.test becomes the owner. It is shown this once:" in told
    assert "http://127.0.0.1:8000/invitations/" in told
    assert "API key, shown this once: kaanha_" in told


def test_a_refused_key_name_leaves_no_organization():
    with pytest.raises(Refusal):
        command("Shop", "--api-key", " ")

    assert not Organization.objects.exists()
