"""Sequences in the API: other systems enroll contacts."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from dataclasses import dataclass
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from contacts.models import Contact
from kaanha.lib import public_ids
from kaanha.lib.api_json import Body, Text
from kaanha.lib.errors import Refusal
from kaanha.lib.openapi import described
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from sequences import enrolling, finding
from sequences.finding import UNKNOWN, Found, Named
from sequences.models import Code, Enrollment, Sequence, Source

MOST = 1_000  # contacts in one request
WAYS = ("contact_id", "phone", "contacts")
ID_PREFIX = f"{Contact.PUBLIC_KIND}_"


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string", "description": "An id or a phone."},
            {
                "type": "object",
                "properties": {"id": {"type": "string"}},
                "required": ["id"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"phone": {"type": "string"}},
                "required": ["phone"],
                "additionalProperties": False,
            },
        ]
    }
)
class NamedContact(serializers.Field[Named, Any, Any, Any]):
    """An entry of the list: `"ct_…"`, `"+91…"`, `{"id": "ct_…"}` or `{"phone": "+91…"}`."""

    default_error_messages = dict.fromkeys(
        ("invalid", "null"), 'Write an id, a phone, {{"id": "ct_…"}} or {{"phone": "+91…"}}.'
    )

    def to_internal_value(self, data: Any) -> Named:
        if isinstance(data, str):
            return Named(data, id=data) if data.startswith(ID_PREFIX) else Named(data, phone=data)
        [(name, text)] = data.items() if isinstance(data, dict) and len(data) == 1 else [("", None)]
        if name not in ("id", "phone") or not isinstance(text, str):
            self.fail("invalid")
        return Named(data, **{name: text})


class NamedContacts(serializers.ListField):
    child = NamedContact()
    default_error_messages = {
        "not_a_list": f"Write a list of 1 to {MOST:,} contacts.",
        "empty": f"The list is empty. Name 1 to {MOST:,} contacts.",
        "too_many": f"The list names {{count:,}} contacts. Send at most {MOST:,} in one request.",
    }

    def to_internal_value(self, data: Any) -> list[Named]:
        if not isinstance(data, list):
            self.fail("not_a_list")
        if not data:
            self.fail("empty")
        if len(data) > MOST:
            self.fail("too_many", count=len(data))
        named: list[Named] = super().to_internal_value(data)
        return named


class EnrollBody(Body):
    """A sequence, and whom to enroll: one contact by id or by phone, or a list."""

    sequence_id = Text()
    contact_id = Text(required=False, allow_null=True)
    phone = Text(required=False, allow_null=True)
    contacts = NamedContacts(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if sum(attrs.get(way) is not None for way in WAYS) != 1:
            raise serializers.ValidationError("Send exactly one of contactId, phone and contacts.")
        return attrs


class EnrolledShown(Body):
    status = serializers.ChoiceField(choices=["enrolled"])
    enrollment_id = Text()
    contact_id = Text()
    sequence_id = Text()


class EnrollResultShown(Body):
    contact = NamedContact()
    contact_id = Text(required=False)
    status = serializers.ChoiceField(choices=["enrolled", "rejected"])
    enrollment_id = Text(required=False)
    code = Text(required=False)
    message = Text(required=False)


class EnrollResultsShown(Body):
    sequence_id = Text()
    enrolled = serializers.IntegerField()
    rejected = serializers.IntegerField()
    results = EnrollResultShown(many=True)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one named contact; `code` is empty for those who are enrolled."""

    given: Any
    contact_id: str | None
    enrollment_id: str | None
    code: str
    message: str

    @classmethod
    def of(cls, named: Named, outcome: enrolling.Outcome) -> Result:
        if outcome.code in (Code.CONTACT_NOT_FOUND, Code.CONTACT_DELETED):
            return cls.nobody(named, UNKNOWN)
        enrollment = outcome.enrollment_id
        return cls(
            named.given,
            public_ids.encode(Contact.PUBLIC_KIND, outcome.contact_id),
            None if outcome.code or enrollment is None else public_ids.encode(Enrollment.PUBLIC_KIND, enrollment),
            outcome.code,
            enrolling.SENTENCES[outcome.code] if outcome.code else "",
        )

    @classmethod
    def nobody(cls, named: Named, found: Found) -> Result:
        return cls(named.given, None, None, found.code, found.message)

    def told(self) -> dict[str, Any]:
        """The result as the answer to a list has it; what there isn't is left out."""
        told = {
            "contact": self.given,
            "contactId": self.contact_id,
            "status": "rejected" if self.code else "enrolled",
            "enrollmentId": self.enrollment_id,
            "code": self.code,
            "message": self.message,
        }
        return {name: value for name, value in told.items() if value or name == "contact"}


class EnrollAPI(OwnedAPI):
    """`POST /api/sequences/enroll`."""

    area = Area.CAMPAIGNS

    @described(
        "sequences_enroll",
        body=EnrollBody,
        answers={201: EnrolledShown, 200: EnrollResultsShown},
        errors=(404,),
        example={"sequenceId": "seq_…", "contactId": "ct_…"},
    )
    def post(self, request: Request) -> Response:
        """Enroll one contact (201, or the reason why not) or a list (200 with a result for each, in its order).

        The number of queries doesn't depend on the number of contacts.
        """
        asked = self.asked(EnrollBody)
        sequence = self.found(Sequence, asked["sequence_id"])
        if (contacts := asked.get("contacts")) is not None:
            return Response(_summary(sequence, self._enroll(sequence, contacts)))
        [result] = self._enroll(sequence, [Named(None, id=asked.get("contact_id"), phone=asked.get("phone"))])
        if result.code:
            raise Refusal(result.message, code=result.code)
        told = {
            "status": "enrolled",
            "enrollmentId": result.enrollment_id,
            "contactId": result.contact_id,
            "sequenceId": sequence.public_id,
        }
        return Response(told, status=status.HTTP_201_CREATED)

    def _enroll(self, sequence: Sequence, contacts: Listed[Named]) -> list[Result]:
        """A result for each, in the order given. Refusal unless the sequence is active."""
        found = finding.contacts(self.organization, contacts)
        keys = [one.key for one in found if one.key is not None]
        outcomes = iter(enrolling.enroll(sequence, keys, source=Source.API, now=self.now))
        return [
            Result.nobody(named, one) if one.key is None else Result.of(named, next(outcomes))
            for named, one in zip(contacts, found, strict=True)
        ]


def _summary(sequence: Sequence, results: Listed[Result]) -> dict[str, Any]:
    rejected = sum(bool(result.code) for result in results)
    return {
        "sequenceId": sequence.public_id,
        "enrolled": len(results) - rejected,
        "rejected": rejected,
        "results": [result.told() for result in results],
    }
