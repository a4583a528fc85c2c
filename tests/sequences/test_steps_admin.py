"""The draft in the admin: a tree of steps, made and changed by hand, whoever else works on it."""

import re
from dataclasses import replace

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from kaanha.messaging.admin import DISPATCHES, address_of
from kaanha.messaging.counting import Funnel
from kaanha.organizations.models import Role
from sequences import drafting, enrolling, publishing, seeing, step_numbers
from sequences.models import Sequence, Source, Status, Step
from sequences.tree_reading import MAX_DEPTH
from tests.factories import (
    ContactFactory,
    DispatchFactory,
    MessageFactory,
    OrganizationFactory,
    PhoneNumberFactory,
    SequenceFactory,
    TagFactory,
    TemplateFactory,
)
from tests.people import said, signed_in, text

pytestmark = pytest.mark.django_db
GREETING = [{"type": "BODY", "text": "Hi {{1}}, welcome."}]
MAPPED = {"body.1": {"field": "first_name", "fallback": "there"}}


@pytest.fixture
def shop():
    return OrganizationFactory(name="Shop", timezone="Asia/Kolkata")


@pytest.fixture
def number(shop):
    return PhoneNumberFactory(organization=shop)


@pytest.fixture
def template(shop, number):
    return TemplateFactory(organization=shop, account=number.account, name="welcome", components=GREETING)


@pytest.fixture
def tag(shop):
    return TagFactory(organization=shop, name="vip")


@pytest.fixture
def owner(shop):
    return signed_in(shop)


@pytest.fixture
def draft(shop, number):
    """draft(step, …) is a sequence with these steps."""

    def make(*steps, **fields):
        return SequenceFactory(organization=shop, phone_number=number, draft=list(steps), **fields)

    return make


def page(sequence, name="change", query=""):
    return f"/admin/sequences/sequence/{sequence.pk}/{name}/{query}"


def steps_of(sequence):
    return Sequence.objects.get(pk=sequence.pk).draft


def delay(key, days=1):
    return {"id": key, "type": "delay", "delay": {"days": days}}


def message(key, template, **members):
    return {
        "id": key,
        "type": "message",
        "template": template.public_id,
        "variables": MAPPED,
        "whenCapped": "skip",
        **members,
    }


def has(key, tag, **paths):
    return {"id": key, "type": "condition", "if": {"tag": tag.public_id}, **paths}


def hidden(response, name):
    """What a hidden input of the page holds."""
    return re.search(rf'name="{name}" value="([^"]*)"', response.content.decode())[1]


def save(browser, sequence, query, **typed):
    """Open a step's form and send it as a browser does."""
    address = page(sequence, "step", query)
    form = browser.get(address)
    return browser.post(address, {"id": hidden(form, "id"), "seen": hidden(form, "seen"), **typed})


GREET = {"body.1:source": "first_name", "body.1:fallback": "there"}
FOR_DAYS = {"mode": "span", "span_1": "days"}


# --- the tree ----------------------------------------------------------------------------------------------------


def test_the_tree_shows_each_step_in_words_with_its_place(owner, draft, template, tag):
    sequence = draft(
        message("a", template, whenCapped="wait"),
        has("b", tag, yes=[delay("c", 2)], no=[message("d", template)]),
        {"id": "e", "type": "delay", "until": {"time": "09:00", "weekdays": ["mon"]}},
    )
    shown = text(owner.get(page(sequence)))

    assert "Step 1 · message · waits at the frequency cap Send welcome (en_US)" in shown
    assert "Hi there, welcome." in shown
    assert "Step 2 · condition Has the tag vip?" in shown
    assert "If Yes" in shown
    assert "Step 2 yes 1 · delay Wait 2 days" in shown
    assert "Step 2 no 1 · message · skipped at the frequency cap" in shown
    assert "On to step 3" in shown
    assert "Step 3 · delay Wait until 09:00 on Mon" in shown
    assert "to settle" not in shown


def test_every_problem_stands_at_its_step_and_at_the_top(owner, draft, template):
    sequence = draft(message("a", template, variables={}), delay("b", 400))
    shown = text(owner.get(page(sequence)))

    assert "2 things to settle before it can be activated" in shown
    unmapped = "{{1}} in the body (body.1) has no value: map it to a contact's field or a text."
    assert shown.count(unmapped) == 2
    assert shown.count("The wait of 400 days is too long: make it 365 days or shorter.") == 2
    assert 'href="#step-b"' in owner.get(page(sequence)).content.decode()


