from django.apps import AppConfig


class InboundConfig(AppConfig):
    name = "kaanha.inbound"
    label = "inbound"
