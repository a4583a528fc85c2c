import json

import pytest

from kaanha.inbound.models import Callback
from kaanha.whatsapp.cloud_api import signature
from tests.factories import PhoneNumberFactory


@pytest.fixture
def number(db):
    return PhoneNumberFactory(phone_number_id="200000000000001", account__waba_id="300000000000001")


@pytest.fixture
def post(client, number):
    """post(body) sends bytes or a dict to the number's callback address, signed; answers the response."""

    def act(body, *, secret="sim_app_secret_0001", key=None, **headers):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("x-hub-signature-256", signature.sign(secret, raw))
        address = f"/callbacks/{key or number.account.app.callback_key}"
        return client.post(address, raw, content_type="application/json", headers=headers)

    return act


@pytest.fixture
def stored(number):
    """stored(value, …) keeps a callback with these `messages` values, as the view would."""

    def act(*values, field="messages", app=None, received_at=None, waba="300000000000001"):
        changes = [{"field": field, "value": value} for value in values]
        body = {"object": "whatsapp_business_account", "entry": [{"id": waba, "time": 1795000000, "changes": changes}]}
        return Callback.objects.create(
            app=app or number.account.app,
            body=json.dumps(body).encode(),
            received_at=received_at or "2026-11-23T12:00Z",
        )

    return act


def metadata(number_id="200000000000001"):
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15555550100", "phone_number_id": number_id},
    }


def status(wamid, stage, *, at=1795000031, data=None, number_id="200000000000001", **more):
    """A `messages` value with one status."""
    one = {"id": wamid, "status": stage, "timestamp": str(at), "recipient_id": "919800000001"} | more
    return metadata(number_id) | {"statuses": [one | ({"biz_opaque_callback_data": data} if data else {})]}


def text(body, *, sender="919800000077", wamid="wamid.IN1", at=1795000100, number_id="200000000000001", **more):
    """A `messages` value with one text from a person."""
    one = {"from": sender, "id": wamid, "timestamp": str(at), "type": "text", "text": {"body": body}} | more
    person = {"profile": {"name": "Zoë Sample"}, "wa_id": sender}
    return metadata(number_id) | {"contacts": [person], "messages": [one]}