@pytest.mark.parametrize("variables", [{"body.1": {}}, {"body.1": {"field": ""}}, {"nonsense": {"text": "x"}}])
def test_variables_that_somebody_else_wrote_cannot_break_the_page(owner, draft, template, variables):
    sequence = draft(message("a", template, variables=variables))
    assert owner.get(page(sequence)).status_code == 200
    assert owner.get(page(sequence, "step", "?step=a")).status_code == 200


def test_a_path_without_steps_goes_straight_on_and_an_emptied_one_is_a_problem(owner, draft, tag):
    sequence = draft(has("a", tag, yes=[], no=[delay("b")]), delay("c"))
    shown = text(owner.get(page(sequence)))
    assert "This path was emptied: add a step, or let it go straight on." in shown

    answer = owner.post(page(sequence), {"act": "straight:a.yes"})
    assert answer.url == page(sequence) + "#step-a"
    assert steps_of(sequence) == [has("a", tag, no=[delay("b")]), delay("c")]
    assert "This path was emptied" not in text(owner.get(page(sequence)))


@pytest.mark.parametrize(
    ("act", "order"),
    [
        ("up:b", ["b", "a", "c"]),
        ("down:b", ["a", "c", "b"]),
        ("remove:b", ["a", "c"]),
        ("move:a:end=", ["b", "c", "a"]),
        ("move:c:before=a", ["c", "a", "b"]),
    ],
)
def test_buttons_edit_the_tree_and_lead_back_to_the_step(owner, draft, act, order):
    sequence = draft(delay("a"), delay("b"), delay("c"))
    answer = owner.post(page(sequence), {"act": act})

    assert [step["id"] for step in steps_of(sequence)] == order
    near = "a" if act.startswith("remove") else act.split(":")[1]
    assert answer.url == page(sequence) + f"#step-{near}"
    assert LogEntry.objects.get().object_id == str(sequence.pk)


def test_a_copy_is_a_new_step(owner, draft):
    sequence = draft(delay("a"), delay("z"))
    owner.post(page(sequence), {"act": "copy:a"})

    first, copied, last = steps_of(sequence)
    assert (first, last) == (delay("a"), delay("z"))
    assert copied == delay(copied["id"])
    assert copied["id"] not in ("a", "z")


def test_while_a_step_moves_each_other_place_takes_it(owner, draft, tag):
    sequence = draft(delay("a"), has("b", tag, yes=[delay("c")]), delay("d"))
    shown = owner.get(page(sequence, query="?move=b")).content.decode()

    places = set(re.findall(r'value="move:b:([^"]+)"', shown))
    assert places == {"before=a", "end="}  # not where it is, and not inside itself
    places = set(re.findall(r'value="move:a:([^"]+)"', owner.get(page(sequence, query="?move=a")).content.decode()))
    assert places == {"before=c", "end=b.yes", "end=b.no", "before=d", "end="}


def test_an_edit_of_a_step_that_is_gone_says_so(owner, draft):
    sequence = draft(delay("a"))
    answer = owner.post(page(sequence), {"act": "up:gone"})
    assert said(answer) == ["That step isn't there any more: it was removed in another window."]
    assert steps_of(sequence) == [delay("a")]


def test_what_is_no_act_is_not_found_and_nonsense_is_refused(owner, draft):
    sequence = draft(delay("a"))
    for act in ("", "explode:a"):
        assert owner.post(page(sequence), {"act": act}).status_code == 404
    for act in ("remove", "up:a\nb", "up:\0", "straight:a.maybe", "move:a:end=a.yes", "move:a:before=ünknown"):
        answer = owner.post(page(sequence), {"act": act})
        assert answer.url.startswith(page(sequence))
        assert owner.get(answer.url).status_code == 200
    assert steps_of(sequence) == [delay("a")]


def test_the_deepest_tree_can_be_shown(owner, draft, tag):
    steps = [delay("end")]
    for depth in range(MAX_DEPTH):
        steps = [has(f"c{depth}", tag, yes=steps, no=[delay(f"d{depth}")])]
    assert "Step 1 yes 1" in text(owner.get(page(draft(*steps))))


