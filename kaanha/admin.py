"""Pages that join apps, found by Django's autodiscovery: a contact with its messages, an organization with what closing
it stops, Celery's timetable and failed sign-ins."""

from kaanha import beat_admin, contact_page, organization_page
from kaanha.organizations import lockout_admin

__all__ = ["beat_admin", "contact_page", "lockout_admin", "organization_page"]
