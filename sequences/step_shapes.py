"""The tree of steps in the API: taken as it comes, read by `trees.read`, and described for OpenAPI."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent
from rest_framework import serializers

from sequences.tree_nodes import OPERATORS, STATUSES, UNITS, WEEKDAYS, WHEN_CAPPED
from sequences.tree_reading import MAX_SPAN, MAX_STEPS, MAX_VARIABLES, NAME, TEMPLATE, TEXT

Schema = dict[str, Any]


class Steps(serializers.Field[Any, Any, Any, Any]):
    """Steps in a list, of any shape: reading the tree tells every fault of it at once."""

    default_error_messages = {"null": 'Write a list of steps, such as [{{"type": "delay", "delay": {{"days": 2}}}}].'}

    def to_internal_value(self, data: Any) -> Any:
        return data


def _object(required: list[str], members: dict[str, Schema], description: str = "") -> Schema:
    told = {"description": description} if description else {}
    return {"type": "object", **told, "properties": members, "required": required, "additionalProperties": False}


def _text(most: int, **more: Any) -> Schema:
    # Something beside white space.
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": r"\S", **more}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of_steps() -> Schema:
    return {"type": "array", "items": _ref("Step"), "maxItems": MAX_STEPS}


def _span(unit: str) -> Schema:
    return _object([unit], {unit: {"type": "integer", "minimum": 1, "maximum": MAX_SPAN // UNITS[unit]}})


def _step(kind: str, required: list[str], members: dict[str, Schema], description: str) -> Schema:
    key = {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_-]{1,32}$"}
    told = {**key, "description": "Its identity through all revisions. Left out, it is given."}
    return _object(["type", *required], {"id": told, "type": {"const": kind}, **members}, description)


_SOURCES = {
    member: {"type": "string", "maxLength": TEXT} for member in ("field", "fallback", "text", "link", "id", "filename")
}
_VALUE = {"oneOf": [{"type": "string", "maxLength": TEXT}, {"type": "number"}, {"type": "null"}]}
COMPONENTS: dict[str, Schema] = {
    "Step": {
        "oneOf": [_ref("MessageStep"), _ref("DelayStep"), _ref("UntilStep"), _ref("ConditionStep")],
        "description": "docs/sequences.md says exactly what each does.",
    },
    "MessageStep": _step(
        "message",
        ["template"],
        {
            "template": {
                "oneOf": [
                    _text(TEMPLATE, description="Its id or its name."),
                    _object(
                        ["name"],
                        {
                            "name": _text(TEMPLATE - 23),
                            "language": {"type": ["string", "null"], "pattern": "^[A-Za-z_-]{2,20}$"},
                        },
                    ),
                ]
            },
            "variables": {
                "type": ["object", "null"],
                "maxProperties": MAX_VARIABLES,
                "propertyNames": _text(NAME),
                "additionalProperties": _object([], _SOURCES),
                "description": "What fills each variable of the template, as in a broadcast.",
            },
            "whenCapped": {"enum": [*WHEN_CAPPED, None]},
        },
        "Sends a template, once to each contact.",
    ),
    "DelayStep": _step("delay", ["delay"], {"delay": _ref("Span"), "until": {"type": "null"}}, "Waits for a time."),
    "UntilStep": _step(
        "delay",
        ["until"],
        {
            "delay": {"type": "null"},
            "until": _object(
                ["time"],
                {
                    "time": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
                    "weekdays": {
                        "type": ["array", "null"],
                        "items": {"enum": list(WEEKDAYS)},
                        "maxItems": len(WEEKDAYS),
                    },
                    "timezone": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9_+/-]{1,64}$"},
                },
            ),
        },
        "Waits until a time of day, on some weekdays.",
    ),
    "ConditionStep": _step(
        "condition",
        ["if"],
        {
            "if": {"oneOf": [_ref("TagTest"), _ref("FieldTest"), _ref("StepTest")]},
            "waitFor": _or_null(_ref("Span")),
            "yes": _or_null(_list_of_steps()),
            "no": _or_null(_list_of_steps()),
        },
        "Goes one of two ways, then on with the step after it. With `waitFor` it waits so long for Yes.",
    ),
    "TagTest": _object(["tag"], {"tag": _text(NAME)}, "Holds the tag, by id or name."),
    "FieldTest": _object(
        ["field", "is"],
        {"field": _text(NAME), "is": {"enum": list(OPERATORS)}, "value": _VALUE},
        "How a field or an attribute of the contact compares with a value.",
    ),
    "StepTest": _object(
        ["step", "reached"],
        {"step": _text(32), "reached": {"enum": list(STATUSES)}},
        "What became of an earlier message step.",
    ),
    "Span": {"oneOf": [_span(unit) for unit in UNITS], "description": "A day is 24 hours."},
}


class Described(OpenApiSerializerFieldExtension):
    """Steps as a list of a component that refers to itself, for trees as deep as they may be."""

    target_class = Steps

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> Schema:
        for name, schema in COMPONENTS.items():
            auto_schema.registry.register_on_missing(
                ResolvedComponent(name=name, type=ResolvedComponent.SCHEMA, schema=schema, object=name)
            )
        return _list_of_steps()