def test_a_condition_with_steps_inside_is_removed_only_after_being_asked(owner, draft, template, tag):
    asking = {"id": "z", "type": "condition", "if": {"step": "b", "reached": "read"}, "no": [delay("y")]}
    sequence = draft(has("a", tag, yes=[message("b", template), delay("c")]), asking)

    asked = owner.post(page(sequence), {"act": "remove:a"})
    assert asked.url == page(sequence, "remove", "?step=a")
    assert len(steps_of(sequence)) == 2
    form = owner.get(asked.url)
    shown = text(form)
    assert "Step 1, “Has the tag vip?”, is removed. The 2 steps on its paths go with it." in shown
    assert "What asks about its messages needs another question afterward: step 2." in shown

    drafting.edit(sequence, lambda tree: drafting.insert(tree, delay("x"), drafting.Gap(end="a.no")))
    refused = owner.post(asked.url, {"inside": "2"})
    assert said(refused)[-1] == "By now there are 3 steps inside that condition: confirm again."
    assert owner.post(asked.url, {"inside": "3"}).url.startswith(page(sequence))
    assert steps_of(sequence) == [asking]


# --- the form of a step ------------------------------------------------------------------------------------------


def test_a_message_is_added_with_its_variables(owner, draft, template):
    sequence = draft(delay("a"))
    answer = save(owner, sequence, "?kind=message&before=a", template=template.pk, when_capped="wait", **GREET)

    added, last = steps_of(sequence)
    assert added == message(added["id"], template, whenCapped="wait")
    assert last == delay("a")
    assert answer.url == page(sequence) + f"#step-{added['id']}"
    assert said(answer) == ["The message is added."]


def test_a_message_may_be_saved_before_its_variables_are_filled(owner, draft, template):
    sequence = draft()
    save(owner, sequence, "?kind=message&end=", template=template.pk, **{"body.1:source": "="})
    assert steps_of(sequence)[0]["variables"] == {}
    assert "has no value" in text(owner.get(page(sequence)))


def test_the_form_shows_a_message_as_it_is_and_keeps_what_it_does_not_show(owner, draft, shop, number):
    document = TemplateFactory(
        organization=shop,
        account=number.account,
        category="UTILITY",
        components=[{"type": "HEADER", "format": "DOCUMENT"}, {"type": "BODY", "text": "Your invoice."}],
    )
    variables = {"header": {"link": "https://example.com/a.pdf", "filename": "Invoice.pdf"}}
    step = message("a", document, variables=variables, whenCapped="wait")
    sequence = draft(step)
    form = owner.get(page(sequence, "step", "?step=a"))
    assert "https://example.com/a.pdf" in form.content.decode()
    assert "when_capped" not in form.content.decode()

    save(owner, sequence, "?step=a", template=document.pk, **{"header:value": "https://example.com/a.pdf"})
    assert steps_of(sequence) == [step]
    save(owner, sequence, "?step=a", template=document.pk, **{"header:value": "https://example.com/b.pdf"})
    assert steps_of(sequence)[0]["variables"] == {"header": {"link": "https://example.com/b.pdf"}}


def test_sendable_templates_of_the_numbers_account_are_offered_and_the_one_chosen_now(owner, draft, shop, template):
    account = template.account
    paused = TemplateFactory(organization=shop, account=account, name="paused", status="PAUSED")
    TemplateFactory(organization=shop, account=account, name="pending", status="PENDING")
    TemplateFactory(organization=shop, name="of_another_account")
    foreign = TemplateFactory(name="foreign")
    sequence = draft(message("a", paused))

    offered = owner.get(page(sequence, "step", "?step=a")).context["form"].fields["template"].queryset
    assert list(offered) == [paused, template]
    refused = save(owner, sequence, "?step=a", template=foreign.pk)
    assert "Select a valid choice" in text(refused)
    assert steps_of(sequence) == [message("a", paused)]


def test_a_template_that_is_not_there_is_named(owner, draft):
    step = {"id": "a", "type": "message", "template": {"name": "lost", "language": "hi"}, "variables": {}}
    sequence = draft({**step, "whenCapped": "skip"})
    shown = text(owner.get(page(sequence, "step", "?step=a")))
    assert "The step names the template “lost (hi)”, which isn't there: choose another one." in shown


