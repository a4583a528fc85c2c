"""What every test may ask for."""

import signal

import pytest
from django.test import override_settings

from kaanha.messaging import sending
from kaanha.simulator import Simulator

# A job in the background is started with Ctrl-C ignored, and would hand that down to every program the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Looked for when asked for: otherwise every test client reads the whole folder of static files anew.
STATIC_FILES = override_settings(WHITENOISE_AUTOREFRESH=True)


@pytest.fixture(scope="session", autouse=True)
def _static_files():
    with STATIC_FILES:
        yield


@pytest.fixture(scope="session")
def _simulator():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def cloud_api(_simulator, settings):
    """Meta, as the simulator plays it: empty at the start of the test, and the address that Kaanha uses."""
    _simulator.reset()
    settings.WHATSAPP_API_URL = _simulator.url
    yield _simulator
    sending.stop()
