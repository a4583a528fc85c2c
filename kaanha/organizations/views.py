"""Signing in, in two steps, and the pages of one's own account."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

import segno
from axes.helpers import get_client_username
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST
from unfold.forms import AdminOwnPasswordChangeForm, AuthenticationForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from kaanha.lib.errors import Refusal
from kaanha.organizations import access, audit, lockout, second_factor, signing_in
from kaanha.organizations.models import Authenticator, User
from kaanha.organizations.owned_admin import in_local_time

LONGEST_ADDRESS = 254

asks_and_takes = require_http_methods(["GET", "HEAD", "POST"])


# --- signing in --------------------------------------------------------------------------------------------------


class SignInForm(AuthenticationForm):
    def clean_username(self) -> str:
        """The address as it is stored. What is too long to be one is wrong like any other."""
        typed = str(self.cleaned_data["username"]).strip().lower()
        if len(typed) > LONGEST_ADDRESS:
            raise self.get_invalid_login_error()
        return typed


@method_decorator(never_cache, name="dispatch")
class SignIn(LoginView):
    """The first step, and the only one where there is no second factor."""

    template_name = "admin/login.html"
    authentication_form = SignInForm

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if admin.site.has_permission(request):
            return redirect("admin:index")
        return super().get(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        with signing_in.one_at_a_time(request.POST.get("username", "").strip().lower().replace("\0", "")):
            return super().post(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        then = self.get_success_url()
        if signing_in.begin(self.request, form.get_user(), then=then, now=timezone.now()):
            return redirect(then)
        return redirect("sign_in_code")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        around = {
            **admin.site.each_context(self.request),
            "title": "Log in",
            "subtitle": None,
            "app_path": self.request.get_full_path(),
            "username": self.request.user.get_username(),
        }
        return {**super().get_context_data(**kwargs), **around}


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=64,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false", "autofocus": True}
        ),
    )


class AppCodeForm(CodeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "Code from the app"
        self.fields["code"].widget.attrs |= {"inputmode": "numeric", "placeholder": "123 456"}


class BackupCodeForm(CodeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "Backup code"
        self.fields["code"].widget.attrs |= {"autocomplete": "off", "placeholder": "xxxx-xxxx-xxxx-xxxx"}


@never_cache
@sensitive_post_parameters("code")
@asks_and_takes
def code(request: HttpRequest) -> HttpResponse:
    """The second step: a code of the app, or a backup code. Without the first one it leads there."""
    now = timezone.now()
    user, then = signing_in.awaited(request, now=now)
    if user is None:
        if request.method == "POST":
            messages.info(request, "Signing in took too long. Start over.")
        return redirect("sign_in")
    with_backup = "backup" in request.GET
    form = (BackupCodeForm if with_backup else AppCodeForm)(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with signing_in.one_at_a_time(user.email):
            try:
                signing_in.finish(request, user, form.cleaned_data["code"], now=now)
                return redirect(then)
            except Refusal as refusal:
                form.add_error("code", str(refusal))
    return _page(request, "kaanha/sign_in_code.html", "One more step", form=form, who=user, with_backup=with_backup)


def locked(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """The answer to whoever is locked out. Says the same whether there is such an account or not."""
    now = timezone.now()
    until = lockout.locked_until(get_client_username(request, credentials), lockout.address_of(request), now=now)
    wait = max(1, math.ceil(((until or now) - now).total_seconds()))
    context = {"until": until, "minutes": math.ceil(wait / 60), **admin.site.each_context(request)}
    title = {"title": "Too many failed sign-ins"}
    answer = render(request, "kaanha/locked.html", {**context, **title}, status=429)
    answer["Retry-After"] = str(wait)
    return answer


# --- one's account -----------------------------------------------------------------------------------------------


class ProofForm(forms.Form):
    """Who changes a second factor shows that it is theirs: by the password or by a code."""

    password = forms.CharField(
        required=False,
        strip=False,
        label="Your password",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "current-password"}),
    )
    code = forms.CharField(
        required=False,
        max_length=64,
        label="Or a code, of the app or a backup code",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "one-time-code"}),
    )

    def __init__(self, request: HttpRequest, user: User) -> None:
        super().__init__(request.POST or None)
        self.request, self.user = request, user

    @sensitive_variables()
    def clean(self) -> None:
        password, given = self.cleaned_data.get("password"), self.cleaned_data.get("code")
        if not password and not given:
            raise forms.ValidationError("Give your password or a code.")
        try:
            if password:
                signing_in.check_password(self.request, self.user, password)
            else:
                signing_in.check_code(self.request, self.user, str(given), now=timezone.now())
        except Refusal as refusal:
            raise forms.ValidationError(str(refusal), code=refusal.code) from refusal


class OwnPasswordForm(AdminOwnPasswordChangeForm):
    """A new password, for whoever knows the old one. A wrong one counts as a failed sign-in."""

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    @sensitive_variables()
    def clean_old_password(self) -> str:
        old = str(self.cleaned_data["old_password"])
        try:
            signing_in.check_password(self.request, self.user, old)
        except Refusal as refusal:
            raise forms.ValidationError(str(refusal), code=refusal.code) from refusal
        return old


class ChangePassword(PasswordChangeView):
    """The admin's own page, with our form."""

    template_name = "registration/password_change_form.html"
    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user: Any = request.user
        with signing_in.one_at_a_time(user.email):
            return super().post(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        audit.record_of_person("user.password_changed", form.user)
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**admin.site.each_context(self.request), **super().get_context_data(**kwargs)}