def test_the_variables_follow_the_chosen_template_and_nothing_is_saved(owner, draft, template, number, shop):
    utility = TemplateFactory(organization=shop, account=number.account, category="UTILITY", components=GREETING)
    sequence = draft(message("a", template))
    for chosen, capped in ((template, True), (utility, False)):
        answer = owner.post(page(sequence, "step-message", "?step=a"), {"template": chosen.pk, **GREET})
        assert 'name="body.1:source"' in answer.content.decode()
        assert "Hi there, welcome." in text(answer)
        assert ("when_capped" in answer.content.decode()) == capped
        # What would be done is chosen already, though nobody was asked before.
        chosen_radios = [tag for tag in re.findall("<input[^>]*>", answer.content.decode()) if " checked" in tag]
        assert any('value="skip"' in tag for tag in chosen_radios) == capped
    without_script = owner.post(page(sequence, "step", "?kind=message&end="), {"template": template.pk, "_show": "1"})
    assert 'name="body.1:source"' in without_script.content.decode()
    assert steps_of(sequence) == [message("a", template)]


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ({"mode": "span", "span_0": "36", "span_1": "hours"}, {"delay": {"hours": 36}}),
        ({"mode": "span", "span_0": "48", "span_1": "hours"}, {"delay": {"days": 2}}),
        (
            {"mode": "until", "time": "09:30", "weekdays": ["mon", "fri"]},
            {"until": {"time": "09:30", "weekdays": ["mon", "fri"]}},
        ),
        (
            {
                "mode": "until",
                "time": "17:00",
                "weekdays": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "timezone": "Europe/Madrid",
            },
            {"until": {"time": "17:00", "timezone": "Europe/Madrid"}},
        ),
        # what belongs to the other choice is ignored, whatever it is
        (
            {"mode": "span", "span_0": "1", "span_1": "days", "time": "25:99", "timezone": "Mars"},
            {"delay": {"days": 1}},
        ),
        (
            {"mode": "until", "time": "09:00", "weekdays": ["sun"], "span_0": "-1"},
            {"until": {"time": "09:00", "weekdays": ["sun"]}},
        ),
    ],
)
def test_a_delay_is_typed_as_a_span_or_a_time_of_day(owner, draft, typed, stored):
    sequence = draft(delay("a"))
    save(owner, sequence, "?step=a", **typed)
    assert steps_of(sequence) == [{"id": "a", "type": "delay", **stored}]

    form = owner.get(page(sequence, "step", "?step=a")).context["form"]
    assert form["mode"].value() == typed["mode"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"mode": "span", "span_0": "", "span_1": "days"}, "Give a number."),
        ({"mode": "span", "span_0": "0", "span_1": "days"}, "Give a number from 1 to 36,525 days."),
        ({"mode": "span", "span_0": "-5", "span_1": "days"}, "Give a whole number above 0, and its unit."),
        ({"mode": "span", "span_0": "9" * 400, "span_1": "seconds"}, "Give a number from 1 to 3,155,760,000 seconds."),
        ({"mode": "span", "span_0": "5", "span_1": "weeks"}, "Give a whole number above 0, and its unit."),
        ({"mode": "until", "time": "", "weekdays": ["mon"]}, "Give a time, such as 09:00."),
        ({"mode": "until", "time": "09:00"}, "Tick at least one day."),
        ({"mode": "until", "time": "09:00", "weekdays": ["mon"], "timezone": "Mars/Base"}, "Select a valid choice"),
        ({"mode": "never"}, "Select a valid choice"),
    ],
)
def test_a_delay_that_is_none_is_refused_at_its_field(owner, draft, typed, sentence):
    sequence = draft(delay("a"))
    assert sentence in text(save(owner, sequence, "?step=a", **typed))
    assert steps_of(sequence) == [delay("a")]


def test_seconds_are_offered_where_the_shortest_delay_allows_them_or_has_them(owner, draft, settings):
    sequence = draft(delay("a"), {"id": "b", "type": "delay", "delay": {"seconds": 5}})
    offers = '<option value="seconds"'
    assert offers not in owner.get(page(sequence, "step", "?step=a")).content.decode()
    assert offers in owner.get(page(sequence, "step", "?step=b")).content.decode()

    settings.SEQUENCE_MIN_DELAY = settings.SEQUENCE_MIN_DELAY / 60
    assert offers in owner.get(page(sequence, "step", "?step=a")).content.decode()


