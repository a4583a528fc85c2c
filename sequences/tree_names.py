"""What people call the rows that a tree names: from names to public ids, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from django.db import connection
from django.db.models import Q

from contacts.models import Tag
from kaanha.lib import public_ids
from kaanha.organizations.models import Organization
from kaanha.whatsapp.cloud_api.events import language_code
from sequences.tree_nodes import TYPED_TEMPLATE, Condition, Flat, HasTag, Message, Node, flatten
from templates_app.models import MessageTemplate

# PostgreSQL folds both sides, by the same rules as the unique index.
_FIND_TAGS = """
SELECT wanted.name, tag.id FROM unnest(%s::text[]) AS wanted (name)
JOIN contacts_tag AS tag ON lower(tag.name) = lower(wanted.name) AND tag.organization_id = %s
"""


def names(nodes: Sequence[Node], organization: Organization) -> dict[str, str]:
    """What people call the tags, templates and steps, by public id and by step key. Two queries."""
    rows = [*tags_of(nodes, organization), *templates_of(nodes, organization)]
    called = {row.public_id: str(row) for row in rows}
    return called | {step.key: step_name(step, called) for step in flatten(nodes)}


def step_name(step: Flat, called: Mapping[str, str]) -> str:
    """Such as autumn_sale (step 1). What isn't a message is its number alone. `called` names the templates."""
    if not isinstance(step.node, Message):
        return f"step {step.place}"
    name, _ = name_and_language(called.get(step.node.template, step.node.template))
    return f"{name} (step {step.place})"


def with_public_ids(nodes: tuple[Node, ...], organization: Organization) -> tuple[Node, ...]:
    """The same tree with the names that the organization knows turned into public ids. At most two queries."""
    return _renamed(nodes, tags=_ids_of_tags(nodes, organization), templates=_ids_of_templates(nodes, organization))


def tags_of(nodes: Sequence[Node], organization: Organization) -> list[Tag]:
    """The organization's tags that the steps name by public id. One query."""
    keys = _keys(Tag.PUBLIC_KIND, _tags(nodes))
    return list(Tag.objects.of(organization).filter(pk__in=keys)) if keys else []


def templates_of(nodes: Sequence[Node], organization: Organization) -> list[MessageTemplate]:
    """The organization's templates that the steps name, by public id or as typed in any language. One query."""
    wanted = _templates(nodes)
    typed = {name_and_language(text)[0] for text in wanted}
    named = Q(pk__in=_keys(MessageTemplate.PUBLIC_KIND, wanted)) | Q(name__in=typed)
    return list(MessageTemplate.objects.of(organization).filter(named)) if wanted else []


def matching(templates: Iterable[MessageTemplate], typed: str) -> list[MessageTemplate]:
    """Those that `name` or `name (language)` may mean; en-US is en_US. Deleted ones are never meant."""
    name, language = name_and_language(typed)
    named = [row for row in templates if row.name == name and row.status != MessageTemplate.Status.DELETED]
    if language is None:
        return named
    exactly = [row for row in named if row.language == language]
    return exactly or [row for row in named if language_code(row.language) == language_code(language)]


def name_and_language(typed: str) -> tuple[str, str | None]:
    found = TYPED_TEMPLATE.fullmatch(typed)
    return (found[1], found[2]) if found else (typed, None)


def _tags(nodes: Sequence[Node]) -> set[str]:
    tests = [step.node.test for step in flatten(nodes) if isinstance(step.node, Condition)]
    return {test.tag for test in tests if isinstance(test, HasTag)}


def _templates(nodes: Sequence[Node]) -> set[str]:
    return {step.node.template for step in flatten(nodes) if isinstance(step.node, Message)}


def _keys(kind: str, texts: Iterable[str]) -> list[int]:
    return [key for text in texts if (key := public_ids.decode(kind, text)) is not None]


def _typed(kind: str, texts: Iterable[str]) -> list[str]:
    """Those that aren't public ids, whosever."""
    return [text for text in texts if public_ids.decode(kind, text) is None]


def _ids_of_tags(nodes: Sequence[Node], organization: Organization) -> dict[str, str]:
    typed = _typed(Tag.PUBLIC_KIND, _tags(nodes))
    if not typed:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_FIND_TAGS, [typed, organization.pk])
        return {name: public_ids.encode(Tag.PUBLIC_KIND, key) for name, key in cursor.fetchall()}


def _ids_of_templates(nodes: Sequence[Node], organization: Organization) -> dict[str, str]:
    """Of those of which there is exactly one: the choice between languages or accounts is not ours."""
    typed = _typed(MessageTemplate.PUBLIC_KIND, _templates(nodes))
    rows = templates_of(nodes, organization) if typed else []
    found = {text: matching(rows, text) for text in typed}
    return {text: templates[0].public_id for text, templates in found.items() if len(templates) == 1}


def _renamed(nodes: Sequence[Node], *, tags: Mapping[str, str], templates: Mapping[str, str]) -> tuple[Node, ...]:
    path: Callable[[Sequence[Node]], tuple[Node, ...]] = partial(_renamed, tags=tags, templates=templates)

    def renamed(node: Node) -> Node:
        if isinstance(node, Message):
            return replace(node, template=templates.get(node.template, node.template))
        if not isinstance(node, Condition):
            return node
        test = HasTag(tags.get(node.test.tag, node.test.tag)) if isinstance(node.test, HasTag) else node.test
        yes, no = (None if steps is None else path(steps) for steps in (node.yes, node.no))
        return replace(node, test=test, yes=yes, no=no)

    return tuple(map(renamed, nodes))
