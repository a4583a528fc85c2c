"""Every address of the web process."""

from typing import Any

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from kaanha import api, health
from kaanha.inbound import views as inbound
from kaanha.request_limits import found_page

site: Any = admin.site  # the theme's, which searches

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/system/", admin.site.admin_view(health.system), name="system"),
    path("admin/search/", found_page(site.admin_view(site.search))),
    path("admin/", admin.site.urls),
    path("api", api.NothingHereAPI.as_view()),
    path("api/", include(api.urlpatterns)),
    path("callbacks/<str:callback_key>", inbound.callback, name="callback"),
    path("health", health.health, name="health"),
]
handler400 = api.bad_request
handler500 = api.server_error