def test_a_condition_asks_about_a_tag_a_field_or_an_earlier_message(owner, draft, shop, template, tag):
    ContactFactory(organization=shop, attributes={"city": "Pune"})
    sequence = draft(message("a", template), has("b", tag, no=[delay("c")]), message("d", template))
    form = owner.get(page(sequence, "step", "?step=b")).context["form"]
    assert ("city", "city") in form.fields["field"].choices
    assert form.fields["message_step"].choices == [("", "Choose a message"), ("a", "welcome (step 1)")]

    for typed, test in (
        ({"mode": "tag", "tag": tag.pk}, {"tag": tag.public_id}),
        (
            {"mode": "field", "field": "city", "op": "equals", "value": "Pune"},
            {"field": "city", "is": "equals", "value": "Pune"},
        ),
        ({"mode": "field", "field": "email", "op": "isSet", "value": "left over"}, {"field": "email", "is": "isSet"}),
        (
            {"mode": "field", "field": "city", "op": "lessThan", "value": "2.5"},
            {"field": "city", "is": "lessThan", "value": "2.5"},
        ),
        (
            {"mode": "message", "message_step": "a", "reached": "replied", "tag": "999"},
            {"step": "a", "reached": "replied"},
        ),
    ):
        save(owner, sequence, "?step=b", **typed)
        assert steps_of(sequence)[1] == {"id": "b", "type": "condition", "if": test, "no": [delay("c")]}
        form = owner.get(page(sequence, "step", "?step=b")).context["form"]
        assert form["mode"].value() == typed["mode"]

    save(owner, sequence, "?step=b", mode="tag", tag=tag.pk, wait_0="24", wait_1="hours")
    assert steps_of(sequence)[1]["waitFor"] == {"days": 1}


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"mode": "tag"}, "Choose a tag."),
        ({"mode": "message"}, "Choose a message that comes before this step."),
        ({"mode": "message", "message_step": "d"}, "Select a valid choice"),
        ({"mode": "field", "op": "isSet"}, "Choose a field."),
        ({"mode": "field", "field": "name", "op": "equals"}, "Give the value that it is compared with."),
        ({"mode": "field", "field": "name", "op": "greaterThan", "value": "many"}, "Give a number, such as 30 or 2.5."),
    ],
)
def test_a_condition_without_a_question_is_refused_at_its_field(owner, draft, template, tag, typed, sentence):
    sequence = draft(has("b", tag, no=[delay("c")]), message("d", template))
    assert sentence in text(save(owner, sequence, "?step=b", **typed))
    assert steps_of(sequence)[0] == has("b", tag, no=[delay("c")])


def test_tags_of_another_organization_are_neither_offered_nor_taken(owner, draft, tag):
    foreign = TagFactory(name="foreign")
    sequence = draft(has("b", tag))
    assert "foreign" not in owner.get(page(sequence, "step", "?step=b")).content.decode()
    assert "Select a valid choice" in text(save(owner, sequence, "?step=b", mode="tag", tag=foreign.pk))
    assert steps_of(sequence) == [has("b", tag)]


def test_what_a_condition_asks_about_stays_offered_though_it_is_no_choice_any_more(owner, draft, template):
    asking = {"id": "b", "type": "condition", "if": {"step": "gone", "reached": "read"}, "no": [delay("c")]}
    sequence = draft(asking, message("d", template))
    save(owner, sequence, "?step=b", mode="message", message_step="gone", reached="sent")

    assert steps_of(sequence)[0]["if"] == {"step": "gone", "reached": "sent"}
    assert "It asks about the step gone, which doesn't exist" in text(owner.get(page(sequence)))


def test_a_step_goes_into_a_path(owner, draft, tag):
    sequence = draft(has("b", tag, yes=[delay("c")]))
    save(owner, sequence, "?kind=delay&end=b.no", span_0="2", **FOR_DAYS)
    save(owner, sequence, "?kind=delay&end=b.yes", span_0="3", **FOR_DAYS)

    [condition] = steps_of(sequence)
    assert condition["no"] == [delay(condition["no"][0]["id"], 2)]
    assert [step["delay"]["days"] for step in condition["yes"]] == [1, 3]
    assert "It becomes step 1 no 2." in text(owner.get(page(sequence, "step", "?kind=delay&end=b.no")))


# --- several windows ---------------------------------------------------------------------------------------------


def test_a_step_that_changed_in_another_window_is_not_overwritten_and_the_input_stays(owner, draft):
    sequence = draft(delay("a"))
    address = page(sequence, "step", "?step=a")
    opened = owner.get(address)
    save(owner, sequence, "?step=a", span_0="9", **FOR_DAYS)

    late = owner.post(address, {"id": "a", "seen": hidden(opened, "seen"), "span_0": "3", **FOR_DAYS})
    assert "That step was changed in another window since you opened it." in text(late)
    assert 'value="3"' in late.content.decode()
    assert steps_of(sequence) == [delay("a", 9)]


