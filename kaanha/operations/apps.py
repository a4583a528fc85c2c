from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "kaanha.operations"
    label = "operations"
