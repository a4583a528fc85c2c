from django.apps import AppConfig


class SimulatorConfig(AppConfig):
    """Brings `manage.py simulate_cloud_api`; no models, and nothing of ours imports it."""

    name = "kaanha.simulator"
    label = "simulator"
    verbose_name = "Simulated Cloud API"
