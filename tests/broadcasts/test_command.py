"""`manage.py broadcast`, as one types it."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from broadcasts.models import Broadcast
from kaanha.lib.errors import Refusal
from tests.factories import OrganizationFactory, TagFactory

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


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--name": "n" * 201}, "The name of a broadcast has 1 to 200 characters"),
        ({"--name": "  "}, "The name of a broadcast has 1 to 200 characters"),
        ({"--template": "nothing"}, "There is no template 'nothing'."),
        ({"--template": "new_arrivals", "--language": "hi"}, "Template 'new_arrivals' has no language 'hi'"),
        ({"--tag": "vip"}, "has no tag 'vip' (there are: newsletter)"),
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
