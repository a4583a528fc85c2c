"""`manage.py sequence`, `enroll` and `sequence_status`, as one types them."""

import json
import sys
from datetime import timedelta
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command

from contacts.models import Contact, Tag
from kaanha.lib.errors import Refusal
from kaanha.messaging.models import Message
from sequences.management.commands import enroll, sequence, sequence_status
from sequences.models import Enrollment, Sequence, Source, Status
from tests.factories import ContactFactory, OrganizationFactory, PhoneNumberFactory, TagFactory

pytestmark = pytest.mark.django_db

UNKNOWN = "seq_aaaaaaaaaaaaaaaaaaaaaaaaaa"
WAIT = {"id": "wait", "type": "delay", "delay": {"days": 2}}


def ask(command, *arguments):
    printed = StringIO()
    call_command(command, *arguments, "--json", stdout=printed)
    return json.loads(printed.getvalue())


def told(command, *arguments):
    printed = StringIO()
    call_command(command, *arguments, stdout=printed)
    return printed.getvalue()


def refused(command, *arguments):
    with pytest.raises(Refusal) as refusal:
        ask(command, *arguments)
    return refusal.value.code, str(refusal.value)


@pytest.fixture
def shell(monkeypatch):
    """Run a command as the shell does: exit code, stdout, stderr. The test keeps its connection."""
    monkeypatch.setattr("django.core.management.base.connections.close_all", lambda: None)

    def run(module, *argv):
        command = module.Command(stdout=StringIO(), stderr=StringIO(), no_color=True)
        code = 0
        try:
            command.run_from_argv(["manage.py", "x", *argv])
        except SystemExit as stopped:
            code = stopped.code
        return code, command.stdout.getvalue(), command.stderr.getvalue()

    return run


def typed(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))


