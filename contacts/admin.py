"""Contacts, tags and rules in the admin. Consent, tags and deletion go through the acts that keep history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminSelect2MultipleWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from contacts import (
    adding,
    bulk,
    bulk_admin,  # noqa: F401 - registers its pages: Django looks for `admin` alone
    consent,
    customer_news,
    import_admin,  # noqa: F401 - the same
    tagging,
    tasks,
)
from contacts.attributes_field import AttributesField, merged
from contacts.models import AutoTagRule, BulkChange, ConsentSource, Contact, ContactTag, Tag
from kaanha.lib.errors import Refusal
from kaanha.organizations import access, audit
from kaanha.organizations.access import Area
from kaanha.organizations.models import Organization
from kaanha.organizations.owned_admin import CONFIRM, Lesson, OwnedAdmin, OwnedForm, chip, moment
from kaanha.webhooks.models import Kind

SHOWN = 50  # lines of a history
HOLDERS = 10_000  # a tag's holders are counted up to here
CHIPS = 4  # tags in a line of the list


# --- contacts ----------------------------------------------------------------------------------------------------


@dataclass
class Section:
    """A table of the contact's page."""

    title: str
    headers: Sequence[str]
    rows: list[Sequence[object]]
    empty: str
    link: str = ""
    link_text: str = ""


class ContactForm(OwnedForm):
    """A contact's own columns, and the tags that it is to hold."""

    held_tags = forms.ModelMultipleChoiceField(
        queryset=Tag.objects.none(), required=False, label="Tags", widget=UnfoldAdminSelect2MultipleWidget()
    )
    new_tags = forms.CharField(
        required=False, widget=UnfoldAdminTextInputWidget(), help_text="Tags that don't exist yet, separated by commas."
    )

    attributes = AttributesField(
        required=False,
        help_text="What templates can be filled with besides name, phone and e-mail. Empty a row to remove it.",
    )

    class Meta:
        model = Contact
        fields = ("phone", "name", "email", "attributes")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "held_tags" not in self.fields:
            return  # a viewer's page has no fields
        choices: Any = self.fields["held_tags"]
        choices.queryset = Tag.objects.of(self.instance.organization_id).order_by("name")
        if self.instance.pk:
            held = ContactTag.objects.filter(contact=self.instance.pk)
            self.initial["held_tags"] = list(held.values_list("tag_id", flat=True))
        if "phone" in self.fields:
            self.fields["phone"].required = not (self.instance.pk and self.instance.user_id)

    def clean_phone(self) -> str | None:
        """The number in E.164, with its country on the instance."""
        written = self.cleaned_data["phone"]
        if not written:
            return None
        try:
            number = adding.parsed(written)
        except Refusal as refusal:
            raise ValidationError(str(refusal)) from refusal
        self.country = number.country
        same = Contact.objects.of(self.instance.organization_id).filter(phone=number.e164).exclude(pk=self.instance.pk)
        twin = same.first()
        if twin is not None and (self.instance.pk or twin.deleted_at is None):
            state = "a deleted contact" if twin.deleted_at else f"the contact {twin}"
            raise ValidationError(f"{number.e164} belongs to {state} already.")
        return number.e164

    def clean_attributes(self) -> dict[str, Any]:
        return merged(self.instance.attributes or {}, self.cleaned_data["attributes"])

    def _get_validation_exclusions(self) -> set[str]:
        # An added contact may be a deleted one that comes back: contacts.adding decides.
        return super()._get_validation_exclusions() | (set() if self.instance.pk else {"phone", "organization"})


class NewContactForm(ContactForm):
    attributes = None  # type: ignore[assignment]
    opted_in = forms.BooleanField(required=False, label="Opted in", widget=UnfoldBooleanWidget())
    proof = forms.CharField(
        required=False,
        max_length=consent.PROOF,
        label="How they agreed",
        widget=UnfoldAdminTextInputWidget(),
        help_text="When and where: it is kept as the proof of the consent.",
    )

    class Meta:
        model = Contact
        fields = ("phone", "name", "email")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("opted_in") and not cleaned.get("proof"):
            self.add_error("proof", "Say when and where they agreed to be messaged.")
        return cleaned


