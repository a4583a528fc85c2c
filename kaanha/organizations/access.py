"""Who may do what in the admin: the table of roles, and the organization that a request works in.

Members are staff users without Django permissions of their own: everything follows from their membership.
"""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from django.http import HttpRequest

from kaanha.organizations.models import Membership, Organization, Role


class Area(Enum):
    """What belongs together when it comes to permissions."""

    CONTACTS = "contacts"  # contacts, tags, imports
    CAMPAIGNS = "campaigns"  # broadcasts, messages, templates, reports
    SETTINGS = "settings"  # the organization, members, keys, WhatsApp, rules


class Level(IntEnum):
    NONE = 0
    VIEW = 1
    CHANGE = 2


# OWNER and ADMIN differ in what they may do to owners: see members.py.
ROLES: dict[str, dict[Area, Level]] = {
    Role.OWNER: dict.fromkeys(Area, Level.CHANGE),
    Role.ADMIN: dict.fromkeys(Area, Level.CHANGE),
    Role.AGENT: {Area.CONTACTS: Level.CHANGE},
    Role.VIEWER: {Area.CONTACTS: Level.VIEW, Area.CAMPAIGNS: Level.VIEW},
}
SESSION_KEY = "organization"
UTC = zoneinfo.ZoneInfo("UTC")
FEW = 2  # organizations read to learn whether there is only one


@dataclass(frozen=True)
class Access:
    """What a request may see: one organization in a role, or everything for a superuser who has chosen none."""

    organization: Organization | None = None
    role: str = ""
    superuser: bool = False
    memberships: list[Membership] = field(default_factory=list)

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The timezone in which times are shown and typed."""
        return self.organization.zone if self.organization else UTC

    def level(self, area: Area) -> Level:
        if self.superuser:
            return Level.CHANGE
        return ROLES.get(self.role, {}).get(area, Level.NONE)

    def may_view(self, area: Area) -> bool:
        return self.level(area) >= Level.VIEW

    def may_change(self, area: Area) -> bool:
        return self.level(area) >= Level.CHANGE


def of(request: HttpRequest) -> Access:
    """The access of this request's user. One query, once per request."""
    known: Access | None = getattr(request, "_kaanha_access", None)
    if known is None:
        known = _superuser(request) if request.user.is_superuser else _member(request)
        request._kaanha_access = known  # type: ignore[attr-defined]
    return known


def choose(request: HttpRequest, organization_id: int | None) -> None:
    """Work in this organization from now on; None lets a superuser look at all of them."""
    request.session[SESSION_KEY] = organization_id
    if hasattr(request, "_kaanha_access"):
        del request._kaanha_access


def choices(request: HttpRequest) -> list[Organization]:
    """The organizations that this user may work in, by name."""
    if request.user.is_superuser:
        return list(Organization.objects.order_by("name", "pk"))
    return [membership.organization for membership in of(request).memberships]


def _superuser(request: HttpRequest) -> Access:
    """The chosen organization, else the only one there is."""
    chosen = request.session.get(SESSION_KEY)
    if chosen is not None:
        organization = Organization.objects.filter(pk=chosen).first()
    else:
        few = list(Organization.objects.order_by("pk")[:FEW])
        organization = few[0] if len(few) == 1 else None
    return Access(organization, superuser=True)


def _member(request: HttpRequest) -> Access:
    """The chosen organization while the user belongs to it and it is open, else the first such by name."""
    if not request.user.is_authenticated:
        return Access()
    rows = Membership.objects.filter(user=request.user, organization__closed_at=None).select_related("organization")
    memberships = list(rows.order_by("organization__name", "pk"))
    chosen = request.session.get(SESSION_KEY)
    current = next((one for one in memberships if one.organization_id == chosen), None) or next(iter(memberships), None)
    if current is None:
        return Access()
    return Access(current.organization, current.role, memberships=memberships)