def test_a_form_that_is_sent_twice_adds_one_step(owner, draft):
    sequence = draft()
    address = page(sequence, "step", "?kind=delay&end=")
    typed = {"id": hidden(owner.get(address), "id"), "span_0": "3", **FOR_DAYS}
    owner.post(address, typed)
    again = owner.post(address, typed)

    assert said(again)[-1] == "That step was added already."
    assert steps_of(sequence) == [delay(typed["id"], 3)]


@pytest.mark.parametrize("query", ["?step=gone", "?kind=delay&before=gone", "?kind=delay&end=gone.yes"])
def test_a_form_for_a_place_that_is_gone_leads_back_to_the_steps(owner, draft, query):
    sequence = draft(delay("a"))
    answer = owner.get(page(sequence, "step", query))
    assert answer.url == page(sequence)
    assert said(answer) == ["That step isn't there any more: it was removed in another window."]


@pytest.mark.parametrize("query", ["", "?kind=bomb&end=", "?kind=MESSAGE"])
def test_a_form_for_nothing_is_not_found(owner, draft, query):
    assert owner.get(page(draft(), "step", query)).status_code == 404


# --- who, and when -----------------------------------------------------------------------------------------------


def test_viewers_see_the_steps_and_no_buttons(shop, draft, template):
    sequence = draft(message("a", template))
    viewer = signed_in(shop, Role.VIEWER)
    shown = viewer.get(page(sequence, query="?move=a"))

    assert "Send welcome (en_US)" in text(shown)
    assert 'name="act"' not in shown.content.decode()
    assert "/step/?" not in shown.content.decode()
    assert viewer.post(page(sequence), {"act": "remove:a"}).status_code == 403
    for name in ("step", "remove", "step-message"):
        assert viewer.post(page(sequence, name, "?step=a"), {"inside": "0"}).status_code == 403
    assert signed_in(shop, Role.AGENT).get(page(sequence)).status_code == 403
    assert len(steps_of(sequence)) == 1


def test_the_steps_of_another_organization_are_not_found(draft, template):
    sequence = draft(message("a", template))
    stranger = signed_in(OrganizationFactory())
    for name in ("change", "step", "remove", "step-message"):
        for ask in (stranger.get, stranger.post):
            assert ask(page(sequence, name, "?step=a"), {"act": "remove:a"}).status_code == 404
    assert len(steps_of(sequence)) == 1


def test_steps_of_an_archived_sequence_stay_as_they_are(owner, draft):
    sequence = draft(delay("a"), status=Status.ARCHIVED)
    assert 'name="act"' not in owner.get(page(sequence)).content.decode()

    refusal = "is archived: its steps stay as they are."
    assert refusal in said(owner.post(page(sequence), {"act": "remove:a"}))[-1]
    assert refusal in said(owner.get(page(sequence, "step", "?step=a")))[-1]
    owner.post(page(sequence, "remove", "?step=a"), {"inside": "0"})
    assert steps_of(sequence) == [delay("a")]


def test_the_page_costs_the_same_however_many_steps(owner, draft, template, tag):
    asking = {"id": "z", "type": "condition", "if": {"step": "m1", "reached": "read"}, "no": [delay("y")]}
    small = draft(message("m1", template), asking)
    large = draft(
        *(message(f"m{number}", template) for number in range(40)),
        *(has(f"c{number}", tag, yes=[delay(f"d{number}")]) for number in range(40)),
    )

    def cost(sequence):
        with CaptureQueriesContext(connection) as asked:
            owner.get(page(sequence))
        return len(asked)

    # the large one also asks for its tags: with their names, and for the judgment
    assert cost(large) <= cost(small) + 2


# --- in place ----------------------------------------------------------------------------------------------------

HTMX = {"HX-Request": "true"}


def test_an_edit_in_place_is_answered_with_the_tree_and_the_step_to_go_to(owner, draft):
    sequence = draft(delay("a"), delay("b"))
    answer = owner.post(page(sequence), {"act": "up:b"}, headers=HTMX)

    shown = answer.content.decode()
    assert (answer.headers["HX-Retarget"], answer.headers["HX-Reswap"]) == ("#builder", "outerHTML")
    assert '<div id="builder" data-focus="step-b">' in shown
    assert "<html" not in shown
    assert "The step is moved up." in text(answer)
    assert shown.index('id="step-b"') < shown.index('id="step-a"')
    assert [step["id"] for step in steps_of(sequence)] == ["b", "a"]
    refused = owner.post(page(sequence), {"act": "up:b"}, headers=HTMX).content.decode()
    assert 'role="alert">It is the first step already.</p>' in refused


