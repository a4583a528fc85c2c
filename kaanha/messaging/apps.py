from django.apps import AppConfig


class MessagingConfig(AppConfig):
    name = "kaanha.messaging"
    label = "messaging"
