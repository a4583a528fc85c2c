from django.apps import AppConfig


class WhatsAppConfig(AppConfig):
    name = "kaanha.whatsapp"
    label = "whatsapp"
    verbose_name = "WhatsApp"
