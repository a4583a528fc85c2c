"""What every test of people and organizations has."""

import pytest


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    """A password's hash costs a second of these machines; the tests sign in hundreds of times."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