@never_cache
@in_local_time
def account(request: HttpRequest) -> HttpResponse:
    """Password, second factor and sessions of whoever asks."""
    user: Any = request.user
    authenticator = Authenticator.objects.filter(user=user, confirmed=True).defer("secret").first()
    left = authenticator.backup_codes.filter(used_at=None).count() if authenticator else 0
    organizations = [membership.organization for membership in access.of(request).memberships]
    names = [organization.name for organization in organizations if organization.second_factor_required]
    facts = {"authenticator": authenticator, "left": left, "few": left <= second_factor.BACKUP_CODES // 3}
    return _page(request, "kaanha/account.html", "Your account", required_by=names, **facts)


@require_POST
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    signing_in.sign_out_everywhere(request, user)
    messages.success(request, "You are signed out everywhere.")
    return redirect("sign_in")


@never_cache
@sensitive_post_parameters("code")
@sensitive_variables()
@asks_and_takes
def set_up(request: HttpRequest) -> HttpResponse:
    """Show what the app needs, take its first code, then show the backup codes this once."""
    user: Any = request.user
    then = _then(request)
    try:
        authenticator = _shown(request, user)
    except Refusal as refusal:
        messages.info(request, str(refusal))
        return redirect("account")
    form = AppCodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            codes = signing_in.turn_on(request, user, form.cleaned_data["code"], now=timezone.now())
            return _codes(request, codes, then=then, title="Your second factor is on")
        except Refusal as refusal:
            form.add_error("code", str(refusal))
    drawn = mark_safe(  # noqa: S308 — drawn by segno
        segno.make(second_factor.app_address(authenticator), error="m").svg_inline(scale=4, light="#fff", border=3)
    )
    secret = [authenticator.secret[at : at + 4] for at in range(0, len(authenticator.secret), 4)]
    asked = {"form": form, "qr": drawn, "secret": " ".join(secret), "then": then}
    required = signing_in.lacks_second_factor(request)
    return _page(request, "kaanha/second_factor.html", "Set up your second factor", required=required, **asked)


@never_cache
@sensitive_post_parameters("password", "code")
@asks_and_takes
def backup_codes(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    form = ProofForm(request, user)
    if request.method == "POST" and _proven(form):
        try:
            return _codes(request, second_factor.renew_codes(user), then=reverse("account"), title="New backup codes")
        except Refusal as refusal:
            messages.error(request, str(refusal))
            return redirect("account")
    sentences = ["You get ten new codes. Those that you have kept are worth nothing from then on."]
    asked = {"form": form, "sentences": sentences, "button": "Make new codes", "back": reverse("account")}
    return _page(request, "kaanha/confirm.html", "New backup codes", **asked)


@never_cache
@sensitive_post_parameters("password", "code")
@asks_and_takes
def turn_off(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    form = ProofForm(request, user)
    if request.method == "POST" and _proven(form):
        signing_in.turn_off(request, user)
        messages.success(request, "Your second factor is off.")
        return redirect("account")
    sentences = [
        "From then on your password alone signs you in, and the backup codes are worth nothing.",
        "To use another phone, turn it off and on again.",
    ]
    asked = {"form": form, "sentences": sentences, "button": "Turn it off", "danger": True, "back": reverse("account")}
    return _page(request, "kaanha/confirm.html", "Turn off the second factor", **asked)


def _proven(form: ProofForm) -> bool:
    with signing_in.one_at_a_time(form.user.email):
        return form.is_valid()


def _shown(request: HttpRequest, user: User) -> Authenticator:
    """The secret that this session was shown before; another one where it was shown to another session."""
    authenticator = second_factor.start(user, afresh=request.session.get("setting_up") != user.pk)
    request.session["setting_up"] = user.pk
    return authenticator


def _codes(request: HttpRequest, codes: list[str], *, then: str, title: str) -> HttpResponse:
    user: Any = request.user
    text = "\n".join([f"Backup codes of {user.email} for {second_factor.ISSUER}, each good once:", "", *codes, ""])
    shown = {"codes": codes, "text": text, "file": f"data:text/plain;charset=utf-8,{quote(text)}", "then": then}
    return _page(request, "kaanha/backup_codes.html", title, **shown)


def _then(request: HttpRequest) -> str:
    """Where it goes on: the page that was wanted, of this site alone."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if safe else reverse("account")


def _page(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), "title": title, **context})