@pytest.fixture
def file(tmp_path):
    def write(content, name="steps.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def create(stage, file):
    """Make a draft from these steps, with `sequence create`."""

    def act(*steps, more=(), **changed):
        options = {"--name": "Cart", "--steps": file(list(steps))} | changed
        return ask("sequence", "create", stage.organization.slug, *(w for pair in options.items() for w in pair), *more)

    return act


@pytest.fixture
def active(stage):
    return stage.active(stage.message("m"), stage.delay("wait", days=2), stage.message("n", stage.offer))


# --- sequence ------------------------------------------------------------------------------------------------------


def test_a_draft_names_tags_and_templates_as_people_do(stage, create):
    stage.tag("cart"), stage.tag("Purchased")
    hello = {"id": "m", "type": "message", "template": {"name": "welcome", "language": "en_US"}}
    choice = {"id": "c", "type": "condition", "if": {"tag": "purchased"}, "yes": [hello | {"id": "y"}]}

    made = create(hello, WAIT, choice, **{"--trigger": "tag_added", "--tag": "CART"})

    assert made == {
        "id": Sequence.objects.get().public_id,
        "name": "Cart",
        "status": "draft",
        "trigger": "tag_added",
        "revision": 0,
        "inside": 0,
        "problems": [],
    }
    row = Sequence.objects.get()
    assert (row.organization, row.trigger_tag.name, row.phone_number) == (stage.organization, "cart", stage.number)
    assert row.draft[0]["template"] == stage.welcome.public_id
    assert row.draft[2]["if"] == {"tag": Tag.objects.get(name="Purchased").public_id}


def test_a_draft_may_have_problems_and_all_are_told(stage, create, shell):
    made = create({"id": "m", "type": "message", "template": "nothing"}, {"type": "delay", "delay": {"seconds": 1}})

    assert [problem.split(":")[0] for problem in made["problems"]] == ["1", "2"]
    assert "There is no template nothing" in made["problems"][0]
    assert "1 second is too short" in made["problems"][1]
    printed = told("sequence", "check", made["id"])
    assert "\nproblems:\n  1: There is no template nothing" in printed
    assert shell(sequence, "activate", made["id"])[0] == 2
    assert Sequence.objects.get().status == Status.DRAFT


def test_every_setting_can_be_said(stage, create):
    stage.tag("bought")
    second = PhoneNumberFactory(organization=stage.organization, phone_number_id="200000000000777")
    words = {"--exit-tag": "bought", "--late-limit": "90", "--when-late": "skip", "--spread-per-minute": "60"}

    create(WAIT, more=["--exit-on-reply"], **words, **{"--phone-number-id": "200000000000777"})

    row = Sequence.objects.get()
    assert (row.exit_tag.name, row.exit_on_reply, row.late_limit) == ("bought", True, timedelta(minutes=90))
    assert (row.when_late, row.spread_per_minute, row.phone_number) == ("skip", 60, second)


def test_a_missing_tag_is_created_only_on_request(stage, create):
    stage.tag("cart")

    with pytest.raises(Refusal, match=r"has no tag 'basket' \(there are: cart\)"):
        create(WAIT, **{"--trigger": "tag_added", "--tag": "basket"})
    create(WAIT, more=["--new-tag", "basket", "--new-tag", "Cart"], **{"--trigger": "tag_added", "--tag": "basket"})

    assert sorted(Tag.objects.values_list("name", flat=True)) == ["basket", "cart"]


def test_a_refused_draft_creates_no_tag(stage, create):
    with pytest.raises(Refusal):
        create({"type": "nothing"}, more=["--new-tag", "basket"])

    assert (Tag.objects.count(), Sequence.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"--name": "n" * 201}, "name_invalid"),
        ({"--name": "  "}, "name_invalid"),
        ({"--name": "two\nlines"}, "name_invalid"),
        ({"--trigger": "tag_added"}, "usage"),
        ({"--tag": "cart"}, "usage"),
        ({"--trigger": "tag_added", "--tag": "theirs"}, "tag_not_found"),
        ({"--trigger": "tag_added", "--tag": ""}, "tag_not_found"),
        ({"--exit-tag": "theirs"}, "tag_not_found"),
        ({"--phone-number-id": "200000000000666"}, "phone_number_not_found"),
        ({"--phone-number-id": ""}, "phone_number_not_found"),
        ({"--spread-per-minute": "0"}, "usage"),
        ({"--spread-per-minute": "60001"}, "usage"),
        ({"--late-limit": "0.5"}, "usage"),
        ({"--late-limit": "nan"}, "usage"),
        ({"--late-limit": "inf"}, "usage"),
        ({"--steps": "/nothing/there.json"}, "file_unreadable"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_written(stage, create, changed, code):
    stage.tag("cart")
    other = OrganizationFactory()
    TagFactory(organization=other, name="theirs")
    PhoneNumberFactory(organization=other, phone_number_id="200000000000666")

    with pytest.raises(Refusal) as refusal:
        create(WAIT, **changed)

    assert refusal.value.code == code
    assert not Sequence.objects.exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "file_unreadable"),
        ("[{", "file_unreadable"),
        ("[" * 100_000, "file_unreadable"),
        ("9" * 5_000, "file_unreadable"),
        (" " * 1_000_001, "file_too_large"),
        ("NaN", "tree_invalid"),
        ("null", "tree_invalid"),
        ('{"type": "delay"}', "tree_invalid"),
        ('["\\ud800"]', "tree_invalid"),
        ('[{"type": "message", "template": "\\u0000"}]', "tree_invalid"),
        ('[{"type": "delay", "delay": {"days": 1e999}}]', "tree_invalid"),
        ('[{"type": "delay", "delay": {"days": 1}, "next": "a"}]', "tree_invalid"),
        (json.dumps([WAIT, WAIT]), "tree_invalid"),
    ],
)
def test_a_hostile_file_of_steps_is_refused(stage, file, content, code, shell):
    steps = file(content)

    exit_code, out, err = shell(sequence, "create", stage.organization.slug, "--name", "Cart", "--steps", steps)

    assert (exit_code, out, Sequence.objects.count()) == (2, "", 0)
    assert refused("sequence", "create", stage.organization.slug, "--name", "Cart", "--steps", steps)[0] == code
    assert "Traceback" not in err


def test_steps_come_from_standard_input_too(stage, monkeypatch):
    typed(monkeypatch, json.dumps([WAIT]))

    ask("sequence", "create", stage.organization.slug, "--name", "Cart", "--steps", "-")

    assert Sequence.objects.get().draft == [WAIT]