class OptInForm(forms.Form):
    proof = forms.CharField(
        max_length=consent.PROOF,
        label="How they agreed",
        widget=UnfoldAdminTextInputWidget(),
        help_text="When and where: it is kept as the proof of the consent.",
    )
    against_their_word = forms.BooleanField(
        label="They wrote to us to stop, and have asked since then to be messaged again.", widget=UnfoldBooleanWidget()
    )

    def __init__(self, *args: Any, contact: Contact, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if contact.opt_out_source != ConsentSource.INBOUND:
            del self.fields["against_their_word"]


class OptOutForm(forms.Form):
    proof = forms.CharField(
        required=False,
        max_length=consent.PROOF,
        label="Why",
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as: asked on the phone.",
    )


class ConsentFilter(DropdownFilter):
    title = "consent"
    parameter_name = "consent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("in", "Opted in"), ("out", "Opted out"), ("never", "Never asked")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Contact]) -> QuerySet[Contact]:
        kinds: dict[Any, dict[str, Any]] = {
            "in": {"opted_in": True},
            "out": {"opted_in": False, "opted_out_at__isnull": False},
            "never": {"opted_in": False, "opted_out_at": None},
        }
        return rows.filter(**kinds.get(self.value(), {}))


class TagFilter(DropdownFilter):
    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(tag.pk), tag.name) for tag in _tags_of(request).order_by("name")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Contact]) -> QuerySet[Contact]:
        if not self.value():
            return rows
        known = {key for key, _ in self.lookup_choices}
        return rows.tagged_any([int(self.value())]) if self.value() in known else rows.none()  # type: ignore[attr-defined]