def test_a_steps_form_opens_in_its_card_keeps_its_errors_there_and_gives_the_tree_when_saved(owner, draft):
    sequence = draft(delay("a"))
    address = page(sequence, "step", "?step=a")
    form = owner.get(address, headers=HTMX)
    assert "<html" not in form.content.decode()
    assert f'hx-post="{address}"' in form.content.decode()
    typed = {"id": "a", "seen": hidden(form, "seen"), **FOR_DAYS}

    wrong = owner.post(address, {**typed, "span_0": "0"}, headers=HTMX)
    assert "HX-Retarget" not in wrong.headers
    assert "Give a number from 1 to 36,525 days." in text(wrong)
    right = owner.post(address, {**typed, "span_0": "3"}, headers=HTMX)
    assert right.headers["HX-Retarget"] == "#builder"
    assert 'data-focus="step-a"' in right.content.decode()
    late = owner.post(address, {**typed, "span_0": "4"}, headers=HTMX)
    assert "That step was changed in another window since you opened it." in text(late)
    assert "HX-Retarget" not in late.headers  # what was typed stays
    assert steps_of(sequence) == [delay("a", 3)]
    gone = owner.get(page(sequence, "step", "?step=gone"), headers=HTMX)
    assert gone.headers["HX-Retarget"] == "#builder"
    assert "That step isn't there any more" in text(gone)


def test_a_condition_with_steps_is_asked_about_on_a_page_also_in_place(owner, draft, tag):
    sequence = draft(has("a", tag, yes=[delay("b")]))
    answer = owner.post(page(sequence), {"act": "remove:a"}, headers=HTMX)
    assert answer.headers["HX-Redirect"] == page(sequence, "remove", "?step=a")
    assert steps_of(sequence) == [has("a", tag, yes=[delay("b")])]


def test_a_step_goes_into_the_paths_of_the_condition_beside_it(owner, draft, tag):
    sequence = draft(delay("a"), has("b", tag, yes=[delay("c")]), delay("d"))
    shown = owner.get(page(sequence)).content.decode()

    ways = re.findall(r'value="move:([^"]+)">([^<]+)<', shown)
    assert ways == [
        ("a:before=c", "Into Yes of step 2"),
        ("a:end=b.no", "Into No of step 2"),
        ("d:end=b.yes", "Into Yes of step 2"),
        ("d:end=b.no", "Into No of step 2"),
    ]
    for way, _ in ways[:1] + ways[3:]:
        owner.post(page(sequence), {"act": f"move:{way}"})
    assert steps_of(sequence) == [has("b", tag, yes=[delay("a"), delay("c")], no=[delay("d")])]


# --- live --------------------------------------------------------------------------------------------------------


def publish(sequence):
    publishing.activate(sequence, now=timezone.now())
    return Sequence.objects.get(pk=sequence.pk)


def test_published_steps_show_their_numbers_and_what_is_not_published_says_so(owner, draft, shop, template, tag):
    sequence = publish(draft(message("a", template), delay("b"), delay("c"), has("d", tag, yes=[delay("e")])))
    contact = ContactFactory(organization=shop)
    enrolling.enroll(sequence, [contact.pk], source=Source.API, now=timezone.now())
    assert "not published yet" not in text(owner.get(page(sequence)))
    sequence.draft = [delay("c", 2), message("a", template), has("d", tag, yes=[delay("n")])]
    sequence.save()

    context = owner.get(page(sequence)).context
    lines = {line.key: line for line in context["path"].lines}
    assert {key: line.unpublished for key, line in lines.items()} == {"c": "moved, changed", "a": "", "d": ""}
    [new] = lines["d"].branches[0].path.lines
    assert (new.unpublished, new.counts) == ("new", None)
    assert [(number.count, number.words) for number in lines["a"].counts.numbers] == [
        (1, "waiting"),
        (0, "passed"),
        (0, "skipped"),
        (0, "failed"),
    ]
    assert context["taken_out"] == 2
    assert [(label, count) for label, count, _ in context["tiles"]][:2] == [("Enrolled", 1), ("Inside", 1)]


