"""Browsers of people with a role, for tests of the admin."""

import html
import re
from typing import Any

from django.contrib.messages import get_messages
from django.test import Client

from kaanha.organizations.models import Organization, Role
from tests.factories import MembershipFactory, UserFactory


def signed_in(organization: Organization, role: str = Role.OWNER) -> Client:
    """The browser of a new member of the organization."""
    membership = MembershipFactory(organization=organization, role=role, user__is_staff=True)
    return browser_of(membership.user)


def superuser() -> Client:
    return browser_of(UserFactory(is_staff=True, is_superuser=True))


def browser_of(user: Any) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def said(response: Any) -> list[str]:
    """The messages that the answer's request left for the next page."""
    return [str(message) for message in get_messages(response.wsgi_request)]


def text(response: Any) -> str:
    """The page as one reads it: without tags, with single spaces."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())
