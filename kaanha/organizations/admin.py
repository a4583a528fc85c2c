"""The organization and its people in the admin: settings, members, API keys, and which organization one works in."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
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

from kaanha.organizations import (
    access,
    audit,
    audit_admin,  # noqa: F401 - registers the audit log: Django looks for `admin` alone
    keys,
    members,
)
from kaanha.organizations.access import Area
from kaanha.organizations.fields import LinesField, LocalTimeField, MinutesField
from kaanha.organizations.models import APIKey, Authenticator, Membership, Organization, Role, User
from kaanha.organizations.owned_admin import OwnedAdmin, OwnedForm, SuperuserAdmin, chip, moment

ROLE_COLORS = {Role.OWNER: "primary", Role.ADMIN: "info", Role.AGENT: "success", Role.VIEWER: "warning"}

admin.site.unregister(Group)  # roles say who may do what


class OrganizationForm(OwnedForm):
    timezone = forms.ChoiceField(
        choices=[(name, name) for name in sorted(zoneinfo.available_timezones())],
        widget=UnfoldAdminSelect2Widget(),
        help_text="Every time is shown and typed in this timezone.",
    )
    late_limit = MinutesField(
        label="Late limit, in minutes",
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


@admin.register(Organization)
class OrganizationAdmin(OwnedAdmin):
    """A member sees and edits the organization that they work in; superusers add organizations."""

    area = Area.SETTINGS
    audited = "organization.settings_changed"
    owner_path = "pk"
    needs_owner = False
    form = OrganizationForm
    exclude = None
    list_display = ("name", "slug", "timezone", "created")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"choose": ("choose/", self.choose_view)}

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


class NewMemberForm(RoleForm):
    email = forms.EmailField(
        label="E-mail address",
        widget=UnfoldAdminEmailInputWidget(),
        help_text="Who has no account yet gets one, with a password that you are shown once.",
    )
    field_order = ("email", "role")


@admin.register(Membership)
class MembershipAdmin(OwnedAdmin):
    """Members. The rules about owners stand in members.py."""

    area = Area.SETTINGS
    list_display = ("user", "role_chip", "second_factor", "since")
    list_filter = ("role",)
    search_fields = ("user__email",)
    list_select_related = ("user",)
    actions_row = ("remove_row",)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"remove": ("<path:object_id>/remove/", self.remove_view)}

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form = NewMemberForm(request.POST or None, by_role=_rank(request))
        if request.method == "POST" and form.is_valid():
            made: list[tuple[Membership, str]] = []

            def add() -> str:
                made.append(members.add(current.organization, **form.cleaned_data, by_role=_rank(request)))  # type: ignore[arg-type]
                return f"{made[0][0].user} is a member now."

            if self.attempt(request, add):
                membership, password = made[0]
                self.log_addition(request, membership, "Added.")
                return self._welcome(request, membership, password)
        asked = {"form": form, "button": "Add member", "back": self.url("changelist")}
        return self.page(request, "kaanha/form.html", title="Add a member", **asked)

    def _welcome(self, request: HttpRequest, membership: Membership, password: str) -> HttpResponse:
        if not password:
            return redirect(self.url("changelist"))
        shown = {"label": f"Password of {membership.user}", "secret": password, "back": self.url("changelist")}
        return self.page(request, "kaanha/shown_once.html", title="The new member's password", **shown)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(request)
        membership = self.found(request, object_id)
        form = RoleForm(request.POST or None, by_role=_rank(request), initial={"role": membership.role})

        def change(role: str) -> str:
            members.change_role(membership, role, by_role=_rank(request))
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
            members.remove(membership, by_role=_rank(request))
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
        form = NewKeyForm(request.POST or None, by_role=_rank(request), initial={"role": Role.ADMIN})
        if request.method == "POST" and form.is_valid():
            wanted: dict[str, Any] = {**form.cleaned_data, "by_role": _rank(request), "by": request.user}
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

    form = UserChangeForm
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


def _rank(request: HttpRequest) -> str:
    """The role in which somebody changes members and keys; a superuser does it like an owner."""
    current = access.of(request)
    return str(Role.OWNER) if current.superuser else current.role
