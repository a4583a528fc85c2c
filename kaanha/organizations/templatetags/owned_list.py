"""The tags of a list: its table, and what may be chosen in its filters."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.forms.utils import flatatt
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.templatetags.unfold_list import result_headers

from kaanha.organizations import list_rows

register = template.Library()


@register.inclusion_tag("kaanha/list_table.html", takes_context=True)
def list_table(context: template.RequestContext, changes: ChangeList) -> dict[str, Any]:
    """Headers and rows, or what is said where there are none."""
    headers = list(result_headers(changes))
    return {
        "cl": changes,
        "result_headers": headers,
        "num_sorted_fields": sum(header.get("sorted", False) for header in headers),
        "rows": list(list_rows.rows(changes, headers, context.get("actions_row") or [])),
        "has_add_permission": context.get("has_add_permission"),
    }


@register.simple_tag
def options(choices: list[dict[str, Any]]) -> SafeString:
    """What may be chosen, as Django's templates have it: they take two for each, and a tag list has hundreds."""
    shown = ((one["value"], flatatt(one["attrs"]), one["label"]) for one in choices)
    return format_html_join("\n", '<option value="{}"{}>{}</option>', shown)
