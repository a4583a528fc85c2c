"""Templates in the API: as Meta has them, and asked for anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kaanha.lib import pagination
from kaanha.lib.api_json import Body, Text, YesNo
from kaanha.lib.errors import Refusal
from kaanha.lib.openapi import described, page_of
from kaanha.lib.pagination import PageQuery
from kaanha.organizations.access import Area
from kaanha.organizations.api import OwnedAPI
from kaanha.whatsapp.cloud_api.events import language_code
from kaanha.whatsapp.models import BusinessAccount
from templates_app import rendering, syncing
from templates_app.models import MessageTemplate

NAME, LANGUAGE = 512, 20  # letters
VALUE, MOST_VARIABLES = 1024, 100  # letters of one; Meta's limit of a body
MEMBERS = ("field", "text", "link", "id")
SYNC_AT_MOST = timedelta(seconds=20)  # for one account; who waits longer believes that nothing happens

# --- what is taken -----------------------------------------------------------------------------------------------


class Choice(serializers.ChoiceField):
    """One of a few words."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices, **options)
        self.error_messages["invalid_choice"] = f"Write one of {', '.join(map(str, self.choices))}."

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data if isinstance(data, str) else "")


class TemplatesQuery(PageQuery):
    status = Choice(MessageTemplate.Status.values, required=False)
    category = Choice(MessageTemplate.Category.values, required=False)
    language = Text(required=False, max_length=LANGUAGE)
    search = Text(required=False, allow_blank=True, max_length=NAME)


class TemplateName(Body):
    name = Text(max_length=NAME)
    language = Text(required=False, max_length=LANGUAGE)


class TemplateSync(Body):
    name = Text(required=False, max_length=NAME)


_TEXT = {"type": "string", "maxLength": VALUE}


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": MOST_VARIABLES,
        "additionalProperties": {
            "anyOf": [
                _TEXT,
                {
                    "type": "object",
                    "properties": dict.fromkeys((*MEMBERS, "fallback", "filename"), _TEXT),
                    "additionalProperties": False,
                    "minProperties": 1,
                },
            ]
        },
    }
)
class Variables(serializers.Field[dict[str, Any], Any, Any, Any]):
    """How a template's variables are filled: a plain text, or where it comes from, by the variable's key."""

    default_error_messages = dict.fromkeys(
        ("invalid", "null"),
        'Write the variables\' keys with texts or sources, such as {{"body.1": {{"field": "first_name", '
        '"fallback": "there"}}, "body.2": "30 November"}}.',
    )
    default_error_messages["many"] = f"Send at most {MOST_VARIABLES} variables."
    default_error_messages["source"] = (
        "{name} needs exactly one of field, text, link and id, beside it a fallback or a filename, "
        f"each a text of at most {VALUE:,} letters."
    )

    def to_internal_value(self, data: Any) -> dict[str, dict[str, str]]:
        if not isinstance(data, dict):
            self.fail("invalid")
        if len(data) > MOST_VARIABLES:
            self.fail("many")
        return {key: self._source(key, value) for key, value in data.items()}

    def _source(self, key: str, value: Any) -> dict[str, str]:
        source = {_plain(key, value): value} if isinstance(value, str) else value
        if not isinstance(source, dict) or not source.keys() <= {*MEMBERS, "fallback", "filename"}:
            self.fail("source", name=key[:NAME])
        texts = all(isinstance(text, str) and len(text) <= VALUE for text in source.values())
        if not texts or len(source.keys() & set(MEMBERS)) != 1:
            self.fail("source", name=key[:NAME])
        return source


def _plain(key: str, value: str) -> str:
    """What a plain text is meant as: a header of media takes a link, or the id of a file."""
    if key != "header":
        return "text"
    return "id" if value.isascii() and value.isdecimal() else "link"


# --- what is given -----------------------------------------------------------------------------------------------


class VariableShown(Body):
    key = Text(help_text="What `variables` of a broadcast or message calls it.")
    kind = Text(help_text="text, image, video, document, url, coupon, code or payload.")
    label_ = Text(help_text="For people.")
    example = Text(allow_blank=True)
    required_ = YesNo()


