"""A form that is no model's offers a template's variables just as a broadcast's does."""

import pytest
from django import forms
from django.utils.html import strip_tags

from kaanha.messaging.variable_forms import VariableForm, mapped_bubble
from templates_app.models import MessageTemplate
from tests.factories import ContactFactory, OrganizationFactory, TemplateFactory

pytestmark = pytest.mark.django_db
GREETING = [{"type": "BODY", "text": "Hi {{1}}, our sale ends on {{2}}."}]
MAPPED = {"body.1": {"field": "first_name", "fallback": "there"}, "body.2": {"text": "30 November"}}


class StepForm(VariableForm, forms.Form):
    template = forms.ModelChoiceField(queryset=MessageTemplate.objects.none())

    def __init__(self, *args, organization, mapped, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["template"].queryset = MessageTemplate.objects.of(organization)
        if template := self.chosen_template():
            self.add_variables(template, mapped, organization=organization.pk)


@pytest.fixture
def template():
    return TemplateFactory(name="sale", components=GREETING)


def shown(message):
    return " ".join(strip_tags(message["bubble"]).split())


def test_rows_and_preview_begin_with_what_is_mapped_already(template):
    form = StepForm(initial={"template": template.pk}, organization=template.organization, mapped=MAPPED)

    assert [(row.slot.key, row.source.value(), row.value.value(), row.fallback.value()) for row in form.rows()] == [
        ("body.1", "first_name", "", "there"),
        ("body.2", "=", "30 November", ""),
    ]
    assert shown(form.message()) == "Hi there, our sale ends on 30 November."


def test_what_was_typed_becomes_the_mapping(template):
    typed = {"template": template.pk, "body.1:source": "name", "body.1:value": "left", "body.2:source": "="}
    form = StepForm({**typed, "body.2:value": " today "}, organization=template.organization, mapped=MAPPED)

    assert form.is_valid()
    assert form.variables(form.cleaned_data) == {"body.1": {"field": "name"}, "body.2": {"text": "today"}}


def test_without_a_template_there_are_no_rows(template):
    form = StepForm(organization=template.organization, mapped=MAPPED)

    assert form.message() == {"chosen": None, "variable_rows": [], "bubble": ""}


def test_a_template_or_an_attribute_of_another_organization_is_not_offered(template):
    ContactFactory(organization=template.organization, attributes={"city": "Pune"})
    stranger = OrganizationFactory()
    ContactFactory(organization=stranger, attributes={"secret": "x"})

    own = StepForm(initial={"template": template.pk}, organization=template.organization, mapped={})
    assert [name for name, _ in own.fields["body.1:source"].choices] == [
        "=", "first_name", "name", "phone", "email", "city",
    ]  # fmt: skip
    foreign = StepForm(initial={"template": template.pk}, organization=stranger, mapped={})
    assert (foreign.chosen_template(), list(foreign.rows())) == (None, [])


def test_a_message_nobody_receives_yet_shows_texts_fallbacks_and_names_of_fields(template):
    variables = {"body.1": {"field": "first_name"}, "body.2": {"field": "until", "fallback": "Sunday"}}

    assert "Hi [first_name], our sale ends on Sunday." in mapped_bubble(template, variables)
