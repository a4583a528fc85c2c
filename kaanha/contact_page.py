"""The page of a contact, with what was sent to it and what it wrote."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from contacts.admin import SHOWN, ContactAdmin, Section
from contacts.models import Contact
from kaanha.messaging.models import InboundMessage, Message, Status
from kaanha.organizations import access
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import moment


@admin.register(Contact)
class ContactPage(ContactAdmin):
    def history(self, request: HttpRequest, contact: Contact) -> list[Section]:
        return [_messages(request, contact), _inbound(contact), *super().history(request, contact)]


def _messages(request: HttpRequest, contact: Contact) -> Section:
    """The latest messages; who may see campaigns also gets a link to all of them."""
    latest = Message.objects.filter(contact=contact.pk).select_related("template").order_by("-id")[:SHOWN]
    rows: list[Sequence[object]] = [
        (moment(message.accepted_at or message.created_at), str(message.template), _fate(message)) for message in latest
    ]
    link = f"{reverse('admin:messaging_message_changelist')}?contact={contact.pk}"
    return Section(
        "Messages",
        ("When", "Template", "What became of it"),
        rows,
        "Nothing has been sent to this contact.",
        link=link if rows and access.of(request).may_view(Area.CAMPAIGNS) else "",
        link_text="All messages",
    )


def _fate(message: Message) -> str:
    status = str(message.get_status_display())
    if message.status == Status.SKIPPED:
        return f"{status}: {message.get_skip_reason_display()}"
    return f"{status}: {message.error_text}" if message.error_text else status


def _inbound(contact: Contact) -> Section:
    latest = InboundMessage.objects.filter(contact=contact.pk).order_by("-written_at", "-pk")[:SHOWN]
    rows: list[Sequence[object]] = [(moment(one.written_at), one.text or f"[{one.kind}]") for one in latest]
    return Section("What the contact wrote", ("When", "Text"), rows, "Nothing yet.")