class TemplateShown(Body):
    id = Text()
    name = Text()
    language = Text()
    category = Text()
    status = Text()
    sendable = YesNo(help_text="Whether Meta lets it be sent now.")
    unsupported = Text(allow_null=True, help_text="Why Kaanha can't send it.")
    parameter_format = Text()
    components = serializers.ListField(child=serializers.DictField(), help_text="As Meta has them.")
    variables = VariableShown(many=True)
    quality = Text(allow_null=True)
    rejected_reason = Text(allow_null=True)
    synced_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class SyncShown(Body):
    created = serializers.IntegerField()
    updated = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    deleted = serializers.IntegerField()
    problems = serializers.ListField(child=Text(), help_text="Templates that can't be stored or sent, in sentences.")


def templates_shown(templates: Iterable[MessageTemplate]) -> list[dict[str, Any]]:
    return [template_shown(template) for template in templates]


def template_shown(template: MessageTemplate) -> dict[str, Any]:
    slots = rendering.slots(template.components, template.parameter_format)
    return {
        "id": template.public_id,
        "name": template.name,
        "language": template.language,
        "category": template.category,
        "status": template.status,
        "sendable": template.sendable,
        "unsupported": rendering.unsupported(template.components),
        "parameterFormat": template.parameter_format,
        "components": template.components,
        "variables": [{one.name: getattr(slot, one.name) for one in fields(slot)} for slot in slots],
        "quality": template.quality or None,
        "rejectedReason": template.rejected_reason or None,
        "syncedAt": template.synced_at,
        "createdAt": template.created_at,
    }


# --- views -------------------------------------------------------------------------------------------------------


class TemplateAreaAPI(OwnedAPI):
    area = Area.CAMPAIGNS


class TemplatesAPI(TemplateAreaAPI):
    """`/api/templates`."""

    @described("templates_list", query=TemplatesQuery, answers={200: page_of(TemplateShown)})
    def get(self, request: Request) -> Response:
        """The templates by name, without those that Meta has no more unless `status` asks for them. Three queries."""
        asked = pagination.asked(request.query_params, TemplatesQuery)
        rows = MessageTemplate.objects.of(self.organization).filter(name__icontains=asked.get("search", ""))
        exact = {name: asked[name] for name in ("status", "category") if name in asked}
        rows = (
            rows.filter(**exact) if "status" in exact else rows.filter(**exact).exclude(status=syncing.Status.DELETED)
        )
        if "language" in asked:
            rows = rows.filter(language__in=_spellings(asked["language"]))
        return Response(pagination.paged(rows, asked, by=("name", "pk"), shown=templates_shown))


class TemplateAPI(TemplateAreaAPI):
    """`/api/templates/{id}`."""

    @described("templates_get", answers={200: TemplateShown}, errors=(404,))
    def get(self, request: Request, template: str) -> Response:
        """One template, with its components and the variables that a message has to fill."""
        return Response(template_shown(self.found(MessageTemplate, template)))


class TemplateSyncAPI(TemplateAreaAPI):
    """`/api/templates/sync`. Asking twice, or twice at once, does no harm."""

    idempotent = False  # it waits for Meta, in no transaction

    @described(
        "templates_sync",
        body=TemplateSync,
        answers={200: SyncShown},
        errors=(404, 502, 503),
        example={},
    )
    def post(self, request: Request) -> Response:
        """Bring all templates, or all languages of one name, in line with Meta's list, and say what has changed.

        It takes at most 20 seconds for each WhatsApp account: 503 where Meta doesn't answer, 502 where it refuses.
        """
        name = self.asked(TemplateSync).get("name")
        accounts = list(BusinessAccount.objects.of(self.organization).select_related("organization").order_by("pk"))
        if not accounts:
            raise Refusal("No WhatsApp account is connected yet. Connect one in the admin.", code="not_connected")
        outcomes = [syncing.sync(one, now=self.now, name=name, at_most=SYNC_AT_MOST) for one in accounts]
        if name is not None and not MessageTemplate.objects.of(self.organization).filter(name=name).exists():
            raise Refusal("Meta has no template of this name. Check its spelling.", code="template_not_found")
        return Response(asdict(syncing.together(outcomes)))


def _spellings(language: str) -> list[str]:
    """`en-US`, `en_US` and `en_us` are one language."""
    code = language_code(language)
    return list(dict.fromkeys([language, code, code.replace("_", "-")]))
