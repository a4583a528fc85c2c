"""The API under what its own document allows and forbids: no fault of ours, no answer that isn't documented.

Each operation gets FUZZ_EXAMPLES requests that follow the document and as many that break it, most of them with the ids
of real rows; `make fuzz` sends thousands.
"""

import os

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis import checks as general
from schemathesis.specs.openapi import checks as conformance

from kaanha import api_docs
from kaanha.organizations.models import Role
from kaanha.wsgi import application
from tests.callers import Caller
from tests.factories import OrganizationFactory
from tests.worlds import PLACES, World

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
CHECKS = [
    general.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_headers_conformance,
    conformance.response_schema_conformance,
]
# Nobody answers in Meta's place here: 503, which is documented.
ASKS_META = {"templates_sync"}


def load():
    schema = schemathesis.openapi.from_dict(api_docs.document())
    schema.app = application
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.definition.raw["operationId"]: operation for operation in found}


OPERATIONS = load()
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _one_connection():
    """Requests stay in the test's transaction, as those of Django's own test client do."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def world(settings):
    settings.API_RATE_LIMIT = "1000000/second"
    settings.WHATSAPP_API_URL = "http://127.0.0.1:1/v25.0"
    world = World(OrganizationFactory())
    world.enroll()
    return world


def with_real_ids(case, world):
    """The request about rows that are there."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = world.ids[PLACES[name]]
    if isinstance(case.body, dict):
        for name in case.body:
            kind = PLACES.get(name.removesuffix("Id"))
            if name.endswith("Id") and kind:
                case.body[name] = world.ids[kind]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_whatever_is_sent_gets_a_documented_answer(name, mode, world):
    operation, caller = OPERATIONS[name], Caller(world.organization, Role.OWNER)

    @given(operation.as_strategy(generation_mode=mode), strategies.integers(0, 3))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    def send(case, chance):
        if chance:
            with_real_ids(case, world)
        checks = CHECKS[1:] if name in ASKS_META else CHECKS
        case.call_and_validate(headers={"Authorization": f"Bearer {caller.text}"}, checks=checks)

    send()
