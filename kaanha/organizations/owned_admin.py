"""The base of every admin of rows that belong to an organization.

It shows the rows of the organization that the request works in, asks the role for permission, fills in the
organization, offers nothing of another one as a choice, and answers 404 for everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Field, Model, QuerySet
from django.forms import BaseForm, Form, ModelForm
from django.forms import Field as FormField
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display

from kaanha.lib.errors import Refusal
from kaanha.lib.pagination import WHOLE
from kaanha.organizations import access, audit, list_rows
from kaanha.organizations.access import Access, Area
from kaanha.organizations.models import Organization

View = TypeVar("View", bound=Callable[..., HttpResponse])

CONFIRM = "kaanha/confirm.html"
LIST = "kaanha/list.html"
STILL_ALL = frozenset({"p", "o", "e"})  # what an address may name although its list is whole: page, order, a mistake
MAY_NOT = "Your role may look here, but not add anything: ask an owner or admin of the organization."


class Lesson(NamedTuple):
    """What an empty list teaches: what would stand in it, and what comes first.

    `leads` is where that is done, where it isn't the page that adds a row: the words, and the name of the page. `adds`
    are the words for that page, where they aren't "Add" and what it adds.
    """

    title: str
    says: str
    leads: tuple[str, str] | None = None
    adds: str = ""


class Emptiness(NamedTuple):
    """What stands in place of a list's rows. `links`: words and address, the first one before the others."""

    title: str
    sentences: list[str]
    links: list[tuple[str, str]]


def moment(at: datetime | None, otherwise: str = "–") -> str:
    """A time for people: in the organization's timezone, which is named beside it."""
    return f"{timezone.localtime(at):%-d %b %Y, %H:%M %Z}" if at else otherwise


def key_of(text: str) -> int | None:
    """The key that an address names; None, which no row has, for what can't be one."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


@lru_cache(maxsize=500, typed=True)  # typed: a text that is safe and one that isn't are two
def chip(text: str, color: str = "") -> SafeString:
    """A colored label, in lists and on pages alike. Colors: success, info, primary, warning, danger, or none."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": color})


def two_lines(first: str, second: str) -> SafeString:
    """A cell with something to add to it below. As Unfold's `header=True`, but no template for each cell."""
    return format_html(
        '<span class="flex flex-col text-right lg:text-left"><strong class="block font-normal">{}</strong>{}</span>',
        first,
        format_html('<span class="block text-base-500">{}</span>', second) if second else "",
    )


class CappedPaginator(Paginator):
    """Pages over the first 10,000 rows: beyond that people search or filter, and nobody counts a million rows.

    Counted is no further than people go: ten pages from the one that they are on.
    """

    CAP, PAGES = 10_000, 10
    template_name = "kaanha/pagination.html"
    on_page = 1

    @classmethod
    def of(cls, request: HttpRequest, rows: Any, per_page: int) -> Self:
        """The one for the page that the address names as `p`."""
        pages, asked = cls(rows, per_page), request.GET.get("p", "")
        pages.on_page = int(asked) if WHOLE.fullmatch(asked) else 1
        return pages

    @property
    def horizon(self) -> int:
        return min(self.CAP, (self.on_page - 1 + self.PAGES) * self.per_page)

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.horizon].count()) if isinstance(rows, QuerySet) else len(rows)

    @property
    def capped(self) -> bool:
        """Whether there may be more than were counted."""
        return self.count >= self.horizon

    @property
    def ended(self) -> bool:
        """Whether there may be more than are ever shown."""
        return self.count >= self.CAP


