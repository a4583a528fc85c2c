"""What keeps a tree of steps from being activated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ValidationError

from kaanha.organizations.models import Organization, validate_timezone
from kaanha.whatsapp.models import PhoneNumber
from sequences.tree_names import matching, name_and_language, tags_of, templates_of
from sequences.tree_nodes import (
    NUMERIC,
    WITHOUT_VALUE,
    Condition,
    Delay,
    Field,
    Flat,
    HasTag,
    Message,
    Node,
    Reached,
    earlier,
    flatten,
    number,
    on_other_path,
)
from sequences.tree_words import span
from templates_app import rendering
from templates_app.models import MessageTemplate

MAXIMUM = timedelta(days=365)


@dataclass(frozen=True)
class Problem:
    """A sentence that says what is wrong and what to do. What concerns no single step has neither place nor key.

    `member` is the setting that it concerns.
    """

    place: str
    key: str
    sentence: str
    member: str = "steps"

    @property
    def path(self) -> str:
        """Where, as the API writes it: steps.2.yes.0, or the setting."""
        parts = [str(int(part) - 1) if part.isdigit() else part for part in self.place.split()]
        return ".".join((self.member, *parts))


def problems(
    nodes: Sequence[Node], *, organization: Organization, phone_number: PhoneNumber | None, minimum: timedelta
) -> list[Problem]:
    """Everything that keeps the tree from being activated, in the order of reading; empty when nothing does.

    `minimum` is the shortest wait there may be. Without a phone number it isn't judged whose account the templates are
    of. Names that weren't known when the tree was read count as unknown: read it again first. Two queries.
    """
    steps = flatten(nodes)
    judge = _Judge(
        steps=steps,
        templates=templates_of(nodes, organization),
        tags={tag.public_id for tag in tags_of(nodes, organization)},
        phone_number=phone_number,
        minimum=minimum,
    )
    found = [Problem(step.place, step.key, sentence) for step in steps for sentence in judge.step(step)]
    if any(isinstance(step.node, Message) for step in steps):
        return found
    return [Problem("", "", "There is no message step: add one that sends a template."), *found]


@dataclass(frozen=True)
class _Judge:
    """What the steps are judged by."""

    steps: Sequence[Flat]
    templates: Sequence[MessageTemplate]
    tags: AbstractSet[str]
    phone_number: PhoneNumber | None
    minimum: timedelta

    def step(self, step: Flat) -> Iterator[str]:
        if isinstance(step.node, Message):
            return self._message(step.node)
        return self._delay(step.node) if isinstance(step.node, Delay) else self._condition(step, step.node)

    def _message(self, message: Message) -> Iterator[str]:
        template = next((row for row in self.templates if row.public_id == message.template), None)
        if template is None:
            yield self._unknown_template(message.template)
            return
        if not template.sendable:
            yield f"{template.standing}: choose an approved template, or wait until Meta has approved it."
        if self.phone_number is not None and template.account_id != self.phone_number.account_id:
            yield (
                f"Template {template} belongs to another WhatsApp account than the number {self.phone_number}: choose "
                "a template of the number's account, or another number."
            )
        if unsupported := rendering.unsupported(template.components):
            yield f"Template {template} can't be sent. {unsupported} Choose another template."
        else:
            yield from rendering.problems(template.components, template.parameter_format, message.variables)

    def _unknown_template(self, typed: str) -> str:
        if len(matching(self.templates, typed)) > 1:
            return f"There are several templates {typed}: choose one, with its language and account."
        languages = ", ".join(sorted({row.language for row in matching(self.templates, name_and_language(typed)[0])}))
        there_is = f" It is there in: {languages}." if languages else ""
        return f"There is no template {typed}: choose another, or sync the templates from Meta.{there_is}"

    def _delay(self, delay: Delay) -> Iterator[str]:
        if delay.span is not None:
            yield from self._length("The wait", delay.span)
        if delay.until is not None and delay.until.timezone is not None:
            try:
                validate_timezone(delay.until.timezone)
            except ValidationError as error:
                yield error.messages[0]

    def _length(self, what: str, length: timedelta) -> Iterator[str]:
        if length < self.minimum:
            yield f"{what} of {span(length)} is too short: make it {span(self.minimum)} or longer."
        elif length > MAXIMUM:
            yield f"{what} of {span(length)} is too long: make it {span(MAXIMUM)} or shorter."

    def _condition(self, step: Flat, condition: Condition) -> Iterator[str]:
        match condition.test:
            case HasTag(tag) if tag not in self.tags:
                yield f"There is no tag {tag}: create it, or choose another."
            case Field() as test:
                yield from _field(test)
            case Reached(asked, _):
                yield from self._reached(step, asked)
        if condition.wait is not None:
            yield from self._length("The wait for the test", condition.wait)
        for name, path in (("Yes", condition.yes), ("No", condition.no)):
            if path == ():
                yield f"The {name} path was emptied: add a step to it, or remove the path so that it goes straight on."
        if condition.yes is None and condition.no is None:
            yield "Neither path has steps: add some to the Yes path or the No path, or remove the condition."

    def _reached(self, asking: Flat, key: str) -> Iterator[str]:
        asked = next((step for step in self.steps if step.key == key), None)
        choices = earlier(self.steps, asking)
        if asked is None:
            fault = f"the step {key}, which doesn't exist"
        elif not isinstance(asked.node, Message):
            fault = f"step {asked.place}, which sends no message"
        elif on_other_path(asked.place, of=asking.place):
            fault = f"step {asked.place}, which stands on the other path"
        elif asked not in choices:
            fault = f"step {asked.place}, which comes later"
        else:
            return
        listed = f"choose a message step before it: {', '.join(step.place for step in choices)}."
        yield f"It asks about {fault}: {listed if choices else 'put a message step before the condition.'}"


def _field(test: Field) -> Iterator[str]:
    if test.op in WITHOUT_VALUE:
        return
    if not (test.value or "").strip():
        yield f"It compares {test.field} with nothing: give it a value, or ask whether the field is set."
    elif test.op in NUMERIC and number(test.value or "") is None:
        yield f"It compares {test.field} with “{test.value}”, which is no number: write it like 30 or 2.5."
