from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "kaanha.organizations"
    label = "organizations"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from kaanha.lib import arrays
        from kaanha.organizations import signing_in

        # However somebody signs in, this is told.
        user_logged_in.connect(signing_in.limit_session)
        arrays.use()
