"""Every address of the web process."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from kaanha import api, health, palette
from kaanha.inbound import views as inbound
from kaanha.organizations import invitation_views
from kaanha.organizations import views as people

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/system/", admin.site.admin_view(health.system), name="system"),
    path("admin/search/", admin.site.admin_view(palette.search)),
    path("admin/login/", people.SignIn.as_view(), name="sign_in"),
    path("admin/login/code/", people.code, name="sign_in_code"),
    path("admin/password_change/", admin.site.admin_view(people.ChangePassword.as_view()), name="change_password"),
    path("admin/account/", admin.site.admin_view(people.account), name="account"),
    path("admin/account/sign-out/", admin.site.admin_view(people.sign_out_everywhere), name="sign_out_everywhere"),
    path("admin/account/second-factor/", admin.site.admin_view(people.set_up), name="second_factor"),
    path("admin/account/second-factor/off/", admin.site.admin_view(people.turn_off), name="second_factor_off"),
    path("admin/account/backup-codes/", admin.site.admin_view(people.backup_codes), name="backup_codes"),
    path("admin/", admin.site.urls),
    path("api", api.NothingHereAPI.as_view()),
    path("api/", include(api.urlpatterns)),
    path("callbacks/<str:callback_key>", inbound.callback, name="callback"),
    path("invitations/", invitation_views.invitation_page, name="invitation_page"),
    path("invitations/<str:token>", invitation_views.invitation, name="invitation"),
    path("health", health.health, name="health"),
]
handler400 = api.bad_request
handler500 = api.server_error
