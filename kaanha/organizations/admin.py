"""The organization and its people in the admin: settings, members, API keys, and which organization one works in."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import (
    UnfoldAdminEmailInputWidget,
    UnfoldAdminSelect2Widget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from kaanha.lib.errors import Refusal
from kaanha.organizations import (
    access,
    audit,
    audit_admin,  # noqa: F401 - registers the audit log: Django looks for `admin` alone
    closing,
    invitations,
    keys,
    members,
)
from kaanha.organizations.access import Area
from kaanha.organizations.fields import LinesField, LocalTimeField, MinutesField
from kaanha.organizations.models import APIKey, Authenticator, Invitation, Membership, Organization, Role, User
from kaanha.organizations.owned_admin import CONFIRM, Lesson, OwnedAdmin, OwnedForm, SuperuserAdmin, chip, moment

ROLE_COLORS = {Role.OWNER: "primary", Role.ADMIN: "info", Role.AGENT: "success", Role.VIEWER: "warning"}

KEY = re.compile("[0-9]{1,18}")
NOT_MAILED = "It was not mailed: no mail server took it. Pass the link on by hand, or set EMAIL_URL and send it again."

admin.site.unregister(Group)  # roles say who may do what


class OrganizationForm(OwnedForm):
    timezone = forms.ChoiceField(
        choices=[(name, name) for name in sorted(zoneinfo.available_timezones())],
        initial="UTC",
        widget=UnfoldAdminSelect2Widget(),
        help_text="Every time is shown and typed in this timezone.",
    )
    late_limit = MinutesField(
        label="Late limit, in minutes",
        initial=timedelta(hours=1),
        min_value=1,
        help_text="A broadcast that falls due while the system is down still goes out when it is less late than this; "
        "otherwise it is paused and asks you.",
    )
    opt_out_words = LinesField(
        required=False, help_text="One a line, besides STOP, STOPALL, UNSUBSCRIBE, CANCEL, QUIT and END."
    )
    opt_in_words = LinesField(required=False, help_text="One a line, besides START, SUBSCRIBE and UNSTOP.")

    class Meta:
        model = Organization
        fields = (
            "name",
            "slug",
            "timezone",
            "late_limit",
            "opt_out_words",
            "opt_in_words",
            "second_factor_required",
        )


class OrganizationAdmin(OwnedAdmin):
    """A member sees and edits the organization that they work in; superusers add and reopen organizations.

    The shell registers it, with the page that closes one.
    """

    area = Area.SETTINGS
    audited = "organization.settings_changed"
    owner_path = "pk"
    needs_owner = False
    form = OrganizationForm
    exclude = None
    list_display = ("name", "slug", "timezone", "state", "created")
    search_fields = ("name", "slug")
    actions_detail: Any = ("reopen_button",)
    prepopulated_fields = {"slug": ("name",)}

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "choose": ("choose/", self.choose_view),
            "reopen": ("<path:object_id>/reopen/", self.reopen_view),
        }

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if request.user.is_superuser else ("slug",)

    def get_prepopulated_fields(self, request: HttpRequest, obj: Any = None) -> dict[str, Any]:
        return {} if obj else self.prepopulated_fields

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Members go straight to their own; superusers see the list."""
        current = access.of(request)
        if current.organization and not current.superuser and current.may_view(self.area):
            return redirect(self.url("change", current.organization.pk))
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def choose_view(self, request: HttpRequest) -> HttpResponse:
        """Choose the organization to work in. 404 for one that the user doesn't belong to."""
        known = access.choices(request)
        if request.method == "POST":
            self._choose(request, request.POST.get("organization", ""), known)
            return redirect("admin:index")
        choices = {"organizations": known, "current": access.of(request).organization}
        return self.page(request, "kaanha/choose_organization.html", title="Choose the organization", **choices)

    def _choose(self, request: HttpRequest, chosen: str, known: list[Organization]) -> None:
        if chosen == "all" and request.user.is_superuser:
            access.choose(request, None)
            messages.success(request, "You look at all organizations.")
            return
        organization = next((one for one in known if str(one.pk) == chosen), None)
        if organization is None:
            raise Http404
        access.choose(request, organization.pk)
        messages.success(request, f"You work in {organization} now.")

    @action(description="Reopen …", url_path="reopen-button", permissions=["reopen"])
    def reopen_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("reopen", object_id))

    def has_reopen_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        """Platform staff, where it is closed; what isn't found is said by the page behind the button."""
        row = self.get_object(request, str(object_id)) if object_id else None
        if row is None:
            return bool(object_id) or bool(request.user.is_superuser)
        return bool(request.user.is_superuser) and row.closed_at is not None

    def reopen_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        organization = self.found(request, object_id)
        if not request.user.is_superuser:
            raise PermissionDenied

        def reopen() -> str:
            closing.reopen(organization)
            return f"{organization} is open again."

        sentences = [
            "Its members can work in it again, and answers of Meta are acted upon.",
            "Nothing goes on by itself: broadcasts and sequences wait to be resumed, webhooks to be turned on, and "
            "new API keys to be issued.",
        ]
        return self.confirmed(
            request, organization, reopen, title="Reopen the organization", sentences=sentences, button="Reopen"
        )

    @display(description="State", ordering="closed_at")
    def state(self, organization: Organization) -> SafeString:
        return chip("closed", "danger") if organization.closed_at else chip("open", "success")

    @display(description="Created", ordering="created_at")
    def created(self, organization: Organization) -> str:
        return moment(organization.created_at)