def test_rows_of_another_organization_count_as_unknown(stage, create):
    other = type(stage)()
    tag = other.tag("theirs")

    made = create(
        {"id": "m", "type": "message", "template": other.welcome.public_id},
        {"id": "c", "type": "condition", "if": {"tag": tag.public_id}, "no": [WAIT]},
    )

    assert [problem.split(":")[0] for problem in made["problems"]] == ["1", "2"]
    assert refused("sequence", "activate", made["id"])[0] == "not_ready"


def test_from_a_draft_to_the_archive(stage, create, file):
    made = create(stage.message(), WAIT)["id"]

    assert ask("sequence", "activate", made)["status"] == "active"
    assert ask("sequence", "diff", made)["changes"] == []
    assert (
        ask("sequence", "steps", made, "--file", file([stage.message(), WAIT | {"delay": {"days": 3}}]))["problems"]
        == []
    )
    [change] = ask("sequence", "diff", made)["changes"]
    assert change.startswith("2: ")
    assert ask("sequence", "publish", made)["revision"] == 2
    assert ask("sequence", "pause", made)["status"] == "paused"
    assert ask("sequence", "resume", made)["status"] == "active"
    assert ask("sequence", "retry", made)["released"] == 0
    archived = ask("sequence", "archive", made)
    assert (archived["status"], archived["ended"]) == ("archived", 0)


def test_the_people_inside_are_moved_and_canceled(stage, create, file):
    made = create(WAIT, stage.message())["id"]
    ask("sequence", "activate", made)
    stage.enroll(Sequence.objects.get(), stage.contact(), stage.contact())
    ask("sequence", "steps", made, "--file", file([WAIT | {"delay": {"days": 3}}, stage.message()]))
    ask("sequence", "publish", made)

    moved = ask("sequence", "move", made)
    assert (moved["moved"], moved["stayed"], moved["inside"], moved["revision"]) == (2, 0, 2, 2)
    canceled = ask("sequence", "cancel", made)
    assert (canceled["canceled"], canceled["inside"], canceled["status"]) == (2, 0, "active")
    assert list(Enrollment.objects.values_list("exit_reason", flat=True)) == ["canceled"] * 2


def test_holders_of_the_tag_are_enrolled_on_request_at_activation(stage, create):
    stage.put_on(tag := stage.tag("cart"), stage.contact())
    made = create(stage.message(), **{"--trigger": "tag_added", "--tag": tag.name})["id"]

    ask("sequence", "activate", made, "--enroll-existing")
    stage.run()

    assert Enrollment.objects.get().source == Source.EXISTING


def test_the_steps_are_printed_as_they_can_be_read_again(stage, active, file):
    printed = told("sequence", "steps", active.public_id)

    assert json.loads(printed) == active.draft == ask("sequence", "steps", active.public_id)["steps"]
    assert ask("sequence", "steps", active.public_id, "--file", file(printed))["problems"] == []
    assert refused("sequence", "publish", active.public_id)[0] == "nothing_changed"


def test_an_archived_sequence_keeps_its_steps(stage, active, file):
    ask("sequence", "archive", active.public_id)

    assert refused("sequence", "steps", active.public_id, "--file", file([WAIT]))[0] == "wrong_status"
    active.refresh_from_db()
    assert len(active.draft) == 3


@pytest.mark.parametrize("act", ["activate", "resume"])
def test_an_act_out_of_season_is_refused_with_exit_code_2(active, act, shell):
    code, out, err = shell(sequence, act, active.public_id)

    assert (code, out) == (2, "")
    assert f"Sequence {active.name!r} is active" in err


@pytest.mark.parametrize("act", sequence._ON_ONE)
@pytest.mark.parametrize("given", [UNKNOWN, "", "1", "bc_x", "seq_\u0967", "../x"])
def test_an_unknown_id_is_refused(act, given):
    assert refused("sequence", act, given)[0] == "sequence_not_found"


def test_an_unknown_organization_is_refused(file):
    assert "There is no organization 'x'" in refused("sequence", "list", "x")[1]


def test_a_missing_option_is_a_usage_error(stage):
    with pytest.raises(CommandError, match="--name, --steps"):
        ask("sequence", "create", stage.organization.slug)


