"""Contacts and tags in the API."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.validators import EmailValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from contacts import consent, counting, editing, tagging
from contacts.models import Contact, ContactQuerySet, ContactTag, Tag
from kaanha.lib import pagination, phone
from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.errors import Refusal
from kaanha.lib.openapi import described, page_of
from kaanha.lib.pagination import PageQuery
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI, missing

NAME, EMAIL = 200, 254  # letters
ATTRIBUTE_NAME, ATTRIBUTE_VALUE = 100, 1_000  # letters
NAMES_WITH_TEXTS = 'Write names with texts, such as {{"city": "Pune"}}.'
MOST_TAGS = 100  # in one request
HOLDERS = 10_000  # a tag's contacts are counted up to here

# --- what is taken -----------------------------------------------------------------------------------------------


class Phone(Text):
    """A phone number, in international form."""

    def to_internal_value(self, data: Any) -> str:
        try:
            return phone.parse(super().to_internal_value(data)).e164
        except phone.InvalidPhone as invalid:
            raise serializers.ValidationError(str(invalid)) from invalid


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": editing.MOST_ATTRIBUTES,
        "propertyNames": {"minLength": 1, "maxLength": ATTRIBUTE_NAME},
        "additionalProperties": {"type": ["string", "null"], "maxLength": ATTRIBUTE_VALUE},
    }
)
class Attributes(serializers.Field[dict[str, Any], Any, Any, Any]):
    """Names with texts; null takes an attribute away."""

    default_error_messages = {
        "invalid": NAMES_WITH_TEXTS,
        "null": NAMES_WITH_TEXTS,
        "name": f"The name of an attribute has 1 to {ATTRIBUTE_NAME} letters.",
        "value": f"The value of {{name}} must be a text of at most {ATTRIBUTE_VALUE:,} letters, or null.",
        "many": f"Send at most {editing.MOST_ATTRIBUTES} attributes.",
    }

    def to_internal_value(self, data: Any) -> dict[str, str | None]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if len(data) > editing.MOST_ATTRIBUTES:
            self.fail("many")
        for name, value in data.items():
            if not 0 < len(name) <= ATTRIBUTE_NAME:
                self.fail("name")
            if value is not None and not (isinstance(value, str) and len(value) <= ATTRIBUTE_VALUE):
                self.fail("value", name=name)
        return data


class TagName(Text):
    """The name of a tag, as it is stored."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=tagging.NAME, **options)

    def to_internal_value(self, data: Any) -> str:
        return tagging.clean(super().to_internal_value(data))


class Tags(serializers.ListField):
    child = TagName()
    default_error_messages = {
        "not_a_list": f"Write a list of at most {MOST_TAGS} names or ids of tags.",
        "max_length": f"Write a list of at most {MOST_TAGS} names or ids of tags.",
        "null": f"Write a list of at most {MOST_TAGS} names or ids of tags.",
        "empty": "The list is empty. Name at least one tag.",
        "required": "It is missing. Send it.",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MOST_TAGS, **options)


class ContactChange(Body):
    """What PATCH takes: what isn't sent stays as it is."""

    name = Text(required=False, allow_blank=True, max_length=NAME)
    email = Text(required=False, allow_blank=True, max_length=EMAIL)
    attributes = Attributes(required=False)

    def validate_email(self, value: str) -> str:
        if value:
            EmailValidator("Write an e-mail address, such as asha@example.com.")(value)
        return value


class NewContact(ContactChange):
    phone = Phone()
    tags = Tags(required=False)
    opted_in = YesNo(required=False)
    opt_in_proof = Text(required=False, max_length=consent.PROOF)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("opted_in") and not attrs.get("opt_in_proof"):
            raise serializers.ValidationError({"optInProof": ["Say when and where they agreed to be messaged."]})
        return attrs


