"""Is it well? For load balancers in one word, for superusers in sentences."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from kaanha import diagnosis
from kaanha.operations.models import Heartbeat
from kaanha.organizations.owned_admin import in_local_time


@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """200 when this process can serve, 503 when it can't reach PostgreSQL. Says nothing more: anybody may ask."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return HttpResponse("PostgreSQL can't be reached.", status=503, content_type="text/plain")
    return HttpResponse("ok", content_type="text/plain")


@require_safe
@in_local_time
def system(request: HttpRequest) -> HttpResponse:
    """What `manage.py doctor` says, as a page for superusers, with every process that says it lives."""
    if not request.user.is_superuser:
        raise PermissionDenied
    now = timezone.now()
    context = admin.site.each_context(request) | {
        "title": "System",
        "diagnosis": diagnosis.examine(now=now),
        "processes": Heartbeat.objects.order_by("kind", "name"),
        "alive": set(Heartbeat.objects.alive(now).values_list("pk", flat=True)),
    }
    return TemplateResponse(request, "kaanha/system.html", context)