class RoleForm(forms.Form):
    """A role; only owners are offered OWNER."""

    role = forms.ChoiceField(choices=Role.choices, widget=UnfoldAdminSelectWidget(), initial=Role.AGENT)

    def __init__(self, *args: Any, by_role: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if by_role != Role.OWNER:
            self.fields["role"].choices = [one for one in Role.choices if one[0] != Role.OWNER]  # type: ignore[attr-defined]


class InvitationForm(RoleForm):
    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=UnfoldAdminEmailInputWidget(),
        help_text="They get a link that is good once, for seven days. Another invitation ends the one before.",
    )
    field_order = ("email", "role")


@admin.register(Membership)
class MembershipAdmin(OwnedAdmin):
    """Members, who come by invitation. The rules about owners stand in members.py."""

    area = Area.SETTINGS
    empty = Lesson(
        "No members yet",
        "Members sign in and work here, each with a role. Invite them by their e-mail address.",
        adds="Invite a member",
    )
    list_display = ("user", "role_chip", "second_factor", "since")
    list_filter = ("role",)
    search_fields = ("user__email",)
    list_select_related = ("user",)
    list_after_template = "kaanha/invitations.html"
    actions_row = ("remove_row",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {
            "remove": ("<path:object_id>/remove/", self.remove_view),
            "invite_again": ("invitations/<path:object_id>/send-again/", self.invite_again_view),
            "revoke_invitation": ("invitations/<path:object_id>/revoke/", self.revoke_invitation_view),
        }

    # --- invitations ---------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The members, and below them the invitations that wait."""
        waiting = {"invitations": self._waiting(request)} if self.has_view_permission(request) else {}
        response: HttpResponse = super().changelist_view(request, {**(extra_context or {}), **waiting})
        return response

    def _waiting(self, request: HttpRequest) -> list[dict[str, Any]]:
        """The open invitations, the latest first. One query."""
        current, now = access.of(request), timezone.now()
        rows = Invitation.objects.open().select_related("invited_by").order_by("-created_at", "-pk")
        if current.organization is not None:
            rows = rows.of(current.organization)
        return [
            {
                "email": one.email,
                "role": chip(one.get_role_display(), ROLE_COLORS[Role(one.role)]),
                "invited": f"{moment(one.created_at)}{f' by {one.invited_by}' if one.invited_by else ''}",
                "until": moment(one.expires_at) if one.expires_at > now else chip("expired", "warning"),
                "may": current.may_change(self.area) and (one.role != Role.OWNER or rank(request) == Role.OWNER),
                "again": self.url("invite_again", one.pk),
                "revoke": self.url("revoke_invitation", one.pk),
            }
            for one in rows[: invitations.MOST_OPEN]
        ]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form = InvitationForm(request.POST or None, by_role=rank(request))
        if request.method == "POST" and form.is_valid():
            return self._invite(request, current.organization, **form.cleaned_data)  # type: ignore[arg-type]
        asked = {"form": form, "button": "Invite", "back": self.url("changelist")}
        return self.page(request, "kaanha/form.html", title="Invite a member", **asked)

    def invite_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        invitation = self._invitation(request, object_id)
        if request.method == "POST":
            return self._invite(request, invitation.organization, email=invitation.email, role=invitation.role)
        sentence = f"{invitation.email} gets a new link, good for seven days. The old one ends."
        return self._ask(request, invitation, sentence, title="Send the invitation again", button="Send it")

    def revoke_invitation_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        invitation = self._invitation(request, object_id)

        def revoke() -> str:
            invitations.revoke(invitation, by_role=rank(request), now=timezone.now())
            return f"The invitation of {invitation.email} is revoked."

        if request.method == "POST":
            self.attempt(request, revoke)
            return redirect(self.url("changelist"))
        sentence = f"The link that {invitation.email} got opens nothing any more."
        return self._ask(request, invitation, sentence, title="Revoke the invitation", button="Revoke", danger=True)

    def _ask(self, request: HttpRequest, invitation: Invitation, sentence: str, **shown: Any) -> HttpResponse:
        asked = {"sentences": [sentence], "back": self.url("changelist"), "subtitle": str(invitation), **shown}
        return self.page(request, CONFIRM, **asked)

    def _invite(self, request: HttpRequest, organization: Organization, *, email: str, role: str) -> HttpResponse:
        """Invite, then mail the link; where that fails, show it this once, to be passed on by hand."""
        made: list[tuple[Invitation, str]] = []

        def invite() -> str:
            by: dict[str, Any] = {"by_role": rank(request), "by": request.user}
            made.append(invitations.invite(organization, email, role, now=timezone.now(), **by))
            return f"{made[0][0].email} is invited."

        if not self.attempt(request, invite):
            return redirect(self.url("changelist"))
        invitation, token = made[0]
        if invitations.send(invitation, token):
            return redirect(self.url("changelist"))
        messages.warning(request, NOT_MAILED)
        label = f"Invitation of {invitation.email}"
        shown = {"label": label, "secret": invitations.link_of(token), "back": self.url("changelist")}
        return self.page(request, "kaanha/shown_once.html", title="The link", **shown)

    def _invitation(self, request: HttpRequest, object_id: str) -> Invitation:
        """The open invitation of that id. 404 for any other, and for another organization's."""
        current = access.of(request)
        rows = Invitation.objects.open().select_related("organization")
        if current.organization is not None:
            rows = rows.of(current.organization)
        found: Invitation | None = rows.filter(pk=int(object_id)).first() if KEY.fullmatch(object_id) else None
        if found is None:
            raise Http404
        return found

    # --- members -------------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(request)
        membership = self.found(request, object_id)
        form = RoleForm(request.POST or None, by_role=rank(request), initial={"role": membership.role})

        def change(role: str) -> str:
            members.change_role(membership, role, by_role=rank(request))
            return f"{membership.user} is {membership.get_role_display()} now."

        return self.confirmed(
            request,
            membership,
            change,
            title="Change the role",
            sentences=[f"{membership.user} is {membership.get_role_display()}."],
            button="Save",
            form=form,
            back=self.url("changelist"),
        )

    def remove_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        membership = self.found(request, object_id)

        def remove() -> str:
            members.remove(membership, by_role=rank(request))
            return f"{membership.user} is no member any more."

        return self.confirmed(
            request,
            membership,
            remove,
            title="Remove the member",
            sentences=[f"{membership.user} loses all access to {membership.organization}. The account itself stays."],
            button="Remove",
            danger=True,
            back=self.url("changelist"),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        on = Authenticator.objects.filter(user=OuterRef("user"), confirmed=True)
        return super().get_queryset(request).annotate(has_second_factor=Exists(on))

    @display(description="Second factor", ordering="has_second_factor")
    def second_factor(self, membership: Any) -> SafeString:
        return chip("on", "success") if membership.has_second_factor else chip("off", "warning")

    @action(description="Remove", url_path="remove-from-list", permissions=["act"])
    def remove_row(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("remove", object_id))

    @display(description="Role", ordering="role")
    def role_chip(self, membership: Membership) -> SafeString:
        return chip(membership.get_role_display(), ROLE_COLORS[Role(membership.role)])

    @display(description="Since", ordering="created_at")
    def since(self, membership: Membership) -> str:
        return moment(membership.created_at)


class NewKeyForm(RoleForm):
    name = forms.CharField(
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="What uses it, so that you know which one to revoke.",
    )
    expires_at = LocalTimeField(required=False, label="Expires", help_text="Leave it empty for a key without an end.")
    field_order = ("name", "role", "expires_at")


@admin.register(APIKey)
class APIKeyAdmin(OwnedAdmin):
    """API keys: issued, shown once, revoked."""

    area = Area.SETTINGS
    empty = Lesson(
        "No API keys yet",
        "With a key your own programs use the API, as far as its role reaches. It is shown once, when you add it.",
        adds="Issue an API key",
    )
    changeable = False
    list_display = ("name", "hint_shown", "role", "state", "expires", "last_used", "created")
    list_select_related = ("created_by",)
    search_fields = ("name", "hint")
    fields = ("name", "hint_shown", "role", "state", "expires", "last_used", "created")
    actions_row = ("revoke_row",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"revoke": ("<path:object_id>/revoke/", self.revoke_view)}

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.fields

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form = NewKeyForm(request.POST or None, by_role=rank(request), initial={"role": Role.ADMIN})
        if request.method == "POST" and form.is_valid():
            wanted: dict[str, Any] = {**form.cleaned_data, "by_role": rank(request), "by": request.user}
            key, text = keys.issue(current.organization, **wanted)  # type: ignore[arg-type]
            self.log_addition(request, key, "Issued.")
            shown = {"label": f"API key {key.name}", "secret": text, "back": self.url("changelist")}
            return self.page(request, "kaanha/shown_once.html", title="The new API key", **shown)
        asked = {"form": form, "button": "Issue the key", "back": self.url("changelist")}
        return self.page(request, "kaanha/form.html", title="Issue an API key", **asked)

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        self.require(request)
        key = self.found(request, object_id)

        def revoke() -> str:
            keys.revoke(key, now=timezone.now())
            return f"The key {key.name} is revoked."

        return self.confirmed(
            request,
            key,
            revoke,
            title="Revoke the key",
            sentences=["Whatever uses it is refused from now on. A revoked key can't be brought back."],
            button="Revoke",
            danger=True,
            back=self.url("changelist"),
        )

    @action(description="Revoke", url_path="revoke-from-list", permissions=["act"])
    def revoke_row(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("revoke", object_id))

    @display(description="Begins with")
    def hint_shown(self, key: APIKey) -> str:
        return f"{key.hint}…"

    @display(description="State")
    def state(self, key: APIKey) -> SafeString:
        if key.revoked_at:
            return chip("revoked", "danger")
        expired = key.expires_at and key.expires_at <= timezone.now()
        return chip("expired", "warning") if expired else chip("usable", "success")

    @display(description="Expires", ordering="expires_at")
    def expires(self, key: APIKey) -> str:
        return moment(key.expires_at, "never")

    @display(description="Last used", ordering="last_used_at")
    def last_used(self, key: APIKey) -> str:
        return moment(key.last_used_at, "never")

    @display(description="Created", ordering="created_at")
    def created(self, key: APIKey) -> SafeString:
        """When, and by whom."""
        who = f"by {key.created_by}" if key.created_by else "by command"
        return format_html('{}<div class="k-help">{}</div>', moment(key.created_at), who)


class NewUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email",)

    def save(self, commit: bool = True) -> User:
        self.instance.is_staff = True  # an account is there to sign in with
        user: User = super().save(commit=commit)
        return user


class AccountForm(UserChangeForm):
    """An account, which isn't turned off while an organization has no other owner."""

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if not all(given.get(name, True) for name in ("is_active", "is_staff")):
            try:
                members.require_owners_without(self.instance)
            except Refusal as refusal:
                raise forms.ValidationError(str(refusal), code=refusal.code) from refusal
        return given


class GivenPasswordForm(AdminPasswordChangeForm):
    """A password that platform staff give somebody: noted in the log."""

    def save(self, commit: bool = True) -> User:
        with transaction.atomic():
            user: User = super().save(commit=commit)
            audit.record("user.password_changed", user)
        return user


@admin.register(User)
class UserAdmin(DjangoUserAdmin, SuperuserAdmin):  # type: ignore[misc]
    """Accounts, for superusers. What they may do in an organization is a membership."""

    form = AccountForm
    add_form = NewUserForm
    change_password_form = GivenPasswordForm
    ordering = ("email",)
    list_display = ("email", "is_active", "is_superuser", "has_second_factor", "last_login")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("email", "first_name", "last_name")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("email", "password", "first_name", "last_name")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "password1", "password2")}),)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        audit.record("user.changed" if change else "user.added", obj, fields=form.changed_data)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        on = Authenticator.objects.filter(user=OuterRef("pk"), confirmed=True)
        return super().get_queryset(request).annotate(second_factor=Exists(on))

    @display(description="Second factor", ordering="second_factor", boolean=True)
    def has_second_factor(self, user: Any) -> bool:
        return bool(user.second_factor)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what somebody did stays theirs: make the account inactive instead


def rank(request: HttpRequest) -> str:
    """The role in which somebody changes members and keys; a superuser does it like an owner."""
    current = access.of(request)
    return str(Role.OWNER) if current.superuser else current.role
