"""Other systems that call the API, for tests. Every answer they get is held against the API's document."""

import json
import re
from functools import cache
from typing import Any, Self

from django.test import Client
from django.urls import Resolver404, resolve
from django.utils import timezone
from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from kaanha import api_docs
from kaanha.organizations.models import APIKey, Organization, Role


class DocumentedClient(Client):
    """A client that believes no answer which the document doesn't know."""

    def request(self, **request: Any) -> Any:
        response = super().request(**request)
        check_documented(request["REQUEST_METHOD"], request["PATH_INFO"], response)
        return response


class Caller:
    """A system with a new key of the organization."""

    def __init__(self, organization: Organization, role: str = Role.ADMIN, **client: Any) -> None:
        self.key, self.text = APIKey.issue(organization, name="Shop", role=role)
        self._client = DocumentedClient(headers={"Authorization": f"Bearer {self.text}"}, **client)

    def ready(self) -> Self:
        """Itself, its use noted: from here on its requests cost the same."""
        APIKey.objects.filter(pk=self.key.pk).update(last_used_at=timezone.now())
        return self

    def get(self, address: str, **request: Any) -> Any:
        return self._client.get(address, **request)

    def post(self, address: str, body: Any, content_type: str = "application/json", **request: Any) -> Any:
        """Post the body: bytes as they are, everything else as JSON."""
        return self.send("post", address, body, content_type, **request)

    def patch(self, address: str, body: Any, **request: Any) -> Any:
        return self.send("patch", address, body, **request)

    def delete(self, address: str, **request: Any) -> Any:
        return self._client.delete(address, **request)

    def ask(self, method: str, address: str, body: bytes = b"", **request: Any) -> Any:
        """Send the bytes with any method."""
        return self._client.generic(method.upper(), address, body, **request)

    def send(self, method: str, address: str, body: Any, content_type: str = "application/json", **request: Any) -> Any:
        sent = body if isinstance(body, bytes) else json.dumps(body)
        return getattr(self._client, method)(address, sent, content_type=content_type, **request)


def error(response: Any) -> tuple[int, str]:
    """The status of an answer that is an error, and the error's code."""
    assert response.headers["Content-Type"] == "application/json"
    told = response.json()
    assert told.keys() == {"error"}
    assert told["error"].keys() <= {"code", "message", "fields"}
    assert told["error"]["message"].endswith((".", "…"))
    return response.status_code, told["error"]["code"]


def operation(method: str, address: str) -> dict[str, Any] | None:
    """What the document says of this request; None where it has no such address or method, or a test has put one up."""
    try:
        match = resolve(address, urlconf="kaanha.urls")
    except Resolver404:
        return None
    paths = api_docs.document()["paths"]
    found: dict[str, Any] | None = paths.get(_documented_path(match.route), {}).get(method.lower())
    return found


def check_documented(method: str, address: str, response: Any) -> None:
    """Fail unless the document has this answer: its status, its media type and each of its members."""
    known, match = operation(method, address), response.resolver_match
    if known is None or match is None or match.func.__module__.startswith("tests."):
        return
    answers = known["responses"]
    assert str(response.status_code) in answers, f"{method} {address}: {response.status_code} is not documented"
    content = answers[str(response.status_code)].get("content", {})
    if response.streaming or not content:
        assert response.streaming or response.content == b"", f"{method} {address}: a body that is not documented"
        return
    [(media_type, described)] = content.items()
    assert response.headers["Content-Type"] == media_type
    if media_type == "application/json":
        faults = [
            f"{error.json_path}: {error.message}"
            for error in _validator(json.dumps(described["schema"])).iter_errors(response.json())
        ]
        assert faults == [], f"{method} {address}: {faults}"


@cache
def _documented_path(route: str) -> str:
    """The address as the document has it, of a route such as `api/^contacts/(?P<contact>[^/]+)/?\\Z`."""
    return "/" + re.sub(r"\(\?P<(\w+)>.*?\)(?=/)", r"{\1}", route.replace("^", "").removesuffix(r"/?\Z") + "/").rstrip(
        "/"
    )


@cache
def _validator(schema: str) -> OAS31Validator:
    whole = Resource.from_contents(api_docs.document(), default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:document", whole)
    return OAS31Validator(json.loads(schema.replace("#/components", "urn:document#/components")), registry=registry)