class ConsentChoice(Body):
    opted_in = YesNo()
    proof = Text(required=False, max_length=consent.PROOF)
    against_their_word = YesNo(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["opted_in"] and not attrs.get("proof"):
            raise serializers.ValidationError({"proof": ["Say when and where they agreed to be messaged."]})
        return attrs


class TagsToAdd(Body):
    tags = Tags(allow_empty=False)


class TagBody(Body):
    name = TagName()


class ContactsQuery(PageQuery):
    search = Text(required=False, allow_blank=True, max_length=NAME)
    tag = Text(required=False, max_length=NAME)


class TagsQuery(PageQuery):
    search = Text(required=False, allow_blank=True, max_length=NAME)


# --- what is given -----------------------------------------------------------------------------------------------


class ContactShown(Body):
    id = Text()
    phone = Text(allow_null=True)
    name = Text(allow_blank=True)
    email = Text(allow_blank=True)
    attributes = serializers.DictField(child=Text(allow_blank=True))
    tags = serializers.ListField(child=Text())
    opted_in = YesNo()
    opted_in_at = serializers.DateTimeField(allow_null=True)
    opt_in_source = Text(allow_null=True)
    opt_in_proof = Text(allow_null=True)
    opted_out_at = serializers.DateTimeField(allow_null=True)
    opt_out_source = Text(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class TagShown(Body):
    id = Text()
    name = Text()
    contacts = serializers.IntegerField(max_value=HOLDERS)
    created_at = serializers.DateTimeField()


def contacts_shown(contacts: Sequence[Contact]) -> list[dict[str, Any]]:
    """Contacts with their tags, by name. One query."""
    held = defaultdict(list)
    pairs = ContactTag.objects.filter(contact__in=[contact.pk for contact in contacts])
    for key, name in pairs.values_list("contact_id", "tag__name"):
        held[key].append(name)
    return [_contact_shown(contact, sorted(held[contact.pk], key=str.casefold)) for contact in contacts]


def _contact_shown(contact: Contact, tags: list[str]) -> dict[str, Any]:
    return {
        "id": contact.public_id,
        "phone": contact.phone,
        "name": contact.name,
        "email": contact.email,
        "attributes": contact.attributes,
        "tags": tags,
        "optedIn": contact.opted_in,
        "optedInAt": contact.opted_in_at,
        "optInSource": contact.opt_in_source or None,
        "optInProof": contact.opt_in_proof or None,
        "optedOutAt": contact.opted_out_at,
        "optOutSource": contact.opt_out_source or None,
        "createdAt": contact.created_at,
        "updatedAt": contact.updated_at,
    }


def tags_shown(tags: Iterable[Tag]) -> list[dict[str, Any]]:
    """Tags with how many contacts hold them, counted up to 10,000. One query."""
    listed = list(tags)
    counts = tagging.holders([tag.pk for tag in listed], most=HOLDERS)
    return [
        {"id": tag.public_id, "name": tag.name, "contacts": counts.get(tag.pk, 0), "createdAt": tag.created_at}
        for tag in listed
    ]


# --- contacts ----------------------------------------------------------------------------------------------------


class ContactAreaAPI(OwnedAPI):
    area = Area.CONTACTS

    def contact(self, public_id: str) -> Contact:
        """The organization's contact of that id; one that is deleted is missing. One query."""
        contact: Contact = self.found(Contact, public_id)
        if contact.deleted_at is not None:
            raise missing(Contact)
        contact.organization = self.organization
        return contact

    def shown(self, contact: Contact, code: int = status.HTTP_200_OK) -> Response:
        [told] = contacts_shown([contact])
        return Response(told, status=code, headers={"ETag": editing.version(contact)})


class ContactsAPI(ContactAreaAPI):
    """`/api/contacts`."""

    @described("contacts_list", query=ContactsQuery, answers={200: page_of(ContactShown)}, errors=(404,))
    def get(self, request: Request) -> Response:
        """The contacts, the newest first: all, by name or phone, by tag. Four queries; one more by name, one by tag."""
        asked = pagination.asked(request.query_params, ContactsQuery)
        search, tag, rows = asked.get("search", ""), None, Contact.objects.of(self.organization).active()
        common = rows.is_common(search)
        if "tag" in asked:
            tag = tagging.found(self.organization, asked["tag"])
            rows = rows.tagged_any([tag])
        total = None if "cursor" in asked else self._total(rows, search, tag)
        rows = rows.matching(search, common=common)
        return Response(pagination.paged(rows, asked, by=("-pk",), shown=contacts_shown, total=total))

    def _total(self, rows: ContactQuerySet, search: str, tag: Tag | None) -> int:
        """How many of these match. All of them are found soonest by the index, however common the name is."""
        if search:
            return rows.matching(search).count()
        return tagging.count(tag) if tag else counting.total(self.organization.pk)

    @described(
        "contacts_create",
        body=NewContact,
        answers={201: ContactShown},
        errors=(404,),
        example={
            "phone": "+919876543210",
            "name": "Asha Example",
            "tags": ["VIP"],
            "optedIn": True,
            "optInProof": "order A-1",
        },
    )
    def post(self, request: Request) -> Response:
        """Create a contact, or bring back the deleted one of that number; 409 for a number that a contact has."""
        contact = editing.create(self.organization, self.asked(NewContact), at=self.now)
        return self.shown(contact, status.HTTP_201_CREATED)


class ContactAPI(ContactAreaAPI):
    """`/api/contacts/{id}`."""

    @described("contacts_get", answers={200: ContactShown}, errors=(404,))
    def get(self, request: Request, contact: str) -> Response:
        """One contact."""
        return self.shown(self.contact(contact))

    @described(
        "contacts_update",
        body=ContactChange,
        answers={200: ContactShown},
        errors=(404,),
        versioned=True,
        example={"name": "Asha", "attributes": {"city": None, "size": "M"}},
    )
    def patch(self, request: Request, contact: str) -> Response:
        """Change what is sent. 412 when If-Match names a version that isn't the current one."""
        said = self.asked(ContactChange)
        return self.shown(editing.edit(self.contact(contact), said, versions=self.versions(), at=self.now))

    @described("contacts_delete", answers={204: None}, errors=(404,), versioned=True)
    def delete(self, request: Request, contact: str) -> Response:
        """Mark the contact as deleted; its history stays."""
        editing.delete(self.contact(contact), versions=self.versions(), at=self.now)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ContactTagsAPI(ContactAreaAPI):
    """`/api/contacts/{id}/tags`."""

    @described(
        "contacts_add_tags",
        body=TagsToAdd,
        answers={200: ContactShown},
        errors=(404,),
        example={"tags": ["VIP", "tag_…"]},
    )
    def post(self, request: Request, contact: str) -> Response:
        """Put tags on the contact, by id or name; names that don't exist are created."""
        said, found = self.asked(TagsToAdd), self.contact(contact)
        editing.put_on(found, said["tags"], at=self.now)
        return self.shown(found)


class ContactTagAPI(ContactAreaAPI):
    """`/api/contacts/{id}/tags/{id or name}`."""

    @described("contacts_remove_tag", answers={200: ContactShown}, errors=(404,))
    def delete(self, request: Request, contact: str, tag: str) -> Response:
        """Take the tag off the contact, if it holds it."""
        found = self.contact(contact)
        tagging.remove(self.organization, [found.pk], [tagging.found(self.organization, tag).pk], at=self.now)
        return self.shown(found)


class ContactConsentAPI(ContactAreaAPI):
    """`/api/contacts/{id}/consent`."""

    @described(
        "contacts_decide_consent",
        body=ConsentChoice,
        answers={200: ContactShown},
        errors=(404,),
        example={"optedIn": True, "proof": "order A-1"},
    )
    def post(self, request: Request, contact: str) -> Response:
        """Opt the contact in, with the proof, or out. 409 for somebody who wrote to stop."""
        said, found = self.asked(ConsentChoice), self.contact(contact)
        against = said.get("against_their_word", False)
        told: dict[str, Any] = {"proof": said.get("proof", ""), "at": self.now, "against_their_word": against}
        editing.decide(found, opted_in=said["opted_in"], **told)
        found.refresh_from_db()
        return self.shown(found)


# --- tags --------------------------------------------------------------------------------------------------------


class TagAreaAPI(OwnedAPI):
    area = Area.CONTACTS

    def shown(self, tag: Tag, code: int = status.HTTP_200_OK) -> Response:
        [told] = tags_shown([tag])
        return Response(told, status=code, headers={"ETag": tag_version(tag)})

    def check_version(self, tag: Tag) -> None:
        """Refusal unless the tag is of a version that the request is willing to change."""
        versions = self.versions()
        if versions is not None and tag_version(tag) not in versions:
            raise edited_meanwhile()


class TagsAPI(TagAreaAPI):
    """`/api/tags`."""

    @described("tags_list", query=TagsQuery, answers={200: page_of(TagShown)})
    def get(self, request: Request) -> Response:
        """The tags by name, with how many contacts hold them. Four queries."""
        asked = pagination.asked(request.query_params, TagsQuery)
        rows = Tag.objects.of(self.organization).filter(name__icontains=asked.get("search", ""))
        return Response(pagination.paged(rows, asked, by=("name", "pk"), shown=tags_shown))

    @described("tags_create", body=TagBody, answers={201: TagShown}, example={"name": "Regulars"})
    def post(self, request: Request) -> Response:
        """Create a tag; 409 where there is one of this name."""
        return self.shown(tagging.create(self.organization, self.asked(TagBody)["name"]), status.HTTP_201_CREATED)


class TagAPI(TagAreaAPI):
    """`/api/tags/{id}`; deleting is added by the shell, which sees what uses a tag."""

    @described("tags_get", answers={200: TagShown}, errors=(404,))
    def get(self, request: Request, tag: str) -> Response:
        """One tag."""
        return self.shown(self.found(Tag, tag))

    @described(
        "tags_update",
        body=TagBody,
        answers={200: TagShown},
        errors=(404, 409),
        versioned=True,
        example={"name": "Patrons"},
    )
    def patch(self, request: Request, tag: str) -> Response:
        """Rename the tag. 409 where another one has the name, 412 where If-Match names another version."""
        said, found = self.asked(TagBody), self.found(Tag, tag)
        self.check_version(found)
        if not tagging.rename(found, said["name"]):
            raise edited_meanwhile()
        found.name = said["name"]
        return self.shown(found)


def tag_version(tag: Tag) -> str:
    """What changes whenever the tag does."""
    return f'"{hashlib.sha256(tag.name.encode()).hexdigest()[:16]}"'


def edited_meanwhile() -> Refusal:
    return Refusal("Somebody else has changed this tag. Read it again, then decide.", code="edited_meanwhile")
