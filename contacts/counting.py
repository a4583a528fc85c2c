"""How many contacts an organization has, without counting them: see ContactCount."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import Sum

from contacts.models import Contact, ContactCount


def total(organization_id: int) -> int:
    """How many contacts the organization has that aren't deleted. One query, which doesn't read them."""
    rows = ContactCount.objects.filter(organization_id=organization_id)
    return int(rows.aggregate(contacts=Sum("contacts", default=0))["contacts"])


def fold() -> int:
    """Make one row of several of an organization; of how many."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLD)
        (rows,) = cursor.fetchone()
    return int(rows)


def recount(organization_id: int) -> bool:
    """Set it to what the contacts say; whether it had drifted. Nobody adds or deletes contacts meanwhile."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE contacts_contact IN SHARE MODE")
        there = Contact.objects.filter(organization=organization_id, deleted_at=None).count()
        if drift := there - total(organization_id):
            ContactCount.objects.create(organization_id=organization_id, contacts=drift)
    return bool(drift)


_FOLD = """
WITH several AS (
  SELECT organization_id FROM contacts_contactcount GROUP BY organization_id HAVING count(*) > 1 OR sum(contacts) = 0
), gone AS (
  DELETE FROM contacts_contactcount c USING several WHERE c.organization_id = several.organization_id
  RETURNING c.organization_id, c.contacts
), folded AS (
  INSERT INTO contacts_contactcount (organization_id, contacts)
  SELECT organization_id, sum(contacts) FROM gone GROUP BY organization_id HAVING sum(contacts) <> 0
)
SELECT count(*) FROM gone
"""
