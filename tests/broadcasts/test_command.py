"""`manage.py broadcast`, as one types it."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broadcasts.models import Broadcast
from kaanha.lib.errors import Refusal
from tests.factories import OrganizationFactory, PhoneNumberFactory, TagFactory, TemplateFactory

pytestmark = pytest.mark.django_db


def ask(*arguments):
    printed = StringIO()
    call_command("broadcast", *arguments, "--json", stdout=printed)
    return json.loads(printed.getvalue())


@pytest.fixture
def create(organization, template, tag):
    def act(*more, **changed):
        options = {"--name": "Autumn", "--template": "new_arrivals", "--tag": "Newsletter"} | changed
        words = [word for pair in options.items() for word in pair]
        return ask("create", organization.slug, *words, "--variable", "first_name=contact.first_name|there", *more)

    return act


def test_from_a_draft_to_the_queue(create, people):
    people(12)
    made = create()
    assert (made["status"], made["category"], made["problems"]) == ("draft", "MARKETING", [])

    seen = ask("preview", made["id"])
    assert (seen["total"], len(seen["recipients"]), seen["leftOut"]["opted_out"]) == (12, 10, 0)
    assert seen["duration"] == "It takes less than a minute, at up to 80 messages a second."
    copy = ask("duplicate", made["id"])
    assert (copy["name"], copy["status"], copy["id"] != made["id"]) == ("Autumn (copy)", "draft", True)

    assert ask("send", made["id"])["status"] == "queued"
    assert ask("pause", made["id"])["status"] == "paused"
    assert ask("resume", made["id"])["status"] == "queued"
    assert ask("cancel", made["id"])["status"] == "canceled"
    assert ask("status", made["id"])["id"] == made["id"]


def test_an_id_tells_nothing_about_how_many_there_are(create):
    made = create()

    assert made["id"] == Broadcast.objects.get().public_id
    assert str(Broadcast.objects.get().pk) not in made["id"].split("_")[1][:3]
    assert len(made["id"]) == len("bc_") + 26


def test_scheduling_reads_the_organizations_time(create, people):
    people(1)

    scheduled = ask("schedule", create()["id"], "--at", "2126-12-24T09:30")

    assert (scheduled["status"], scheduled["scheduledAt"]) == ("scheduled", "2126-12-24T04:00:00Z")
    for options, status in (((), "scheduled"), (("--at-once",), "queued")):
        ask("pause", scheduled["id"])
        assert ask("resume", scheduled["id"], *options)["status"] == status


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--name": "n" * 201}, "The name of a broadcast has 1 to 200 characters"),
        ({"--name": "  "}, "The name of a broadcast has 1 to 200 characters"),
        ({"--template": "nothing"}, "There is no template 'nothing'."),
        ({"--template": "new_arrivals", "--language": "hi"}, "Template 'new_arrivals' has no language 'hi'"),
        ({"--tag": "vip"}, "has no tag 'vip' (there are: newsletter)"),
        ({"--phone-number-id": ""}, "The organization has no phone number ''"),
        ({"--phone-number-id": "7"}, "The organization has no phone number '7'"),
        ({"--variable": "nonsense"}, "nonsense"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_written(create, number, changed, sentence):
    with pytest.raises(Refusal) as refusal:
        create(**changed)

    assert sentence in str(refusal.value)
    assert not Broadcast.objects.exists()


def test_a_language_may_be_written_with_a_hyphen(create, template):
    assert create(**{"--language": template.language.replace("_", "-")})["language"] == "en_US"


@pytest.fixture
def second_account(organization, template):
    """A later WhatsApp account of the same organization, which has the template, too."""
    number = PhoneNumberFactory(organization=organization, phone_number_id="200000000000009")
    TemplateFactory(
        organization=organization, account=number.account, name=template.name, components=template.components
    )
    return number


def chosen(made):
    broadcast = Broadcast.objects.by_public_id(made["id"]).get()
    return broadcast.phone_number.phone_number_id, broadcast.template.account_id


def test_a_template_of_two_accounts_goes_with_the_number(create, template, number, second_account):
    first = create("--phone-number-id", number.phone_number_id)
    second = create("--phone-number-id", second_account.phone_number_id)

    assert chosen(first) == (number.phone_number_id, template.account_id)
    assert chosen(second) == (second_account.phone_number_id, second_account.account_id)


@pytest.mark.parametrize("language", [(), ("--language", "en_US")])
def test_a_template_of_two_accounts_asks_for_the_number(create, number, second_account, language):
    with pytest.raises(Refusal) as refusal:
        create(*language)

    assert str(refusal.value) == (
        "Template new_arrivals (en_US) stands in several WhatsApp accounts. Choose the sending number with "
        f"--phone-number-id: 200000000000001 ({number}), 200000000000009 ({second_account})."
    )
    assert not Broadcast.objects.exists()


def test_with_several_languages_the_language_is_asked_for_first_and_each_told_once(create, second_account):
    other = TemplateFactory(
        organization=second_account.organization, account=second_account.account, name="new_arrivals", language="hi"
    )

    with pytest.raises(Refusal, match=r"has several languages: en_US, hi\. Choose one with --language\."):
        create()
    made = create("--language", "hi")

    assert chosen(made) == (second_account.phone_number_id, other.account_id)


def test_without_a_choice_the_number_is_one_of_the_templates_account(create, second_account):
    TemplateFactory(
        organization=second_account.organization,
        account=second_account.account,
        name="only_there",
        components=second_account.account.templates.get().components,
    )

    made = create(**{"--template": "only_there"})

    assert chosen(made) == ("200000000000009", second_account.account_id)


def test_a_template_that_the_numbers_account_lacks_is_refused(create, number, second_account):
    TemplateFactory(organization=second_account.organization, account=second_account.account, name="only_there")

    with pytest.raises(Refusal, match="There is no template 'only_there' in the number's WhatsApp account"):
        create("--phone-number-id", number.phone_number_id, **{"--template": "only_there"})


def test_people_read_times_in_the_organizations_timezone(create, people):
    people(1)
    made, printed = create()["id"], StringIO()

    call_command("broadcast", "schedule", made, "--at", "2126-12-24T09:30", stdout=printed)

    assert "scheduledAt: 2126-12-24 09:30:00 Asia/Kolkata\n" in printed.getvalue()


def test_another_organizations_tag_is_not_there(create, number):
    TagFactory(organization=OrganizationFactory(), name="vip")

    with pytest.raises(Refusal, match="has no tag 'vip'"):
        create(**{"--tag": "vip"})


def test_an_unknown_organization_is_refused_with_the_known_ones(organization):
    with pytest.raises(Refusal, match=f"There is no organization 'x' \\(there are: {organization.slug}\\)"):
        ask("create", "x", "--name", "a", "--template", "b")


@pytest.mark.parametrize("broadcast", ["bc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "1", "", "tpl_x"])
def test_an_unknown_id_is_refused(db, broadcast):
    with pytest.raises(Refusal, match="There is no broadcast"):
        ask("status", broadcast)


def test_sending_twice_is_refused_by_its_state(create, people):
    people(1)
    made = create()
    ask("send", made["id"])

    with pytest.raises(Refusal, match="is queued: only a draft can be sent"):
        ask("send", made["id"])


def test_a_missing_option_is_a_usage_error(organization):
    with pytest.raises(CommandError, match="--at"):
        ask("schedule", "bc_x")


def test_the_list_shows_the_newest_first(create, organization):
    first, second = create(), create(**{"--name": "Winter"})

    assert [row["id"] for row in ask("list", organization.slug)] == [second["id"], first["id"]]
    assert timezone.now() > Broadcast.objects.get(name="Winter").created_at
