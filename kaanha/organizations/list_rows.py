"""The rows of a list in the admin, with Unfold's look, without a template for each row and cell.

Unfold asks for all headers, resolves the list's address and renders two templates for each row, which is most of a
list's time. What the rows of a list have in common is made once here, with PLACE where a row's key stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, time
from functools import cache
from typing import Any, NamedTuple

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import lookup_field
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.template.loader import render_to_string
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString
from unfold.admin import checkbox
from unfold.templatetags.unfold_list import CHECKBOX_CLASSES, LINK_CLASSES, ROW_CLASSES
from unfold.utils import display_for_field, display_for_value

PLACE = "kPlace"  # of a row's key: a word that stays as it is in an address and in HTML
DATED = (models.DateField, models.TimeField, models.ForeignKey)


class Column(NamedTuple):
    """What the cells of a column have in common."""

    name: str
    opening: str
    dated: str  # the opening where the cell is a time, which isn't wrapped
    closing: str


@cache
def checkbox_cell() -> str:
    """The box before a row."""
    return str(checkbox.render(ACTION_CHECKBOX_NAME, PLACE))


def placed(html: str, row: models.Model) -> SafeString:
    """What was made for all rows, for this one."""
    return SafeString(html.replace(PLACE, str(row.pk)))


def rows(changes: ChangeList, headers: list[dict[str, Any]], actions: list[Any]) -> Iterator[SafeString]:
    """The cells of each row on the page, and what may be done to it."""
    columns = [_column(changes, str(name), header) for name, header in zip(changes.list_display, headers, strict=True)]
    links = _links(changes)
    acts = _acts(actions)
    for row in changes.result_list:
        cells = "".join([_cell(changes, row, column, links.get(column.name)) for column in columns])
        yield SafeString(cells + acts.replace(PLACE, str(row.pk)))


def _column(changes: ChangeList, name: str, header: dict[str, Any]) -> Column:
    tag = "th" if name == _first_link(changes) else "td"
    classes = [f"field-{name}", *ROW_CLASSES]
    if name == "action_checkbox":
        classes = CHECKBOX_CLASSES
    label = "Select record" if name == "action_checkbox" else header["text"]

    def opening(*more: str) -> str:
        return format_html('<{} class="{}" data-label="{}">', tag, " ".join([*classes, *more]), label)

    return Column(name, opening(), opening("nowrap"), f"</{tag}>")


def _first_link(changes: ChangeList) -> str | None:
    """The column that names the row."""
    linked = changes.list_display_links or ()
    return next((str(name) for name in changes.list_display if name in linked), None)


def _links(changes: ChangeList) -> dict[str, str]:
    """What opens the cells that lead to the row's page, by column."""
    if not changes.list_display_links:
        return {}
    kept: dict[str, Any] = {"preserved_filters": changes.preserved_filters, "opts": changes.opts}
    address = add_preserved_filters(kept, changes.url_for_result(changes.model(pk=PLACE)))
    link = format_html('<a href="{}" class="{}" >', address, " ".join(LINK_CLASSES))
    return {str(name): link for name in changes.list_display_links}


def _acts(actions: list[Any]) -> str:
    """The links at the end of a row."""
    if not actions:
        return ""
    return render_to_string("kaanha/list_acts.html", {"actions": actions, "place": PLACE})


def _cell(changes: ChangeList, row: models.Model, column: Column, link: str | None) -> str:
    text, dated = _shown(changes, row, column.name)
    inner: str = conditional_escape(text)
    if link is not None:
        inner = f"{link.replace(PLACE, str(row.pk))}{inner}</a>"
    return f"{column.dated if dated else column.opening}{inner}{column.closing}"


def _shown(changes: ChangeList, row: models.Model, name: str) -> tuple[Any, bool]:
    """What stands in the cell, and whether it is a time or a row of its own, which isn't wrapped."""
    empty = changes.model_admin.get_empty_value_display()
    try:
        field, display, value = lookup_field(name, row, changes.model_admin)
    except ObjectDoesNotExist:
        return empty, False
    empty = getattr(display, "empty_value_display", empty)
    if field is None or field.auto_created:
        return display_for_value(value, empty, getattr(display, "boolean", False)), isinstance(value, date | time)
    if isinstance(field.remote_field, models.ManyToOneRel):
        related = getattr(row, field.name)
        return (empty if related is None else related), True
    return display_for_field(value, field, empty), isinstance(field, DATED)
