"""The command palette: contacts, broadcasts, sequences, templates and pages by the beginning of what they are called.

Not the theme's own search: it keeps its answers for five minutes by user and term, so that who switches to another
organization would go on seeing the rows of the one before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_safe
from unfold.dataclasses import SearchResult

from broadcasts.models import Broadcast
from contacts.models import Contact
from kaanha.organizations import access
from kaanha.organizations.access import Access, Area
from kaanha.organizations.models import Organization
from sequences.models import Sequence
from templates_app.models import MessageTemplate

EACH = 5  # of a kind
SHORTEST, LONGEST = 2, 100  # letters: with one, everybody is found
MAKE = (
    ("New broadcast", "broadcasts_broadcast_add", Area.CAMPAIGNS),
    ("New sequence", "sequences_sequence_add", Area.CAMPAIGNS),
    ("New contact", "contacts_contact_add", Area.CONTACTS),
    ("Import contacts", "contacts_import_add", Area.CONTACTS),
    ("Sync templates", "templates_app_messagetemplate_sync_confirm", Area.CAMPAIGNS),
    ("Connect WhatsApp", "whatsapp_businessaccount_add", Area.SETTINGS),
)


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """What is found for `s`, as the theme's list; nothing for nothing. Four queries for the rows."""
    began = time.monotonic()
    term = " ".join(request.GET.get("s", "").split())[:LONGEST]
    if not term:
        return HttpResponse()
    current = access.of(request)
    found = [*pages(request, current, term), *rows(current, term)]
    pager = Paginator(found, max(len(found), 1))
    shown = {"page_obj": pager, "results": pager.page(1), "page_counter": 0}
    shown["execution_time"] = time.monotonic() - began
    template = "unfold/helpers/command_results.html" if found else "kaanha/palette_nothing.html"
    return TemplateResponse(request, template, shown, headers={"HX-Trigger": "search"})


def pages(request: HttpRequest, current: Access, term: str) -> Iterator[SearchResult]:
    """Pages that the member may open: those of the sidebar, and those that make something."""
    words = term.casefold()
    for group in admin.site.get_sidebar_list(request):  # type: ignore[attr-defined]
        for item in group["items"]:
            if item["has_permission"] and words in str(item["title"]).casefold():
                yield SearchResult(str(item["title"]), "Page", str(item["link"]), item.get("icon"))
    for title, page, area in MAKE:
        if current.may_change(area) and words in title.casefold():
            yield SearchResult(title, "Page", reverse(f"admin:{page}"), "add")


def rows(current: Access, term: str) -> Iterator[SearchResult]:
    """Rows of the organization worked in, a few of each kind that the member may view."""
    organization = current.organization
    if organization is None or len(term) < SHORTEST:
        return
    if current.may_view(Area.CONTACTS):
        yield from contacts(organization, term)
    if current.may_view(Area.CAMPAIGNS):
        yield from campaigns(organization, term)


def contacts(organization: Organization, term: str) -> Iterator[SearchResult]:
    for contact in Contact.objects.of(organization).active().beginning(term)[:EACH]:
        words = f"Contact · {contact.phone}" if contact.phone and contact.name else "Contact"
        yield _result(contact, words, "contacts_contact", "person")


def campaigns(organization: Organization, term: str) -> Iterator[SearchResult]:
    broadcasts = Broadcast.objects.of(organization).filter(name__icontains=term)
    for broadcast in broadcasts.order_by("-created_at")[:EACH]:
        yield _result(broadcast, f"Broadcast · {broadcast.get_status_display()}", "broadcasts_broadcast", "campaign")
    for sequence in Sequence.objects.of(organization).filter(name__icontains=term).order_by("-pk")[:EACH]:
        yield _result(sequence, f"Sequence · {sequence.get_status_display()}", "sequences_sequence", "account_tree")
    for template in MessageTemplate.objects.of(organization).filter(name__icontains=term).order_by("name", "pk")[:EACH]:
        words = f"Template · {template.get_status_display()}"
        yield _result(template, words, "templates_app_messagetemplate", "description")


def _result(row: Contact | Broadcast | Sequence | MessageTemplate, words: str, page: str, icon: str) -> SearchResult:
    return SearchResult(str(row), words, reverse(f"admin:{page}_change", args=[row.pk]), icon)
