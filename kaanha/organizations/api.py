"""Whose request it is: keys and roles in the API, and the base of every view of what an organization owns.

    class TagsAPI(OwnedAPI):
        area = Area.CONTACTS

        def get(self, request: Request) -> Response: ...

A view outside of `OwnedAPI` lets nobody in, as the settings have it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, cast

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.utils import timezone
from django.utils.http import parse_etags
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from kaanha.lib import api_json, rate_limits
from kaanha.lib.errors import Refusal
from kaanha.organizations import idempotency
from kaanha.organizations.access import ROLES, Access, Area, Level
from kaanha.organizations.models import APIKey, Organization, OwnedModel

SCHEME = "Bearer"
IF_MATCH = "If-Match"
# How exactly a key's row says when it was last used: a busy key isn't written with every request.
USE_NOTED_EVERY = timedelta(minutes=1)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <key>`, and nothing else: sessions and cookies don't count. One query."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, APIKey]:
        """The key; no person stands behind it. AuthenticationFailed (401) unless it is usable."""
        now = timezone.now()
        key = APIKey.usable(_sent(request), now=now)
        if key is None:
            raise AuthenticationFailed("The API key is unknown, revoked or expired. Issue a new one in the admin.")
        _note_use(key, now=now)
        return AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


class RoleAllows(BasePermission):
    """Reading takes a role that may view the view's area, everything else one that may change it."""

    def has_permission(self, request: Request, view: Any) -> bool:
        key = request.auth
        if not isinstance(key, APIKey):
            return False
        needed = Level.VIEW if request.method in SAFE_METHODS else Level.CHANGE
        self.message = _not_allowed(key.role, view.area, needed)
        return Access(key.organization, key.role).level(view.area) >= needed


class KeyThrottle(BaseThrottle):
    """So many requests with one key; the view tells in headers where it stands."""

    def allow_request(self, request: Request, view: Any) -> bool:
        key = cast("APIKey", request.auth)
        view.standing = rate_limits.hit(settings.API_RATE_LIMIT, key.digest)
        self.seconds = view.standing.reset
        return bool(view.standing.allowed)

    def wait(self) -> float:
        return self.seconds


class OwnedAPI(APIView):
    """A view of what belongs to the organization of the key.

    A POST that names an Idempotency-Key runs in one transaction with its kept answer: a handler that uses the network
    says `idempotent = False`, and is to be repeatable by nature.
    """

    area: ClassVar[Area]
    idempotent: ClassVar[bool] = True

    authentication_classes = [KeyAuthentication]
    permission_classes = [RoleAllows]
    throttle_classes = [KeyThrottle]
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]

    now: datetime  # when the request came
    standing: rate_limits.Standing | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.now = timezone.now()
        super().initial(request, *args, **kwargs)
        api_json.refuse_chunked(request)
        handler = getattr(self, "post", None)
        if request.method == "POST" and self.idempotent and handler is not None:
            vars(self)["post"] = idempotency.once(request, self.organization, handler, self.handle_exception)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        if self.standing is not None:
            for name, value in self.standing.headers().items():
                response.headers[name] = value
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def organization(self) -> Organization:
        """The organization of the key that the request came with."""
        return cast("APIKey", self.request.auth).organization

    def asked(self, body: type[api_json.Body]) -> dict[str, Any]:
        """The request's body, understood. ValidationError (422) with every fault in it."""
        sent = self.request.data
        serializer = body(data=[] if sent is None else sent)  # null is no object, either
        serializer.is_valid(raise_exception=True)
        understood: dict[str, Any] = serializer.validated_data
        return understood

    def found(self, model: type[OwnedModel], public_id: str) -> Any:
        """The organization's row of that id. Refusal `…_not_found` for any other, whosever it is. One query."""
        row = model.objects.of(self.organization).by_public_id(public_id).first()
        if row is None:
            raise missing(model)
        return row

    def versions(self) -> list[str] | None:
        """The versions of a row that the request is willing to change; None for whichever there is."""
        if self.request.headers.get(IF_MATCH, "*").strip() == "*":
            return None
        return parse_etags(self.request.headers[IF_MATCH])


def missing(model: type[OwnedModel]) -> Refusal:
    """What is said of a row that isn't there, or isn't theirs."""
    noun = str(model._meta.verbose_name)
    code = f"{noun.replace(' ', '_')}_not_found"
    return Refusal(f"There is no {noun} of this id in your organization. Check the id.", code=code)


def _sent(request: Request) -> str:
    """The key that came with the request, as far as it looks like one. AuthenticationFailed otherwise."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    text = text.strip()
    if scheme.lower() != SCHEME.lower() or not text.startswith(APIKey.PREFIX):
        raise AuthenticationFailed(f"Send an API key in the header Authorization: {SCHEME} {APIKey.PREFIX}…")
    return text


def _note_use(key: APIKey, *, now: datetime) -> None:
    """Write down that the key was used, once in a while. Of many requests at once one writes."""
    stale = now - USE_NOTED_EVERY
    if key.last_used_at is None or key.last_used_at <= stale:
        unnoted = Q(last_used_at=None) | Q(last_used_at__lte=stale)
        APIKey.objects.filter(unnoted, pk=key.pk).update(last_used_at=now)


def _not_allowed(role: str, area: Area, needed: Level) -> str:
    able = " or ".join(name for name, levels in ROLES.items() if levels.get(area, Level.NONE) >= needed)
    return f"A key of role {role} may not {needed.name.lower()} {area.value}. Use one of role {able}."