class OwnedForm(ModelForm):
    """Knows its organization from the start, so that rules which include it are checked before saving."""

    owner: ClassVar[Organization | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.owner is not None and hasattr(self.instance, "organization_id"):
            self.instance.organization_id = self.instance.organization_id or self.owner.pk

    def _get_validation_exclusions(self) -> set[str]:
        return set(super()._get_validation_exclusions()) - {"organization"}  # type: ignore[misc]


class PagedAdmin(ModelAdmin):
    """Lists that cost the same however long they are."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_filter_submit = True
    change_list_template = LIST
    # The changelist's own "delete selected" asks nobody about consequences.
    actions: Any = ()

    def get_paginator(self, request: HttpRequest, rows: Any, per_page: int, *args: Any, **options: Any) -> Any:
        return self.paginator.of(request, rows, per_page)


class OwnedAdmin(PagedAdmin):
    """Rows of one organization at a time."""

    area: ClassVar[Area]
    # How a row leads to its organization.
    owner_path: ClassVar[str] = "organization"
    addable: ClassVar[bool] = True
    changeable: ClassVar[bool] = True
    deletable: ClassVar[bool] = False
    needs_owner: ClassVar[bool] = True
    empty: ClassVar[Lesson | None] = None
    # What one row and several are called where they are counted, where the model's names don't fit.
    one: ClassVar[str] = ""
    several: ClassVar[str] = ""
    # What an address has to name, for lists that are never shown as a whole: the parameter, and whose row it is.
    subjects: ClassVar[dict[str, type[Model]]] = {}
    # What saving a row is called in the audit log, which then names the fields; nothing where it isn't noted.
    audited: ClassVar[str] = ""

    form = OwnedForm
    exclude: Any = ("organization",)
    list_per_page = 50
    warn_unsaved_form = True
    show_facets = ShowFacets.NEVER  # each facet is a COUNT of its own

    # --- whose rows ----------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        current = access.of(request)
        if current.organization is not None:
            return rows.filter(**{self.owner_path: current.organization.pk})
        return rows if current.superuser else rows.none()

    def found(self, request: HttpRequest, object_id: str) -> Any:
        """The row of that id. 404 where it is missing or another organization's."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        return row

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str | None) -> HttpResponse:
        raise Http404

    # --- permissions ---------------------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.of(request).may_view(self.area)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.of(request).may_view(self.area)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.addable and access.of(request).may_change(self.area)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.changeable and access.of(request).may_change(self.area)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.deletable and access.of(request).may_change(self.area)

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the member may act on rows, also on those whose columns nobody edits."""
        return access.of(request).may_change(self.area)

    def require(self, request: HttpRequest, *, change: bool = True) -> Access:
        """The access of the request; 403 when its role doesn't reach."""
        current = access.of(request)
        if not (current.may_change(self.area) if change else current.may_view(self.area)):
            raise PermissionDenied
        return current

    # --- forms ---------------------------------------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if object_id is None and self.has_add_permission(request) and (elsewhere := self.choose_first(request)):
            return elsewhere
        buttons = {"show_save_and_add_another": False, "show_save_and_continue": False}
        context = {**buttons, **(extra_context or {})}
        response: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        return response

    def choose_first(self, request: HttpRequest) -> HttpResponse | None:
        """Where a superuser who looks at all organizations goes before adding to one; None when one is known."""
        if not self.needs_owner or access.of(request).organization is not None:
            return None
        messages.info(request, "Choose the organization that you want to work in first.")
        return redirect("admin:organizations_organization_choose")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> type[BaseForm]:
        owner = getattr(obj, "organization", None) or access.of(request).organization
        request._kaanha_owner = owner  # type: ignore[attr-defined]
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.owner = owner
        return form

    def formfield_for_dbfield(self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any) -> FormField | None:
        """Choices of the same organization only, without links that lead away from a half-filled form."""
        related = db_field.related_model if db_field.is_relation else None
        if isinstance(related, type) and any(one.name == "organization" for one in related._meta.get_fields()):
            owner = getattr(request, "_kaanha_owner", None)
            kwargs["queryset"] = self.choices_for(db_field, related._default_manager.filter(organization=owner))
        field: FormField | None = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def choices_for(self, db_field: Field[Any, Any], rows: QuerySet[Any]) -> QuerySet[Any]:
        """What may be chosen, out of the organization's rows."""
        return rows

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        if not change and hasattr(obj, "organization_id") and obj.organization_id is None:
            obj.organization = access.of(request).organization
        if not change:
            super().save_model(request, obj, form, change)
            if self.audited:
                audit.record(self.audited, obj, fields=form.changed_data, added=True)
            return
        # Only what was typed: a worker may have written the other columns since the page was shown.
        if self.audited and form.changed_data:
            audit.record(self.audited, obj, fields=form.changed_data)
        touched = [one.name for one in self.opts.concrete_fields if getattr(one, "auto_now", False)]
        named = {one.name for one in self.opts.concrete_fields}
        obj.save(update_fields=[*(name for name in form.changed_data if name in named), *touched])

    # --- lists ---------------------------------------------------------------------------------------------------

    @display(description=ModelAdmin.action_checkbox.short_description)
    def action_checkbox(self, obj: Model) -> str:
        return list_rows.placed(list_rows.checkbox_cell(), obj)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """What the filters offer, and nothing else of the columns: no patterns, and nothing that isn't shown."""
        column, _, rest = lookup.partition("__")
        if column not in {one.name for one in self.opts.get_fields()} and column != "pk":
            return bool(super().lookup_allowed(lookup, value, request))  # a filter's own name, or nothing at all
        filters = self.get_list_filter(request) if request else self.list_filter
        simple = {one.parameter_name for one in filters if hasattr(one, "parameter_name")}
        offered = {one if isinstance(one, str) else one[0] for one in filters if isinstance(one, str | tuple | list)}
        return lookup in simple or (column in offered and rest in {"exact", "in", "isnull"})

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """404 where what was selected is no row."""
        if not all(key.isdecimal() for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise Http404
        response: HttpResponse | None = super().response_action(request, queryset)
        return response

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        changes.result_list = list(changes.result_list)
        # Nothing is filtered away, or more than were counted: the header names no number then, nor "show all".
        if not request.GET.keys() - {"p", "o"} or changes.paginator.capped:
            changes.full_result_count = changes.result_count
        changes.clear_all_filters_qs = f"?{urlencode(self._whose(request))}"
        changes.emptiness = None if changes.result_list else self.emptiness(request)
        self.complete(request, changes.result_list)
        return changes

    def _whose(self, request: HttpRequest) -> dict[str, str]:
        """Whose rows the address asks for: no filter, and kept by whoever takes the filters away."""
        return {name: request.GET[name] for name in self.subjects if name in request.GET}

    def emptiness(self, request: HttpRequest) -> Emptiness | None:
        """What is said where nothing is listed: that filters or a search leave nothing, or the list's lesson."""
        named = self._whose(request)
        if request.GET.keys() - STILL_ALL - named.keys():
            says = f"No {self.several or self.opts.verbose_name_plural} match what you searched for or filtered by."
            return Emptiness("Nothing matches", [says], [("Show all", f"?{urlencode(named)}")])
        if self.empty is None:
            return None
        refused = self.addable and not self.has_add_permission(request)
        return Emptiness(self.empty.title, [self.empty.says, *([MAY_NOT] if refused else [])], self._first(request))

    def _first(self, request: HttpRequest) -> list[tuple[str, str]]:
        """Where the first row comes from; nothing that the role may not do."""
        words, page = self.empty.leads if self.empty and self.empty.leads else ("", "")
        may = bool(page) and (self.has_act_permission(request) or not page.endswith("_add"))
        links = [(words, reverse(page))] if may else []
        if self.has_add_permission(request):
            adds = self.empty.adds if self.empty else ""
            links.append((adds or f"Add {self.one or self.opts.verbose_name}", self.url("add")))
        return links

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        """Add to a page's rows what isn't in their table, in a number of queries that doesn't depend on theirs."""

    # --- pages of our own ----------------------------------------------------------------------------------------

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        """Pages beside Django's own: the name, and the route below this admin with the method behind it."""
        return {}

    def get_urls(self) -> list[URLPattern]:
        named = f"{self.opts.app_label}_{self.opts.model_name}"
        urls: list[URLPattern] = [
            path(route, self.admin_site.admin_view(view), name=f"{named}_{name}")
            for name, (route, view) in self.own_pages().items()
        ]
        urls += super().get_urls()
        for pattern in urls:
            if pattern.callback is not None:
                pattern.callback = in_local_time(pattern.callback)
        return urls

    def url(self, page: str, *args: Any) -> str:
        """The address of a page of this admin: changelist, add, change and our own."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}", args=args)

    def page(self, request: HttpRequest, template: str, *, title: str, **context: Any) -> TemplateResponse:
        """A page with everything around it that the admin's own have."""
        request.current_app = self.admin_site.name
        around = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "model_admin": self}
        return TemplateResponse(request, template, {**around, **context})

    def attempt(self, request: HttpRequest, act: Callable[[], str], *, row: Model | None = None) -> bool:
        """Do it and say what was done, or say why not. What was done to `row` goes into its history."""
        try:
            done = act()
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return False
        messages.success(request, done)
        if row is not None:
            self.log_change(request, row, done)
        return True

    def confirmed(
        self,
        request: HttpRequest,
        row: Model,
        act: Callable[..., str],
        *,
        title: str,
        sentences: Iterable[str],
        button: str,
        danger: bool = False,
        form: Form | None = None,
        back: str = "",
    ) -> HttpResponse:
        """Ask on GET, act on POST: with the cleaned fields of `form`, where there is one."""
        back = back or self.url("change", row.pk)
        if request.method == "POST" and (form is None or form.is_valid()):
            fields = form.cleaned_data if form else {}
            self.attempt(request, lambda: act(**fields), row=row)
            return redirect(back)
        asked = {"sentences": list(sentences), "button": button, "danger": danger, "form": form, "back": back}
        return self.page(request, CONFIRM, title=title, subtitle=str(row), original=row, **asked)


