import gc
import importlib

import pytest
from django.core.signals import request_finished

from kaanha.lib import garbage


@pytest.fixture(autouse=True)
def _unfrozen():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_loaded_is_spared_and_what_comes_later_is_not():
    loaded = [{}]
    garbage.spare_what_is_loaded()

    later = [{}]
    known = {id(one) for one in gc.get_objects()}
    assert id(loaded) not in known
    assert id(later) in known


def test_it_is_done_again_once_so_many_requests_were_answered():
    before = len(request_finished.receivers)
    garbage.spare_again_after(2)
    request_finished.send(None)
    assert gc.get_freeze_count() == 0

    request_finished.send(None)

    assert gc.get_freeze_count() > 0
    assert len(request_finished.receivers) == before


def test_the_web_process_spares_what_it_has_loaded():
    before = list(request_finished.receivers)
    wsgi = importlib.import_module("kaanha.wsgi")  # perhaps by another test already
    gc.unfreeze()

    try:
        importlib.reload(wsgi)
        assert callable(wsgi.application)
        assert gc.get_freeze_count() > 0
    finally:
        request_finished.receivers[:] = before