class DeletedFilter(DropdownFilter):
    """The list shows who is there; the deleted are shown on request."""

    title = "deletion"
    parameter_name = "deleted"
    all_option = ["", "Not deleted"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Deleted")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Contact]) -> QuerySet[Contact]:
        return rows.filter(deleted_at__isnull=self.value() != "yes")


class ContactAdmin(OwnedAdmin):
    """Registered by the shell, whose page of a contact also shows what was sent to it and what it wrote."""

    area = Area.CONTACTS
    empty = Lesson(
        "No contacts yet",
        "Contacts are the people whom you write to. Bring a file of them, or add one by hand; only who opted "
        "in is sent anything.",
        leads=("Import a file", "admin:contacts_import_add"),
    )
    form = ContactForm
    list_display = ("name_shown", "phone", "tag_chips", "consent_chip", "country", "created")
    list_filter = (ConsentFilter, TagFilter, DeletedFilter)
    search_fields = ("name", "phone")
    search_help_text = "Search by name, or by the first digits of a number"
    ordering = ("-id",)
    actions: Any = ("add_tag", "remove_tag", "opt_out_selected")
    list_fullwidth = False
    change_form_outer_before_template = "kaanha/contact_head.html"
    change_form_outer_after_template = "kaanha/contact_history.html"

    # --- list ----------------------------------------------------------------------------------------------------

    def get_search_results(
        self, request: HttpRequest, rows: QuerySet[Contact], search_term: str
    ) -> tuple[QuerySet[Contact], bool]:
        everybody: Any = self.get_queryset(request)
        return rows.matching(search_term, common=everybody.is_common(search_term)), False  # type: ignore[attr-defined]

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        held = defaultdict(list)
        pairs = ContactTag.objects.filter(contact__in=[row.pk for row in rows]).order_by("tag__name")
        for contact, name in pairs.values_list("contact_id", "tag__name"):
            held[contact].append(name)
        for row in rows:
            row.tag_names = held[row.pk]

    @display(description="Name", ordering="name")
    def name_shown(self, contact: Contact) -> str:
        return contact.name or "(no name)"

    @display(description="Tags")
    def tag_chips(self, contact: Any) -> str:
        names: list[str] = contact.tag_names
        shown = names if len(names) <= CHIPS else [*names[: CHIPS - 1], f"+{len(names) - CHIPS + 1}"]
        return format_html_join(" ", '<span class="k-tag">{}</span>', ((name,) for name in shown)) or "–"

    @display(description="Consent")
    def consent_chip(self, contact: Contact) -> SafeString:
        if contact.opted_in:
            return chip("Opted in", "success")
        return chip("Opted out", "danger") if contact.opted_out_at else chip("Never asked", "warning")

    @display(description="Created", ordering="id")
    def created(self, contact: Contact) -> str:
        return moment(contact.created_at)

    # --- bulk actions --------------------------------------------------------------------------------------------

    @admin.action(description="Add a tag …", permissions=["change"])
    def add_tag(self, request: HttpRequest, contacts: QuerySet[Contact]) -> HttpResponse | None:
        form = TagChoice(request.POST if "apply" in request.POST else None, tags=_tags_of(request))
        if form.is_valid():
            return self.changed(request, contacts, BulkChange.Act.ADD_TAG, tag=form.cleaned_data["tag"])
        return self.asked(request, contacts, "add_tag", title="Add a tag", button="Add the tag", form=form)

    @admin.action(description="Remove a tag …", permissions=["change"])
    def remove_tag(self, request: HttpRequest, contacts: QuerySet[Contact]) -> HttpResponse | None:
        form = TagChoice(request.POST if "apply" in request.POST else None, tags=_tags_of(request))
        if form.is_valid():
            return self.changed(request, contacts, BulkChange.Act.REMOVE_TAG, tag=form.cleaned_data["tag"])
        sentences = ["Only this tag comes off. What was sent or begun because of it stays."]
        asked: dict[str, Any] = {"title": "Remove a tag", "button": "Remove the tag", "form": form}
        return self.asked(request, contacts, "remove_tag", sentences=sentences, **asked)

    @admin.action(description="Opt out …", permissions=["change"])
    def opt_out_selected(self, request: HttpRequest, contacts: QuerySet[Contact]) -> HttpResponse | None:
        form = OptOutForm(request.POST if "apply" in request.POST else None)
        if form.is_valid():
            return self.changed(request, contacts, BulkChange.Act.OPT_OUT, proof=form.cleaned_data["proof"])
        return self.asked(
            request,
            contacts,
            "opt_out_selected",
            title="Opt contacts out",
            button="Opt them out",
            form=form,
            danger=True,
            sentences=["They get no messages any more, until they opt in again."],
        )

    def changed(
        self, request: HttpRequest, contacts: QuerySet[Contact], act: str, **wished: Any
    ) -> HttpResponse | None:
        """Do it to the selected contacts at once, or have it done and lead to the page that shows how far it is."""
        by: Any = request.user
        wish = bulk.Wish(act, by, **wished)
        if not bulk.is_large(contacts):
            self.attempt(request, lambda: _change_at_once(wish, contacts))
            return None
        if elsewhere := self.choose_first(request):
            return elsewhere
        asked: list[BulkChange] = []

        def ask() -> str:
            organization: Any = access.of(request).organization
            asked.append(bulk.ask(wish, organization, contacts, at=timezone.now()))
            tasks.poke_bulk()
            return f"{asked[0].total:,} contacts are being changed."

        self.attempt(request, ask)
        return redirect("admin:contacts_bulkchange_change", asked[0].pk) if asked else None

    def asked(
        self,
        request: HttpRequest,
        contacts: QuerySet[Contact],
        name: str,
        *,
        sentences: Sequence[str] = (),
        **asked: Any,
    ) -> HttpResponse:
        """Ask about the selected contacts; the answer comes back to the same action."""
        across = request.POST.get("select_across") == "1"
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        count = f"{contacts.count():,}" if across else f"{len(selected):,}"
        hidden = [("action", name), ("select_across", "1" if across else "0"), ("index", "0"), ("apply", "1")]
        hidden += [(helpers.ACTION_CHECKBOX_NAME, key) for key in (selected[:1] if across else selected)]
        context: dict[str, Any] = {"sentences": [f"{count} contacts are selected.", *sentences], "hidden": hidden}
        return self.page(request, CONFIRM, back=request.get_full_path(), **context, **asked)

    # --- a contact -----------------------------------------------------------------------------------------------

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "opt_in": ("<path:object_id>/opt-in/", self.opt_in_view),
            "opt_out": ("<path:object_id>/opt-out/", self.opt_out_view),
            "forget": ("<path:object_id>/delete-contact/", self.delete_contact_view),
            "revive": ("<path:object_id>/bring-back/", self.revive_view),
        }

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewContactForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        own = ["phone", "name", "email"]
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": [*own, "attributes"]})]
        rest = ["held_tags", "new_tags"]
        return [(None, {"fields": [*own, *rest, "attributes"] if obj else [*own, *rest, "opted_in", "proof"]})]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        contact = self.get_object(request, object_id)
        if contact is not None and self.has_view_permission(request):
            context: dict[str, Any] = {
                **self.happened(request, contact),
                "consent_chip": self.consent_chip(contact),
            }
            tags = ContactTag.objects.filter(contact=contact.pk).order_by("tag__name")
            context["tag_names"] = list(tags.values_list("tag__name", flat=True))
            context["may_change"] = self.has_change_permission(request)
            extra_context = {**(extra_context or {}), **context}
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response

    def happened(self, request: HttpRequest, contact: Contact) -> dict[str, Any]:
        """What the page shows of the contact's past and future below its form."""
        return {"history": self.history(request, contact)}

    def history(self, request: HttpRequest, contact: Contact) -> list[Section]:
        """What happened to the contact, the latest first."""
        changes = contact.consent_changes.select_related("by").order_by("-at", "-pk")[:SHOWN]
        rows: list[Sequence[object]] = [
            (
                moment(change.at),
                "opted in" if change.opted_in else "opted out",
                f"{change.get_source_display()}{f' ({change.by})' if change.by else ''}",
                change.proof or "–",
            )
            for change in changes
        ]
        return [Section("Consent", ("When", "What", "By", "Proof"), rows, "Nobody has asked this contact yet.")]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Write the contact, then its tags and its consent through the acts that note them."""
        now = timezone.now()
        if change:
            self._save_changes(request, obj, form)
        else:
            added = {"name": obj.name, "email": obj.email, "at": now}
            saved = adding.add(obj.organization, obj.phone, **added)
            obj.__dict__.update(saved.__dict__)
        tagged = "held_tags" in form.cleaned_data and self._save_tags(obj, form, at=now)
        if change and not tagged and set(form.changed_data) - {"held_tags", "new_tags"}:
            customer_news.tell(Kind.CONTACT_UPDATED, [obj.pk], at=now)
        if form.cleaned_data.get("opted_in"):
            proof: str = form.cleaned_data["proof"]
            told: dict[str, Any] = {"source": ConsentSource.OPERATOR, "proof": proof, "at": now, "by": request.user}
            if not consent.opt_in([obj.pk], **told) and not obj.opted_in:
                messages.warning(request, f"{obj} stays opted out: they wrote to us to stop.")

    def _save_changes(self, request: HttpRequest, contact: Contact, form: Any) -> None:
        if "phone" in form.changed_data:
            # The name that WhatsApp has for the old number doesn't belong to the new one.
            contact.country, contact.wa_id = getattr(form, "country", ""), None
            contact.save(update_fields=["country", "wa_id"])
        super().save_model(request, contact, form, True)

    def _save_tags(self, contact: Contact, form: Any, *, at: Any) -> bool:
        """Put tags on and take them off; whether any was, of which customers are told once."""
        wanted = {tag.pk for tag in form.cleaned_data["held_tags"]}
        names = form.cleaned_data.get("new_tags", "").split(",")
        wanted |= {tag.pk for tag in tagging.named(contact.organization, names).values()}
        held = set(form.initial.get("held_tags") or ())  # what the page showed: nobody else's tag is taken off
        told = not held - wanted
        on = tagging.add(
            contact.organization, [contact.pk], wanted - held, source=ConsentSource.OPERATOR, at=at, told=told
        )
        off = tagging.remove(contact.organization, [contact.pk], held - wanted, at=at)
        return bool(on and told) or bool(off)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Nothing: tags went through contacts.tagging."""

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """A refusal while saving is a message on the form's page."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return redirect(request.path)

    def opt_in_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        contact = self.found(request, object_id)
        form = OptInForm(request.POST or None, contact=contact)

        def opt_in(proof: str, against_their_word: bool = False) -> str:
            told: dict[str, Any] = {
                "source": ConsentSource.OPERATOR,
                "proof": proof,
                "at": timezone.now(),
                "by": request.user,
            }
            if not consent.opt_in([contact.pk], against_their_word=against_their_word, **told):
                raise Refusal(f"Nothing changed: {contact} is opted in already, or opted out since.")
            return f"{contact} is opted in."

        sentence = f"{contact} gets messages from now on. It is noted with your name."
        asked: dict[str, Any] = {"title": "Opt in", "sentences": [sentence], "button": "Opt in", "form": form}
        return self.confirmed(request, contact, opt_in, **asked)

    def opt_out_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        contact = self.found(request, object_id)

        def opt_out(proof: str) -> str:
            told: dict[str, Any] = {
                "source": ConsentSource.OPERATOR,
                "proof": proof,
                "at": timezone.now(),
                "by": request.user,
            }
            if not consent.opt_out([contact.pk], **told):
                raise Refusal(f"Nothing changed: {contact} is opted out already.")
            return f"{contact} is opted out."

        sentence = f"{contact} gets no messages any more, not even from broadcasts that are being sent."
        asked: dict[str, Any] = {"title": "Opt out", "sentences": [sentence], "button": "Opt out", "danger": True}
        return self.confirmed(request, contact, opt_out, form=OptOutForm(request.POST or None), **asked)

    def delete_contact_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        contact = self.found(request, object_id)

        def delete() -> str:
            consent.delete([contact.pk], at=timezone.now())
            return f"{contact} is deleted."

        sentences = [
            f"{contact} gets no messages any more and leaves all lists.",
            "The history stays: if the number is added, imported or writes again, the contact comes back with it.",
        ]
        asked: dict[str, Any] = {
            "title": "Delete the contact",
            "sentences": sentences,
            "button": "Delete",
            "danger": True,
        }
        return self.confirmed(request, contact, delete, **asked)

    def revive_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        contact = self.found(request, object_id)

        def revive() -> str:
            with transaction.atomic():
                if consent.revive([contact.pk], at=timezone.now()):
                    audit.record("contact.revived", contact)
            return f"{contact} is back."

        sentence = f"{contact} is an active contact again, with its history and its consent as they were."
        asked: dict[str, Any] = {"title": "Bring the contact back", "sentences": [sentence], "button": "Bring back"}
        return self.confirmed(request, contact, revive, **asked)


class TagChoice(forms.Form):
    tag = forms.ModelChoiceField(queryset=Tag.objects.none(), widget=UnfoldAdminSelect2Widget())

    def __init__(self, *args: Any, tags: QuerySet[Tag], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices: Any = self.fields["tag"]
        choices.queryset = tags.order_by("name")


def _tags_of(request: HttpRequest) -> QuerySet[Tag]:
    current = access.of(request)
    if current.organization is not None:
        return Tag.objects.of(current.organization)
    return Tag.objects.all() if current.superuser else Tag.objects.none()


def _change_at_once(wish: bulk.Wish, contacts: QuerySet[Contact]) -> str:
    """Do it to contacts that aren't too many, each organization's for itself; what was done, in words."""
    by_owner: dict[Organization, list[int]] = defaultdict(list)
    for contact in contacts.select_related("organization").order_by("pk"):
        by_owner[contact.organization].append(contact.pk)
    now = timezone.now()
    news = sum(bulk.apply(wish, owner, keys, at=now) for owner, keys in by_owner.items())
    if wish.act == BulkChange.Act.OPT_OUT:
        return f"{news:,} contacts are opted out now that weren't before."
    if wish.act == BulkChange.Act.ADD_TAG:
        return f"{news:,} contacts have the tag {wish.tag} now that didn't have it before."
    return f"The tag {wish.tag} is taken off {news:,} contacts that had it."


# --- tags --------------------------------------------------------------------------------------------------------


class TagForm(OwnedForm):
    class Meta:
        model = Tag
        fields = ("name",)

    def clean_name(self) -> str:
        name = tagging.clean(self.cleaned_data["name"])
        if not name:
            raise ValidationError("A tag needs a name.")
        same = Tag.objects.of(self.instance.organization_id).filter(name__iexact=name).exclude(pk=self.instance.pk)
        if (known := same.first()) is not None:
            raise ValidationError(f"There is a tag {known} already: letters' case makes no difference.")
        return name


@admin.register(Tag)
class TagAdmin(OwnedAdmin):
    area = Area.CONTACTS
    empty = Lesson(
        "No tags yet",
        "Tags say who belongs together. Broadcasts choose their people by them, and sequences start when a "
        "contact gets one.",
    )
    form = TagForm
    list_display = ("name", "holders", "created")
    search_fields = ("name",)
    ordering = ("name",)

    def complete(self, request: HttpRequest, rows: list[Any]) -> None:
        counts = tagging.holders([row.pk for row in rows], most=HOLDERS)
        for row in rows:
            row.holder_count = counts[row.pk]

    @display(description="Contacts")
    def holders(self, tag: Any) -> str:
        return f"{tag.holder_count:,}" + ("+" if tag.holder_count >= HOLDERS else "")

    @display(description="Created", ordering="created_at")
    def created(self, tag: Tag) -> str:
        return moment(tag.created_at)


# --- rules and imports -------------------------------------------------------------------------------------------


@admin.register(AutoTagRule)
class AutoTagRuleAdmin(OwnedAdmin):
    """Tags for what contacts write."""

    area = Area.SETTINGS
    empty = Lesson(
        "No rules yet",
        "A rule gives a tag to every contact who writes certain words, such as OFFERS. Choose the words, and the tag.",
    )
    deletable = True
    list_display = ("text", "match", "tag", "active")
    list_select_related = ("tag",)
    fields = ("match", "text", "tag", "active")
    search_fields = ("text",)
