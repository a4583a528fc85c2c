"""What docs/webhooks.md says, done."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kaanha.webhooks.models import Endpoint, Kind
from tests.callers import Caller
from tests.factories import EndpointFactory, OrganizationFactory
from tests.test_api_docs import examples
from tests.webhooks.conftest import NOW, happen, sweep

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


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_published_javascript_does_too():
    (snippet,) = re.findall(r"```js\n(.*?)```", TEXT, re.DOTALL)
    body = '{"data":"Été"}'.encode()
    endpoint = Endpoint(secret="whsec_sample")
    asked = [
        (body, endpoint.signature(body), "whsec_sample"),
        (body + b" ", endpoint.signature(body), "whsec_sample"),
        (body, endpoint.signature(body), "whsec_another"),
        (body, "", "whsec_sample"),
    ]
    told = [[list(body), signature, secret] for body, signature, secret in asked]
    ask = f"{json.dumps(told)}.map(([body, ...rest]) => isFromKaanha(Buffer.from(body), ...rest))"

    ran = subprocess.run(
        ["node", "-e", f"{snippet}console.log(JSON.stringify({ask}))"], capture_output=True, check=True
    )

    assert json.loads(ran.stdout) == [True, False, False, False]


@pytest.mark.django_db(transaction=True)
def test_a_batch_looks_as_documented(receiver, endpoint):
    [documented] = [
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL) if "events" in block
    ]
    Endpoint.objects.update(batched=True)
    happen(endpoint.organization, at=NOW)
    sweep()

    [sent] = json.loads(receiver.requests[0].body)["events"]
    assert list(sent) == list(documented["events"][0])


def test_every_event_is_documented():
    table = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    assert {kind for kind in Kind.values if f"`{kind}`" not in table} == set()


@pytest.mark.django_db
def test_what_the_api_documents_of_endpoints_is_what_it_does():
    new, shown, change, span, replayed = examples("Webhooks")
    caller = Caller(OrganizationFactory())

    told = caller.post("/api/webhooks", new).json()
    address = f"/api/webhooks/{told['id']}"
    read = caller.get(address).json()

    assert list(told) == [*shown, "secret"]
    assert read == {**shown, "id": told["id"], "createdAt": read["createdAt"]}
    assert caller.patch(address, change).json()["events"] == change["events"]
    assert caller.post(f"{address}/replay", span).json() == {**replayed, "replayed": 0}


@pytest.mark.django_db
def test_what_the_api_documents_of_deliveries_is_what_it_does():
    [page] = examples("Deliveries")
    organization = EndpointFactory().organization
    happen(organization)
    caller = Caller(organization)

    told = caller.get("/api/webhook-deliveries").json()

    assert list(told) == list(page)
    assert list(told["data"][0]) == list(page["data"][0])
    in_full = caller.get(f"/api/webhook-deliveries/{told['data'][0]['id']}").json()
    assert list(in_full) == [*page["data"][0], "tried", "body"]
