from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "kaanha.organizations"
    label = "organizations"
