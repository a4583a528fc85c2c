"""`make test-browser`: the product in a real Chromium. Skipped where there is none, or no Playwright."""

import os
import shutil
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import setup_databases, teardown_databases

from kaanha.servers import CHECKOUT

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
PICTURES = CHECKOUT / ".data" / "browser"  # of what failed
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
PATIENCE = 30_000  # milliseconds until something must have appeared

try:
    from playwright.sync_api import expect, sync_playwright

    from tests.browser import product as products
    from tests.browser.windows import Window
except ModuleNotFoundError as missing:
    lacking = f"{missing.name} is not installed: make test-browser installs it"
    collect_ignore_glob = ["test_*.py", "screenshots.py"]
else:
    lacking = "" if CHROMIUM else "there is no Chromium here: install one, or name it in CHROMIUM"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if lacking and here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=lacking))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def _shared_database(django_test_environment, django_db_blocker):
    """What tests write is committed: the product's processes read it. Each test makes an organization of its own."""
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        # Playwright's loop runs in this thread, though never while the ORM is used.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        made = setup_databases(verbosity=0, interactive=False)
        yield
        with connection.cursor() as cursor:  # a killed part's session outlives it for a moment
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def product(_shared_database, tmp_path_factory):
    """Web, workers, beat and the simulated WhatsApp, once for all tests."""
    name = quote(connection.settings_dict["NAME"], safe="")
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    with products.running(url, tmp_path_factory.mktemp("logs")) as running:
        settings.WHATSAPP_API_URL = running.meta.url
        yield running


@pytest.fixture(scope="session")
def _chromium(_shared_database):
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", *root])
        yield browser
        browser.close()


@pytest.fixture
def open_window(request, _chromium, product):
    """Opens windows: `open_window(user, phone=True, dark=True)`. Afterwards none of them may have a fault."""
    windows = []

    def opened(user=None, *, phone=False, dark=False):
        context = _chromium.new_context(
            viewport=PHONE if phone else WIDE,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-US",
        )
        context.set_default_timeout(PATIENCE)
        window = Window(context, product.address)
        windows.append(window)
        if user is not None:
            window.sign_in(user)
        return window

    yield opened
    faults = [fault for window in windows for fault in window.faults]
    for number, window in enumerate(windows):
        if faults or request.node.stash.get(FAILED, True):
            window.keep_picture(PICTURES / f"{request.node.name}-{number}.png")
        window.page.context.close()
    assert faults == []
