"""Requests, and what is seen of their answers and of the database behind them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from contacts.models import Contact, Tag
from kaanha import api_docs
from kaanha.organizations.models import OwnedModel
from templates_app.models import MessageTemplate
from tests.matrix import table, world
from tests.matrix.routes import Route
from tests.matrix.world import NEVER, World

# Of each answer different, whoever is asked about.
RESTLESS = {"X-Request-Id", "RateLimit-Remaining", "RateLimit-Reset", "Content-Length", "ETag", "Expires"}
# What is new with every answer: rows that it made, and times.
NEW = re.compile(r"\b[a-z]{2,8}_[a-z2-7]{26}\b|\b20\d\d-\d\d-\d\dT[\d:.]+Z\b")
WRITES = re.compile(r"\b(INSERT INTO|UPDATE (?!OF\b|SKIP\b|NOWAIT\b)|DELETE FROM|TRUNCATE)", re.IGNORECASE)
SESSIONS = '"django_session"'
KIND = re.compile(r"(?P<kind>[a-z]+)_…")
# What a row is called by besides its id: the model, the column, and a value that no row has.
NAMES: dict[str, tuple[type[Any], str, str]] = {
    "phone…": (Contact, "phone", "+919770099999"),
    "tag…": (Tag, "name", "Nowhere tag"),
    "template…": (MessageTemplate, "name", "nowhere_hello"),
}


class Watch:
    """The statements that would have written something, sessions apart."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if WRITES.search(sql) and SESSIONS not in sql:
            self.statements.append(sql)
        return execute(sql, params, many, context)


@contextmanager
def nothing_changes(before: dict[str, Any]) -> Iterator[None]:
    """Fail when a row has been written. `before` is `world.everything()` at the test's start."""
    watch = Watch()
    with connection.execute_wrapper(watch):
        yield
    if watch.statements:
        after = world.everything()
        assert [name for name in after if after[name] != before[name]] == [], watch.statements


# --- ids ---------------------------------------------------------------------------------------------------------


def kinds() -> dict[str, type[Any]]:
    """The models by the letters before the ids of their rows."""
    return {model.PUBLIC_KIND: model for model in world.owned_models() if issubclass(model, OwnedModel)}


def model_of(parameter: str) -> type[Any] | None:
    """The model whose public id stands in an address of the API."""
    name = table.MODELS.get(parameter, parameter).lower()
    return next((model for model in kinds().values() if model._meta.model_name == name), None)


def ids_in(route: Route, of: World) -> dict[str, Any]:
    """For each id in an address of the API one that the world has."""
    return {name: table.INNER.get(name) or of.public_id(_known(name)) for name in route.ids}


def of_nobody(model: type[Any], number: int = NEVER) -> str:
    """A well-formed public id of a row that there never was."""
    unknown: str = model(pk=number).public_id
    return unknown


def _known(parameter: str) -> type[Any]:
    model = model_of(parameter)
    assert model is not None
    return model


# --- bodies ------------------------------------------------------------------------------------------------------


def operation(route: Route, method: str) -> dict[str, Any]:
    """What the document says of it."""
    said: dict[str, Any] = api_docs.document()["paths"][route.template][method]
    return said


def bodies(route: Route, method: str) -> list[Any]:
    """The document's example, and those of the table; placeholders stand where ids do."""
    said = operation(route, method)
    return [
        _content(said).get("examples", {}).get("Example", {}).get("value", {}),
        *table.BODIES.get(said["operationId"], []),
    ]


def members(route: Route, method: str) -> set[str]:
    """The members that the body may have."""
    schema = _content(operation(route, method)).get("schema", {})
    while "$ref" in schema:
        schema = api_docs.document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", {}))


def _content(said: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = said.get("requestBody", {}).get("content", {}).get("application/json", {})
    return content


def places(body: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """The paths to placeholders, each with its placeholder."""
    if isinstance(body, dict | list):
        pairs = body.items() if isinstance(body, dict) else enumerate(body)
        for name, inner in pairs:
            yield from places(inner, (*above, name))
    elif isinstance(body, str) and (body in NAMES or (KIND.fullmatch(body) and _kind(body) in kinds())):
        yield above, body


def filled(body: Any, of: World) -> Any:
    """The body with ids of the world in place of placeholders."""
    made = copy.deepcopy(body)
    for path, placeholder in places(body):
        made = put(made, path, meant(placeholder, of))
    return made


def meant(placeholder: str, of: World | None) -> str:
    """What stands for it in a body: of the world, or of nobody."""
    if placeholder in NAMES:
        model, column, nobodys = NAMES[placeholder]
        return str(getattr(of.rows[model], column)) if of else nobodys
    model = kinds()[_kind(placeholder)]
    return of.public_id(model) if of else of_nobody(model)


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The body with the value at the path."""
    if not path:
        return value
    made = copy.copy(body)
    made[path[0]] = put(made[path[0]], path[1:], value)
    return made


def _kind(placeholder: str) -> str:
    return placeholder.removesuffix("_…")


# --- answers -----------------------------------------------------------------------------------------------------


def seen(response: Any, *given: Any) -> tuple[int, dict[str, str], str]:
    """Status, headers and content of an answer, without what it repeats of the `given` ids."""
    headers = {name: without(value, *given) for name, value in response.headers.items() if name not in RESTLESS}
    return response.status_code, headers, without(content_of(response), *given)


def alike(answer: tuple[int, dict[str, str], str]) -> tuple[int, dict[str, str], str]:
    """The same without ids of new rows, and times."""
    status, headers, content = answer
    return status, headers, NEW.sub("…", content)


def content_of(response: Any) -> str:
    content: bytes = b"".join(response.streaming_content) if response.streaming else response.content
    return content.decode()


def without(text: str, *given: Any) -> str:
    """The text with every one of the `given` left out."""
    for one in given:
        text = text.replace(json.dumps(str(one))[1:-1], "…").replace(str(one), "…")
    return text
