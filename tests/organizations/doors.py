"""People with passwords and phones, at the door of the admin."""

import base64
import re
import time

from django.test import Client
from django_otp.oath import TOTP

from kaanha.organizations import second_factor
from kaanha.organizations.models import Role
from tests.factories import MembershipFactory, OrganizationFactory, UserFactory

LOGIN = "/admin/login/"
CODE = "/admin/login/code/"
SET_UP = "/admin/account/second-factor/"
ACCOUNT = "/admin/account/"
PASSWORD = "a long enough password"


def person(organization=None, role=Role.OWNER, **fields):
    """Somebody with a password, a member of an organization."""
    user = UserFactory(is_staff=True, **fields)
    user.set_password(PASSWORD)
    user.save()
    MembershipFactory(organization=organization or OrganizationFactory(), user=user, role=role)
    return user


def enter(user, password=PASSWORD, *, browser=None, address="198.51.100.7", **headers):
    """Give the password; the answer, with the browser in `answer.client`."""
    browser = browser or Client(REMOTE_ADDR=address, **headers)
    email = user if isinstance(user, str) else user.email
    answer = browser.post(LOGIN, {"username": email, "password": password})
    answer.client = browser
    return answer


def app(authenticator, periods=0):
    """The six digits that the app shows, so many periods from now."""
    totp = TOTP(base64.b32decode(authenticator.secret))
    totp.time = time.time() + periods * authenticator.PERIOD
    return f"{totp.token():06}"


def wrong(authenticator):
    """Six digits that the app doesn't show around now."""
    shown = {app(authenticator, periods) for periods in range(-3, 4)}
    return next(
        code
        for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
        if code not in shown
    )


def equipped(user, *, now):
    """The user's second factor, turned on with the code of the period before, and its backup codes."""
    return second_factor.turn_on(user, app(second_factor.start(user, afresh=False), -1), now=now)


def codes_on(answer):
    return re.findall(r"<li><code>([^<]+)</code>", answer.content.decode())
