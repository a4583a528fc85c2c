import pytest
from django.db import connection

from kaanha.lib import secrets
from kaanha.lib.errors import Refusal
from kaanha.whatsapp.models import MetaApp
from tests.factories import MetaAppFactory


def test_a_secret_is_read_back():
    token = secrets.encrypt("EAAG-sample-token")

    assert "EAAG" not in token
    assert secrets.decrypt(token) == "EAAG-sample-token"


def test_the_same_secret_never_looks_the_same():
    assert secrets.encrypt("sample") != secrets.encrypt("sample")


def test_a_new_key_in_front_reads_what_the_old_one_wrote(settings):
    settings.ENCRYPTION_KEYS = ["old"]
    token = secrets.encrypt("sample")
    settings.ENCRYPTION_KEYS = ["new", "old"]

    assert secrets.decrypt(token) == "sample"

    fresh = secrets.encrypt("sample")
    settings.ENCRYPTION_KEYS = ["new"]
    assert secrets.decrypt(fresh) == "sample"


def test_a_lost_key_is_said_in_a_sentence(settings):
    settings.ENCRYPTION_KEYS = ["old"]
    token = secrets.encrypt("sample")
    settings.ENCRYPTION_KEYS = ["new"]

    with pytest.raises(Refusal, match="missing from ENCRYPTION_KEYS"):
        secrets.decrypt(token)


def test_a_token_that_was_tampered_with_is_refused():
    token = secrets.encrypt("sample")

    with pytest.raises(Refusal):
        secrets.decrypt(token[:-4] + "AAAA")


@pytest.mark.django_db
def test_a_secret_field_stands_encrypted_in_the_database():
    app = MetaAppFactory(secret="sample app secret")

    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM whatsapp_metaapp WHERE id = %s", [app.pk])
        (stored,) = cursor.fetchone()
    assert "sample" not in stored
    assert secrets.decrypt(stored) == "sample app secret"
    assert MetaApp.objects.get(pk=app.pk).secret == "sample app secret"


@pytest.mark.django_db
def test_an_empty_secret_stays_empty():
    app = MetaAppFactory(secret="")

    assert MetaApp.objects.get(pk=app.pk).secret == ""
