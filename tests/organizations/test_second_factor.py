"""The second factor: an app's codes after the password, ten backup codes, each good once."""

import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from kaanha.lib.errors import Refusal
from kaanha.organizations import second_factor
from kaanha.organizations.models import AuditEntry, Authenticator, BackupCode, Role
from tests.contacts.threads import at_once
from tests.factories import MembershipFactory, OrganizationFactory
from tests.organizations.doors import (
    ACCOUNT,
    CODE,
    LOGIN,
    PASSWORD,
    SET_UP,
    app,
    codes_on,
    enter,
    equipped,
    person,
    wrong,
)
from tests.people import browser_of, said, superuser, text

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
OFF = f"{SET_UP}off/"
RENEW = f"{ACCOUNT}backup-codes/"


@pytest.fixture
def user():
    return person(email="ana@example.test")


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def is_in(browser):
    return browser.get("/admin/").status_code == 200


def give(browser, code):
    return browser.post(CODE, {"code": code})


# --- setting up --------------------------------------------------------------------------------------------------


def test_it_is_set_up_with_an_app_and_gives_ten_backup_codes(user, clock):
    here, there = enter(user).client, enter(user).client
    page = here.get(SET_UP)
    authenticator = Authenticator.objects.get()
    shown = " ".join(re.findall("....", authenticator.secret))
    assert shown in page.content.decode()
    assert "<svg" in page.content.decode()
    assert "<script>" not in page.content.decode().partition("<body")[2]
    assert not second_factor.is_on(user)

    answer = here.post(SET_UP, {"code": app(authenticator)})
    codes = codes_on(answer)
    assert len(set(codes)) == 10
    assert all(re.fullmatch(r"([0-9a-hjkmnp-tv-z]{4}-){3}[0-9a-hjkmnp-tv-z]{4}", code) for code in codes)
    assert "\n".join(codes) in answer.content.decode()  # to copy
    assert second_factor.is_on(user)
    assert (is_in(here), is_in(there)) == (True, False)
    assert "10 of 10 left" in text(here.get(ACCOUNT))
    assert here.get(SET_UP).url == ACCOUNT


def test_the_app_is_told_whose_code_it_is(user):
    authenticator = second_factor.start(user, afresh=False)
    assert second_factor.app_address(authenticator) == (
        "otpauth://totp/Kaanha%3Aana%40example.test"
        f"?secret={authenticator.secret}&issuer=Kaanha&algorithm=SHA1&digits=6&period=30"
    )


def test_a_wrong_first_code_turns_nothing_on(user, clock):
    browser = browser_of(user)
    browser.get(SET_UP)
    answer = browser.post(SET_UP, {"code": wrong(Authenticator.objects.get())})

    assert "That code is wrong" in text(answer)
    assert not second_factor.is_on(user)
    assert not BackupCode.objects.exists()


def test_a_secret_that_another_session_was_shown_is_not_used(user, clock):
    here, there = enter(user).client, enter(user).client
    there.get(SET_UP)
    seen = Authenticator.objects.get()
    here.get(SET_UP)
    mine = Authenticator.objects.get()

    assert mine.secret != seen.secret
    assert "wrong" in text(here.post(SET_UP, {"code": app(seen)}))
    here.get(SET_UP)
    assert Authenticator.objects.get().secret == mine.secret


