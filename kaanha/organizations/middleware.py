"""What stands before every page of the admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from kaanha.organizations import second_factor, signing_in


class SecondFactorGate:
    """Leads to the second factor whoever lacks one that the organization wants, from every page but a few."""

    # What is needed to get one, to go elsewhere, or to leave; nothing here shows rows of an organization.
    OPEN = frozenset(
        {
            "sign_in",
            "sign_in_code",
            "second_factor",
            "sign_out_everywhere",
            "change_password",
            "admin:login",
            "admin:logout",
            "admin:jsi18n",
            "admin:password_change_done",
            "admin:organizations_organization_choose",
        }
    )

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        found = request.resolver_match
        if found is None or not found.route.startswith("admin/") or found.view_name in self.OPEN:
            return None
        return self._led(request) if signing_in.lacks_second_factor(request) else None

    @staticmethod
    def _led(request: HttpRequest) -> HttpResponse:
        """To the code where there is a second factor, else to setting one up; and back to the page that was wanted."""
        user: Any = request.user
        then = request.get_full_path() if request.method == "GET" else reverse("admin:index")
        if second_factor.is_on(user):
            signing_in.begin(request, user, then=then, now=timezone.now())
            return redirect("sign_in_code")
        return redirect(f"{reverse('second_factor')}?{urlencode({'next': then})}")
