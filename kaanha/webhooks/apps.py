from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "kaanha.webhooks"
    label = "webhooks"
