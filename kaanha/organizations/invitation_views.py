"""The page behind an invitation's link: outside of the admin, which its reader can't enter yet, but looking like it.

The link itself only puts the token into the session and leads on, so that the page's address, the log lines and the
Referer of what it loads don't hold it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.forms import SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from kaanha.lib import doors
from kaanha.lib.errors import Refusal
from kaanha.organizations import access, invitations, signing_in
from kaanha.organizations.models import Invitation, User
from kaanha.organizations.views import asks_and_takes

SESSION_KEY = "invitation"


class NewAccountForm(SetPasswordForm):
    """A name and a password, for the address that the link went to."""

    first_name = forms.CharField(max_length=150, widget=UnfoldAdminTextInputWidget())
    last_name = forms.CharField(max_length=150, required=False, widget=UnfoldAdminTextInputWidget())
    field_order = ("first_name", "last_name", "new_password1", "new_password2")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_password1", "new_password2"):
            self.fields[name].widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
        self.fields["new_password1"].label = "Password"
        self.fields["new_password2"].label = "The same password again"


@never_cache
@asks_and_takes
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The link: remember the token, and lead on to a page that doesn't name it."""
    if invitations.opened(token, now=timezone.now()) is not None:
        request.session[SESSION_KEY] = token
    else:
        request.session.pop(SESSION_KEY, None)
    response = redirect("invitation_page")
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@never_cache
@sensitive_post_parameters("new_password1", "new_password2")
@sensitive_variables()
@asks_and_takes
def invitation_page(request: HttpRequest) -> HttpResponse:
    """Accept the invitation that the session remembers: signed in, by signing in, or with a new account."""
    token = str(request.session.get(SESSION_KEY, ""))
    found = invitations.opened(token, now=timezone.now())
    if found is None:
        return _page(request, status=404)
    if request.method == "POST" and "_sign_out" in request.POST:
        return _sign_in_anew(request, token)
    try:
        return _answer(request, found, token)
    except Refusal as refusal:
        messages.error(request, str(refusal))
        return redirect("invitation_page")


def _answer(request: HttpRequest, found: Invitation, token: str) -> HttpResponse:
    """The page for whoever has come with the link."""
    if isinstance(request.user, User):
        return _answer_member(request, request.user, found, token)
    if invitations.has_account(found):
        query = urlencode({"next": reverse("invitation_page")})
        return _page(request, invitation=found, sign_in=f"{reverse('sign_in')}?{query}")
    form = NewAccountForm(User(email=found.email), request.POST or None)
    if request.method == "POST" and form.is_valid():
        return _join_as_new(request, found, token, form.cleaned_data)
    return _page(request, invitation=found, form=form)


@sensitive_variables()
def _join_as_new(request: HttpRequest, found: Invitation, token: str, given: dict[str, Any]) -> HttpResponse:
    now = timezone.now()
    named = {"first_name": given["first_name"], "last_name": given["last_name"]}
    password, ip = given["new_password1"], doors.address_of(request)
    user = invitations.accept_as_new(token, password=password, ip=ip, now=now, **named)
    signing_in.begin(request, user, then=reverse("admin:index"), now=now)  # who is new has no second factor yet
    return _welcome(request, found)


def _answer_member(request: HttpRequest, user: User, found: Invitation, token: str) -> HttpResponse:
    if user.email != found.email:
        return _page(request, invitation=found, somebody_else=user)
    if request.method == "POST":
        invitations.accept(token, user, now=timezone.now())
        return _welcome(request, found)
    return _page(request, invitation=found, mine=True)


def _welcome(request: HttpRequest, found: Invitation) -> HttpResponse:
    """Into the organization; where it wants a second factor, that is asked for next."""
    request.session.pop(SESSION_KEY, None)
    access.choose(request, found.organization_id)
    messages.success(request, f"Welcome to {found.organization}.")
    return redirect("admin:index")


def _sign_in_anew(request: HttpRequest, token: str) -> HttpResponse:
    """Sign the present user out, and keep the invitation."""
    logout(request)
    request.session[SESSION_KEY] = token
    return redirect("invitation_page")


def _page(request: HttpRequest, *, status: int = 200, **context: Any) -> HttpResponse:
    around = {**admin.site.each_context(request), "title": "Invitation", **context}
    return TemplateResponse(request, "kaanha/invitation.html", around, status=status)
