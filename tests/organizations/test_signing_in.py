"""The door of the admin: five failures lock for half an hour, a session lives a day."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from axes.models import AccessAttempt, AccessLog
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from kaanha.organizations import lockout
from kaanha.organizations.models import AuditEntry, Role
from kaanha.organizations.tasks import drop_ended_sessions
from tests.contacts.threads import at_once
from tests.factories import OrganizationFactory, UserFactory
from tests.organizations.doors import ACCOUNT, LOGIN, PASSWORD, enter, person
from tests.people import browser_of, said, superuser, text

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
FAILED = "/admin/axes/accessattempt/"


def fail(user, times, **given):
    return [enter(user, "wrong", **given).status_code for _ in range(times)]


# --- the lock ----------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_lock_for_thirty_minutes():
    user = person()
    with time_machine.travel(NOON, tick=False) as clock:
        assert fail(user, 5) == [200, 200, 200, 200, 429]
        assert enter(user).status_code == 429

        clock.shift(timedelta(minutes=29, seconds=59))
        assert enter(user).status_code == 429

        clock.shift(timedelta(seconds=1))
        assert enter(user).url == "/admin/"


def test_trying_while_it_is_locked_makes_it_no_longer():
    user = person()
    with time_machine.travel(NOON, tick=False) as clock:
        fail(user, 5)
        clock.shift(timedelta(minutes=20))
        assert fail(user, 3) == [429, 429, 429]
        clock.shift(timedelta(minutes=10))
        assert enter(user).url == "/admin/"


def test_a_success_resets_the_count():
    user = person()
    for _ in range(3):
        assert fail(user, 4) == [200] * 4
        assert enter(user).url == "/admin/"
    assert not AccessAttempt.objects.exists()


def test_another_browser_at_the_same_address_is_counted_with_it():
    user = person()
    assert [enter(user, "wrong", HTTP_USER_AGENT=f"browser {n}").status_code for n in range(5)] == [200] * 4 + [429]
    assert enter(user, HTTP_USER_AGENT="one more").status_code == 429


def test_nobody_is_locked_out_from_elsewhere():
    user, other = person(), person()
    fail(user, 5)

    assert enter(user, address="203.0.113.9").url == "/admin/"
    assert enter(other).url == "/admin/"
    # and a success elsewhere doesn't let the guesser go on
    assert enter(user).status_code == 429


def test_an_account_has_a_ceiling_wherever_the_guesses_come_from():
    user = person()
    places = [f"203.0.113.{n}" for n in range(lockout.OF_ACCOUNT)]
    codes = [enter(user, "wrong", address=place).status_code for place in places]

    assert codes == [200] * (lockout.OF_ACCOUNT - 1) + [429]
    assert enter(user, address="192.0.2.1").status_code == 429
    assert enter(person(), address="192.0.2.1").url == "/admin/"


def test_an_address_has_a_ceiling_whatever_accounts_it_guesses_at():
    now = timezone.now()
    AccessAttempt.objects.bulk_create(
        AccessAttempt(username=f"{n}@example.test", ip_address="198.51.100.7", failures_since_start=4, attempt_time=now)
        for n in range(lockout.OF_ADDRESS // 4)
    )
    AccessAttempt.objects.update(attempt_time=now)

    assert enter(person()).status_code == 429
    assert enter(person(), address="203.0.113.9").url == "/admin/"


def test_an_account_that_does_not_exist_is_locked_like_any_other():
    known, unknown = fail(person(), 6), fail("nobody@example.test", 6)
    assert known == unknown == [200] * 4 + [429, 429]


@pytest.mark.parametrize("typed", ["ANA@Example.test", "  ana@example.test "])
def test_an_address_is_one_account_however_it_is_typed(typed):
    user = person(email="ana@example.test")
    fail(typed, 4)
    assert fail(user, 1) == [429]
    lockout.release(user.email)
    assert enter(typed).url == "/admin/"


@pytest.mark.parametrize("typed", ["x" * 300 + "@example.test", "nul\0@example.test", "", "ñandú@example.test"])
def test_what_is_no_address_is_refused_like_any_other(typed):
    answer = enter(typed, "wrong")
    assert answer.status_code == 200
    assert b"errornote" in answer.content or b"correct" in answer.content


def test_the_answer_says_until_when_and_what_to_do():
    user = person()
    with time_machine.travel(NOON, tick=False) as clock:
        fail(user, 5)
        clock.shift(timedelta(minutes=3, seconds=30))
        answer = enter(user)

    page = text(answer)
    assert "try again in 27 minutes, at 12:30 UTC" in page
    assert "Whoever runs this installation can release the lock at once." in page
    assert answer["Retry-After"] == str(26 * 60 + 30)
    assert user.email not in page


def test_a_forged_address_does_not_help(settings):
    settings.BEHIND_PROXY = False
    user = person()
    codes = [enter(user, "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").status_code for n in range(5)]
    assert codes[-1] == 429

    settings.BEHIND_PROXY = True
    other = person()
    codes = [enter(other, "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{n}, 192.0.2.1").status_code for n in range(5)]
    assert codes[-1] == 429


def test_a_lock_is_a_line_in_the_log_and_a_refusal_is_none():
    user = person()
    fail(user, 7)
    fail("nobody@example.test", 5)

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_label, entry.ip) == ("user.sign_in_locked", user.email, "198.51.100.7")
    assert (entry.organization, entry.user) == (user.memberships.get().organization, None)


def test_it_locks_with_redis_away(settings):
    settings.REDIS_URL = settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    assert fail(person(), 5)[-1] == 429


@pytest.mark.django_db(transaction=True)
def test_many_guesses_at_once_are_judged_one_after_the_other():
    user = person()
    codes = at_once(*[lambda: enter(user, "wrong").status_code] * 10)

    assert sorted(codes) == [200] * 4 + [429] * 6
    assert AccessAttempt.objects.get().failures_since_start == 5


def test_the_counts_that_are_too_old_are_dropped():
    with time_machine.travel(NOON, tick=False) as clock:
        fail(person(), 1)
        clock.shift(timedelta(minutes=31))
        fail(other := person(), 1)
    assert AccessAttempt.objects.get().username == other.email


def test_no_password_is_logged_or_kept(caplog):
    user = person()
    with caplog.at_level(logging.DEBUG):
        enter(user, "wr0ng-pass-phrase")
        enter(user)
        enter(user.email, "wr0ng-pass-phrase", browser=Client(QUERY_STRING="password=wr0ng-pass-phrase"))

    assert "wr0ng-pass-phrase" not in caplog.text
    assert PASSWORD not in caplog.text
    kept = str(list(AccessAttempt.objects.values()))
    assert "wr0ng-pass-phrase" not in kept
    assert PASSWORD not in kept
    assert not AccessLog.objects.exists()


# --- superusers and operators ------------------------------------------------------------------------------------


def test_superusers_see_and_release_locks():
    user, other = person(), person()
    fail(user, 5)
    fail(other, 2)
    root = superuser()
    page = text(root.get(FAILED))
    assert user.email in page
    assert page.count("locked until") == 1

    row = AccessAttempt.objects.get(username=user.email)
    answer = root.post(FAILED, {"action": "release", "_selected_action": [row.pk]})
    assert said(answer) == [f"Forgot the failed sign-ins of {user.email} that were selected."]
    assert [one.username for one in AccessAttempt.objects.all()] == [other.email]
    assert enter(user).url == "/admin/"


def test_what_no_longer_counts_is_not_shown_and_nobody_writes_it():
    with time_machine.travel(timezone.now() - timedelta(minutes=31), tick=False):
        fail(user := person(), 2)
    root = superuser()

    assert user.email not in text(root.get(FAILED))
    assert root.get(f"{FAILED}add/").status_code == 403
    assert browser_of(person()).get(FAILED).status_code == 403


def test_the_list_costs_the_same_however_many_failures(django_assert_num_queries):
    root = superuser()
    for _ in range(2):
        for _ in range(3):
            fail(person(), 1)
        # session and user; organizations, and whether one asks for a second factor; count, page, what counts
        with django_assert_num_queries(7):
            root.get(FAILED)


def test_a_locked_out_operator_is_released_on_the_command_line(capsys):
    fail(user := person(), 5)
    call_command("release_sign_in", user.email.upper())

    assert capsys.readouterr().out == f"Forgot 5 failed sign-ins of {user.email}.\n"
    assert enter(user).url == "/admin/"


# --- sessions ----------------------------------------------------------------------------------------------------


def is_in(browser):
    return browser.get("/admin/").status_code == 200


def test_a_session_ends_after_24_hours_whatever_is_done_in_it():
    shop = OrganizationFactory()
    user = person(shop)
    with time_machine.travel(NOON, tick=False) as clock:
        browser = enter(user).client
        for _ in range(23):
            clock.shift(timedelta(hours=1))
            # saves the session
            browser.post("/admin/organizations/organization/choose/", {"organization": shop.pk})
            assert is_in(browser)
        clock.shift(timedelta(minutes=59, seconds=59))
        assert is_in(browser)
        clock.shift(timedelta(seconds=1))
        assert browser.get("/admin/").url == f"{LOGIN}?next=/admin/"


def test_a_changed_password_ends_the_other_sessions():
    user = person()
    here, there = enter(user).client, enter(user).client
    new = "another long password"
    fields = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert here.post("/admin/password_change/", fields).status_code == 302

    assert is_in(here)
    assert not is_in(there)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor_name) == ("user.password_changed", user.email)


def test_wrong_old_passwords_count_like_failed_sign_ins():
    user = person()
    browser = enter(user).client
    new = {"new_password1": "another long password", "new_password2": "another long password"}
    for _ in range(4):
        answer = browser.post("/admin/password_change/", {"old_password": "a guess", **new})
        assert answer.status_code == 200
        assert "That password is wrong." in text(answer)
    assert browser.post("/admin/password_change/", {"old_password": "a guess", **new}).status_code == 429
    assert browser.post("/admin/password_change/", {"old_password": PASSWORD, **new}).status_code == 429

    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert enter(user).status_code == 429
    assert AuditEntry.objects.get().action == "user.sign_in_locked"


def test_ended_sessions_are_dropped():
    with time_machine.travel(NOON, tick=False) as clock:
        ended = enter(person()).client
        clock.shift(timedelta(hours=23))
        lasting = enter(person()).client
        assert drop_ended_sessions() == 0
        clock.shift(timedelta(hours=1, seconds=1))
        assert drop_ended_sessions() == 1
        assert (is_in(ended), is_in(lasting)) == (False, True)


def test_a_password_set_by_a_superuser_ends_all_sessions():
    user = person()
    browser = enter(user).client
    new = {"password1": "another long password", "password2": "another long password", "usable_password": "true"}
    superuser().post(f"/admin/organizations/user/{user.pk}/password/", new)

    user.refresh_from_db()
    assert user.check_password("another long password")
    assert not is_in(browser)


def test_signing_out_everywhere_ends_every_session_of_the_user():
    user = person()
    here, there, other = enter(user).client, enter(user).client, enter(person()).client
    assert here.get("/admin/account/sign-out/").status_code == 405
    assert is_in(here)

    answer = here.post("/admin/account/sign-out/", follow=True)
    assert "You are signed out everywhere." in text(answer)
    assert (is_in(here), is_in(there), is_in(other)) == (False, False, True)
    assert AuditEntry.objects.get().action == "user.signed_out_everywhere"
    assert enter(user).url == "/admin/"


def test_the_account_page_is_everybodys_own(django_assert_num_queries):
    user = person(role=Role.VIEWER)
    browser = browser_of(user)
    assert f'href="{ACCOUNT}"' in browser.get("/admin/").content.decode()
    # session and user, memberships, second factor
    with django_assert_num_queries(4):
        page = text(browser.get(ACCOUNT))
    assert user.email in page
    assert Client().get(ACCOUNT).url == f"{LOGIN}?next={ACCOUNT}"


def test_signing_in_leads_to_the_page_that_was_wanted_on_this_site_alone():
    user = person()
    for wanted, led in (("/admin/contacts/tag/", "/admin/contacts/tag/"), ("https://evil.test/", "/admin/")):
        answer = Client().post(f"{LOGIN}?next={wanted}", {"username": user.email, "password": PASSWORD})
        assert answer.url == led
    assert enter(user).client.get(LOGIN).url == "/admin/"


def test_who_is_no_staff_does_not_come_in():
    user = UserFactory(is_staff=False)
    user.set_password(PASSWORD)
    user.save()
    assert enter(user).status_code == 200


def test_axes_keeps_to_the_numbers_of_the_lock(settings):
    assert (5, timedelta(minutes=30)) == (lockout.IN_A_ROW, lockout.LOCKED_FOR)
    assert settings.AUTHENTICATION_BACKENDS[0] == "axes.backends.AxesStandaloneBackend"
    assert settings.MIDDLEWARE[-1] == "axes.middleware.AxesMiddleware"
