"""What docs/webhooks.md says, done."""

import re
from pathlib import Path

import pytest

from kaanha.webhooks.models import Kind
from tests.webhooks.conftest import happen, sweep

TEXT = (Path(__file__).resolve().parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")


@pytest.mark.django_db(transaction=True)
def test_the_published_snippet_knows_our_signature_from_others(receiver, endpoint):
    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    published: dict = {}
    exec(snippet, published)  # noqa: S102 — the documentation's own code
    is_from_kaanha = published["is_from_kaanha"]

    happen(endpoint.organization, name="Été")
    sweep()

    (request,) = receiver.requests
    signature = request.headers["X-Kaanha-Signature"]
    assert is_from_kaanha(request.body, signature, endpoint.secret)
    assert not is_from_kaanha(request.body + b" ", signature, endpoint.secret)
    assert not is_from_kaanha(request.body, signature, "whsec_another")
    assert not is_from_kaanha(request.body, "", endpoint.secret)


def test_every_event_is_documented():
    table = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    assert {kind for kind in Kind.values if f"`{kind}`" not in table} == set()
