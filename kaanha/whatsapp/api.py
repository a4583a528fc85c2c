"""The connection with WhatsApp in the API."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.openapi import described
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from kaanha.organizations.models import Organization
from kaanha.whatsapp.models import PhoneNumber

CONNECTION_TYPE = "cloud_api"


class StatusShown(Body):
    connected = YesNo()
    phone_number = Text(allow_null=True)
    connection_type = Text()
    business_name = Text(allow_null=True)


class StatusAPI(OwnedAPI):
    """`GET /api/status`."""

    area = Area.CONTACTS  # which every role may view

    @described("status_get", answers={200: StatusShown})
    def get(self, request: Request) -> Response:
        """Whether the organization is connected, and as whom. Two queries."""
        return Response(_status(self.organization))


def _status(organization: Organization) -> dict[str, Any]:
    numbers = PhoneNumber.objects.of(organization).usable().select_related("account")
    number: PhoneNumber | None = numbers.order_by("pk").first()
    return {
        "connected": number is not None,
        "phoneNumber": number and _international(number.display_number),
        "connectionType": CONNECTION_TYPE,
        "businessName": number and (number.verified_name or number.account.name or organization.name),
    }


def _international(shown: str) -> str:
    """`+1 555 555 0001`, as Meta shows it, as `+15555550001`."""
    return "+" + "".join(letter for letter in shown if letter.isdigit())
