from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "kaanha.organizations"
    label = "organizations"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from kaanha.lib import arrays
        from kaanha.organizations import list_headers, signing_in

        # However somebody signs in, this is told.
        user_logged_in.connect(signing_in.limit_session)
        list_headers.make_once()
        arrays.use()
