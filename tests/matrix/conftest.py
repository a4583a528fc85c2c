"""Two worlds for a module, as they were for each test."""

import pytest
from django.test import override_settings

from tests.matrix.world import rolled_back, two_worlds

# Nobody asks as often as the matrix.
OFTEN = override_settings(API_RATE_LIMIT="1000000/minute")


@pytest.fixture(scope="module")
def worlds(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock(), OFTEN, rolled_back():
        yield two_worlds()
