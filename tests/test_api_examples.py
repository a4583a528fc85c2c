"""The examples of the API's document work as they stand there, and a client that is generated from it does, too."""

import importlib
import json
import subprocess
import sys

import pytest

from kaanha import api_docs
from kaanha.organizations.models import Role
from tests.callers import Caller
from tests.factories import ContactFactory, OrganizationFactory
from tests.worlds import World

# What has to be so before the example of an operation can work.
BEFORE = {
    "sequences_enroll": World.enroll,
    "templates_sync": World.meet_the_simulator,
    "broadcasts_unschedule": World.schedule,
    "broadcasts_pause": World.schedule,
    "broadcasts_resume": World.pause,
}


def examples():
    """Each operation that has an example: its id, method, address and body."""
    for path, methods in api_docs.document()["paths"].items():
        for method, said in methods.items():
            for shown in (
                said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples", {}).values()
            ):
                yield pytest.param(said["operationId"], method, path, shown["value"], id=said["operationId"])


@pytest.mark.django_db
@pytest.mark.usefixtures("cloud_api")
@pytest.mark.parametrize(("name", "method", "path", "body"), list(examples()))
def test_the_example_works(name, method, path, body):
    world = World(OrganizationFactory())
    caller = Caller(world.organization, Role.OWNER)
    if name in BEFORE:
        BEFORE[name](world)

    response = caller.send(method, world.address(path), world.real(body))

    assert 200 <= response.status_code < 300, response.content


def test_every_operation_that_takes_a_body_has_an_example():
    lacking = [
        said["operationId"]
        for methods in api_docs.document()["paths"].values()
        for said in methods.values()
        if "requestBody" in said and "examples" not in said["requestBody"]["content"]["application/json"]
    ]

    assert lacking == []


@pytest.fixture(scope="module")
def client_package(tmp_path_factory):
    """A Python client, generated from the document."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(api_docs.document()), encoding="utf-8")
    (folder / "config.yml").write_text("post_hooks: []\npackage_name_override: kaanha_client\n", encoding="utf-8")
    generator = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    told = subprocess.run(
        [*generator, "--path", "openapi.json", "--config", "config.yml", "--output-path", "kaanha_client"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "WARNING" not in told.stdout + told.stderr, told.stdout
    sys.path.insert(0, str(folder))
    yield "kaanha_client"
    sys.path.remove(str(folder))


@pytest.mark.django_db(transaction=True)
def test_a_generated_client_creates_reads_and_is_told_of_errors(client_package, live_server):
    def part(name):
        return importlib.import_module(f"{client_package}.{name}")

    organization = OrganizationFactory()
    known = ContactFactory(organization=organization)
    models, contacts = part("models"), "api.contacts.contacts"
    asha = models.NewContact(phone="+919876543210", name="Asha Example")

    with part("client").AuthenticatedClient(base_url=live_server.url, token=Caller(organization).text) as client:
        created = part(f"{contacts}_create").sync(client=client, body=asha, idempotency_key="a-1")
        listed = part(f"{contacts}_list").sync(client=client, limit=10)
        missing = part(f"{contacts}_get").sync(client=client, contact="ct_none")

    assert (type(created), created.phone) == (models.Contact, "+919876543210")
    assert [one.id for one in listed.data] == [created.id, known.public_id]
    assert (type(missing), missing.error.code) == (models.Error, "contact_not_found")
