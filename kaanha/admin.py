"""Pages that join apps, found by Django's autodiscovery: a contact with its messages, and Celery's timetable."""

from kaanha import beat_admin, contact_page

__all__ = ["beat_admin", "contact_page"]