def test_secret_and_backup_codes_are_unreadable_in_the_database(user, clock):
    authenticator, codes = equipped(user, now=NOON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM organizations_authenticator")
        assert authenticator.secret not in cursor.fetchone()[0]
    stored = str(list(BackupCode.objects.values()))
    assert not [code for code in codes if code in stored or code.replace("-", "") in stored]


# --- signing in --------------------------------------------------------------------------------------------------


def test_signing_in_asks_for_a_code_after_the_password(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    answer = enter(user)
    browser = answer.client
    assert answer.url == CODE
    assert not is_in(browser)
    assert "Signing in as ana@example.test" in text(browser.get(CODE))

    assert give(browser, app(authenticator)).url == "/admin/"
    assert is_in(browser)


def test_superusers_are_asked_too(clock):
    root = person(is_superuser=True)
    authenticator, _ = equipped(root, now=NOON)
    browser = enter(root).client
    assert not is_in(browser)
    give(browser, app(authenticator))
    assert is_in(browser)


def test_the_page_that_was_wanted_is_remembered(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    browser = enter(user).client
    browser.post(f"{LOGIN}?next=/admin/contacts/tag/", {"username": user.email, "password": PASSWORD})
    assert give(browser, app(authenticator)).url == "/admin/contacts/tag/"


def test_without_the_password_there_is_no_second_step(user, clock):
    equipped(user, now=NOON)
    browser = enter(user, "wrong").client
    assert browser.get(CODE).url == LOGIN
    answer = give(browser, "123456")
    assert (answer.url, said(answer)) == (LOGIN, ["Signing in took too long. Start over."])


def test_a_code_is_awaited_for_ten_minutes(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    browser = enter(user).client
    clock.shift(timedelta(minutes=10))
    assert give(browser, app(authenticator)).url == LOGIN
    assert not is_in(browser)


def test_a_password_changed_meanwhile_ends_the_second_step(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    browser = enter(user).client
    user.set_password("another long password")
    user.save()
    assert give(browser, app(authenticator)).url == LOGIN


def test_no_code_is_taken_twice(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    code = app(authenticator)
    assert give(enter(user).client, code).url == "/admin/"

    browser = enter(user).client
    assert "used before" in text(give(browser, code))
    assert not is_in(browser)


@pytest.mark.parametrize(("periods", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_clock_may_be_half_a_minute_off(user, clock, periods, taken):
    authenticator, _ = equipped(user, now=NOON)
    clock.shift(timedelta(minutes=5))
    Authenticator.objects.update(drift=0)
    browser = enter(user).client
    assert (give(browser, app(authenticator, periods)).status_code == 302) == taken


def test_a_clock_that_goes_further_wrong_is_followed(user, clock):
    authenticator, _ = equipped(user, now=NOON)  # turned on with the code of the period before
    for behind in (2, 3, 4):
        clock.shift(timedelta(minutes=5))
        assert give(enter(user).client, app(authenticator, -behind)).url == "/admin/"


@pytest.mark.django_db(transaction=True)
def test_one_code_in_two_browsers_lets_one_in(clock):
    user = person()
    authenticator, codes = equipped(user, now=NOON)
    for code in (app(authenticator), codes[0]):
        browsers = [enter(user).client, enter(user).client]
        answers = at_once(*[lambda browser=browser, code=code: give(browser, code).status_code for browser in browsers])
        assert sorted(answers) == [200, 302]
        clock.shift(timedelta(minutes=1))


def test_a_code_is_taken_once_without_any_lock_around_it(user, clock):
    _, codes = equipped(user, now=NOON)
    second_factor.take(user, codes[3], now=NOON)
    with pytest.raises(Refusal) as refused:
        second_factor.take(user, codes[3], now=NOON)
    assert refused.value.code == "code_wrong"


@pytest.mark.parametrize("typed", [str.upper, lambda code: code.replace("-", " "), lambda code: code.replace("0", "o")])
def test_a_backup_code_signs_in_once_however_it_is_typed(user, clock, typed):
    _, codes = equipped(user, now=NOON)
    assert give(enter(user).client, typed(codes[0])).url == "/admin/"
    assert "wrong" in text(give(enter(user).client, codes[0]))
    clock.shift(timedelta(minutes=1))
    browser = enter(user).client
    assert give(browser, codes[1]).url == "/admin/"
    assert "8 of 10 left" in text(browser.get(ACCOUNT))


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "x" * 65, "0" * 16, "12 34 5x"])
def test_what_is_no_code_is_refused(user, clock, code):
    equipped(user, now=NOON)
    browser = enter(user).client
    assert give(browser, code).status_code == 200
    assert not is_in(browser)


def test_wrong_codes_count_as_failed_sign_ins_and_lock(user, clock):
    authenticator, codes = equipped(user, now=NOON)
    browser = enter(user).client
    answers = []
    for _ in range(5):
        answers.append(give(browser, wrong(authenticator)).status_code)
        clock.shift(timedelta(seconds=20))
    assert answers == [200, 200, 200, 200, 429]

    # neither the right code nor the right password lets anybody in now
    assert give(browser, codes[0]).status_code == 429
    assert enter(user).status_code == 429
    clock.shift(timedelta(minutes=30))
    assert give(enter(user).client, codes[0]).url == "/admin/"
    assert not AccessAttempt.objects.exists()


def test_the_right_password_does_not_reset_the_count_of_wrong_codes(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    answers = []
    for _ in range(5):
        answers.append(give(enter(user).client, wrong(authenticator)).status_code)
        clock.shift(timedelta(seconds=20))
    assert answers[-1] == 429


def test_after_a_wrong_code_the_next_one_waits(user, clock):
    authenticator, codes = equipped(user, now=NOON)
    browser = enter(user).client
    for wait in (1, 2, 4):
        assert "That code is wrong" in text(give(browser, wrong(authenticator)))
        assert f"Wait {wait} s, then" in text(give(browser, codes[0]))
        clock.shift(timedelta(seconds=wait))
    # what wasn't looked at was neither counted nor spent
    assert AccessAttempt.objects.get().failures_since_start == 3
    assert give(browser, codes[0]).url == "/admin/"
    authenticator.refresh_from_db()
    assert authenticator.throttling_failure_count == 0


def test_the_wait_has_an_end(user, clock):
    authenticator, _ = equipped(user, now=NOON)
    for _ in range(40):
        with pytest.raises(Refusal):
            second_factor.take(user, wrong(authenticator), now=timezone.now())
        clock.shift(timedelta(seconds=1024))
    assert second_factor.take(user, app(authenticator), now=timezone.now())


def test_no_code_is_logged_or_kept(user, clock, caplog):
    authenticator, codes = equipped(user, now=NOON)
    with caplog.at_level(logging.DEBUG):
        browser = enter(user).client
        give(browser, "kept-nowhere")
        clock.shift(timedelta(seconds=5))
        give(browser, codes[0])
    assert not [text for text in ("kept-nowhere", codes[0], authenticator.secret) if text in caplog.text]
    browser = enter(user).client
    give(browser, "kept-nowhere")
    assert "kept-nowhere" not in str(list(AccessAttempt.objects.values()))


# --- one's account -----------------------------------------------------------------------------------------------


@pytest.fixture
def inside(user, clock):
    """A browser that has signed in with a code, the app, and the backup codes."""
    authenticator, codes = equipped(user, now=NOON)
    browser = enter(user).client
    give(browser, codes.pop(0))
    return browser, authenticator, codes


@pytest.mark.parametrize("by", ["password", "app", "backup code"])
def test_it_is_turned_off_with_the_password_or_a_code(user, inside, by):
    browser, authenticator, codes = inside
    proof = {"password": {"password": PASSWORD}, "app": {"code": app(authenticator)}, "backup code": {"code": codes[0]}}
    assert said(browser.post(OFF, proof[by]))[-1] == "Your second factor is off."

    assert not Authenticator.objects.exists()
    assert is_in(browser)
    assert enter(user).url == "/admin/"


@pytest.mark.parametrize("address", [OFF, RENEW])
@pytest.mark.parametrize("proof", [{}, {"password": "wrong"}, {"code": "000000000"}])
def test_without_proof_nothing_is_turned_off_or_renewed(user, inside, address, proof):
    browser, _, codes = inside
    assert browser.post(address, proof).status_code == 200

    assert second_factor.is_on(user)
    unused = BackupCode.objects.filter(used_at=None).values_list("digest", flat=True)
    assert set(unused) == {BackupCode.digest_of(code.replace("-", "")) for code in codes}


def test_guessing_at_the_proof_is_counted_and_locked(user, inside):
    browser, *_ = inside
    answers = [browser.post(OFF, {"password": "wrong"}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    assert browser.post(OFF, {"password": PASSWORD}).status_code == 429
    assert second_factor.is_on(user)


def test_new_backup_codes_replace_the_old_ones(user, inside, clock):
    browser, _, old = inside
    new = codes_on(browser.post(RENEW, {"password": PASSWORD}))
    assert len(new) == 10
    assert not set(new) & set(old)
    assert BackupCode.objects.count() == 10

    assert "wrong" in text(give(enter(user).client, old[0]))
    clock.shift(timedelta(seconds=2))
    assert give(enter(user).client, new[0]).url == "/admin/"


def test_few_backup_codes_are_pointed_out(inside):
    browser, *_ = inside
    assert "Few backup codes" not in text(browser.get(ACCOUNT))
    for left, words in ((3, "Few backup codes are left"), (0, "No backup code is left")):
        kept = list(BackupCode.objects.filter(used_at=None).values_list("pk", flat=True)[:left])
        BackupCode.objects.exclude(pk__in=kept).update(used_at=NOON)
        page = text(browser.get(ACCOUNT))
        assert f"{left} of 10 left" in page
        assert words in page


def test_what_is_done_to_it_is_in_the_log_of_each_organization(user, inside):
    other = MembershipFactory(user=user).organization
    browser, *_ = inside
    browser.post(RENEW, {"password": PASSWORD})
    browser.post(OFF, {"password": PASSWORD})

    told = AuditEntry.objects.order_by("pk").values_list("action", "actor_name", "organization")
    home = user.memberships.order_by("pk")[0].organization_id
    who = "ana@example.test"
    assert list(told) == [
        ("user.second_factor_on", "Kaanha", home),
        ("user.backup_codes_renewed", who, home),
        ("user.backup_codes_renewed", who, other.pk),
        ("user.second_factor_off", who, home),
        ("user.second_factor_off", who, other.pk),
    ]


# --- operators and admins ----------------------------------------------------------------------------------------


def test_an_operator_resets_a_lost_second_factor(user, inside, capsys):
    browser, *_ = inside
    call_command("reset_second_factor", "ANA@example.test")

    out = capsys.readouterr().out
    assert "The second factor of ana@example.test is off." in out
    assert not is_in(browser)
    assert enter(user).url == "/admin/"


def test_resetting_names_an_unknown_address():
    with pytest.raises(Refusal, match=r"Nobody signs in as 'nobody@example\.test'"):
        call_command("reset_second_factor", "nobody@example.test")


def test_members_show_who_has_one_for_one_price(clock, django_assert_max_num_queries):
    shop = OrganizationFactory()
    owner = browser_of(person(shop))
    equipped(person(shop, Role.AGENT), now=NOON)
    MembershipFactory.create_batch(5, organization=shop)
    second_factor.start(MembershipFactory(organization=shop).user, afresh=False)  # begun, not on
    with django_assert_max_num_queries(8):
        page = owner.get("/admin/organizations/membership/")

    rows = page.context["cl"].result_list
    assert sorted(row.has_second_factor for row in rows) == [False] * 7 + [True]
    assert superuser().get("/admin/organizations/user/").status_code == 200