def test_the_list_shows_the_newest_first_and_none_of_others(stage, create, django_assert_num_queries):
    type(stage)().draft()
    made = [create(stage.message(), **{"--name": name})["id"] for name in ("One", "Two", "Three")]
    ask("sequence", "activate", made[1])
    stage.enroll(Sequence.objects.get(name="Two"), stage.contact())

    # the organization, its sequences, their people, their revisions
    with django_assert_num_queries(4):
        rows = ask("sequence", "list", stage.organization.slug)

    assert [(row["id"], row["revision"], row["inside"]) for row in rows] == [
        (made[2], 0, 0),
        (made[1], 1, 1),
        (made[0], 0, 0),
    ]
    assert told("sequence", "list", stage.organization.slug).count("status: ") == 3


# --- enroll --------------------------------------------------------------------------------------------------------


def test_one_contact_is_enrolled_and_a_second_time_refused(stage, active, shell):
    contact = stage.contact()

    assert ask("enroll", active.public_id, "--phone", f" {contact.phone} ") == {
        "sequence": active.public_id,
        "enrolled": 1,
        "rejectedByReason": {},
        "rejected": [],
    }
    assert Enrollment.objects.get().source == Source.COMMAND
    code, out, err = shell(enroll, active.public_id, "--contact", contact.public_id)
    assert (code, out) == (2, "")
    assert (
        err
        == f"{contact.public_id}: The contact has been enrolled in this sequence before: each contact takes it once.\n"
    )
    assert list(active.refusals.values_list("code", flat=True)) == ["already_enrolled"]


def test_several_are_enrolled_and_the_rest_told_with_the_reasons(stage, active):
    first, second, left = stage.contact(), stage.contact(), stage.contact(opted_in=False)
    words = ["--phone", first.phone, "--phone", left.phone, "--phone", "12", "--contact", second.public_id]
    words += ["--contact", "ct_x", "--phone", first.phone]

    result = ask("enroll", active.public_id, *words)

    assert result["enrolled"] == 2
    reasons = {"contact_not_found": 1, "not_opted_in": 1, "invalid_phone": 1, "already_enrolled": 1}
    assert result["rejectedByReason"] == reasons
    assert [one["contact"] for one in result["rejected"]] == ["ct_x", left.phone, "12", first.phone]
    assert set(Enrollment.objects.values_list("contact", flat=True)) == {first.pk, second.pk}


def test_a_contact_of_another_organization_is_not_there(active):
    other = ContactFactory()

    assert refused("enroll", active.public_id, "--contact", other.public_id)[0] == "contact_not_found"
    assert refused("enroll", active.public_id, "--phone", other.phone)[0] == "contact_not_found"
    assert not Enrollment.objects.exists()


def test_a_list_comes_from_a_file_in_batches(stage, active, file, monkeypatch):
    monkeypatch.setattr(enroll.enrolling, "BATCH", 2)
    phones = [stage.contact().phone for _ in range(5)]

    result = ask("enroll", active.public_id, "--file", file("\ufeff" + "\n\n".join([*phones, phones[0], "\x1b[2J"])))

    assert (result["enrolled"], result["rejectedByReason"]) == (5, {"already_enrolled": 1, "invalid_phone": 1})
    assert Enrollment.objects.count() == 5


def test_a_list_comes_from_standard_input(stage, active, monkeypatch):
    typed(monkeypatch, f"{stage.contact().phone}\n")

    assert ask("enroll", active.public_id, "--file", "-")["enrolled"] == 1


def test_people_see_the_first_rejections_without_what_a_terminal_would_obey(active, file):
    printed = told("enroll", active.public_id, "--file", file("\n".join(["\x1b[2J", *map(str, range(25))])))

    assert "enrolled: 0\nrejected: 26 (invalid_phone 26)\n  '\\x1b[2J': " in printed
    assert "… and 6 more; --json lists them all" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "usage"),
        (["--tag", "cart", "--phone", "+919800000001"], "usage"),
        (["--tag", "cart", "--file", "-"], "usage"),
        (["--tag", "theirs"], "tag_not_found"),
        (["--file", "/nothing/there"], "file_unreadable"),
        (["--phone", ""], "invalid_phone"),
        (["--contact", ""], "contact_not_found"),
    ],
)
def test_whom_to_enroll_has_to_be_said(stage, active, words, code):
    stage.tag("cart")
    TagFactory(name="theirs")

    assert refused("enroll", active.public_id, *words)[0] == code
    assert not Enrollment.objects.exists()


def test_an_empty_file_is_refused(active, file):
    assert refused("enroll", active.public_id, "--file", file(" \n\n"))[0] == "file_empty"