def test_the_numbers_of_a_changed_step_lead_to_the_messages_of_all_its_revisions(owner, draft, template, shop):
    sequence = publish(draft(message("a", template)))
    first = Step.objects.get(dispatch__isnull=False).dispatch
    other = TemplateFactory(organization=shop, account=template.account, name="other", components=GREETING)
    sequence.draft = [message("a", other)]
    sequence.save()
    publishing.publish(sequence, now=timezone.now())
    second = Step.objects.exclude(dispatch=first).get().dispatch
    for dispatch, name in ((first, "Asha"), (second, "Ravi")):
        contact = ContactFactory(organization=shop, name=name)
        MessageFactory(organization=shop, contact=contact, dispatch=dispatch, template=template)

    [view] = seeing.steps(sequence, sequence.revision)
    answer = owner.get("/admin/messaging/message/", {"dispatch": ",".join(map(str, view.dispatches))})
    alone = owner.get("/admin/messaging/message/", {"dispatch": second.pk})

    assert view.dispatches == [second.pk, first.pk]
    [sent, *_] = step_numbers.counts(sequence, replace(view, funnel=Funnel(total=3, dispatched=2))).funnel
    assert (sent.count, sent.link) == (2, f"/admin/messaging/message/?dispatch={second.pk},{first.pk}")
    assert [str(row.contact) for row in answer.context["cl"].result_list] == ["Asha", "Ravi"]
    assert [str(row.contact) for row in alone.context["cl"].result_list] == ["Ravi"]
    for nobodys in (f"{second.pk},{DispatchFactory().pk}", f"{second.pk},", f"{second.pk},x"):
        assert owner.get("/admin/messaging/message/", {"dispatch": nobodys}).status_code == 404


def test_a_list_of_more_revisions_than_fit_an_address_says_that_it_shows_the_newest(owner, shop, number, template):
    made = DispatchFactory.create_batch(DISPATCHES + 2, organization=shop, phone_number=number, kind="step")
    oldest, older, old, *_, newest = made
    for dispatch, name in ((oldest, "Oldest"), (older, "Older"), (old, "Old"), (newest, "New")):
        contact = ContactFactory(organization=shop, name=name)
        MessageFactory(organization=shop, contact=contact, dispatch=dispatch, template=template)
    says = "Shown are the messages of its newest 250 versions"

    address = address_of(one.pk for one in reversed(made))
    every = address_of(one.pk for one in reversed(made[2:]))
    assert len(address.replace(",", "%2C")) < 4094
    answer = owner.get(address)
    with CaptureQueriesContext(connection) as many:
        whole = owner.get(every)
    with CaptureQueriesContext(connection) as few:
        owner.get(address_of([newest.pk, old.pk]))

    assert [str(row.contact) for row in answer.context["cl"].result_list] == ["Old", "New"]
    assert says in text(answer)
    assert [str(row.contact) for row in whole.context["cl"].result_list] == ["Old", "New"]
    assert says not in text(whole)
    assert len(many) == len(few)


def test_new_numbers_go_to_the_steps_that_are_shown(owner, draft, template):
    sequence = publish(draft(message("a", template), delay("b")))
    sequence.draft = [message("a", template), delay("n")]
    sequence.save()

    answer = owner.get(page(sequence, "step-numbers", "?revision=1&status=active"))
    swapped = re.findall(r'<\w+ id="([^"]+)"[^>]*hx-swap-oob="true"', answer.content.decode())
    assert swapped == ["status", "standing", "counts-a"]  # not b, which is no more, nor n, which isn't yet
    later = text(owner.get(page(sequence, "step-numbers", "?revision=0")))
    assert "Another revision was published meanwhile" in later
    assert "step-numbers" not in owner.get(page(draft(delay("a")))).content.decode()


def test_a_running_sequences_pages_cost_the_same_however_many_steps_and_people(
    owner, draft, shop, template, tag, django_assert_num_queries
):
    small = publish(draft(message("m", template), has("c", tag, yes=[delay("d")])))
    large = publish(
        draft(
            *(message(f"m{number}", template) for number in range(20)),
            *(has(f"c{number}", tag, yes=[delay(f"d{number}")]) for number in range(10)),
        )
    )
    people = [contact.pk for contact in ContactFactory.create_batch(3, organization=shop)]
    enrolling.enroll(large, people, source=Source.API, now=timezone.now())
    for sequence in (small, large):
        with django_assert_num_queries(25):
            owner.get(page(sequence))
        with django_assert_num_queries(15):
            owner.get(page(sequence, "step-numbers", "?revision=1&status=active"))
