"""Who asks for the pages: a program with a key of the organization, and an owner who has signed in to the admin."""

from __future__ import annotations

from django.test import Client

from kaanha.organizations.models import APIKey, Membership, Organization, Role, User


def program(organization: Organization) -> Client:
    _, text = APIKey.issue(organization, name="Benchmark")
    return Client(headers={"authorization": f"Bearer {text}"})


def person(organization: Organization) -> Client:
    user = User.objects.create_user("owner@example.com", None, is_staff=True)
    Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    client = Client()
    client.force_login(user)
    return client


def require_answer(client: Client, address: str) -> None:
    """End with what the page says where it says no."""
    answer = client.get(address)
    if answer.status_code != 200:
        raise SystemExit(f"{address} answers {answer.status_code}: {answer.content.decode()[:500]}")