def test_holders_of_a_tag_are_left_to_the_sweep(stage, active):
    stage.put_on(tag := stage.tag("cart"), stage.contact(), stage.contact())

    result = ask("enroll", active.public_id, "--tag", "CART")
    assert (result["tag"], result["status"], Enrollment.objects.count()) == ("cart", "started", 0)
    stage.run()

    assert list(Enrollment.objects.values_list("source", flat=True)) == [Source.COMMAND] * 2
    assert tag.name == "cart"


@pytest.mark.parametrize("words", [["--phone", "+919800000001"], ["--tag", "cart"]])
@pytest.mark.parametrize("act", [None, "pause", "archive"])
def test_only_an_active_sequence_takes_people_in(stage, words, act):
    stage.tag("cart")
    chosen = stage.active(stage.message()) if act else stage.draft(stage.message())
    if act:
        ask("sequence", act, chosen.public_id)

    assert refused("enroll", chosen.public_id, *words)[0] == "sequence_not_active"


def test_enrolling_in_an_unknown_sequence_is_refused():
    assert refused("enroll", UNKNOWN, "--phone", "+919800000001")[0] == "sequence_not_found"


# --- sequence_status -----------------------------------------------------------------------------------------------


def test_the_status_has_the_people_and_every_step(stage, active):
    stage.enroll(active, stage.contact(), stage.contact())
    stage.settle(Message.objects.order_by("pk")[:1])
    with pytest.raises(Refusal):
        ask("enroll", active.public_id, "--phone", stage.contact(opted_in=False).phone)

    status = ask("sequence_status", active.public_id)
    printed = told("sequence_status", active.public_id)

    assert (status["enrolled"], status["inside"], status["refused"]) == (2, 2, {"not_opted_in": 1})
    assert [(step["place"], step["waiting"], step["passed"]) for step in status["steps"]] == [
        ("1", 1, 1),
        ("2", 1, 0),
        ("3", 0, 0),
    ]
    assert "refused: not_opted_in 1\n" in printed
    assert "exited: nobody\n" in printed
    assert "  1. Send welcome (en_US): waiting 1, passed 1; dispatched 1, delivered 0, read 0\n" in printed
    assert "  2. Wait 2 days: waiting 1, passed 0\n" in printed


def test_a_draft_has_a_status_without_steps(stage):
    draft = stage.draft(stage.message())

    assert ask("sequence_status", draft.public_id)["steps"] == []
    assert "status: draft\n" in told("sequence_status", draft.public_id)


def test_a_contacts_way_in_the_organizations_time(stage, active):
    contact = stage.contact()
    stage.enroll(active, contact)
    stage.settle()

    way = ask("sequence_status", active.public_id, "--phone", contact.phone)
    printed = told("sequence_status", active.public_id, "--phone", contact.phone)

    assert (way["status"], way["next"], way["nextAt"]) == ("active", "Wait 2 days", "2026-03-04T10:00:00Z")
    assert [(row["place"], row["outcome"], row["messageStatus"]) for row in way["path"]] == [
        ("1", "sent", "sent"),
        ("2", "waiting", None),
    ]
    zone = stage.organization.timezone
    assert (
        f"nextAt: {stage.now.astimezone(stage.organization.zone) + timedelta(days=2):%Y-%m-%d %H:%M:%S} {zone}\n"
        in printed
    )
    assert "1. Send welcome (en_US) → sent\n" in printed


def test_why_a_contact_is_not_in_the_sequence(stage, active, shell):
    contact, refused_one = stage.contact(), stage.contact(opted_in=False)
    refused("enroll", active.public_id, "--phone", refused_one.phone)

    assert refused("sequence_status", active.public_id, "--phone", contact.phone)[0] == "not_enrolled"
    assert refused("sequence_status", active.public_id, "--phone", refused_one.phone)[0] == "not_opted_in"
    assert refused("sequence_status", active.public_id, "--phone", "x")[0] == "invalid_phone"
    assert refused("sequence_status", active.public_id, "--phone", "+919899999999")[0] == "contact_not_found"
    assert refused("sequence_status", active.public_id, "--phone", ContactFactory().phone)[0] == "contact_not_found"
    assert shell(sequence_status, UNKNOWN)[0] == 2
    assert Contact.objects.count() == 3
