"""Other systems that call the API, for tests."""

import json
from typing import Any, Self

from django.test import Client
from django.utils import timezone

from kaanha.organizations.models import APIKey, Organization, Role


class Caller:
    """A system with a new key of the organization."""

    def __init__(self, organization: Organization, role: str = Role.ADMIN, **client: Any) -> None:
        self.key, self.text = APIKey.issue(organization, name="Shop", role=role)
        self._client = Client(headers={"Authorization": f"Bearer {self.text}"}, **client)

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
