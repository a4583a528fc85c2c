"""Secrets under a new key: all of them, each as it is at that moment, however often and whatever happens meanwhile."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from kaanha import secret_rotation
from kaanha.lib.secrets import SecretField
from kaanha.webhooks.models import Endpoint
from kaanha.whatsapp.models import BusinessAccount, MetaApp
from tests.factories import BusinessAccountFactory, EndpointFactory, MetaAppFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def old_key(settings):
    settings.ENCRYPTION_KEYS = ["old"]


@pytest.fixture
def new_key(settings):
    """new_key() puts a key in front of the old one; new_key(alone=True) takes the old one away."""

    def change(*, alone=False):
        settings.ENCRYPTION_KEYS = ["new"] if alone else ["new", "old"]

    return change


def stored(model, column):
    """What stands in the database, by the rows' keys."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, {column} FROM {model._meta.db_table} ORDER BY id")
        return cursor.fetchall()


def wait_for_somebody_who_waits():
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def run(capsys, *options):
    """The exit code of the command, and what it says as JSON."""
    code = 0
    try:
        call_command("rotate_secrets", "--json", *options)
    except SystemExit as ended:
        code = ended.code
    return code, json.loads(capsys.readouterr().out)


def counts(told, model):
    """Rows, old, moved and unreadable ones of a model."""
    (one,) = [one for one in told["models"] if one["model"] == model]
    return one["rows"], one["old"], one["moved"], one["unreadable"]


def test_every_column_that_keeps_a_secret_is_known():
    columns = {f"{model._meta.label}.{one.name}" for model, found in secret_rotation.secret_columns() for one in found}

    assert columns >= {
        "organizations.KeptAnswer.body",
        "webhooks.Endpoint.secret",
        "whatsapp.BusinessAccount.access_token",
        "whatsapp.MetaApp.previous_secret",
        "whatsapp.MetaApp.secret",
        "whatsapp.MetaApp.verify_token",
    }
    assert all(isinstance(one, SecretField) for _, found in secret_rotation.secret_columns() for one in found)


def test_afterwards_the_old_key_is_not_needed(new_key, capsys):
    account = BusinessAccountFactory(access_token="token", app__secret="secret", app__verify_token="verify")
    EndpointFactory.create_batch(3, secret="whsec_old")
    new_key()
    EndpointFactory(secret="whsec_new")

    code, told = run(capsys)

    assert (code, told["left"], told["unreadable"]) == (0, 0, 0)
    assert counts(told, "webhooks.Endpoint") == (4, 3, 3, 0)
    assert counts(told, "whatsapp.BusinessAccount") == counts(told, "whatsapp.MetaApp") == (1, 1, 1, 0)
    new_key(alone=True)
    app = MetaApp.objects.get()
    assert (app.secret, app.previous_secret, app.verify_token) == ("secret", "", "verify")
    assert BusinessAccount.objects.get(pk=account.pk).access_token == "token"
    assert sorted(one.secret for one in Endpoint.objects.all()) == ["whsec_new", *["whsec_old"] * 3]


def test_a_second_run_finds_nothing_to_do(new_key, capsys):
    EndpointFactory()
    new_key()
    run(capsys)
    before = stored(Endpoint, "secret")

    assert counts(run(capsys)[1], "webhooks.Endpoint") == (1, 0, 0, 0)
    assert stored(Endpoint, "secret") == before


def test_a_check_counts_and_writes_nothing(new_key, capsys):
    EndpointFactory.create_batch(2)
    assert run(capsys, "--check")[0] == 0
    new_key()
    before = stored(Endpoint, "secret")

    code, told = run(capsys, "--check")

    assert (code, told["left"], counts(told, "webhooks.Endpoint")) == (1, 2, (2, 2, 0, 0))
    assert stored(Endpoint, "secret") == before
    run(capsys)
    assert run(capsys, "--check")[0] == 0


def test_what_no_key_opens_is_named_without_its_content_and_the_others_are_moved(new_key, capsys, settings):
    settings.ENCRYPTION_KEYS = ["lost"]
    lost = EndpointFactory(secret="whsec_lost")
    settings.ENCRYPTION_KEYS = ["old"]
    found = EndpointFactory(secret="whsec_found")
    new_key()

    code, told = run(capsys)

    assert (code, told["left"], told["unreadable"]) == (2, 0, 1)
    assert counts(told, "webhooks.Endpoint") == (2, 1, 1, 1)
    with pytest.raises(SystemExit):
        call_command("rotate_secrets")
    said = capsys.readouterr().out
    assert f"No key opens webhooks.Endpoint {lost.pk}." in said
    assert "No key opens 1 rows: add the key" in said
    assert not [text for _, text in stored(Endpoint, "secret") if text in said]
    new_key(alone=True)
    assert Endpoint.objects.get(pk=found.pk).secret == "whsec_found"


def test_many_rows_cost_statements_by_the_batch(new_key, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(secret_rotation, "BATCH", 4)
    tables = len(secret_rotation.secret_columns())
    EndpointFactory.create_batch(8)
    new_key()

    # of each table the end, of the endpoints two batches read and written
    with django_assert_num_queries(tables + 2 * 2):
        secret_rotation.rotate()


@pytest.mark.django_db(transaction=True)
def test_a_run_that_was_killed_is_taken_up_where_it_was(new_key, monkeypatch, capsys):
    monkeypatch.setattr(secret_rotation, "BATCH", 2)
    EndpointFactory.create_batch(5, secret="whsec_sample")
    new_key()
    replace, turns = secret_rotation._replace, []

    def killed(*arguments):
        if turns:
            raise KeyboardInterrupt
        turns.append(arguments)
        return replace(*arguments)

    monkeypatch.setattr(secret_rotation, "_replace", killed)
    with pytest.raises(KeyboardInterrupt):
        secret_rotation.rotate()
    monkeypatch.setattr(secret_rotation, "_replace", replace)

    assert run(capsys, "--check")[1]["left"] == 3
    assert counts(run(capsys)[1], "webhooks.Endpoint") == (5, 3, 3, 0)
    new_key(alone=True)
    assert {one.secret for one in Endpoint.objects.all()} == {"whsec_sample"}


@pytest.mark.django_db(transaction=True)
def test_what_somebody_writes_meanwhile_stays(new_key, monkeypatch):
    app, other = MetaAppFactory(secret="before"), MetaAppFactory(secret="left alone")
    new_key()
    writing, waits = threading.Event(), threading.Event()

    def write():
        """Hold the row until the rotation waits for it."""
        try:
            with transaction.atomic():
                MetaApp.objects.filter(pk=app.pk).update(secret="after")
                writing.set()
                assert waits.wait(20)
                wait_for_somebody_who_waits()
        finally:
            connection.close()

    replace = secret_rotation._replace

    def replacing(*arguments):
        waits.set()
        return replace(*arguments)

    monkeypatch.setattr(secret_rotation, "_replace", replacing)
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        assert writing.wait(20)
        told = {count.model: count for count in secret_rotation.rotate()}
        writer.result(20)

    assert told["whatsapp.MetaApp"].old == 2
    new_key(alone=True)
    assert MetaApp.objects.get(pk=app.pk).secret == "after"
    assert MetaApp.objects.get(pk=other.pk).secret == "left alone"