class ReadOnlyAdmin(OwnedAdmin):
    """Rows that nobody writes by hand."""

    addable = False
    changeable = False


class GivenFilter(DropdownFilter):
    """What the address names stays in the filters' form, so that choosing another filter doesn't lose it."""

    all_option: Any = None
    words: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(self.parameter_name, "")
        return [(given, self.words.format(given))] if given else []

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(**{self.parameter_name: int(self.value())}) if self.value() else rows


class SubjectAdmin(ReadOnlyAdmin):
    """Rows that are never listed as a whole: the address says whose are meant, such as `?contact=17`."""

    # Said to whoever comes without one, who is led elsewhere.
    choose_one: ClassVar[str]
    elsewhere: ClassVar[str] = "admin:index"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """404 for a subject of another organization."""
        self.require(request, change=False)
        given = self.given(request)
        if not given:
            messages.info(request, self.choose_one)
            return redirect(self.elsewhere)
        return self.list_of(request, given, extra_context or {})

    def list_of(self, request: HttpRequest, given: dict[str, Any], context: dict[str, Any]) -> HttpResponse:
        """The list of what belongs to the rows that are `given`."""
        response: HttpResponse = super().changelist_view(request, {**context, "given": given})
        return response

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        changes.full_result_count = changes.result_count  # "show all" would be the whole table
        return changes

    def given(self, request: HttpRequest) -> dict[str, Any]:
        """The rows that the address names, each of which must be the organization's. One query each, once."""
        known: dict[str, Any] | None = getattr(request, "_kaanha_given", None)
        if known is None:
            named = {name: request.GET.get(name, "") for name in self.subjects}
            known = {name: self._subject(request, name, key) for name, key in named.items() if key}
            request._kaanha_given = known  # type: ignore[attr-defined]
        return known

    def _subject(self, request: HttpRequest, name: str, key: str) -> Any:
        rows: Any = self.subjects[name]._default_manager.filter(pk=key_of(key))
        current = access.of(request)
        if current.organization is not None or not current.superuser:
            rows = rows.filter(organization=current.organization)
        row = rows.first()
        if row is None:
            raise Http404
        return row


class SuperuserAdmin(PagedAdmin):
    """Rows of the installation: for superusers only. The empty permissions of members keep everybody else out."""


def in_local_time(view: View) -> View:
    """The view, rendered in the timezone of the organization that the request works in."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with timezone.override(access.of(request).zone):
            response = view(request, *args, **kwargs)
            if isinstance(response, SimpleTemplateResponse):
                response.render()
            return response

    return inner  # type: ignore[return-value]
