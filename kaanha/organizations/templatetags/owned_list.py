"""The tag of a list's table."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
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
