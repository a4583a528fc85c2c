"""WhatsApp accounts and numbers in the admin. Tokens and secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from kaanha.lib.errors import Refusal
from kaanha.organizations import audit
from kaanha.organizations.access import Area
from kaanha.organizations.owned_admin import Lesson, OwnedAdmin, OwnedForm, ReadOnlyAdmin, SuperuserAdmin, chip, moment
from kaanha.whatsapp import checking
from kaanha.whatsapp.connecting import Connection, Credentials, connect
from kaanha.whatsapp.models import BusinessAccount, MetaApp, PhoneNumber

KEPT = "Stored encrypted and never shown. Leave it empty to keep the present one."
QUALITY_COLORS = {"GREEN": "success", "YELLOW": "warning", "RED": "danger"}


def secret_field(label: str, help_text: str = KEPT, *, required: bool = False) -> forms.CharField:
    """A field that a secret can be typed into, and that never shows one."""
    widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=label, help_text=help_text, required=required, widget=widget)


class KeepsSecrets(OwnedForm):
    """Leaves a secret as it is where nothing was typed."""

    secrets: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.secrets:
            self.initial[name] = ""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name in self.secrets:
            cleaned[name] = cleaned.get(name) or getattr(self.instance, name)
        return cleaned


class AccountForm(KeepsSecrets):
    secrets = ("access_token",)
    access_token = secret_field("Access token")

    class Meta:
        model = BusinessAccount
        fields = ("name", "access_token")


class ConnectForm(forms.Form):
    waba_id = forms.CharField(label="WABA id", widget=UnfoldAdminTextInputWidget())
    access_token = secret_field("Access token", "Of a system user of your app at Meta.", required=True)
    app_id = forms.CharField(label="App id", widget=UnfoldAdminTextInputWidget())
    app_secret = secret_field("App secret", "It proves that a callback comes from Meta.", required=True)


@admin.register(BusinessAccount)
class BusinessAccountAdmin(OwnedAdmin):
    """WhatsApp accounts: connected after Meta has confirmed the token, the account and its numbers."""

    area = Area.SETTINGS
    empty = Lesson(
        "WhatsApp is not connected yet",
        "Messages are sent from a WhatsApp Business account of yours. Add it with what Meta shows you; the "
        "form says where that is.",
    )
    audited = "credentials.changed"
    actions_detail = ("set_up_button",)
    form = AccountForm
    list_display = ("__str__", "waba_id", "portfolio", "messaging_limit", "connected")
    list_select_related = ("portfolio",)
    search_fields = ("name", "waba_id")
    fields = ("name", "waba_id", "portfolio", "messaging_limit", "callback_url", "connected", "access_token")
    readonly_fields = ("waba_id", "portfolio", "messaging_limit", "callback_url", "connected")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The token can be written by who may change it, and read by nobody."""
        return self.fields if self.has_change_permission(request) else self.fields[:-1]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        current = self.require(request)
        if elsewhere := self.choose_first(request):
            return elsewhere
        form = ConnectForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            made: list[Connection] = []

            def act() -> str:
                if not current.superuser:
                    _refuse_another_secret(form.cleaned_data["app_id"], form.cleaned_data["app_secret"])
                made.append(connect(current.organization, Credentials(**form.cleaned_data)))  # type: ignore[arg-type]
                count = len(made[0].numbers)
                return f"Connected with {count} phone number{'' if count == 1 else 's'}."

            if self.attempt(request, act):
                self.log_addition(request, made[0].account, "Connected.")
                for warning in made[0].warnings:
                    messages.warning(request, warning)
                return redirect(self.url("set_up", made[0].account.pk))
        asked = {
            "form": form,
            "button": "Connect",
            "back": self.url("changelist"),
            "sentences": ["Meta is asked first: nothing is written unless all of this is right."],
        }
        return self.page(request, "kaanha/form.html", title="Connect a WhatsApp account", **asked)

    def own_pages(self) -> dict[str, tuple[str, Callable[..., HttpResponse]]]:
        return {"set_up": ("<path:object_id>/set-up/", self.set_up_view)}

    def set_up_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What to enter at Meta, step by step, and on POST whether it all works."""
        account = self.found(request, object_id)
        if not self.has_change_permission(request):
            raise PermissionDenied
        answers = checking.check(account) if request.method == "POST" else [checking.callbacks(account)]
        shown = {"app": account.app, "answers": answers, "back": self.url("change", account.pk)}
        return self.page(request, "kaanha/whatsapp_set_up.html", title=f"Set up {account}", **shown)

    @action(description="Set-up and test", url_path="set-up-button", permissions=["change"])
    def set_up_button(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect(self.url("set_up", object_id))

    @display(description="Messaging limit")
    def messaging_limit(self, account: BusinessAccount) -> str:
        limit = account.portfolio.messaging_limit
        return "unlimited" if limit is None else f"{limit:,} people in 24 hours"

    @display(description="Callback URL to enter at Meta")
    def callback_url(self, account: BusinessAccount) -> str:
        return account.app.callback_url

    @display(description="Connected", ordering="created_at")
    def connected(self, account: BusinessAccount) -> str:
        return moment(account.created_at)


@admin.register(PhoneNumber)
class PhoneNumberAdmin(ReadOnlyAdmin):
    area = Area.SETTINGS
    empty = Lesson(
        "No phone numbers yet",
        "Numbers come with your WhatsApp account: once it is connected, Meta tells which it has.",
        leads=("Connect WhatsApp", "admin:whatsapp_businessaccount_add"),
    )
    list_display = ("display_number", "verified_name", "account", "state", "quality_chip", "throughput")
    list_select_related = ("account",)
    search_fields = ("display_number", "verified_name", "phone_number_id")
    fields = (*list_display, "phone_number_id")

    @display(description="State")
    def state(self, number: PhoneNumber) -> SafeString:
        return chip("disconnected", "danger") if number.disconnected_at else chip("connected", "success")

    @display(description="Quality", ordering="quality")
    def quality_chip(self, number: PhoneNumber) -> SafeString:
        return chip(number.get_quality_display(), QUALITY_COLORS.get(number.quality, ""))


class MetaAppForm(KeepsSecrets):
    secrets = ("secret", "previous_secret", "verify_token")
    secret = secret_field("App secret")
    previous_secret = secret_field("Previous secret", f"Accepted beside the new one while you rotate it. {KEPT}")
    verify_token = secret_field("Verify token")

    class Meta:
        model = MetaApp
        fields = ("app_id", "secret", "previous_secret", "verify_token")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not cleaned.get("secret"):
            self.add_error("secret", "Without the app secret no callback can be believed.")
        return cleaned


@admin.register(MetaApp)
class MetaAppAdmin(SuperuserAdmin):
    form = MetaAppForm
    list_display = ("app_id", "callback_url", "created")
    fields = ("app_id", "callback_url", "secret", "previous_secret", "verify_token")
    readonly_fields = ("callback_url",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        audit.record("credentials.changed", obj, fields=form.changed_data)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # with it would go the callbacks that came

    @display(description="Callback URL")
    def callback_url(self, app: MetaApp) -> str:
        return app.callback_url if app.pk else "known once it is saved"

    @display(description="Created", ordering="created_at")
    def created(self, app: MetaApp) -> str:
        return moment(app.created_at)


def _refuse_another_secret(app_id: str, secret: str) -> None:
    """An app may serve several organizations: none of them may break it for the others."""
    known = MetaApp.objects.filter(app_id=app_id).first()
    if known is not None and secret not in known.secrets:
        raise Refusal(
            f"App {app_id} is known with another secret. Check it, or ask whoever runs this installation to renew it.",
            code="app_secret_differs",
        )
